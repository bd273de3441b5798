"""What people wrote and were told, as the record store keeps it: JSON, sealed where there is an encryption key."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from gateway.records.sealing import Seal

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_SEALED = b"\0"  # no JSON begins with it
_ROOM = 200  # levels that are left to whoever reads a content, for the calls it is in and for writing it as JSON again


class Contents:
    def __init__(self, seal: Seal | None = None) -> None:
        self._seal = seal

    def written(self, content: Any, place: str) -> bytes:
        """`content` for the row and column that `place` names; sealed, it can be read there only."""
        text = _encode(content)
        return text if self._seal is None else _SEALED + self._seal.seal(text, place.encode())

    def read(self, kept: bytes | None, place: str) -> Any:
        """What was written; None where that is nothing, was sealed with a key that is not configured, or is nested so
        deeply that a request could just hold it, and nothing else could.
        """
        if kept is None:
            return None
        if not kept.startswith(_SEALED):
            return _read(kept)
        found = self._seal.open(kept[1:], place.encode()) if self._seal is not None else None
        if found is None:
            log.warning("recorded content was sealed with a key that is not in records.encryption_keys")
            return None
        return _read(found[0])

    @staticmethod
    def is_sealed(kept: bytes) -> bool:
        """Whether it is encrypted, and can be read with a key only."""
        return kept.startswith(_SEALED)

    def rewrapped(self, kept: bytes, place: str) -> bytes | None:
        """The same under the first key; `kept` itself where it is so already, None where no key opens it."""
        assert self._seal is not None, "who rewraps has keys"
        there = place.encode()
        if not kept.startswith(_SEALED):
            return _SEALED + self._seal.seal(kept, there)
        if self._seal.is_current(kept[1:], there):
            return kept
        found = self._seal.rewrapped(kept[1:], there)
        return _SEALED + found if found is not None else None


def _read(text: bytes) -> Any:
    try:
        found = _decode(b"".join((b"[" * _ROOM, text, b"]" * _ROOM)))
    except RecursionError:
        return None
    for _ in range(_ROOM):
        (found,) = found
    return found
