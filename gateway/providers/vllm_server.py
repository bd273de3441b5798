"""A vLLM server of the gateway's own: started, watched, started again with patience, ended with the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
from collections import deque
from typing import Literal

log = logging.getLogger(__name__)

_POLL = 0.25
_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_TOLD_OF_FAILURE = 20  # last lines of its output
_ENDS_WITHIN = 30.0  # its supervisor kills it after 20 s

State = Literal["loading", "ok", "unavailable"]


class VllmServer:
    """`vllm serve` on a loopback port and under an API key that nobody else knows."""

    def __init__(self, name: str, executable: str, model: str, args: list[str], ready_within: float) -> None:
        """`name` is the provider's, for the log; `ready_within`: seconds that loading the model may take."""
        self.state: State = "loading"
        self.port = _free_port()
        self.key = secrets.token_urlsafe(32)
        self._name = name
        self._command = [executable, "serve", model, "--host", "127.0.0.1", "--port", str(self.port), *args]
        self._ready_within = ready_within

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def run(self) -> None:
        """Keep it running until this task is cancelled; then it is ended, with all that it started."""
        pause = _PAUSE
        while True:
            was_ready = await self._once()
            pause = _PAUSE if was_ready else pause
            self.state = "unavailable"
            log.warning("the vLLM server of provider %s is started again in %.0f s", self._name, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            self.state = "loading"

    async def _once(self) -> bool:
        """One process, until it ends; whether it was ready at some time."""
        tail: deque[str] = deque(maxlen=_TOLD_OF_FAILURE)
        supervised = [sys.executable, "-m", "gateway.providers.until_stdin_ends", *self._command]
        process = await asyncio.create_subprocess_exec(
            *supervised,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # A group of its own: Ctrl-C is for the gateway, which ends the server once it has drained.
            start_new_session=True,
            env={**os.environ, "VLLM_API_KEY": self.key},
            limit=1 << 20,
        )
        log.info("the vLLM server of provider %s is starting", self._name)
        reading = asyncio.ensure_future(self._read(process, tail))
        try:
            ended = asyncio.ensure_future(process.wait())
            ready = asyncio.ensure_future(self._healthy())
            await asyncio.wait({ended, ready}, timeout=self._ready_within, return_when=asyncio.FIRST_COMPLETED)
            was_ready = ready.done() and not ended.done()
            ready.cancel()
            if was_ready:
                self.state = "ok"
                log.info("the vLLM server of provider %s is ready", self._name)
                await ended
            elif not ended.done():
                log.warning("the vLLM server of provider %s was not ready in time", self._name)
            if ended.done():
                told = "\n".join(tail).replace(self.key, "***")
                log.warning("the vLLM server of provider %s ended (%s):\n%s", self._name, ended.result(), told)
            return was_ready
        finally:
            await asyncio.shield(self._end(process))
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is not None:
            process.stdin.close()  # its supervisor does the rest
        try:
            async with asyncio.timeout(_ENDS_WITHIN):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what is left of its group, should its supervisor have been killed

    async def _read(self, process: asyncio.subprocess.Process, tail: deque[str]) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                continue  # a line too long to be one
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()
            tail.append(text)
            log.debug("%s: %s", self._name, text.replace(self.key, "***"))

    async def _healthy(self) -> None:
        """Return when it takes requests: https://docs.vllm.ai/en/latest/serving/openai_compatible_server/"""
        import httpx

        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(self.url + "/health")).status_code == 200:
                        return
                await asyncio.sleep(_POLL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
