"""What commands ask of a running gateway's admin API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from gateway.commands.configuration import fail

if TYPE_CHECKING:
    import httpx

F = TypeVar("F", bound=Callable[..., Any])

api_key_option = click.option(
    "--api-key",
    envvar="RAG_GATEWAY_API_KEY",
    show_envvar=True,
    help="A key that may; none for a gateway in open mode.",
)


def ask(method: str, url: str, path: str, api_key: str | None, **more: Any) -> Any:
    """The answer's JSON; or what is wrong, and exit status 1."""
    with _client(url, api_key) as client:
        return _told(client.request(method, path, **more), url)


def lines(url: str, path: str, api_key: str | None, body: dict[str, Any]) -> Iterator[bytes]:
    """What is answered to a POST, line by line; or what is wrong, and exit status 1."""
    with _client(url, api_key) as client, client.stream("POST", path, json=body, timeout=120) as answer:
        if answer.status_code >= 400:
            answer.read()
            _told(answer, url)
        for line in answer.iter_lines():
            yield line.encode()


@contextmanager
def _client(url: str, api_key: str | None) -> Iterator[httpx.Client]:
    import httpx

    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    url = url.rstrip("/").removesuffix("/v1")
    try:
        # A proxy of the environment has no way to this machine's own loopback.
        own = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
        with httpx.Client(base_url=url, headers=headers, trust_env=not own, timeout=10) as client:
            yield client
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        fail(f"no answer from {url}: {type(error).__name__}. Is the gateway running there?")


def _told(answer: httpx.Response, url: str) -> Any:
    try:
        told = answer.json()
    except ValueError:
        fail(f"{url} answered with HTTP {answer.status_code} and no JSON: is that a rag-gateway?")
    if answer.status_code >= 400:
        fail(told["error"]["message"])
    return told
