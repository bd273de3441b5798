"""Virtual keys: made, rotated, revoked. What is kept of one is the SHA-256 of its secret."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.config.access import StoredGrants
from gateway.tenancy import Secret, StoredKey

PREFIX = "sk-gw-"
_SHOWN = len(PREFIX) + 4
_ANY_KEY = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{5,}}").sub


def create_key() -> str:
    """A new key with 256 bits of entropy; shown once, never stored."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """What the configuration stores of a key: `sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def shown_prefix(key: str) -> str:
    """What may be shown of a key to tell it from others: sk-gw-AbCd…"""
    return key[:_SHOWN] + "…"


def without_secrets(text: str) -> str:
    """The text with no more of any key in it than may be shown: somebody may send one where its id belongs."""
    return _ANY_KEY(lambda found: shown_prefix(found[0]), text)


def new_key(
    written: Mapping[str, Any],
    *,
    tenant: str,
    created_by: str,
    name: str | None = None,
    expires_at: float | None = None,
) -> tuple[str, StoredKey]:
    """A key and what is kept of it; `written` is what it is granted, as JSON has it. Raises ValidationError."""
    secret, now = create_key(), time.time()
    key = StoredKey(
        id=f"key_{int(now * 1000):012x}{secrets.token_hex(6)}",  # in the order of their making, as they are listed
        name=name or shown_prefix(secret).removesuffix("…"),
        tenant=tenant,
        written=dict(written),
        grants=StoredGrants.model_validate(written),
        secrets=(_secret(secret, now),),
        created_at=now,
        created_by=created_by,
        expires_at=expires_at,
    )
    return secret, key


def rotated(key: StoredKey, overlap: float) -> tuple[str, StoredKey]:
    """The key with a new secret; those before work for `overlap` seconds more, or as long as they would have."""
    secret, now = create_key(), time.time()
    ends = now + overlap
    before = [
        replace(old, works_until=ends if old.works_until is None else min(old.works_until, ends))
        for old in key.secrets
        if old.works_until is None or old.works_until > now
    ]
    return secret, replace(key, secrets=(_secret(secret, now), *before), rotated_at=now)


def revoked(key: StoredKey, by: str) -> StoredKey:
    """The key, dead for good."""
    return replace(key, revoked_at=time.time(), revoked_by=by)


def _secret(secret: str, now: float) -> Secret:
    return Secret(hashlib.sha256(secret.encode()).digest(), shown_prefix(secret), now)
