"""Whose server an address names, as a browser would read it, and which servers are allowed.

https://url.spec.whatwg.org/#host-parsing. An address that could be read in two ways has both servers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

import re2

from guardrails.folding import encodable

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY = re.compile(r"[/\\]*([^/\\?#]*)")
_PORT = re.compile(r":\d*\Z")
_HOST = re.compile(r"[\w-]+(?:\.[\w-]+)*|\[[0-9a-f:.]+\]")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")  # https://spec.commonmark.org/0.31.2/#backslash-escapes
_BREAKS = re.compile(r"[\t\n\r]+")  # which browsers leave out
_OWN = re.compile(r"(?:[\w-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\]")  # RFC 6761, 6.3; RFC 1122; RFC 4291
# A word that could be a host: labels with points between, the last one of letters; or an address of four numbers.
_NAMED = re2.compile(r"(?i)(?:[\pL\pN_-]+\.)+(?:\pL[\pL\pN-]+|\d{1,3})")
_PATTERN = re.compile(r"(?:\*\.)?[\w-]+(?:\.[\w-]+)*")


class Hosts:
    """An allow-list of `host` and `*.suffix`; the latter holds for what is below the suffix, not for itself."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises ValueError for what is neither."""
        for pattern in patterns:
            if not _PATTERN.fullmatch(pattern):
                raise ValueError(f"`{pattern}` is not a host, nor `*.` and a suffix; give them without scheme and port")
        plain = [_plain(pattern) for pattern in patterns]
        self._exact = frozenset(pattern for pattern in plain if not pattern.startswith("*."))
        self._suffixes = tuple(pattern[1:] for pattern in plain if pattern.startswith("*."))

    def __contains__(self, host: str) -> bool:
        return host in self._exact or (bool(self._suffixes) and host.endswith(self._suffixes))


def servers(address: str) -> tuple[str, ...]:
    """The hosts that an address may lead to, in lower case; "" among them where one can't be read.

    An address of another kind than `scheme://host` or `//host` leads to none that could be read: ("",). A `mailto:`
    leads to the host of its address.
    """
    plain = _BREAKS.sub("", address)
    host = _host(plain)
    if "\\" not in plain:
        return (host,)
    return tuple({host, _host(_ESCAPED.sub(r"\1", plain))})


def own(host: str) -> bool:
    """Whether a host is the machine of whoever follows the address."""
    return _OWN.fullmatch(host) is not None


def named(texts: Iterable[str]) -> frozenset[str]:
    """Every host that stands in the texts, alone or in an address."""
    return frozenset(_plain(match[0]) for text in texts for match in _NAMED.finditer(encodable(text)))


def _host(address: str) -> str:
    scheme = _SCHEME.match(address)
    rest = address[scheme.end() :] if scheme else address
    if scheme and scheme[1].lower() == "mailto":
        authority = rest.partition("?")[0]
        if "@" not in authority or "," in authority:
            return ""
    elif rest.startswith(("/", "\\")) or (scheme and scheme[1].lower() in ("http", "https")):
        found = _AUTHORITY.match(rest)
        authority = found[1] if found else ""
    else:
        return ""
    host = _plain(unquote(_PORT.sub("", authority.rpartition("@")[2])))
    return host if _HOST.fullmatch(host) else ""


def _plain(host: str) -> str:
    return unicodedata.normalize("NFKC", host).replace("。", ".").lower().removesuffix(".")
