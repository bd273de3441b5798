"""From where a request comes: the peer itself, or whom a trusted proxy in front of the gateway names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Origins:
    """`trusted`: networks of proxies whose X-Forwarded-For is believed."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted = tuple(ip_network(network) for network in trusted)

    def address(self, scope: Mapping[str, Any]) -> Address | None:
        """Of an ASGI scope; None where it has none that can be read.

        Each proxy appends the address that it was called from, so the list is read from its end, for as long as
        those who wrote it are trusted: what stands before is the client's own claim.
        """
        client = scope.get("client")
        address = _read(client[0]) if client else None
        if not self._trusted:
            return address
        claimed = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        for part in reversed(claimed.decode("latin-1").split(",")) if claimed else ():
            if address is None or not inside(address, self._trusted):
                break
            address = _read(part.strip())
        return address


def inside(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _read(text: str) -> Address | None:
    try:
        read = ip_address(text)
    except ValueError:
        return None
    # An IPv4 client of a socket that listens on both comes as ::ffff:10.0.0.1.
    return read.ipv4_mapped or read if isinstance(read, IPv6Address) else read
