"""One worker's process, as the supervisor holds it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from gateway.workers.channel import Channel

# starting: it compiles. started: it could serve, and its side services come up. leaving: it lets its calls end.
State = Literal["starting", "started", "ready", "leaving", "gone"]


class StartFailed(ValueError):
    """A worker did not come up; the text says why."""


class Process:
    """A worker from its start to its end."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.number = number
        self.channel = channel
        self.state: State = "starting"
        self.accepts: list[int] = []
        self.silent = 0  # seconds
        self.ready_at: float | None = None  # in loop time
        self.changed = asyncio.Event()  # its state is another
        self.why = ""
        self._process = process

    @classmethod
    async def spawn(
        cls, number: int, sockets: list[socket.socket], handle: Callable[[Process, str, Any], Awaitable[Any]]
    ) -> Process:
        """A fresh interpreter: what a fork would share with its parent (locks, threads, gRPC) is not to be shared."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *_command(theirs.fileno(), number),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *(one.fileno() for one in sockets)],
                start_new_session=True,  # Ctrl-C is for the supervisor, which ends them
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        made: Process

        async def handled(kind: str, body: Any) -> Any:
            return await handle(made, kind, body)

        made = cls(number, process, await Channel.open(ours, handled))
        return made

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def living(self) -> bool:
        return self.state != "gone"

    @property
    def serves(self) -> bool:
        return self.state in ("started", "ready")

    def become(self, state: State) -> None:
        self.state = state
        self.changed.set()

    async def until(self, *states: State, within: float) -> None:
        """Raises StartFailed when it is gone, or in none of these states in time."""
        try:
            async with asyncio.timeout(within):
                while self.state not in states:
                    if self.state == "gone":
                        raise StartFailed(self.why or f"it {self.ended}")
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise StartFailed(f"it was not {' or '.join(states)} within {within:.0f} s") from None

    @property
    def ended(self) -> str:
        """How, in words."""
        status = self._process.returncode
        if status is None:
            return "has not ended"
        return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"

    @property
    def status(self) -> int | None:
        return self._process.returncode

    async def wait(self) -> None:
        """Until it has ended and all that it said was heard."""
        heard = asyncio.ensure_future(self.channel.run())
        await self._process.wait()
        # A process of its own, should one have inherited the channel, must not keep us waiting.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(heard, 1.0)
        await self.channel.aclose()

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


def _command(channel: int, number: int) -> list[str]:
    """What starts a worker: this Python with this process's own module path, whatever folder it runs in. The last word
    is for whoever looks at a list of processes."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from gateway.workers.worker import main; main()"
    return [sys.executable, "-c", code, str(channel), f"worker-{number}"]
