"""The sockets that workers listen on: bound once, by the supervisor, which keeps them open while workers come and go.

On Linux each worker has a socket of its own with SO_REUSEPORT, since the kernel then spreads connections evenly. Of
one socket that all share it does not: of 64 connections opened at once, one of two workers had all 64 in two of six
tries, where with a socket each the fuller of the two had 32 to 39 (docs/decisions/0013). A connection that waits on the
socket of a worker that has died is not lost, as the supervisor holds that socket: another worker takes it over.
"""

from __future__ import annotations

import contextlib
import socket
import sys

# A socket for each worker, times the addresses that the host's name stands for.
Slots = list[list[socket.socket]]


def bind(host: str, port: int, count: int) -> Slots:
    """Bound, not yet listening: that begins with the worker. Raises OSError where the address is taken."""
    spread = sys.platform == "linux"
    kinds = (socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    addresses = dict.fromkeys(
        (family, address[:2]) for family, _, _, _, address in socket.getaddrinfo(host, port, 0, *kinds)
    )
    slots: Slots = [[] for _ in range(count)]
    try:
        for family, (name, number) in addresses:
            with _bound(family, str(name), int(number), spread=False) as alone:
                # Nobody else is there: sockets with SO_REUSEPORT would join another gateway's without a word.
                taken = alone.getsockname()[1]
                if not spread:
                    for slot in slots:
                        slot.append(alone.dup())
                    continue
            for slot in slots:
                slot.append(_bound(family, str(name), taken, spread=True))
    except BaseException:
        close(slots)
        raise
    return slots


def address(slots: Slots) -> tuple[str, int]:
    """Host and port of the first."""
    name = slots[0][0].getsockname()
    return name[0], name[1]


def close(slots: Slots) -> None:
    for slot in slots:
        for one in slot:
            with contextlib.suppress(OSError):
                one.close()


def _bound(family: int, host: str, port: int, *, spread: bool) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if spread:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((host, port))
    except BaseException:
        one.close()
        raise
    return one
