"""Several workers as one gateway: started, watched, replaced, reloaded and ended together.

The supervisor serves nobody. It binds the sockets, runs what may exist once only (the local Milvus and embedding
servers, a vLLM server), and tells each worker by messages what to do (`channel`). Each worker has a number, and a slot of
sockets of its own; where a slot has no worker, the others accept its connections until it has one again.

| what happens | what it does |
| --- | --- |
| a worker dies | another is started; after a life too short to be of use, with a growing pause |
| a worker is silent for a minute | it is killed, and replaced |
| SIGTERM to a worker | a new one first; then the old one lets its calls end |
| SIGUSR2 | the same with all workers, one after the other |
| SIGHUP | the file is read once; every worker compiles it; then all of them take it, or none does |
| SIGTERM, SIGINT | every worker drains; a second time: they are ended |
| the supervisor is killed | the kernel closes its channels, and the workers drain |
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from gateway.config.faults import ConfigError
from gateway.config.loading import load
from gateway.telemetry.merging import Totals
from gateway.workers import sockets
from gateway.workers.channel import ChannelClosed, Refused
from gateway.workers.model_servers import ModelServers, Table
from gateway.workers.process import Process, StartFailed

if TYPE_CHECKING:
    from gateway.config.loading import Loaded

log = logging.getLogger(__name__)

_STARTS_WITHIN = 120.0  # seconds to compile: guardrails may load models
_READY_WITHIN = 300.0  # for its side services, where an old worker waits to be replaced
_ANSWERS_WITHIN = 2.0
_COMMITS_WITHIN = 10.0
_SILENT = 60  # seconds
_SHORT_LIFE = 1.0  # seconds of readiness; below, the next one waits
_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
_SLACK = 10.0  # seconds beyond server.grace until a worker that drains is killed


class Supervisor:
    """Make one and `run` it. Raises StartFailed when the configuration can't be served, with nothing left running."""

    def __init__(self, loaded: Loaded, host: str, port: int, count: int) -> None:
        self._loaded = loaded
        self._host, self._port = host, port
        self._count = count
        self._slots: sockets.Slots = []
        self._current: dict[int, Process] = {}
        self._leaving: set[Process] = set()
        self._change = asyncio.Lock()  # a start, a replacement or a reload: one at a time
        self._stop = asyncio.Event()
        self._totals = Totals()
        self._servers = ModelServers()
        self._table: Table = self._servers.table(loaded.configuration)
        self._short_lives: dict[int, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watching: dict[Process, asyncio.Task[None]] = {}
        self._rolling = False
        self._refused = False  # the configuration that was read last is not the one in force

    async def run(self) -> int:
        """Serve until asked to end; the exit status."""
        try:
            self._slots = sockets.bind(self._host, self._port, self._count)
        except OSError as failure:
            why = failure.strerror or str(failure)
            raise StartFailed(f"can't listen on {self._host}, port {self._port}: {why}") from None
        beside: list[asyncio.Task[Any]] = []
        try:
            with self._signals():
                beside = [
                    asyncio.ensure_future(work)
                    for work in (self._count_silence(), self._servers.watch(self._tell_servers), *self._run_locally())
                ]
                await self._start_all()
                await self._stop.wait()
                return await self._end_all()
        finally:
            self._stop.set()
            for task in (*self._tasks, *beside):
                task.cancel()
            for process in self._all():
                process.kill()
            await asyncio.gather(*self._tasks, *beside, *self._watching.values(), return_exceptions=True)
            await self._servers.aclose()
            sockets.close(self._slots)

    # -- starting ------------------------------------------------------------------------------------------
    async def _start_all(self) -> None:
        """The first worker alone: what is wrong with the configuration or the record store shows in it, once."""
        async with self._change:
            first = asyncio.ensure_future(self._start(1))
            stopped = asyncio.ensure_future(self._stop.wait())
            await asyncio.wait({first, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not first.done():
                first.cancel()
                return
            await first
            self._servers.commit(self._table)
            host, port = sockets.address(self._slots)
            url = f"http://{'[' + host + ']' if ':' in host else host}:{port}"
            log.info("listening on %s, %d workers", url, self._count)
            if self._stop.is_set():
                return
            others = [self._start(number) for number in range(2, self._count + 1)]
            for failure in await asyncio.gather(*others, return_exceptions=True):
                if isinstance(failure, BaseException) and not self._stop.is_set():
                    raise failure

    async def _start(self, number: int) -> Process:
        """A worker that serves. Raises StartFailed."""
        flat = [one for slot in self._slots for one in slot]
        process = await Process.spawn(number, flat, self._heard)
        self._watching[process] = asyncio.ensure_future(self._watch(process))
        self._leaving.add(process)  # it is nobody's yet
        process.channel.tell(
            "start",
            {
                "number": number,
                "path": str(self._loaded.path.resolve()),
                "text": self._loaded.text,
                "host": self._host,
                "port": self._port,
                "sockets": {order: [one.fileno() for one in slot] for order, slot in enumerate(self._slots, 1)},
                "servers": self._table,
            },
        )
        process.channel.tell("servers", self._servers.states())
        try:
            await process.until("started", "ready", within=_STARTS_WITHIN)
        except BaseException:
            process.kill()
            raise
        self._leaving.discard(process)
        self._current[number] = process
        self._assign()
        if self._refused:
            process.channel.tell("refused", False)
        return process

    async def _watch(self, process: Process) -> None:
        """Until it has ended."""
        await process.wait()
        asked = process.state == "leaving" or self._stop.is_set()
        started = process.state != "starting"
        if process.ready_at is not None and _now() - process.ready_at >= _SHORT_LIFE:
            self._short_lives.pop(process.number, None)
        elif not asked:
            self._short_lives[process.number] = self._short_lives.get(process.number, 0) + 1
        process.become("gone")
        self._totals.end(process.pid)
        self._servers.gone(process)
        self._leaving.discard(process)
        was_current = self._current.get(process.number) is process
        if was_current:
            del self._current[process.number]
        self._assign()
        if asked:
            log.info("worker %d (process %d) %s", process.number, process.pid, process.ended)
        elif started:
            log.error("worker %d (process %d) %s", process.number, process.pid, process.ended)
        if was_current and not self._stop.is_set():
            self._do(self._start_again(process.number))
        self._watching.pop(process, None)

    async def _start_again(self, number: int) -> None:
        while not self._stop.is_set():
            short = self._short_lives.get(number, 0)
            if short:
                pause = min(_PAUSE * 2 ** (short - 1), _LONGEST_PAUSE)
                log.warning("worker %d is started again in %.1f s", number, pause)
                await asyncio.sleep(pause)
            async with self._change:
                if self._stop.is_set() or number in self._current:
                    return
                try:
                    process = await self._start(number)
                except StartFailed as failure:
                    log.error("worker %d could not be started: %s", number, failure)
                    continue
            log.info("worker %d serves again, as process %d", number, process.pid)
            return

    # -- replacing -----------------------------------------------------------------------------------------
    async def _roll(self) -> None:
        """Every worker anew, one after the other."""
        if self._rolling:
            return
        self._rolling = True
        try:
            for number in range(1, self._count + 1):
                if not await self._replace(number):
                    log.error("the rolling restart stops at worker %d", number)
                    return
            log.info("every worker was replaced")
        finally:
            self._rolling = False

    async def _replace(self, number: int, only: Process | None = None) -> bool:
        """A new worker first; then the old one goes. False where the new one did not come up: then the old one stays.

        With `only`, nothing is done where that is not the worker any more.
        """
        async with self._change:
            old = self._current.get(number)
            if self._stop.is_set():
                return False
            if only is not None and old is not only:
                return True
            try:
                new = await self._start(number)
                if old is not None and old.serves:
                    self._leaving.add(old)
                    await new.until("ready", within=_READY_WITHIN)
            except StartFailed as failure:
                log.error("worker %d was not replaced: %s", number, failure)
                if old is not None and old.living:
                    if (failed := self._current.get(number)) is not None and failed is not old:
                        self._leaving.add(failed)
                        failed.become("leaving")
                        failed.kill()
                    self._leaving.discard(old)
                    self._current[number] = old
                    self._assign()
                return False
            if old is None or not old.living:
                return True
            self._retire(old)
        log.info("worker %d is process %d now, and process %d ends", number, new.pid, old.pid)
        await self._see_out([old])
        return True

    def _retire(self, process: Process) -> None:
        process.become("leaving")
        self._leaving.add(process)
        self._assign()
        process.channel.tell("retire")

    async def _leave(self, process: Process) -> None:
        """A worker was told to end, by whomever: it does, once there is another."""
        if not await self._replace(process.number, process) and process.serves and not self._stop.is_set():
            if self._current.get(process.number) is process:
                del self._current[process.number]
            self._retire(process)
            self._do(self._start_again(process.number))

    async def _see_out(self, processes: list[Process]) -> None:
        """Wait for them to end; kill them where they do not in time."""
        grace = self._loaded.configuration.server.grace + _SLACK
        waiting = [task for process in processes if (task := self._watching.get(process)) is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=grace)
        for process in processes:
            if process.living:
                log.error("worker %d (process %d) did not end in time and is killed", process.number, process.pid)
                process.kill()
        if waiting:
            await asyncio.wait(waiting)

    # -- reloading -----------------------------------------------------------------------------------------
    async def _reload(self) -> str:
        """The revision that is in force then. Raises Refused, having logged why the one before stays."""
        async with self._change:
            before = self._loaded.revision
            try:
                loaded = await asyncio.to_thread(load, self._loaded.path)
                table = self._servers.table(loaded.configuration)
                prepared = await self._prepare(loaded, table)
            except ConfigError as error:
                self._tell_refused()
                log.error("reload refused, revision %s stays:\n%s", before, error)
                raise Refused(str(error)) from None
            except (Refused, ValueError) as error:
                self._tell_refused()
                log.error("reload refused, revision %s stays: %s", before, error)
                raise Refused(str(error)) from None
            self._loaded, self._table, self._refused = loaded, table, False
            self._servers.commit(table)
            await asyncio.gather(*(self._commit(process) for process in prepared))
            log.info("revision %s is in force in every worker", loaded.revision)
            return loaded.revision

    async def _reload_on_hangup(self) -> None:
        with contextlib.suppress(Refused):
            await self._reload()

    async def _prepare(self, loaded: Loaded, table: Table) -> list[Process]:
        """The workers that have compiled it. Raises Refused when one of them could not: then none will take it."""
        asked = [process for process in self._all() if process.state != "starting"]
        body = {"path": str(loaded.path.resolve()), "text": loaded.text, "servers": table}
        answers = await asyncio.gather(
            *(process.channel.ask("prepare", body, within=_STARTS_WITHIN) for process in asked), return_exceptions=True
        )
        prepared = [process for process, answer in zip(asked, answers, strict=True) if answer is None]
        for process, answer in zip(asked, answers, strict=True):
            if isinstance(answer, (Refused, TimeoutError)):
                for other in asked:
                    other.channel.tell("abort")
                raise Refused(str(answer) or f"worker {process.number} did not answer in time")
        if not prepared:
            raise Refused("no worker runs that could try it")
        return prepared

    def _tell_refused(self) -> None:
        """Every worker tells of it in its metrics, and one counts it, so that it is counted once."""
        self._refused = True
        for order, process in enumerate(process for process in self._all() if process.serves):
            process.channel.tell("refused", order == 0)

    async def _commit(self, process: Process) -> None:
        try:
            await process.channel.ask("commit", within=_COMMITS_WITHIN)
        except ChannelClosed:
            pass  # whoever replaces it starts with the new revision
        except (Refused, TimeoutError) as failure:
            log.error("worker %d did not take the new revision and is replaced: %s", process.number, failure)
            process.kill()

    # -- what workers say ----------------------------------------------------------------------------------
    async def _heard(self, process: Process, kind: str, body: Any) -> Any:
        process.silent = 0
        if kind == "metrics":
            self._totals.put(process.pid, process.number, body)
        elif kind == "started":
            process.become("started")
        elif kind == "ready" and process.state == "started":
            process.ready_at = _now()
            process.become("ready")
            self._assign()
        elif kind == "failed":
            process.why = body
        elif kind == "leaving" and process.serves:
            self._do(self._leave(process))
        elif kind == "using":
            self._servers.use(body, process)
        elif kind == "left":
            self._servers.leave(body, process)
        elif kind == "everybody":
            return {process.number: answer for process, answer in await self._ask_all(*body)}
        elif kind == "exposition":
            return await self._exposition()
        elif kind == "reload":
            return await self._reload()
        return None

    async def _ask_all(self, topic: str, said: Any = None) -> list[tuple[Process, Any]]:
        """What each worker that serves says in time."""
        asked = [process for process in self._all() if process.serves]
        answers = await asyncio.gather(
            *(process.channel.ask("tell", [topic, said], within=_ANSWERS_WITHIN) for process in asked),
            return_exceptions=True,
        )
        told = zip(asked, answers, strict=True)
        return [(process, answer) for process, answer in told if not isinstance(answer, BaseException)]

    async def _exposition(self) -> str:
        for process, told in await self._ask_all("metrics"):
            if process.living:  # what is left of one that has ended meanwhile is counted already
                self._totals.put(process.pid, process.number, told)
        return self._totals.exposition().decode()

    # -- telling workers -----------------------------------------------------------------------------------
    def _assign(self) -> None:
        """Who accepts whose connections; and what each worker is told of the others.

        A worker takes its own once it is ready; none being ready, all that can serve do. What is nobody's is everybody's.
        """
        serving = [process for process in self._current.values() if process.serves]
        accepting = [process for process in serving if process.state == "ready"] or serving
        taken = {process.number for process in accepting}
        orphaned = [number for number in range(1, self._count + 1) if number not in taken]
        states = {str(number): "starting" for number in range(1, self._count + 1)}
        for process in self._all():
            if process in accepting:
                accepts = [process.number, *orphaned]
            elif process in self._leaving and process.state == "ready":
                accepts = process.accepts  # it stays until the one that takes its place is ready
            else:
                accepts = []
            if accepts != process.accepts:
                process.accepts = accepts
                process.channel.tell("accept", accepts)
        for number, process in self._current.items():
            states[str(number)] = "ready" if process.state == "ready" else "starting"
        for process in self._all():
            process.channel.tell("crew", states)

    def _tell_servers(self, states: dict[str, Any]) -> None:
        for process in self._all():
            process.channel.tell("servers", states)

    def _all(self) -> list[Process]:
        return [*self._current.values(), *(process for process in self._leaving if process.living)]

    # -- beside --------------------------------------------------------------------------------------------
    async def _count_silence(self) -> None:
        """By this process's own seconds, so that a machine that was suspended takes no worker for dead."""
        while True:
            await asyncio.sleep(1.0)
            for process in self._all():
                process.silent += process.state != "starting"
                if process.silent == _SILENT:
                    log.error("worker %d (process %d) is stuck and is killed", process.number, process.pid)
                    process.kill()

    def _run_locally(self) -> list[Coroutine[Any, Any, None]]:
        """The servers of embedded retrieval: as the first to start them, the supervisor owns them."""
        knowledge = self._loaded.configuration.retrieval
        if knowledge is None or (knowledge.milvus.uri is not None and knowledge.embeddings.url is not None):
            return []
        from gateway.knowledge_service import local_servers

        return [local_servers(self._loaded.configuration)]

    # -- ending --------------------------------------------------------------------------------------------
    async def _end_all(self) -> int:
        drained = [process for process in self._all() if process.state != "starting"]
        for process in self._all():
            if process in drained:
                process.channel.tell("drain")
            else:
                process.kill()
        sockets.close(self._slots)  # from here on connections are refused, as soon as the workers have closed theirs
        await self._see_out(drained)
        return 0 if all(process.status == 0 for process in drained) else 1

    @contextlib.contextmanager
    def _signals(self) -> Any:
        loop = asyncio.get_running_loop()
        handlers = {
            signal.SIGTERM: self._asked_to_end,
            signal.SIGINT: self._asked_to_end,
            signal.SIGHUP: lambda: self._do(self._reload_on_hangup()),
            signal.SIGUSR2: lambda: self._do(self._roll()),
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _asked_to_end(self) -> None:
        if self._stop.is_set():
            for process in self._all():
                process.channel.tell("drain", True)  # calls that run are cut off
        self._stop.set()

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _now() -> float:
    return asyncio.get_running_loop().time()


def supervise(loaded: Loaded, host: str, port: int, count: int) -> int:
    """Serve with `count` workers until SIGINT or SIGTERM; the exit status. Raises StartFailed."""
    return asyncio.run(Supervisor(loaded, host, port, count).run())
