"""The Milvus server from PyPI (2.3.5, the last one there), in a network of its own.

It listens on every address of the machine that it runs on, and none of that can be configured. So it gets a network
namespace with nothing but loopback, and a process inside passes on what comes in at a socket of 127.0.0.1 outside:
a socket belongs to the namespace in which it was made. Where namespaces are forbidden, it runs without. `make` installs the server; Linux on x86-64 runs it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

OVERLAY = Path(sys.prefix) / "milvus-server"  # `make` puts it there
_BRING_UP = 0x8914, struct.pack("16sh22x", b"lo", 1)  # SIOCSIFFLAGS with IFF_UP: netdevice(7)
# The server wants to write its process id below /run.
_IN_OWN_NETWORK = (
    "unshare",
    "--map-root-user",
    "--net",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs run /run && exec "$@"',
    "-",
)


class MilvusProcess:
    """Use it as a context manager. `url` stays the same when it is started again; it takes some seconds to answer."""

    def __init__(self, folder: Path) -> None:
        assert OVERLAY.is_dir(), "`make env` installs the Milvus server there"
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        unpacked = OVERLAY / "unpacked"  # 246 MB, four seconds: once
        unpacked.mkdir(exist_ok=True)
        (folder / "bin").symlink_to(unpacked)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> MilvusProcess:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self._listener.close()

    def start(self) -> None:
        listener = self._listener.fileno()
        tethered = (sys.executable, "-m", "retrieval.tethered", str(os.getpid()))
        inside = (sys.executable, __file__, str(listener), str(self.folder))
        self._passing = subprocess.Popen(
            [*_own_network(), *tethered, *inside],
            stdout=subprocess.PIPE,
            pass_fds=[listener],
            env={**os.environ, "PYTHONPATH": str(OVERLAY)},
        )
        atexit.register(self._passing.kill)  # should the test run itself break down
        assert self._passing.stdout is not None
        with self._passing.stdout as told:
            pid = told.readline()
        assert pid, "the Milvus server did not start"
        self.server = psutil.Process(int(pid))

    def kill(self) -> None:
        """End it in the middle of what it does: it would take long to end by itself."""
        self.server.kill()
        self._passing.terminate()
        self._passing.wait(30)
        atexit.unregister(self._passing.kill)

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Inside, it takes connections and answers nothing."""
        self.server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.server.send_signal(signal.SIGCONT)


def _own_network() -> tuple[str, ...]:
    """The command in front; none on a machine that lets nobody make namespaces, as in some containers."""
    tried = subprocess.run([*_IN_OWN_NETWORK[:4], "true"], capture_output=True, check=False)
    return _IN_OWN_NETWORK if tried.returncode == 0 else ()


def _inside(listener: int, folder: str) -> None:
    """What runs in the namespace: the server, and whoever passes on to it, until SIGTERM."""
    from milvus import MilvusServer, MilvusServerConfig

    with socket.socket() as any_socket, contextlib.suppress(PermissionError):  # it is up where we have no namespace
        fcntl.ioctl(any_socket, *_BRING_UP)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    configuration = MilvusServerConfig(data_dir=folder)
    configuration.set("common.session.ttl", 2)  # seconds that it waits, started again, for its former self to give up
    configuration.set("proxy.timeTickInterval", 50)  # milliseconds that a read waits for the writes before it
    server = MilvusServer(configuration, wait_for_started=False)
    server.start()
    try:
        print(server.server_proc.pid, flush=True)
        asyncio.run(_pass_on(socket.socket(fileno=listener), server.listen_port))
    finally:
        server.server_proc.kill()
        server.server_proc.wait()


async def _pass_on(listener: socket.socket, port: int) -> None:
    pairs: set[asyncio.Task[None]] = set()

    async def pair(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        pairs.add(this)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, far_writer))
                group.create_task(_copy(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            pairs.discard(this)

    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    while not over.is_set():
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            break
        await asyncio.sleep(0.05)
    await asyncio.start_server(pair, sock=listener)  # whoever came before that waits, instead of trying again later
    await over.wait()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    _inside(int(sys.argv[1]), sys.argv[2])
