"""What the audit log hears of an admin route, whatever becomes of the request."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request

from gateway.api.administration import Administration
from gateway.errors import BadRequest, GatewayError, StageFailed
from gateway.tenancy import Actor, Deed
from gateway.values import Caller


class Log:
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def add(self, actor: Actor, deed: Deed, outcome: str) -> None:
        self.outcomes.append(outcome)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def app(log: Log) -> FastAPI:
    async def identified(request: Request) -> Caller:
        who = request.state.caller = Caller("ada", key_id="key_1", role="admin")
        return who

    gateway: Any = SimpleNamespace(revision=SimpleNamespace(keyring=SimpleNamespace(address=lambda scope: "192.0.2.1")))
    stand_in: Any = log
    administration = Administration(gateway, identified, stand_in)
    routes = APIRouter(route_class=administration.route)

    @routes.post("/admin/{what}", dependencies=[administration.allowed("admin")])
    async def act(what: str) -> None:
        raise BadRequest("no") if what == "wrong" else StageFailed("half of it was done")

    app = FastAPI()
    app.include_router(routes)
    return app


async def test_what_failed_is_logged_however_often_its_key_was_refused(app: FastAPI, log: Log) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        for what in [*["wrong"] * 40, "half"]:
            with pytest.raises(GatewayError):  # nothing here makes an answer of it
                await client.post(f"/admin/{what}")
    assert log.outcomes == [*["refused"] * 30, "failed"]
