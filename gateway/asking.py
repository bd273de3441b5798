"""One question to a running gateway, its answer streamed: what `rag-gateway ask` stands on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from gateway.errors import UpstreamFailed
from gateway.providers.sse import SseReader

# Between two pieces of an answer the gateway's own timeouts rule; only its absence is found out here.
_TIMEOUT = httpx.Timeout(None, connect=5.0)


class AskFailed(Exception):
    """No answer, or not all of it. The message is one line for whoever asked."""


@dataclass(slots=True)
class Answer:
    """Filled while the text is read: `sources` as in the answer's `rag.sources`."""

    model: str
    call_id: str = ""
    cache: str = ""
    target: str = ""
    sources: list[dict[str, Any]] = field(default_factory=list)


class Asker:
    """A client of one gateway. Use it as a context manager."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            # A proxy of the environment has no way to this machine's own loopback.
            own = urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")
            self._client = httpx.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT, trust_env=not own)
        except (ValueError, httpx.InvalidURL) as error:
            raise AskFailed(f"{url} is not a gateway's URL: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def default_model(self) -> str:
        """The first public model that this key may use. Raises AskFailed."""
        with self._errors():
            response = self._client.get("/v1/models")
            _check(response)
            models = _object(response.content).get("data")
        if not models:
            raise AskFailed("this gateway shows no public model: name one with --model PROVIDER/MODEL")
        return str(models[0]["id"])

    def ask(self, question: str, answer: Answer, user: str | None = None) -> Iterator[str]:
        """The answer's text, piece by piece as it comes. Raises AskFailed, also when it breaks off."""
        body: dict[str, Any] = {
            "model": answer.model,
            "messages": [{"role": "user", "content": question}],
            "stream": True,
        }
        if user is not None:
            body["user"] = user
        with self._errors(), self._client.stream("POST", "/v1/chat/completions", json=body) as response:
            answer.call_id = response.headers.get("x-request-id", "")
            answer.cache = response.headers.get("x-gateway-cache", "")
            answer.target = response.headers.get("x-gateway-target", "")
            if response.is_error:
                response.read()
            _check(response)
            events = SseReader()
            for segment in response.iter_bytes():
                for payload in events.feed(segment):
                    if payload == b"[DONE]":
                        return
                    yield from _texts(_object(payload), answer)
        raise AskFailed("the answer broke off before its end")

    def _errors(self) -> _ClientErrors:
        return _ClientErrors(self.url)


class _ClientErrors:
    """httpx's errors, in a line that says what to do."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case httpx.ConnectError() | httpx.ConnectTimeout():
                raise AskFailed(f"no gateway answers at {self._url}: start one with `rag-gateway serve`") from None
            case httpx.HTTPError() | UpstreamFailed():
                raise AskFailed(f"the gateway at {self._url} broke off: {error}") from None
            case httpx.InvalidURL():
                raise AskFailed(f"{self._url} is not a gateway's URL: {error}") from None
            case _:
                return


def _texts(event: dict[str, Any], answer: Answer) -> Iterator[str]:
    if "error" in event:
        raise AskFailed(_message(event) or "the answer broke off with an error")
    rag = event.get("rag")
    if isinstance(rag, dict):
        answer.sources = list(rag.get("sources") or ())
    for choice in event.get("choices") or ():
        text = (choice.get("delta") or {}).get("content")
        if text:
            yield text


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        message = _message(_object(response.content))
    except AskFailed:
        message = None
    raise AskFailed(message or f"HTTP {response.status_code}: this does not look like a gateway")


def _message(body: dict[str, Any]) -> str | None:
    error = body.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return " ".join(message.split()) if isinstance(message, str) else None


def _object(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise AskFailed("what came is not JSON as a gateway sends it: is this a gateway's URL?")
    return value
