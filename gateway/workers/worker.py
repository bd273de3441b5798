"""One worker: a gateway in a process of its own, as its supervisor tells it by messages.

    python -c "from gateway.workers.worker import main; main()" CHANNEL worker-NUMBER

CHANNEL is the number of an open socket. What comes over it first says what to serve (`Start`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec

from gateway.config.loading import load_text
from gateway.config.secrets import secrets_of
from gateway.records.database import StoreUnavailable, WrongVersion
from gateway.routing.fleet import Fleet
from gateway.server import Running, loop_factory, run
from gateway.siblings import Answer
from gateway.telemetry.logs import capture_all, configure_logging
from gateway.workers.channel import Channel, ChannelClosed, Refused
from gateway.workers.model_servers import Shared, Table

log = logging.getLogger(__name__)

_BEAT = 1.0  # seconds between signs of life
_PUSH = 1.0  # seconds between snapshots of the metrics; more where making one takes long …
_COUNTED_SHARE = 100.0  # … this many times as long
_LOOK_READY = 0.1
_ANSWERS_WITHIN = 5.0
_RELOADS_WITHIN = 120.0


class Start(msgspec.Struct, frozen=True):
    """What a worker serves. `sockets` are the open file descriptors to listen on, by the worker's number."""

    number: int
    path: str
    text: str
    host: str
    port: int
    sockets: dict[str, list[int]]
    servers: Table


class Worker:
    """This process, as its supervisor and its own gateway see it: an Attendant, and its Siblings."""

    def __init__(self) -> None:
        self.number = 1
        self.states: Mapping[str, str] = {}
        self.sockets: dict[int, Sequence[socket.socket]] = {}
        self.start: asyncio.Future[Start] = asyncio.get_running_loop().create_future()
        self.shared = Shared(self._tell)
        self.channel: Channel
        self._answers: dict[str, Answer] = {}
        self._running: Running | None = None
        self._beside: set[asyncio.Task[None]] = set()

    @property
    def siblings(self) -> Worker:
        return self

    # -- what its gateway asks -----------------------------------------------------------------------------
    def answer(self, topic: str, how: Answer) -> None:
        self._answers[topic] = how

    async def ask(self, topic: str, said: Any = None) -> Mapping[int, Any]:
        try:
            told = await self.channel.ask("everybody", [topic, said], within=_ANSWERS_WITHIN)
        except (ChannelClosed, Refused, TimeoutError):
            return {}
        return {int(number): value for number, value in told.items()}

    async def metrics(self) -> bytes | None:
        try:
            told = await self.channel.ask("exposition", within=_ANSWERS_WITHIN)
        except (ChannelClosed, Refused, TimeoutError):
            return None
        return str(told).encode()

    async def _reload(self) -> str:
        """In every worker. Raises ValueError."""
        try:
            return str(await self.channel.ask("reload", within=_RELOADS_WITHIN))
        except (ChannelClosed, Refused, TimeoutError) as why:
            raise ValueError(
                str(why) or "it is not known whether it came about: the supervisor did not answer"
            ) from None

    # -- what its supervisor says --------------------------------------------------------------------------
    async def handle(self, kind: str, body: Any) -> Any:
        if kind == "start":
            self.start.set_result(msgspec.convert(body, Start))
            return None
        if kind == "crew":
            self.states = body
            return None
        if kind == "servers":
            self.shared.states(body)
            return None
        running = self._running
        if running is None:
            raise Refused("this worker is starting")
        return await self._handle(running, kind, body)

    async def _handle(self, running: Running, kind: str, body: Any) -> Any:
        if kind == "accept":
            await running.server.listen_on(body)
        elif kind == "prepare":
            await self._prepare(running, body)
        elif kind == "commit":
            running.reloads.commit()
        elif kind == "abort":
            running.reloads.abort()
        elif kind == "refused":
            running.reloads.refused(counted=bool(body))
        elif kind == "tell":
            topic, said = body
            if (answer := self._answers.get(topic)) is None:
                raise Refused(f"{topic} is nothing that a worker tells of")
            return await answer(said)
        elif kind == "retire":
            self._do(running.server.retire())
        elif kind == "drain":
            self._drain(running, now=bool(body))
        else:
            raise Refused(f"{kind} is no message to a worker")
        return None

    async def _prepare(self, running: Running, body: Any) -> None:
        try:
            loaded = load_text(body["text"], Path(body["path"]))
            self.shared.table = msgspec.convert(body["servers"], Table)
            await running.reloads.prepare(loaded)
        except Exception as error:  # whatever it is, the revision in force stays, in every worker
            raise Refused(str(error)) from error

    # -- while it serves -----------------------------------------------------------------------------------
    def attend(self, running: Running) -> AbstractAsyncContextManager[None]:
        return self._attend(running)

    @contextlib.asynccontextmanager
    async def _attend(self, running: Running) -> AsyncIterator[None]:
        self._running = running
        running.server.on_signal = lambda: self._tell("leaving")
        running.gateway.reload = self._reload
        works = (self._tell_ready(running), self._beat(), self._push_metrics(running))
        tasks = [asyncio.ensure_future(work) for work in works]
        self._tell("started")
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tell("metrics", await running.gateway.metrics.snapshot_beside())
            await self.channel.flush()

    async def _tell_ready(self, running: Running) -> None:
        while True:
            try:
                if "starting" not in (await running.health()).values():
                    break
            except Exception:
                log.exception("whether this worker is ready can't be told")
            await asyncio.sleep(_LOOK_READY)
        self._tell("ready")

    async def _beat(self) -> None:
        """Signs of life of this event loop, whatever its threads wait for."""
        while True:
            await asyncio.sleep(_BEAT)
            self._tell("alive")

    async def _push_metrics(self, running: Running) -> None:
        """What was counted, which the supervisor keeps should this process be killed."""
        while True:
            began = time.monotonic()
            self._tell("metrics", await running.gateway.metrics.snapshot_beside())
            await asyncio.sleep(max(_PUSH, _COUNTED_SHARE * (time.monotonic() - began)))

    async def listen_to_supervisor(self) -> None:
        """Until it has gone; then this process drains, as after SIGTERM."""
        await self.channel.run()
        if self._running is not None:
            log.error("the supervisor has gone: this worker ends")
            self._drain(self._running)
        else:
            self.start.cancel()

    def _drain(self, running: Running, *, now: bool = False) -> None:
        running.server.drain(now=now)
        self.let_go()

    def let_go(self) -> None:
        """A socket that some process still holds would take connections that nobody answers."""
        for ones in self.sockets.values():
            for one in ones:
                one.close()

    def _tell(self, kind: str, body: Any = None) -> None:
        self.channel.tell(kind, body)

    def _do(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)


async def _work(end: socket.socket) -> int:
    worker = Worker()
    worker.channel = await Channel.open(end, worker.handle)
    listening = asyncio.ensure_future(worker.listen_to_supervisor())
    try:
        start = await worker.start
        worker.number = start.number
        loaded = load_text(start.text, Path(start.path))
        secrets = secrets_of(loaded.configuration)
        configure_logging(start.number, loaded.configuration.telemetry.logs, secrets)
        capture_all()
        worker.sockets = {
            int(number): [socket.socket(fileno=one) for one in ones] for number, ones in start.sockets.items()
        }
        for one in (one for ones in worker.sockets.values() for one in ones):
            one.set_inheritable(False)
        worker.shared.table = start.servers
        fleet = Fleet(worker.shared.server, (start.number, len(start.sockets)))
        serving = run(loaded, start.host, start.port, worker, fleet)
        await serving
    except asyncio.CancelledError:
        return 1  # the supervisor had gone before it said anything
    except Exception as error:
        known = isinstance(error, (ValueError, ImportError, StoreUnavailable, WrongVersion))
        worker.channel.tell("failed", str(error) if known else f"{type(error).__name__}: {error}")
        if not known:
            log.exception("this worker could not go on")
        await worker.channel.flush()
        return 1
    finally:
        listening.cancel()
        await worker.channel.aclose()
        worker.let_go()
    return 0


def main() -> None:
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        status = runner.run(_work(end))
    sys.exit(status)
