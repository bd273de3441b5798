"""JSON over HTTP to servers that judge texts: webhooks and moderation endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from gateway.chat import JSON
from gateway.stages.guard_calls import trace_headers
from guardrails.outside import Post
from guardrails.text_checks import CheckUnavailable

_MOST = 4_000_000  # bytes of an answer


class HttpPosts:
    """One pool of connections for all of them. Redirects are not followed: a text goes where the operator sends it."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(follow_redirects=False)

    def post(self, url: str, headers: Mapping[str, str], timeout: float) -> Post:
        """Posts to `url` and gives up after `timeout` seconds."""
        sent = {"content-type": "application/json", **headers}

        async def posted(body: Mapping[str, Any]) -> Any:
            data = JSON.encode(body)
            try:
                told = trace_headers() | sent
                async with self._client.stream("POST", url, content=data, headers=told, timeout=timeout) as answer:
                    if answer.status_code != 200:
                        raise CheckUnavailable(f"its server answered with HTTP {answer.status_code}")
                    received = b""
                    async for piece in answer.aiter_bytes():
                        received += piece
                        if len(received) > _MOST:
                            raise CheckUnavailable("its server's answer is too long")
            except httpx.TimeoutException:
                raise CheckUnavailable("its server took too long") from None
            except httpx.HTTPError:
                raise CheckUnavailable("its server can't be reached") from None
            try:
                return httpx.Response(200, content=received).json()
            except ValueError:
                raise CheckUnavailable("its server's answer is not JSON") from None

        return posted

    async def aclose(self) -> None:
        await self._client.aclose()
