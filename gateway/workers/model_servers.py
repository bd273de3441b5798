"""vLLM servers that a gateway of several workers runs: one each, by the supervisor, whichever workers come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

import msgspec

from gateway.config.models import Configuration
from gateway.config.providers import Serve, Vllm
from gateway.providers.vllm_server import State, VllmServer


class Address(msgspec.Struct, frozen=True):
    """Where one listens, on loopback, and under which API key."""

    port: int
    key: str


Table = dict[str, Address]  # by `_identity`
_POLL = 0.2


def _identity(name: str, serve: Serve) -> str:
    """What makes two entries the same server."""
    return f"{name} {serve.model_dump_json()}"


class SharedServer:
    """A worker's view of one: it is there while somebody uses it."""

    def __init__(self, address: Address, state: State, tell: Callable[[str, Any], None]) -> None:
        self.port, self.key = address.port, address.key
        self.state: State = state
        self._tell = tell

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def run(self) -> None:
        """Use it, until cancelled."""
        self._tell("using", self.port)
        try:
            await asyncio.Event().wait()
        finally:
            self._tell("left", self.port)


class Shared:
    """All of a worker's. `table` is of the configuration that is compiled next."""

    def __init__(self, tell: Callable[[str, Any], None]) -> None:
        self.table: Table = {}
        self._tell = tell
        self._states: dict[int, State] = {}
        self._handed_out: WeakSet[SharedServer] = WeakSet()

    def server(self, name: str, serve: Serve) -> SharedServer:
        address = self.table[_identity(name, serve)]
        made = SharedServer(address, self._states.get(address.port, "loading"), self._tell)
        self._handed_out.add(made)
        return made

    def states(self, told: Mapping[str, State]) -> None:
        """By the servers' ports."""
        self._states = {int(port): state for port, state in told.items()}
        for server in self._handed_out:
            server.state = self._states.get(server.port, server.state)


class ModelServers:
    """The supervisor's. One that the configuration has no more is ended when the last worker has left it."""

    def __init__(self) -> None:
        self._servers: dict[str, VllmServer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wanted: set[str] = set()
        self._users: dict[int, set[object]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def table(self, configuration: Configuration) -> Table:
        """Where the servers of this configuration will be. Nothing is started."""
        table: Table = {}
        for name, provider in configuration.providers.items():
            if isinstance(provider, Vllm) and (serve := provider.serve) is not None:
                identity = _identity(name, serve)
                server = self._servers.get(identity)
                if server is None:
                    server = VllmServer(name, serve.executable, serve.model, serve.args, serve.ready_within)
                    self._servers[identity] = server
                table[identity] = Address(server.port, server.key)
        return table

    def commit(self, table: Table) -> None:
        """Run these; the others until nobody uses them."""
        self._wanted = set(table)
        for identity in table:
            if identity not in self._tasks:
                self._tasks[identity] = asyncio.ensure_future(self._servers[identity].run())
        self._tidy()

    def use(self, port: int, worker: object) -> None:
        self._users.setdefault(port, set()).add(worker)

    def leave(self, port: int, worker: object) -> None:
        self._users.get(port, set()).discard(worker)
        self._tidy()

    def gone(self, worker: object) -> None:
        """A worker that has ended uses nothing."""
        for users in self._users.values():
            users.discard(worker)
        self._tidy()

    def states(self) -> dict[str, State]:
        """Of those that run, by port."""
        return {str(self._servers[identity].port): self._servers[identity].state for identity in self._tasks}

    async def watch(self, tell: Callable[[dict[str, State]], None]) -> None:
        """Tell of each change, until cancelled."""
        before: dict[str, State] = {}
        while True:
            if (now := self.states()) != before:
                before = now
                tell(now)
            await asyncio.sleep(_POLL)

    async def aclose(self) -> None:
        tasks = [*self._tasks.values(), *self._ending]
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tidy(self) -> None:
        for identity in [identity for identity in self._servers if identity not in self._wanted]:
            if self._users.get(self._servers[identity].port):
                continue
            if (task := self._tasks.pop(identity, None)) is not None:
                task.cancel()
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
            del self._servers[identity]
