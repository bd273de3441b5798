"""What every admin route has: who may ask, and the audit log, which also has what was refused and what failed."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from gateway.access.keys import without_secrets
from gateway.access.roles import has_role, require_role
from gateway.api.identity import Identified
from gateway.errors import GatewayError, StageFailed
from gateway.records.audit_log import AuditLog, Outcome
from gateway.records.database import StoreUnavailable
from gateway.records.keys import KeyStore
from gateway.runtime import Gateway
from gateway.tenancy import Actor, Deed
from gateway.values import Caller, Role

log = logging.getLogger(__name__)

T = TypeVar("T")

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}").fullmatch
_REFUSALS = 30  # of one key that are logged in a minute: nobody but an admin makes the log grow without end
_SHOWN = 256  # characters of what a request named


class Administration:
    """Who may do what under /admin. `route` is the class of such routes (`APIRouter(route_class=…)`).

    A route's `name` is what the log calls the action: "keys.create". What it does is logged when it has done so, by
    whoever does it in the record store's own transaction (`logged`), or else by the route's class, with what `note`
    was told.
    """

    def __init__(self, gateway: Gateway, identified: Identified, audit: AuditLog) -> None:
        self._gateway = gateway
        self._audit = audit
        self._identified = Depends(identified)
        self._refusals: dict[str, deque[float]] = {}
        self.route = _audited(self)

    def allowed(self, role: Role, *, everywhere: bool = True) -> Any:
        """A dependency: the caller, whose key has this role or one above it. Raises Forbidden.

        `everywhere`: over the whole gateway. Where that is not asked, the route sees to what is the caller's.
        """

        async def allowed(who: Caller = self._identified) -> Caller:
            require_role(who, role, everywhere=everywhere)
            return who

        return Depends(allowed)

    def actor(self, request: Request) -> Actor:
        """Whoever asks, as the audit log names them."""
        who: Caller = request.state.caller
        address = self._gateway.revision.keyring.address(request.scope)
        return Actor(who.key_id, who.key_name, who.tenant, address, request_id(request))

    async def tell(self, request: Request, deed: Deed, outcome: Outcome = "done") -> None:
        """Log a deed; where the record store is away, in the process's own log."""
        actor = self.actor(request)
        deed = replace(deed, object=without_secrets(deed.object), reason=without_secrets(deed.reason))
        try:
            await run_in_threadpool(self._audit.add, actor, deed, outcome)
        except StoreUnavailable as failure:
            log.error("not in the audit log (%s): %s of %s by %s", failure, deed.action, deed.object, actor.key_name)

    def may_log_refusal(self, who: Caller) -> bool:
        """Whether a refusal of this key's goes into the log, or it had enough of them there in the last minute."""
        now = time.monotonic()
        recent = self._refusals.setdefault(who.key_id, deque())
        while recent and recent[0] < now - 60:
            recent.popleft()
        if len(recent) >= _REFUSALS:
            return False
        recent.append(now)
        if len(self._refusals) > 10_000:
            self._refusals = {key_id: times for key_id, times in self._refusals.items() if times[-1] >= now - 60}
        return True


def note(request: Request, deed: Deed) -> None:
    """What the log shall say of this request, once it has been done."""
    request.state.deed = deed


def logged(request: Request) -> None:
    """It is in the log already, with what it has changed."""
    request.state.logged = True


def request_id(request: Request) -> str:
    """The caller's own, where it sent a sane one; else one of ours."""
    if not hasattr(request.state, "request_id"):
        given = request.headers.get("x-request-id", "")
        request.state.request_id = given if _SANE_ID(given) else f"req_{secrets.token_hex(12)}"
    return str(request.state.request_id)


async def asked(question: Callable[..., T], *about: Any, **more: Any) -> T:
    """What the record store says, asked in a thread. Raises StageFailed where it is away."""
    try:
        return await run_in_threadpool(question, *about, **more)
    except StoreUnavailable:
        raise StageFailed(
            "The record store is away. Try again in a moment.", code="records_unavailable", retry_after="1"
        ) from None


async def visible_tenants(store: KeyStore, who: Caller) -> frozenset[str] | None:
    """The tenants that the caller's role is over; None for all."""
    if who.scope == "gateway":
        return None
    if who.scope == "tenant" or who.organisation is None:
        return frozenset({who.tenant})
    return frozenset({who.tenant, *(tenant.id for tenant in await asked(store.tenants, who.organisation))})


def _audited(administration: Administration) -> type[APIRoute]:
    class AuditedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                try:
                    response = await handler(request)
                except GatewayError as error:
                    await _refused(request, error.message, "failed" if error.status >= 500 else "refused")
                    raise
                except RequestValidationError as error:
                    await _refused(request, str(error.errors()[0]["msg"]), "refused")
                    raise
                except Exception:
                    await _refused(request, "an unexpected error", "failed")
                    raise
                if request.method != "GET" and not hasattr(request.state, "logged"):
                    await administration.tell(request, _deed(request))
                response.headers["x-request-id"] = request_id(request)
                return response

            async def _refused(request: Request, reason: str, outcome: Outcome) -> None:
                who: Caller | None = getattr(request.state, "caller", None)
                forbidden = who is not None and not has_role(who, "viewer")
                if who is None or (request.method == "GET" and not forbidden):
                    return  # nobody is known to have tried, or nothing was to be changed
                # What failed may have been done in part: it is logged however often somebody was refused before.
                if outcome == "failed" or administration.may_log_refusal(who):
                    deed = _deed(request)
                    tried = Deed(deed.action, deed.object, deed.tenant or who.tenant, reason=reason[:1000])
                    await administration.tell(request, tried, outcome)

            def _deed(request: Request) -> Deed:
                """What was noted, or as much as the request itself says."""
                noted: Deed | None = getattr(request.state, "deed", None)
                if noted is not None:
                    return noted
                named = "/".join(str(value) for value in request.path_params.values())
                action = self.name if "." in self.name else f"{request.method} {self.path}"
                return Deed(action, named[:_SHOWN])

            return handle

    return AuditedRoute
