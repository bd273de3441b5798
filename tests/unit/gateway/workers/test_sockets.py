"""The sockets that a supervisor binds for its workers."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import closing

import pytest

from gateway.workers import sockets


def test_every_worker_has_a_socket_of_its_own_on_one_port() -> None:
    slots = sockets.bind("127.0.0.1", 0, 3)
    try:
        names = [one.getsockname() for slot in slots for one in slot]
        assert len(names) == 3
        assert len(set(names)) == 1
        assert sockets.address(slots) == names[0]
    finally:
        sockets.close(slots)


def test_nobody_can_connect_before_a_worker_listens() -> None:
    slots = sockets.bind("127.0.0.1", 0, 2)
    try:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(sockets.address(slots), timeout=5)
        slots[1][0].listen()
        socket.create_connection(sockets.address(slots), timeout=5).close()
    finally:
        sockets.close(slots)


def test_a_port_that_somebody_has_is_not_joined() -> None:
    slots = sockets.bind("127.0.0.1", 0, 2)
    try:
        for slot in slots:
            slot[0].listen()
        with pytest.raises(OSError, match="in use"):
            sockets.bind("127.0.0.1", sockets.address(slots)[1], 2)
    finally:
        sockets.close(slots)


def test_connections_are_spread_over_the_sockets() -> None:
    slots = sockets.bind("127.0.0.1", 0, 2)
    clients = []
    try:
        for slot in slots:
            slot[0].listen(256)
        clients = [socket.create_connection(sockets.address(slots), timeout=5) for _ in range(200)]
        got: Counter[int] = Counter()
        for order, slot in enumerate(slots):
            slot[0].setblocking(False)
            while True:
                try:
                    accepted, _ = slot[0].accept()
                except BlockingIOError:
                    break
                with closing(accepted):
                    got[order] += 1
        assert sum(got.values()) == 200
        assert min(got[0], got[1]) > 50  # by chance, less comes once in 10^12 times
    finally:
        for client in clients:
            client.close()
        sockets.close(slots)
