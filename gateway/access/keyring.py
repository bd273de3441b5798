"""Who calls: bearer keys known by their SHA-256 alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.errors import Unauthenticated
from gateway.values import Caller

if TYPE_CHECKING:
    from gateway.config.models import Access

_OPEN = Caller("open", admin=True, speaks_for_users=True)


class Keyring:
    """The keys of one revision. In open mode any bearer, or none, is let in, but a known key is still itself."""

    def __init__(self, access: Access, *, open: bool) -> None:
        self._open = open
        self._callers = {
            bytes.fromhex(key.hash.removeprefix("sha256:")): Caller(
                key.name,
                key.tenant,
                key.user,
                _models(key.models),
                key.admin,
                key.sensitivity,
                key.speaks_for_users,
                frozenset(key.groups),
                key.guardrails.digest if key.guardrails is not None else "",
            )
            for key in access.keys
        }

    def identify(self, authorization: bytes | None) -> Caller:
        """The caller behind an Authorization header. Raises Unauthenticated.

        A key is looked up by its digest: whatever time that takes says nothing of a stored key's characters,
        since nobody can choose a digest's bytes.
        """
        token = b""
        if authorization is not None and authorization[:7].lower() == b"bearer ":
            token = authorization[7:].strip()
            caller = self._callers.get(hashlib.sha256(token).digest())
            if caller is not None:
                return caller
        if self._open:
            return _OPEN
        if not token:
            raise Unauthenticated(
                "You didn't provide an API key. Provide it in the Authorization header: Bearer YOUR_KEY.",
                code="missing_api_key",
            )
        raise Unauthenticated("Incorrect API key provided. Ask whoever runs this gateway for a key.")

    def speaking_for(self, caller: Caller, user: str | None) -> Caller:
        """The caller with the user that the request names, where this key is trusted to name one."""
        if user is None or not caller.speaks_for_users or user == caller.user:
            return caller
        return replace(caller, user=user)


class _WithFamilies(frozenset[str]):
    """Names of models, where `openai/*` stands for every model of that provider."""

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name):
            return True
        provider, slash, _ = str(name).partition("/")
        return bool(slash) and super().__contains__(f"{provider}/*")


def _models(names: list[str] | None) -> frozenset[str] | None:
    if names is None:
        return None
    return _WithFamilies(names) if any(name.endswith("/*") for name in names) else frozenset(names)
