"""A provider that speaks HTTP/2: the official SDK, the gateway, and a server of another make behind it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from gateway_process import GatewayProcess, free_port, until
from hypercorn.asyncio import serve
from hypercorn.config import Config
from upstream.tls import Authority

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
KEY = "sk-upstream-http2-canary"


class Application:
    """OpenAI's chat over ASGI: a word for each number up to what the user's message says; "forever" never ends."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []  # (HTTP version, the client's port)
        self.left = 0

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        if scope["type"] != "http":
            return
        self.seen.append((scope["http_version"], scope["client"][1]))
        headers = dict(scope["headers"])
        assert headers[b"authorization"] == b"Bearer " + KEY.encode()
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked = json.loads(body)
        words = asked["messages"][-1]["content"]
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
            await self._head(send, b"application/json")
            await send({"type": "http.response.body", "body": self._chunk("chat.completion", choice)})
            return
        await self._head(send, b"text/event-stream")
        gone = asyncio.create_task(receive())
        number = 0
        while not gone.done() and (words == "forever" or number < 40):
            choice = {"index": 0, "delta": {"content": f"{words}-{number} "}, "finish_reason": None}
            await self._event(send, self._chunk("chat.completion.chunk", choice))
            number += 1
            await asyncio.sleep(0.001)
        if gone.done():
            self.left += 1
            return
        gone.cancel()
        await self._event(
            send, self._chunk("chat.completion.chunk", {"index": 0, "delta": {}, "finish_reason": "stop"})
        )
        await self._event(send, b"[DONE]")
        await send({"type": "http.response.body", "body": b""})

    async def _head(self, send: Callable[[Any], Any], content_type: bytes) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]})

    async def _event(self, send: Callable[[Any], Any], data: bytes) -> None:
        await send({"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": True})

    def _chunk(self, kind: str, choice: dict[str, Any]) -> bytes:
        return json.dumps({"id": "c1", "object": kind, "created": 1, "model": "m", "choices": [choice]}).encode()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Application, str, Path]]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    application, port = Application(), free_port()
    pem = str(authority.certificate("127.0.0.1"))
    config = Config.from_mapping(bind=[f"127.0.0.1:{port}"], certfile=pem, keyfile=pem, accesslog=None, errorlog=None)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run() -> None:
        loop.run_until_complete(serve(application, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]  # ASGI's types are narrower there
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield application, f"https://127.0.0.1:{port}/v1", authority.file
    loop.call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture(scope="module")
def gateway(
    provider: tuple[Application, str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    _, url, authority = provider
    far = {"kind": "openai", "base_url": url, "api_key": KEY, "http2": True}
    folder = tmp_path_factory.mktemp("http2")
    with GatewayProcess({"providers": {"far": far}}, folder, {"SSL_CERT_FILE": str(authority)}) as gateway:
        yield gateway
    assert "Traceback" not in gateway.output


async def test_a_hundred_streams_share_a_connection(
    gateway: GatewayProcess, provider: tuple[Application, str, Path]
) -> None:
    application = provider[0]
    application.seen.clear()
    async with openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key="any", max_retries=0) as client:

        async def ask(name: str) -> str:
            chunks = await client.chat.completions.create(
                model="far/m", messages=[{"role": "user", "content": name}], stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

        answers = await asyncio.gather(*[ask(f"s{number}") for number in range(100)])
    for number, answer in enumerate(answers):
        assert answer == "".join(f"s{number}-{word} " for word in range(40))
    assert {version for version, _ in application.seen} == {"2"}
    assert len({port for _, port in application.seen}) == 1


def test_a_plain_answer_and_a_caller_who_leaves(
    gateway: GatewayProcess, provider: tuple[Application, str, Path]
) -> None:
    application = provider[0]
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key="any", max_retries=0) as client:
        told = client.chat.completions.create(model="far/m", messages=HELLO)
        assert told.choices[0].message.content == "hello"
        left = application.left
        forever: list[Any] = [{"role": "user", "content": "forever"}]
        with client.chat.completions.create(model="far/m", messages=forever, stream=True) as chunks:
            next(iter(chunks))
        until(lambda: application.left == left + 1, what="the provider's call ended")
