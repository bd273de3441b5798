"""Encryption of what is kept: AES-256-GCM under keys of the configuration, several of them while they are rotated."""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

_NONCE = 12  # bytes: NIST SP 800-38D, section 5.2.1.1


class Seal:
    """What is sealed for one `place` opens at that place only: each has a key of its own (RFC 5869).

    So a row that is copied to another place is lost there, and no key is used often enough for its random nonces to
    meet.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys` are 32 random bytes each. The first one seals, all of them open."""
        self._ciphers = [HKDF(SHA256(), 32, None, b"rag-gateway: sealing").derive(key) for key in keys]
        self._names = HKDF(SHA256(), 32, None, b"rag-gateway: naming").derive(keys[0])

    def seal(self, text: bytes, place: bytes) -> bytes:
        """A nonce and the text, encrypted; other bytes each time."""
        nonce = os.urandom(_NONCE)
        return nonce + _cipher(self._ciphers[0], place).encrypt(nonce, text, None)

    def open(self, sealed: bytes, place: bytes) -> tuple[bytes, bool] | None:
        """The text, and whether the first key has sealed it; None where no key here opens it at this place."""
        for order, key in enumerate(self._ciphers):
            try:
                return _cipher(key, place).decrypt(sealed[:_NONCE], sealed[_NONCE:], None), order == 0
            except (InvalidTag, ValueError):  # ValueError: too short to be anything of ours
                continue
        return None

    def digest(self, text: bytes, place: bytes) -> bytes:
        """32 bytes, the same for the same text at the same place, which tell nobody without the key what it was."""
        return hmac.digest(self._names, len(place).to_bytes(4) + place + text, "sha256")


def _cipher(key: bytes, place: bytes) -> AESGCM:
    return AESGCM(HKDFExpand(SHA256(), 32, place).derive(key))
