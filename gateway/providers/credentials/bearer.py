"""Access tokens that expire: kept until shortly before that, fetched once for all calls that wait for one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from gateway.errors import CredentialRefused, UpstreamFailed
from gateway.providers.dialect import Outgoing

Fetch = Callable[[], Awaitable[tuple[str, float]]]
"""A fresh token and the seconds that it is good for. Raises CredentialRefused or UpstreamFailed."""

_EARLY = 300.0  # seconds before its end that a token is replaced, beside the calls that still use it


class BearerToken:
    """A Signer."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._token = ""
        self._good_until = 0.0
        self._fetching: asyncio.Task[None] | None = None

    async def headers(self, outgoing: Outgoing) -> tuple[tuple[str, str], ...]:
        left = self._good_until - time.monotonic()
        if left < _EARLY and self._fetching is None:
            self._fetching = asyncio.ensure_future(self._renew())
            self._fetching.add_done_callback(self._fetched)
        if left <= 0 and self._fetching is not None:
            await asyncio.shield(self._fetching)  # a caller that leaves does not take the token from the others
        return (("authorization", f"Bearer {self._token}"),)

    async def _renew(self) -> None:
        token, seconds = await self._fetch()
        self._token, self._good_until = token, time.monotonic() + seconds

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # those who waited have it; a renewal that failed early is tried again by the next call


async def post_form(url: str, form: dict[str, str]) -> tuple[str, float]:
    """An OAuth 2.0 token by a form (RFC 6749, 4.4). Raises CredentialRefused or UpstreamFailed."""
    import httpx

    try:
        async with httpx.AsyncClient(timeout=10) as client:
            answer = await client.post(url, data=form)
    except httpx.HTTPError:
        raise UpstreamFailed("No credential for the provider: its token service is away.") from None
    return read_token(answer.status_code, answer.content)


def read_token(status: int, body: bytes) -> tuple[str, float]:
    """A token endpoint's answer (RFC 6749, 5.1). Raises CredentialRefused or UpstreamFailed."""
    import msgspec

    if status in (400, 401, 403):
        raise CredentialRefused("The provider's token service refused the gateway's credentials.")
    try:
        told = msgspec.json.decode(body)
        return str(told["access_token"]), float(told.get("expires_in", 3600))
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise UpstreamFailed("No credential for the provider: its token service gave none.") from None
