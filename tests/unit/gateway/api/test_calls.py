"""Lists of calls: what one tenant asks for holds up no other's."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import httpx
from fastapi import FastAPI, Request

from gateway.api.calls import router
from gateway.records.call_queries import CallFilter, Page
from gateway.values import Caller


class Slow:
    """Queries of tenant `a` end when they may; how many there were at once."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.guard = threading.Lock()
        self.running = self.most = 0

    def page(self, wanted: CallFilter, limit: int, after: str | None) -> Page:
        if wanted.tenant == "a":
            with self.guard:
                self.running += 1
                self.most = max(self.most, self.running)
            assert self.may_end.wait(60)
            with self.guard:
                self.running -= 1
        return Page([], None)


async def test_a_tenant_whose_lists_take_long_has_two_at_a_time_and_others_do_not_wait() -> None:
    async def identified(request: Request) -> Caller:
        return Caller("key", request.headers["x-tenant"])

    queries: Any = Slow()
    gateway: Any = SimpleNamespace(journal=SimpleNamespace(flush=lambda: True))
    app = FastAPI()
    app.include_router(router(identified, gateway, queries))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        slow = [asyncio.ensure_future(client.get("/v1/calls", headers={"x-tenant": "a"})) for _ in range(60)]
        async with asyncio.timeout(60):
            while queries.running < 2:
                await asyncio.sleep(0.01)
            for _ in range(3):
                assert (await client.get("/v1/calls", headers={"x-tenant": "b"})).status_code == 200
        assert queries.most == 2
        queries.may_end.set()
        assert {answer.status_code for answer in await asyncio.gather(*slow)} == {200}
    assert queries.most == 2
