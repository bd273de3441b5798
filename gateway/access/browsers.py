"""Which web pages may call this gateway from somebody's browser.

A browser that runs a page says so: `Origin` names the page's, `Sec-Fetch-Site` how that is related to us. Programs send
neither. What a page of another origin may read of an answer is said by CORS (https://fetch.spec.whatwg.org/#http-cors-protocol);
what it may do is another matter, since a browser sends many requests before it asks. With a key that is no matter, for
only who has it can send it. In open mode anybody's page could act by the browser of whoever runs the gateway; there,
what a page of another origin sends is refused, and so are host names that whoever owns them may point at this machine
(https://en.wikipedia.org/wiki/DNS_rebinding).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.errors import Forbidden

Headers = list[tuple[bytes, bytes]]

_READ_ONLY = ("GET", "HEAD", "OPTIONS")
_METHODS = b"GET, POST, PUT, PATCH, DELETE"
# What pages may read of an answer, beside what they always may: all that we say of a call. There is no pattern for it.
_EXPOSED = b", ".join((
    b"x-request-id", b"x-gateway-call-id", b"x-gateway-target", b"x-gateway-arm", b"x-gateway-cache",
    b"x-gateway-degraded", b"x-gateway-left-out", b"age", b"server-timing", b"retry-after", b"x-should-retry",
    b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests",
    b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens",
))  # fmt: skip
_VARY = (b"vary", b"Origin")


class CrossOrigin(Forbidden):
    code = "cross_origin"


@dataclass(frozen=True, slots=True)
class Browsers:
    """One configuration's rules. `hosts`: names beside this machine's own by which it may be called in open mode."""

    origins: frozenset[bytes] = frozenset()
    hosts: frozenset[str] = frozenset()
    max_age: int = 600

    @classmethod
    def of(cls, origins: Iterable[str], hosts: Iterable[str], max_age: float) -> Browsers:
        named = {*hosts, socket.gethostname().lower()}
        return cls(frozenset(origin.encode("ascii") for origin in origins), frozenset(named), int(max_age))

    def refuse_strangers(self, headers: Mapping[bytes, bytes], method: str) -> None:
        """For open mode. Raises CrossOrigin for what a page of another origin may not do, and for a name of ours that
        somebody else may have made up."""
        origin, host = headers.get(b"origin"), headers.get(b"host", b"").lower()
        if origin in self.origins:
            return
        if not self._is_ours(_name(host)):
            raise CrossOrigin(
                f"This gateway has no keys and serves this machine alone, which is not called {_shown(_name(host))}. "
                "Use 127.0.0.1 or localhost, add the name to `access.open_hosts`, or create a key."
            )
        if method in _READ_ONLY:
            return
        elsewhere = not _same(origin, host) if origin is not None else _from_elsewhere(headers)
        if elsewhere:
            who = _shown(origin.decode("latin-1")) if origin is not None else "another web site"
            raise CrossOrigin(
                f"This gateway has no keys, so pages of {who} may not use it. Add that origin to `cors.origins` in its "
                "configuration, or create a key."
            )

    def granted(self, origin: bytes | None) -> Headers:
        """What lets a page of this origin read the answer; nothing where it may not, or where there is no page."""
        if origin is None or origin not in self.origins:
            return []
        return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED), _VARY]

    def preflight(self, headers: Mapping[bytes, bytes]) -> Headers:
        """The answer to a browser that asks before it sends. Raises CrossOrigin."""
        origin = headers.get(b"origin")
        if origin is None or origin not in self.origins:
            raise CrossOrigin(
                f"Pages of {_shown((origin or b'').decode('latin-1'))} may not call this gateway: `cors.origins` in its "
                "configuration names those that may."
            )
        granted: Headers = [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-max-age", b"%d" % self.max_age),
            (b"vary", b"Origin, Access-Control-Request-Headers"),
        ]
        if asked := headers.get(b"access-control-request-headers"):
            # Whatever it wants to send: a client's own headers change nothing that its key does not allow.
            granted.append((b"access-control-allow-headers", asked))
        return granted

    def _is_ours(self, name: str) -> bool:
        """Whether nobody else can have pointed this name here: an address, or what is kept for this machine.

        `.internal` can't be registered (ICANN, 2024-07-29); containers call their host so.
        """
        if name in ("", "localhost") or name.endswith((".localhost", ".internal")) or name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _name(host: bytes) -> str:
    """A Host header without its port."""
    text = host.decode("latin-1")
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        return address if rest == "" or rest.startswith(":") else text
    return text.partition(":")[0].rstrip(".")


def _same(origin: bytes, host: bytes) -> bool:
    """Whether a page of `origin` came from the address that it calls. A proxy in front may speak another scheme."""
    scheme, _, place = origin.partition(b"://")
    if place == host:
        return True
    port = {b"http": b":80", b"https": b":443"}.get(scheme, b"")
    return bool(port) and place + port == host


def _from_elsewhere(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none")


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in text[:100]) or "an unnamed origin"
