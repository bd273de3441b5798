"""Who asks, on the routes that FastAPI serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request

from gateway.access.roles import require_endpoint
from gateway.runtime import Gateway
from gateway.values import Caller

Identified = Callable[[Request], Awaitable[Caller]]

_EVERY_KEYS = ("models", "limits")  # what a key may see and has left


def identifier(gateway: Gateway) -> Identified:
    """What finds a request's caller, for FastAPI's `Depends`. It raises what the keyring raises, and Forbidden where
    the key is not for this part of the API."""

    async def caller(request: Request) -> Caller:
        return await _identified(gateway, request, None)

    return caller


def speaker(gateway: Gateway) -> Identified:
    """The same, or the user whom a trusted key speaks for by the configured header."""

    async def caller(request: Request) -> Caller:
        name = gateway.revision.user_header
        return await _identified(gateway, request, request.headers.get(name.decode()) if name is not None else None)

    return caller


async def _identified(gateway: Gateway, request: Request, claimed: str | None) -> Caller:
    credential = request.headers.get("authorization")
    if credential is None and (key := request.headers.get("x-api-key")) is not None:
        credential = f"Bearer {key}"
    encoded = credential.encode("latin-1") if credential is not None else None
    keyring = gateway.revision.keyring
    # Once only: the groups of the key's own user are not those of whom it speaks for.
    who = keyring.speaking_for(await keyring.identify(encoded, request.scope), claimed)
    request.state.caller = who
    if who.endpoints is not None and (endpoint := _endpoint(request.url.path)) is not None:
        require_endpoint(who, endpoint)
    return who


def _endpoint(path: str) -> str | None:
    """The part of the API that a path under /v1 belongs to; None where it is every key's."""
    parts = path.split("/")
    return parts[2] if len(parts) > 2 and parts[1] == "v1" and parts[2] not in _EVERY_KEYS else None
