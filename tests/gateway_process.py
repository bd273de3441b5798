"""A gateway as users run it: a process of its own with a configuration file, and what the tests ask of it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

_PATIENCE = 60.0  # seconds that cost nothing where all is well: on a busy machine one may become twenty


def until(condition: Callable[[], Any], seconds: float = _PATIENCE, what: str = "the condition") -> Any:
    """The first true value of `condition`. Raises AssertionError when there is none in time, which is never less than
    a minute: how quick a thing is, is for benchmarks to say."""
    began, patience = time.monotonic(), max(seconds, _PATIENCE)
    while not (value := condition()):
        assert time.monotonic() < began + patience, f"{what} did not hold within {patience} s"
        time.sleep(0.005)
    return value


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class GatewayProcess:
    """Use it as a context manager: it is ready inside, and ended with SIGTERM, status 0, after."""

    def __init__(
        self,
        configuration: dict[str, Any],
        folder: Path,
        environment: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        """`arguments` are more of `serve`, like `--workers 2`."""
        self._arguments = arguments
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = folder / "gateway.yaml"
        self.configure(configuration)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {**os.environ, **(environment or {})}
        self._lines: list[bytes] = []

    def configure(self, configuration: dict[str, Any]) -> None:
        """Replace the configuration file, as an operator should: whole, by renaming."""
        new = self.file.with_suffix(".new")
        new.write_text(
            yaml.safe_dump({"data_dir": str(self.folder / "data"), **configuration}, sort_keys=False), "utf-8"
        )
        new.rename(self.file)

    def __enter__(self) -> GatewayProcess:
        main = "from gateway.cli import main; main()"
        command = [sys.executable, "-c", main, "serve", "--config", str(self.file), "--port", str(self.port)]
        command += self._arguments
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self._environment, cwd=self.folder
        )
        atexit.register(self.process.kill)  # should the test run itself break down
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            until(self._ready, 180, "readiness")
        except BaseException:
            self.process.kill()
            self._close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self._close()
            raise AssertionError(f"the gateway did not end after SIGTERM:\n{self.output}") from None
        self._close()
        assert status == 0, f"the gateway ended with status {status}:\n{self.output}"

    def _close(self) -> None:
        self.process.wait()
        atexit.unregister(self.process.kill)
        self._reader.join(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)

    def _ready(self) -> bool:
        assert self.process.poll() is None, f"the gateway ended at its start:\n{self.output}"
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(self.url + "/readyz", timeout=10).status_code == 200
        return False

    # -- what it is asked --------------------------------------------------------------------------------
    @property
    def output(self) -> str:
        """All that it has logged and printed so far."""
        return b"".join(self._lines).decode("utf-8", "backslashreplace")

    @property
    def rss(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def clients(self) -> int:
        """How many client connections it has open."""
        connections = psutil.Process(self.process.pid).net_connections("tcp")
        return sum(c.status == psutil.CONN_ESTABLISHED and c.laddr.port == self.port for c in connections)

    def descriptors(self) -> int:
        return int(psutil.Process(self.process.pid).num_fds())

    def workers(self) -> dict[int, int]:
        """Of several: the process of each, by its number. Of two with one number, the younger."""
        return dict(self._workers())

    def worker_count(self) -> int:
        return len(self._workers())

    def _workers(self) -> list[tuple[int, int]]:
        found = []
        for child in sorted(psutil.Process(self.process.pid).children(), key=lambda child: child.create_time()):
            with contextlib.suppress(psutil.Error):
                kind, _, number = (child.cmdline() or [""])[-1].partition("-")  # a zombie has none
                if kind == "worker":
                    found.append((int(number), child.pid))
        return found

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def revision(self) -> str:
        return str(httpx.get(self.url + "/readyz").json()["revision"])

    def stored(self) -> bytes:
        """Every byte of every file it has written: the call log with its journal, whatever else there is."""
        files = [path for path in (self.folder / "data").rglob("*") if path.is_file()]
        return b"".join(path.read_bytes() for path in files)

    # -- raw sockets -------------------------------------------------------------------------------------
    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(15)
        client.connect(("127.0.0.1", self.port))
        return client

    def raw(self, data: bytes) -> bytes:
        """All that comes back for these bytes until the gateway closes the connection."""
        with self.connect() as client:
            # It may answer and close before it has read all that was to be sent.
            with contextlib.suppress(ConnectionError):
                client.sendall(data)
            return read_all(client)


def read_all(client: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def http_post(
    path: str, body: bytes | dict[str, Any], key: str | None = None, headers: tuple[str, ...] = (), close: bool = True
) -> bytes:
    """A request's bytes, as a plain client sends them."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"content-length: {len(data)}", *headers]
    if key:
        lines.append(f"authorization: Bearer {key}")
    if close:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer[9:12])


def body_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def events_of(body: bytes) -> Iterator[Any]:
    """The JSON of a stream's events; "[DONE]" as that text."""
    for event in body.split(b"\n\n"):
        if event.startswith(b"data: "):
            payload = event[6:]
            yield "[DONE]" if payload == b"[DONE]" else json.loads(payload)


def text_of(events: list[Any]) -> str:
    """What a stream's content deltas say together."""
    return "".join(
        choice["delta"].get("content") or ""
        for event in events
        if isinstance(event, dict)
        for choice in event.get("choices", ())
    )
