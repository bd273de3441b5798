"""Who asks, on the routes that FastAPI serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request

from gateway.access.callers import user_in_header
from gateway.access.roles import require_endpoint
from gateway.api.headers import credential, read_headers
from gateway.runtime import Gateway
from gateway.values import Caller

Identified = Callable[[Request], Awaitable[Caller]]

_EVERY_KEYS = ("models", "limits")  # what a key may see and has left


def identifier(gateway: Gateway) -> Identified:
    """What finds a request's caller, for FastAPI's `Depends`. It raises what the keyring raises, and Forbidden where
    the key is not for this part of the API."""

    async def caller(request: Request) -> Caller:
        return await _identified(gateway, request, speaks=False)

    return caller


def speaker(gateway: Gateway) -> Identified:
    """The same, or the user whom a trusted key speaks for by the configured header."""

    async def caller(request: Request) -> Caller:
        return await _identified(gateway, request, speaks=True)

    return caller


async def _identified(gateway: Gateway, request: Request, *, speaks: bool) -> Caller:
    revision = gateway.revision
    keyring, named = revision.keyring, revision.user_header
    headers = read_headers(request.scope["headers"], named)
    claimed = headers.get(named) if speaks and named is not None else None
    known = await keyring.identify(credential(headers), request.scope)
    # Once only: the groups of the key's own user are not those of whom it speaks for.
    who = keyring.speaking_for(known, user_in_header(claimed) if claimed is not None else None)
    request.state.caller = who
    if who.endpoints is not None and (endpoint := _endpoint(request.url.path)) is not None:
        require_endpoint(who, endpoint)
    return who


def _endpoint(path: str) -> str | None:
    """The part of the API that a path under /v1 belongs to; None where it is every key's."""
    parts = path.split("/")
    return parts[2] if len(parts) > 2 and parts[1] == "v1" and parts[2] not in _EVERY_KEYS else None
