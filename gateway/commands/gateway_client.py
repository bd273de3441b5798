"""What an evaluation asks of a running gateway, over its public API: whole answers, embeddings, a call's record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx
import msgspec

# While a call runs the gateway's own timeouts rule; only its absence is found out here.
_TIMEOUT = httpx.Timeout(None, connect=5.0)
_BATCH = 64  # texts that are embedded in one request


class CallFailed(Exception):
    """A call got no answer. The message is one line; `code` is the error's, where the gateway gave one."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Told:
    """One whole answer. `sources` as in `rag.sources`, `citations` the `url_citation` of each of the message's
    annotations; `removed_marks` is `rag.invalid_citations`.

    `refused`: a guardrail or the model declined, and `text` is what it said instead, if anything.
    """

    text: str
    sources: tuple[dict[str, Any], ...] = ()
    citations: tuple[dict[str, Any], ...] = ()
    removed_marks: int = 0
    refused: bool = False
    degraded: bool = False
    call_id: str = ""
    seconds: float = 0.0


class GatewayClient:
    """A client of one gateway for many calls at once. Use it as an asynchronous context manager."""

    def __init__(self, url: str, api_key: str | None) -> None:
        """Raises CallFailed where `url` is none."""
        self.url = url.rstrip("/").removesuffix("/v1")
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            # A proxy of the environment has no way to this machine's own loopback.
            own = urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")
            self._client = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=_TIMEOUT, trust_env=not own)
        except (ValueError, httpx.InvalidURL) as error:
            raise CallFailed(f"{url} is not a gateway's URL: {error}") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def require(self, model: str, option: str) -> None:
        """Raises CallFailed where this key may not use `model`; the message names the option that asked for it."""
        try:
            await self._call("GET", f"/v1/models/{quote(model, safe='/')}")
        except CallFailed as failure:
            if failure.code != "model_not_found":
                raise
            listed = await self._call("GET", "/v1/models")
            shown = ", ".join(str(each.get("id")) for each in listed[0].get("data") or ()) or "none"
            raise CallFailed(f"{option}: the gateway shows this key no model {model}; it shows {shown}") from None

    async def ask(self, model: str, question: str, user: str | None = None) -> Told:
        """One answer, made anew and not taken from the cache. Raises CallFailed."""
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": question}]}
        if user is not None:
            body["user"] = user
        return await self.chat(body)

    async def chat(self, body: dict[str, Any]) -> Told:
        """The answer to a whole request, made anew and not taken from the cache. Raises CallFailed."""
        began = time.perf_counter()
        try:
            told, headers = await self._call("POST", "/v1/chat/completions", body, {"cache-control": "no-store"})
        except CallFailed as failure:
            if failure.code == "content_filter":
                return Told("", refused=True, seconds=time.perf_counter() - began)
            raise
        seconds = time.perf_counter() - began
        try:
            choice = told["choices"][0]
            message, rag = choice["message"], told.get("rag") or {}
            return Told(
                text=message.get("content") or "",
                sources=_objects(rag.get("sources")),
                citations=_objects([each["url_citation"] for each in message.get("annotations") or ()]),
                removed_marks=int(rag.get("invalid_citations") or 0),
                refused=bool(message.get("refusal")) or choice.get("finish_reason") == "content_filter",
                degraded="x-gateway-degraded" in headers,
                call_id=headers.get("x-gateway-call-id", ""),
                seconds=seconds,
            )
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise CallFailed("what came is not a chat completion: is this a gateway's URL?") from None

    async def admin(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the admin API says. Raises CallFailed."""
        return (await self._call(method, path, body))[0]

    async def record(self, call_id: str) -> dict[str, Any]:
        """What `GET /v1/calls/{id}` tells of a call. Raises CallFailed."""
        return (await self._call("GET", f"/v1/calls/{quote(call_id, safe='')}"))[0]

    async def complete(self, model: str, messages: Sequence[dict[str, str]], sensitivity: str | None) -> str:
        """A model's words on a conversation with this label. Raises CallFailed."""
        body = {"model": model, "messages": list(messages), **_labelled(sensitivity)}
        told, _ = await self._call("POST", "/v1/chat/completions", body)
        try:
            return str(told["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError):
            raise CallFailed("what came is not a chat completion") from None

    async def embed(self, model: str, texts: Sequence[str], sensitivity: str | None) -> list[list[float]]:
        """A vector for each text, in order; the texts have this label. Raises CallFailed."""
        vectors: list[list[float]] = []
        for at in range(0, len(texts), _BATCH):
            batch = list(texts[at : at + _BATCH])
            body = {"model": model, "input": batch, **_labelled(sensitivity)}
            told, _ = await self._call("POST", "/v1/embeddings", body)
            try:
                found = {item["index"]: [float(number) for number in item["embedding"]] for item in told["data"]}
                vectors += [found[index] for index in range(len(batch))]
            except (KeyError, TypeError, ValueError):
                raise CallFailed("what came is not a list of embeddings") from None
        if len({len(vector) for vector in vectors}) > 1:
            raise CallFailed("what came are embeddings of different lengths")
        return vectors

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> tuple[dict[str, Any], httpx.Headers]:
        try:
            response = await self._client.request(method, path, json=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise CallFailed(f"no gateway answers at {self.url}: start one with `rag-gateway serve`") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CallFailed(f"the gateway at {self.url} broke off: {error}") from None
        try:
            told = msgspec.json.decode(response.content)  # refuses half a surrogate pair, which nobody could print
        except (msgspec.DecodeError, UnicodeDecodeError):
            told = None
        if not isinstance(told, dict):
            raise CallFailed(f"HTTP {response.status_code} without JSON that can be read: is this a gateway's URL?")
        if response.is_error:
            fault = told.get("error")
            message, code = (fault.get("message"), fault.get("code")) if isinstance(fault, dict) else (None, None)
            line = " ".join(message.split()) if isinstance(message, str) else "this does not look like a gateway"
            raise CallFailed(f"HTTP {response.status_code}: {line}", code)
        return told, response.headers


def _labelled(sensitivity: str | None) -> dict[str, Any]:
    return {} if sensitivity is None else {"metadata": {"sensitivity": sensitivity}}


def _objects(given: Any) -> tuple[dict[str, Any], ...]:
    """Raises TypeError where `given` is neither missing nor a list of objects."""
    objects = tuple(given or ())
    if not all(isinstance(each, dict) for each in objects):
        raise TypeError
    return objects
