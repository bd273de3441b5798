"""A gateway of two workers, and calls that go on while one of them is killed, replaced or reloaded."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from gateway_process import GatewayProcess, events_of, text_of, until

CHAT = "/v1/chat/completions"


def whole(gateway: GatewayProcess) -> bool:
    """Both workers are ready, and no third one is on its way out."""
    told = ready(gateway)
    return told.get("workers") == {"1": "ready", "2": "ready"} and gateway.worker_count() == 2


def ready(gateway: GatewayProcess) -> dict[str, Any]:
    """What one of the workers says of itself and the others, over a connection of its own."""
    return dict(json.loads(get(gateway, "/readyz")))


def get(gateway: GatewayProcess, path: str, key: str = "") -> bytes:
    """By the lightest of clients, since tests ask again and again until something holds; empty where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return b"{}"
    finally:
        connection.close()


def ask(content: str, stream: bool = False) -> dict[str, Any]:
    return {"model": "plain", "messages": [{"role": "user", "content": content}], "stream": stream}


@dataclass
class Call:
    began: float
    ended: float = 0.0
    fault: str = ""
    target: str = ""
    call_id: str = ""


@dataclass
class Load:
    calls: list[Call] = field(default_factory=list)

    @property
    def faults(self) -> list[Call]:
        return [call for call in self.calls if call.fault]

    def since(self, moment: float) -> list[Call]:
        return [call for call in self.calls if call.began > moment and call.ended]


@asynccontextmanager
async def load(gateway: GatewayProcess, key: str, callers: int, keep_alive: bool) -> AsyncIterator[Load]:
    """Calls, every third a stream, for as long as it is open; each on a connection of its own unless `keep_alive`."""
    told = Load()
    stop = asyncio.Event()

    async def one(client: httpx.AsyncClient, number: int) -> None:
        content = f"call {number} of {len(told.calls)}"
        call = Call(time.monotonic())
        told.calls.append(call)
        try:
            answer = await client.post(CHAT, json=ask(content, number % 3 == 0))
            if answer.status_code != 200:
                call.fault = answer.text
            elif number % 3 == 0:
                events = list(events_of(answer.content))
                call.fault = "" if events[-1] == "[DONE]" and text_of(events).endswith(content) else str(events)
            elif not answer.json()["choices"][0]["message"]["content"].endswith(content):
                call.fault = answer.text
            call.call_id = answer.headers.get("x-gateway-call-id", "")
            call.target = answer.headers.get("x-gateway-target", "")
        except httpx.HTTPError as error:
            call.fault = repr(error)
        call.ended = time.monotonic()

    async def caller(number: int) -> None:
        limits = httpx.Limits(max_keepalive_connections=None if keep_alive else 0)
        settings: dict[str, Any] = {"timeout": 30, "limits": limits, "trust_env": False}
        async with httpx.AsyncClient(
            base_url=gateway.url, headers={"authorization": f"Bearer {key}"}, **settings
        ) as client:
            while not stop.is_set():
                await one(client, number)

    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(caller(number))
        try:
            yield told
        finally:
            stop.set()


async def more(told: Load, count: int) -> None:
    """Wait until so many calls that began from now on have ended."""
    now = time.monotonic()
    await asyncio.to_thread(until, lambda: len(told.since(now)) >= count, what=f"{count} more calls")
