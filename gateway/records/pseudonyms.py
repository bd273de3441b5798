"""The pseudonyms of conversations, sealed, until they expire."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.records.sqlite import connect

if TYPE_CHECKING:
    from gateway.records.sealing import Seal

log = logging.getLogger(__name__)

Pseudonym = tuple[str, str, str]
"""(placeholder, kind, value)"""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[tuple[str, str, str]]).decode
_PATIENCE = 1000  # milliseconds that a call waits for another writer before it goes on without the store
_MOST = 2000  # values kept of one conversation; the oldest give way
_FRESH = 0.9  # a conversation's time begins anew once less than this share of it is left, not with each call
_SWEEP = 60.0  # seconds between two looks for what has expired


class PseudonymStore:
    """Over the file that the call log has opened and migrated. Blocking; any thread may. Raises sqlite3.Error.

    A conversation is known by a digest that its caller makes of tenant, user and name; what is kept of it is nothing
    but sealed bytes.
    """

    def __init__(self, path: Path, seal: Seal, keep: float) -> None:
        """`keep`: seconds from the last call of a conversation."""
        self._path = path
        self._seal = seal
        self._keep = keep
        self._swept = 0.0

    def placeholder(self, conversation: bytes, kind: str, value: str) -> str:
        """The same for the same value in each call of a conversation, at any worker, whether or not it was kept.

        Nobody without the key can guess it, so what somebody writes is never taken for a placeholder of ours.
        """
        tag = self._seal.digest(f"{kind}\0{value}".encode("utf-8", "surrogatepass"), conversation)
        return f"<{kind}_{tag.hex()[:12]}>"

    def find(self, conversation: bytes) -> list[Pseudonym]:
        """What is kept, oldest first; and keep it for as long again, under the first key."""
        now = time.time()
        with _transaction(self._path) as connection:
            row = connection.execute(
                "SELECT sealed, expires_at FROM pseudonyms WHERE conversation = ? AND expires_at > ?",
                (conversation, now),
            ).fetchone()
            known, current = self._opened(row[0], conversation) if row is not None else ([], True)
            if row is not None and row[1] - now < _FRESH * self._keep:
                connection.execute(
                    "UPDATE pseudonyms SET expires_at = ? WHERE conversation = ?", (now + self._keep, conversation)
                )
            if row is not None and not current:  # unless another call has added to it just now
                connection.execute(
                    "UPDATE pseudonyms SET sealed = ? WHERE conversation = ? AND sealed = ?",
                    (self._sealed(known, conversation), conversation, row[0]),
                )
            if now - self._swept > _SWEEP:
                self._swept = now
                connection.execute("DELETE FROM pseudonyms WHERE expires_at <= ?", (now,))
        return known

    def add(self, conversation: bytes, more: Sequence[Pseudonym]) -> None:
        """Keep these too. What another call of the conversation has added meanwhile stays."""
        now = time.time()
        with _transaction(self._path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute(
                "SELECT sealed FROM pseudonyms WHERE conversation = ? AND expires_at > ?", (conversation, now)
            ).fetchone()
            known, _ = self._opened(row[0], conversation) if row is not None else ([], True)
            all_of_it = {placeholder: (placeholder, kind, value) for placeholder, kind, value in (*known, *more)}
            connection.execute(
                "INSERT INTO pseudonyms VALUES (?, ?, ?) ON CONFLICT (conversation) "
                "DO UPDATE SET expires_at = excluded.expires_at, sealed = excluded.sealed",
                (conversation, now + self._keep, self._sealed(list(all_of_it.values())[-_MOST:], conversation)),
            )
            connection.execute("DELETE FROM pseudonyms WHERE expires_at <= ?", (now,))

    def _sealed(self, pseudonyms: Sequence[Pseudonym], conversation: bytes) -> bytes:
        return self._seal.seal(_encode(pseudonyms), conversation)

    def _opened(self, sealed: bytes, conversation: bytes) -> tuple[list[Pseudonym], bool]:
        """What is in a row, and whether the first key has sealed it; nothing where its key is gone."""
        found = self._seal.open(sealed, conversation)
        if found is None:
            log.warning("a conversation's pseudonyms were sealed with a key that is not configured: it begins anew")
            return [], True
        return _decode(found[0]), found[1]


def remove_expired(path: Path) -> None:
    """What a gateway that was not running could not remove. Raises sqlite3.Error."""
    with _transaction(path) as connection:
        connection.execute("DELETE FROM pseudonyms WHERE expires_at <= ?", (time.time(),))


@contextmanager
def _transaction(path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(path)
    try:
        connection.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
        with connection:
            yield connection
    finally:
        connection.close()
