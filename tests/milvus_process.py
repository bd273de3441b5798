"""The Milvus server from PyPI (2.3.5, the last one there), in a network of its own.

It listens on every address of the machine that it runs on, and none of that can be configured: see own_network.
`make` installs the server; Linux on x86-64 runs it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from own_network import bring_up, own_network, pass_on

OVERLAY = Path(sys.prefix) / "milvus-server"  # `make` puts it there


class MilvusProcess:
    """Use it as a context manager. `url` stays the same when it is started again; it takes some seconds to answer.

    `lease`: after so many seconds of `hanging` it gives itself up; and so long it waits, started again, for its former
    self to do so.
    """

    def __init__(self, folder: Path, lease: int = 2) -> None:
        self._lease = lease
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
        inside = (sys.executable, __file__, str(listener), str(self.folder), str(self._lease))
        self._passing = subprocess.Popen(
            [*own_network(), *tethered, *inside],
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


def _inside(listener: int, folder: str, lease: int) -> None:
    """What runs in the namespace: the server, and whoever passes on to it, until SIGTERM."""
    from milvus import MilvusServer, MilvusServerConfig

    bring_up()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    configuration = MilvusServerConfig(data_dir=folder)
    configuration.set("common.session.ttl", lease)
    configuration.set("proxy.timeTickInterval", 50)  # milliseconds that a read waits for the writes before it
    server = MilvusServer(configuration, wait_for_started=False)
    server.start()
    try:
        print(server.server_proc.pid, flush=True)
        asyncio.run(pass_on((socket.socket(fileno=listener), server.listen_port)))
    finally:
        server.server_proc.kill()
        server.server_proc.wait()


if __name__ == "__main__":
    _inside(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
