"""One embedding process for all tests of a session that need vectors and not the process: 8 s of CPU are spent once.

It is the gateway's own embedding server, at a loopback port in place of a data folder's socket.
"""

from __future__ import annotations

import atexit
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from gateway_process import free_port, until

_SERVE = """
import asyncio, sys
import uvicorn
from retrieval.embedding_server import Batcher, MiniLM, create_app

async def serve() -> None:
    batcher = Batcher(MiniLM())
    encoding = asyncio.create_task(batcher.run())
    config = uvicorn.Config(create_app(batcher), port=int(sys.argv[1]), log_level="error", lifespan="off", ws="none")
    await uvicorn.Server(config).serve()
    encoding.cancel()

asyncio.run(serve())
"""


class EmbeddingProcess:
    """Use it as a context manager: it answers inside."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()

    @property
    def settings(self) -> dict[str, Any]:
        """What `retrieval.embeddings` of a configuration says of it."""
        return {"url": f"http://127.0.0.1:{self._port}/v1", "residency": "on_premises"}

    def behind(self, configuration: dict[str, Any]) -> dict[str, Any]:
        """The same configuration with this embedder."""
        return {**configuration, "retrieval": {**configuration["retrieval"], "embeddings": self.settings}}

    def __enter__(self) -> EmbeddingProcess:
        with (self._folder / "embeddings.log").open("wb") as log:
            self._process = subprocess.Popen([sys.executable, "-c", _SERVE, str(self._port)], stdout=log, stderr=log)
        atexit.register(self._process.kill)  # should the test run itself break down
        until(self._answers, 180, "the embedding server")
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait(60)
        atexit.unregister(self._process.kill)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "embeddings.log").read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self._port}/healthz", timeout=30).status_code == 200
        return False
