"""Encryption of what is kept, by envelopes: AES-256-GCM under a key of its own for each text, which is kept beside it,
encrypted under a key of the configuration. Several of these hold while they are rotated.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

_NONCE = 12  # bytes: NIST SP 800-38D, section 5.2.1.1


_WRAPPED = _NONCE + 32 + 16  # bytes of a text's own key, encrypted: a nonce, the key, GCM's tag


class Seal:
    """What is sealed for one `place` opens at that place only: each has a wrapping key of its own (RFC 5869).

    So a row that is copied to another place is lost there, and no key is used often enough for its random nonces to
    meet.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys` are 32 random bytes each. The first one seals, all of them open."""
        self._ciphers = [HKDF(SHA256(), 32, None, b"rag-gateway: sealing").derive(key) for key in keys]
        self._names = HKDF(SHA256(), 32, None, b"rag-gateway: naming").derive(keys[0])

    def seal(self, text: bytes, place: bytes) -> bytes:
        """The text's key, wrapped, and the text, encrypted; other bytes each time."""
        key = os.urandom(32)
        return _encrypted(_cipher(self._ciphers[0], place), key) + _encrypted(AESGCM(key), text)

    def open(self, sealed: bytes, place: bytes) -> tuple[bytes, bool] | None:
        """The text, and whether the first key has sealed it; None where no key here opens it at this place."""
        for order, cipher in enumerate(self._ciphers):
            key = _key_of(sealed, _cipher(cipher, place))
            if key is not None and (text := _decrypted(AESGCM(key), sealed[_WRAPPED:])) is not None:
                return text, order == 0
        for cipher in self._ciphers:  # as it was before texts had keys of their own
            if (text := _decrypted(_cipher(cipher, place), sealed)) is not None:
                return text, False
        return None

    def is_current(self, sealed: bytes, place: bytes) -> bool:
        """Whether the first key opens it, in its envelope."""
        return _key_of(sealed, _cipher(self._ciphers[0], place)) is not None

    def rewrapped(self, sealed: bytes, place: bytes) -> bytes | None:
        """The same under the first key, at the cost of its own key's few bytes; None where no key here opens it."""
        for cipher in self._ciphers:
            key = _key_of(sealed, _cipher(cipher, place))
            if key is not None:
                return _encrypted(_cipher(self._ciphers[0], place), key) + sealed[_WRAPPED:]
        found = self.open(sealed, place)
        return self.seal(found[0], place) if found is not None else None

    def digest(self, text: bytes, place: bytes) -> bytes:
        """32 bytes, the same for the same text at the same place, which tell nobody without the key what it was."""
        return hmac.digest(self._names, len(place).to_bytes(4) + place + text, "sha256")


def _cipher(key: bytes, place: bytes) -> AESGCM:
    return AESGCM(HKDFExpand(SHA256(), 32, place).derive(key))


def _key_of(sealed: bytes, cipher: AESGCM) -> bytes | None:
    """The text's own key, where `cipher` has wrapped it."""
    return _decrypted(cipher, sealed[:_WRAPPED]) if len(sealed) > _WRAPPED else None


def _encrypted(cipher: AESGCM, text: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + cipher.encrypt(nonce, text, None)


def _decrypted(cipher: AESGCM, sealed: bytes) -> bytes | None:
    try:
        return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
    except (InvalidTag, ValueError):  # ValueError: too short to be anything of ours
        return None
