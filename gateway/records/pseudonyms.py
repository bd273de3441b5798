"""The pseudonyms of conversations, sealed, until they expire."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import delete, select, text, update

from gateway.records.database import Database
from gateway.records.schema import pseudonyms as table

if TYPE_CHECKING:
    from gateway.records.sealing import Seal

log = logging.getLogger(__name__)

Pseudonym = tuple[str, str, str]
"""(placeholder, kind, value)"""

Owner = tuple[str, str]
"""(tenant, user)"""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[tuple[str, str, str]]).decode
_MOST = 2000  # values kept of one conversation; the oldest give way
_FRESH = 0.9  # a conversation's time begins anew once less than this share of it is left, not with each call
_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended(encode(:conversation, 'hex'), 0))")
_SWEEP = 60.0  # seconds between two looks for what has expired


class PseudonymStore:
    """Over a prepared database. Blocking; any thread may. Raises StoreUnavailable.

    A conversation is known by a digest that its caller makes of tenant, user and name; what is kept of it is nothing
    but sealed bytes.
    """

    def __init__(self, database: Database, seal: Seal, keep: float) -> None:
        """`keep`: seconds from the last call of a conversation."""
        self._database = database
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
        here = table.c.conversation == conversation
        with self._database.reading() as connection:
            row = connection.execute(select(table).where(here, table.c.expires_at > now)).first()
        known, current = self._opened(row.sealed, conversation) if row is not None else ([], True)
        changes = []
        if row is not None and row.expires_at - now < _FRESH * self._keep:
            changes.append(update(table).where(here).values(expires_at=now + self._keep))
        if row is not None and not current:  # unless another call has added to it just now
            resealed = self._sealed(known, conversation)
            changes.append(update(table).where(here, table.c.sealed == row.sealed).values(sealed=resealed))
        if changes or now - self._swept > _SWEEP:
            self._swept = now
            with self._database.writing() as connection:
                for change in changes:
                    connection.execute(change)
                connection.execute(delete(table).where(table.c.expires_at <= now))
        return known

    def add(self, conversation: bytes, more: Sequence[Pseudonym], owner: Owner | None = None) -> None:
        """Keep these too. What another call of the conversation has added meanwhile stays."""
        now = time.time()
        here = table.c.conversation == conversation
        with self._database.writing() as connection:
            if not self._database.embedded:  # a conversation's calls take turns, also for its first row
                connection.execute(_TURN, {"conversation": conversation})
            row = connection.execute(select(table).where(here)).first()
            kept = row is not None and row.expires_at > now
            known, _ = self._opened(row.sealed, conversation) if row is not None and kept else ([], True)
            all_of_it = {placeholder: (placeholder, kind, value) for placeholder, kind, value in (*known, *more)}
            sealed = self._sealed(list(all_of_it.values())[-_MOST:], conversation)
            values = {"expires_at": now + self._keep, "sealed": sealed, "owner": self._digest(owner)}
            if row is None:
                connection.execute(table.insert().values(conversation=conversation, **values))
            else:
                connection.execute(update(table).where(here).values(**values))
            connection.execute(delete(table).where(table.c.expires_at <= now))

    def of(self, owner: Owner) -> list[Pseudonym]:
        """All that is kept of a user's conversations."""
        now = time.time()
        with self._database.reading() as connection:
            rows = connection.execute(select(table).where(table.c.owner == self._digest(owner)))
            return [
                found for row in rows if row.expires_at > now for found in self._opened(row.sealed, row.conversation)[0]
            ]

    def erase(self, owner: Owner) -> int:
        """How many conversations went."""
        with self._database.writing() as connection:
            return connection.execute(delete(table).where(table.c.owner == self._digest(owner))).rowcount

    def _digest(self, owner: Owner | None) -> bytes | None:
        return self._seal.digest(owner[1].encode("utf-8", "surrogatepass"), owner[0].encode()) if owner else None

    def _sealed(self, pseudonyms: Sequence[Pseudonym], conversation: bytes) -> bytes:
        return self._seal.seal(_encode(pseudonyms), conversation)

    def _opened(self, sealed: bytes, conversation: bytes) -> tuple[list[Pseudonym], bool]:
        """What is in a row, and whether the first key has sealed it; nothing where its key is gone."""
        found = self._seal.open(sealed, conversation)
        if found is None:
            log.warning("a conversation's pseudonyms were sealed with a key that is not configured: it begins anew")
            return [], True
        return _decode(found[0]), found[1]


def remove_expired(database: Database) -> None:
    """What a gateway that was not running could not remove. Raises StoreUnavailable."""
    with database.writing() as connection:
        connection.execute(delete(table).where(table.c.expires_at <= time.time()))
