"""arize-phoenix: a real collector with an API to ask, in a process of its own. `make` installs it beside the environment.

Its gRPC server listens on every address of the machine: see own_network.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from gateway_process import until
from own_network import bring_up, own_network, pass_on

OVERLAY = Path(sys.prefix) / "phoenix"  # `make` puts it there
_PORT, _GRPC_PORT = "6006", "4317"  # inside


class PhoenixProcess:
    """Use it as a context manager; it takes some seconds to be there. `url` takes OTLP, and answers questions;
    `grpc_url` takes OTLP by gRPC."""

    def __init__(self, folder: Path) -> None:
        assert OVERLAY.is_dir(), "`make env` installs arize-phoenix there"
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in (_PORT, _GRPC_PORT)]
        self.url, self.grpc_url = (f"http://127.0.0.1:{one.getsockname()[1]}" for one in self._listeners)

    def __enter__(self) -> PhoenixProcess:
        listeners = [one.fileno() for one in self._listeners]
        tethered = (sys.executable, "-m", "retrieval.tethered", str(os.getpid()))
        self._log = open(self._folder / "phoenix.log", "wb")
        self._passing = subprocess.Popen(
            [*own_network(), *tethered, sys.executable, __file__, *map(str, listeners), str(self._folder)],
            stdout=self._log, stderr=subprocess.STDOUT, pass_fds=listeners,
        )  # fmt: skip
        atexit.register(self._passing.kill)
        return self

    def __exit__(self, *exc: object) -> None:
        self._passing.terminate()
        self._passing.wait(60)
        atexit.unregister(self._passing.kill)
        for one in self._listeners:
            one.close()
        self._log.close()

    def wait(self) -> None:
        """Until it answers."""

        def answers() -> bool:
            assert self._passing.poll() is None, (self._folder / "phoenix.log").read_text()[-2000:]
            try:
                return httpx.get(self.url + "/healthz", timeout=20).status_code == 200
            except httpx.HTTPError:
                return False

        until(answers, 120, "Phoenix")

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """All that it holds of a trace."""
        answer = httpx.get(
            self.url + "/v1/projects/default/spans", params={"trace_id": trace_id, "limit": 1000}, timeout=20
        )
        if answer.status_code == 404:  # it makes the project for the first span
            return []
        answer.raise_for_status()
        return list(answer.json()["data"])


def _inside(listener: int, grpc_listener: int, folder: str) -> None:
    """What runs in the namespace: the server, and whoever passes on to it, until SIGTERM."""
    bring_up()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = subprocess.Popen(
        [sys.executable, "-m", "phoenix.server.main", "serve"],
        env={
            **os.environ, "PYTHONPATH": str(OVERLAY), "PHOENIX_WORKING_DIR": folder, "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": _PORT, "PHOENIX_GRPC_PORT": _GRPC_PORT, "PHOENIX_TELEMETRY_ENABLED": "false",
        },
    )  # fmt: skip
    try:
        http, grpc = socket.socket(fileno=listener), socket.socket(fileno=grpc_listener)
        asyncio.run(pass_on((http, int(_PORT)), (grpc, int(_GRPC_PORT))))
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    _inside(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
