"""From a verified token's claims to the caller that the configuration makes of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from gateway.access.callers import models_named
from gateway.access.rules import own_rule
from gateway.config.tokens import Claim, TokenIssuer
from gateway.errors import Forbidden, Unauthenticated
from gateway.values import TOKEN_ID, Caller

_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
LONGEST_USER = 256  # characters
_LAST = 2**53  # seconds since the epoch: JSON has greater numbers, a float has none that is exact
_NO_TEXT = re.compile("[\ud800-\udfff]").search  # halves of characters, which JSON can spell and UTF-8 can't
_V = TypeVar("_V", bound=str)


def caller_of(claims: Mapping[str, Any], settings: TokenIssuer) -> Caller:
    """Raises Unauthenticated where a claim that is needed is missing, Forbidden where what it says lets nobody in."""
    for required in settings.required:
        texts = _texts(claims, required.claim, required.words)
        if not texts:
            raise missing(required.label)
        if required.values is not None and not set(texts) & set(required.values):
            raise Forbidden(f"The token's claim `{required.label}` says nothing that lets you in here.")
    user, role = _user(claims, settings), settings.role
    return Caller(
        settings.name,
        _tenant(claims, settings),
        user,
        _models(claims, settings),
        role=None if role is None else _first(_read(claims, role), role.values) or role.default,
        scope=settings.scope,
        sensitivity=_sensitivity(claims, settings),
        speaks_for_users=_speaks_for_users(claims, settings),
        groups=_groups(claims, settings),
        key_id=_key_id(settings.name, user or str(claims.get("sub", ""))),
        expires_at=float(min(int(claims["exp"]), _LAST)),
        limits=own_rule(settings.limits, "key"),
        priority=settings.priority,
    )


def _key_id(name: str, subject: str) -> str:
    """What limits that count by key count a token's calls under: one person's, or one program's, at one issuer."""
    return TOKEN_ID + hashlib.sha256(f"{name}\0{subject}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def missing(claim: str) -> Unauthenticated:
    return Unauthenticated(f"The token lacks the claim `{claim}`.", code="invalid_token")


def _tenant(claims: Mapping[str, Any], settings: TokenIssuer) -> str:
    asked = settings.tenant
    if asked.claim is None:
        assert asked.always is not None
        return asked.always
    texts = _texts(claims, asked.claim, asked.words)
    if asked.values is None and texts:
        if len(texts) == 1 and _TENANT(texts[0]):
            return texts[0]
        raise Forbidden(f"The token's claim `{asked.label}` is not the name of one tenant.")
    found = _first(texts, asked.values or {}) or asked.default
    if found is not None:
        return found
    if not texts:
        raise missing(asked.label)
    raise Forbidden(f"The token's claim `{asked.label}` names no tenant of this gateway.")


def _user(claims: Mapping[str, Any], settings: TokenIssuer) -> str | None:
    asked = settings.user
    if asked is None:
        return None
    texts = _read(claims, asked)
    if not texts:
        raise missing(asked.label)
    if len(texts) > 1 or len(texts[0]) > LONGEST_USER or not texts[0].isprintable():
        raise Forbidden(f"The token's claim `{asked.label}` is not the name of one user.")
    return asked.prefix + texts[0]


def _groups(claims: Mapping[str, Any], settings: TokenIssuer) -> frozenset[str]:
    asked = settings.groups
    if asked is None:
        return frozenset()
    texts = _read(claims, asked)
    named = texts if asked.values is None else [asked.values[text] for text in texts if text in asked.values]
    return frozenset(asked.prefix + name for name in named)


def _models(claims: Mapping[str, Any], settings: TokenIssuer) -> frozenset[str] | None:
    asked = settings.models
    if asked is None:
        return None
    if asked.claim is None:
        names = asked.always
        return None if names is None else models_named(names)
    texts = _texts(claims, asked.claim, asked.words)
    if asked.values is None:
        return models_named(texts or asked.default)
    found = [name for text, names in asked.values.items() if text in texts for name in names]
    return models_named(found or asked.default)


def _sensitivity(claims: Mapping[str, Any], settings: TokenIssuer) -> str | None:
    asked = settings.sensitivity
    if asked is None or asked.claim is None:
        return None if asked is None else asked.always
    texts = _texts(claims, asked.claim, asked.words)
    found = _first(texts, asked.values) or asked.default
    if found is None:
        if not texts:
            raise missing(asked.label)
        raise Forbidden(f"The token's claim `{asked.label}` says no sensitivity that this gateway knows.")
    return found


def _speaks_for_users(claims: Mapping[str, Any], settings: TokenIssuer) -> bool:
    asked = settings.speaks_for_users
    if asked.claim is None:
        return asked.always
    return not set(asked.values or ()).isdisjoint(_texts(claims, asked.claim, asked.words))


def _read(claims: Mapping[str, Any], claim: Claim) -> list[str]:
    return _texts(claims, claim.claim, claim.words)


def _texts(claims: Mapping[str, Any], path: Iterable[str], words: bool) -> list[str]:
    """What stands at `path`, as texts; none where there is nothing, or something that is not said in words."""
    value: Any = claims
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    listed = value if isinstance(value, list) else [value]
    texts = [_text(entry) for entry in listed]
    if words:
        texts = [word for text in texts for word in text.split()]
    return [text for text in texts if text]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return "" if _NO_TEXT(value) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else ""


def _first(texts: list[str], values: Mapping[str, _V]) -> _V | None:
    """What the configuration's first fitting line says: its order decides, not the token's."""
    return next((value for text, value in values.items() if text in texts), None)
