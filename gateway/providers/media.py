"""Media that a request names by URL: a server of ours would fetch it from inside, wherever a caller sends it.

A vendor fetches from its own network. vLLM and its like stand in ours, next to metadata services and internal hosts, so
that a URL is refused unless its host is one that the operator has named. Data URLs carry their content with them.
https://docs.vllm.ai/en/latest/usage/security.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.chat import Request
from gateway.errors import BadRequest

# Nothing in which two parsers could see two hosts: no user, no backslash, no white space.
_PLAIN = re.compile(r"https?://([A-Za-z0-9.-]+)(?::\d{1,5})?(?:[/?][^\s\\]*)?")


class MediaHosts:
    """`allowed`: hosts by name, `*.example.com` for all below it."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._names = frozenset(name.lower() for name in allowed if not name.startswith("*."))
        self._suffixes = tuple(name[1:].lower() for name in allowed if name.startswith("*."))

    def check(self, request: Request) -> None:
        """Raises BadRequest for a URL that is not to be fetched, with its place."""
        if b"_url" not in bytes(request.fields.get("messages", b"")):
            return
        for where, url in _urls(request.messages):
            if not url.startswith("data:") and not self._allows(url):
                raise BadRequest(
                    "This model's server fetches nothing from there: send the content itself, as a data URL.",
                    param=where,
                    code="media_host",
                )

    def _allows(self, url: str) -> bool:
        plain = _PLAIN.fullmatch(url)
        if plain is None:
            return False
        host = plain[1].lower().rstrip(".")
        return host in self._names or host.endswith(self._suffixes)


def _urls(messages: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The URLs of all parts that are not text, with their places."""
    for order, message in enumerate(messages):
        content = message.get("content")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            for kind, held in part.items():
                where = f"messages[{order}].content[{number}].{kind}"
                if kind.endswith("_url"):
                    for name, value in held.items() if isinstance(held, dict) else (("", held),):
                        if isinstance(value, str) and (name in ("", "url") or name.endswith("_url")):
                            yield f"{where}.{name}".rstrip("."), value.strip()
