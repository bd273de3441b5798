"""Making virtual keys."""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "sk-gw-"


def create_key() -> str:
    """A new key with 256 bits of entropy; shown once, never stored."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """What the configuration stores of a key: `sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()
