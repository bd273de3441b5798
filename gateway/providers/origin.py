"""Where a provider listens, and how a connection to it comes about: address, TLS, and what its failing means."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from gateway.errors import UpstreamFailed, UpstreamTimeout
from gateway.providers.reply import STALL

P = TypeVar("P")  # what asyncio asks of a protocol, whatever it derives from


class Origin:
    """`base_url` may be http, https or unix:/path/of/socket; `prefix` is its path, in front of every request's."""

    def __init__(self, base_url: str, *, connect_timeout: float, protocols: Sequence[str] = ()) -> None:
        """`protocols` are offered to a TLS server (ALPN). Raises ValueError for a URL that can't be used."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https", "unix") or not (parts.hostname or parts.scheme == "unix"):
            raise ValueError(f"not an http(s) URL: {base_url!r}")
        if parts.username or parts.query or parts.fragment:
            raise ValueError("a base_url has no credentials, query or fragment")
        self._unix_path = parts.path if parts.scheme == "unix" else None
        self._host = parts.hostname or "localhost"
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        if self._ssl is not None and protocols:
            self._ssl.set_alpn_protocols(list(protocols))
        self._connect_timeout = connect_timeout
        self.authority = self._host if parts.port is None else f"{self._host}:{parts.port}"
        self.prefix = b"/v1" if self._unix_path else parts.path.rstrip("/").encode("ascii")
        self.address, self.port = self._host, self._port
        self.url = f"{'https' if self._ssl else 'http'}://{self.authority}{self.prefix.decode('ascii')}"

    async def connect(self, protocol: Callable[[], P]) -> P:
        """A new connection's protocol. Raises UpstreamTimeout, UpstreamFailed."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._connect_timeout
            try:
                async with asyncio.timeout_at(due):
                    return await self._open(loop, protocol)
            except TimeoutError:
                if loop.time() - due < STALL:  # else the loop was held up, and nothing was learnt of the provider
                    raise UpstreamTimeout(
                        "No connection to the provider in time.", code="upstream_timeout_connect"
                    ) from None
            except ssl.SSLCertVerificationError:
                raise UpstreamFailed(
                    "The provider's TLS certificate does not prove who it is.", code="upstream_certificate"
                ) from None
            except OSError:  # an ssl.SSLError and a name that can't be resolved among them
                raise UpstreamFailed("No connection to the provider.", code="upstream_unreachable") from None

    async def _open(self, loop: asyncio.AbstractEventLoop, protocol: Callable[[], P]) -> P:
        if self._unix_path:
            _, made = await loop.create_unix_connection(protocol, self._unix_path)  # type: ignore[type-var]
        else:
            _, made = await loop.create_connection(protocol, self._host, self._port, ssl=self._ssl)  # type: ignore[type-var]
        return made


def checked(headers: dict[str, str]) -> dict[str, str]:
    """Raises ValueError for a header that can't be sent."""
    for name, value in headers.items():
        if any(c in name + value for c in "\r\n\0"):
            raise ValueError(f"the header {name} holds a line break")
    return headers
