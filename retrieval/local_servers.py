"""The two local processes behind embedded retrieval: a Milvus Lite server and the embedding server.

A data folder belongs to one Milvus Lite process, so whoever comes first owns both (a lock on the folder says who)
and all others, the command line's among them, share what it started. Should the owner go, in whatever way, its
children go with it, and the next one takes over.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from retrieval.passages import RetrievalUnavailable

log = logging.getLogger(__name__)

_READY_IN = 120.0
_POLL = 0.1
_ENDED_IN = 5.0
_LONGEST_SOCKET_PATH = 100  # what the kernel takes is 107


def embedding_socket(data_dir: Path) -> Path:
    """Where the embedding server of this data folder listens."""
    path = data_dir / "embeddings.sock"
    if len(str(path)) <= _LONGEST_SOCKET_PATH:
        return path
    return Path(tempfile.gettempdir()) / f"rag-gateway-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.sock"


class LocalServers:
    """Use as `async with`. Inside, `ready` waits for the servers; `milvus_uri` says where Milvus answers."""

    def __init__(self, data_dir: Path, *, milvus: bool, embeddings: bool) -> None:
        self._data_dir = data_dir
        self._socket = embedding_socket(data_dir)
        self._milvus = milvus
        self._embeddings = embeddings
        self._lock: int | None = None
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._watch: asyncio.Task[None] | None = None
        data_dir.mkdir(parents=True, exist_ok=True)
        self._port_file = data_dir / "milvus.port"

    @property
    def milvus_uri(self) -> str:
        """Where Milvus listens now; another address may follow when another process takes over."""
        return f"http://127.0.0.1:{self._port_file.read_text()}"

    async def __aenter__(self) -> LocalServers:
        self._watch = asyncio.create_task(self._supervise())
        try:
            await self._ready()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._end_children()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _ready(self) -> None:
        """Raises RetrievalUnavailable when the servers do not come up in time."""
        try:
            async with asyncio.timeout(_READY_IN):
                while not await self._answer():
                    assert self._watch is not None
                    if self._watch.done():
                        raise RetrievalUnavailable(f"the local servers can't be started: {self._watch.exception()}")
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise RetrievalUnavailable(
                f"the local servers did not start in {_READY_IN:.0f} s; see their logs"
            ) from None

    async def _answer(self) -> bool:
        if self._milvus:
            try:
                port = int(self._port_file.read_text())
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
            except (OSError, ValueError):
                return False
        if self._embeddings:
            try:
                _, writer = await asyncio.open_unix_connection(str(self._socket))
                writer.close()
            except OSError:
                return False
        return True

    async def _supervise(self) -> None:
        """Own the folder as soon as nobody else does; keep both children running while it is ours."""
        pause = _POLL
        while True:
            if self._lock is None and not self._take_lock():
                await asyncio.sleep(1.0)
                continue
            for name, command in self._commands().items():
                child = self._children.get(name)
                if child is not None and child.poll() is None:
                    continue
                if child is not None:
                    log.warning("the local %s server ended with %s; starting it again", name, child.returncode)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 10.0)
                self._children[name] = self._start(name, command)
            await asyncio.sleep(_POLL)

    def _take_lock(self) -> bool:
        lock = os.open(self._data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        os.set_inheritable(lock, False)
        self._lock = lock
        self._port_file.write_text(str(_free_port()))
        with contextlib.suppress(FileNotFoundError):
            self._socket.unlink()
        return True

    def _commands(self) -> dict[str, list[str]]:
        commands = {}
        if self._milvus:
            scripts = Path(sys.executable).parent
            commands["milvus"] = [
                str(scripts / "milvus-lite"), "server", "--data-dir", str(self._data_dir / "milvus"),
                "--host", "127.0.0.1", "--port", self._port_file.read_text(),
            ]  # fmt: skip
        if self._embeddings:
            commands["embedding"] = [sys.executable, "-m", "retrieval.embedding_server", "--socket", str(self._socket)]
        return commands

    def _start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._data_dir / f"{name}.log").open("ab") as log_file:
            return subprocess.Popen(
                [sys.executable, "-m", "retrieval.tethered", str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,  # Ctrl-C is for the gateway, which ends them once it has drained
                env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
            )

    async def _end_children(self) -> None:
        children = list(self._children.values())
        self._children.clear()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
        deadline = asyncio.get_running_loop().time() + _ENDED_IN
        for child in children:
            while child.poll() is None and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.02)
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
