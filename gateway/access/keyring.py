"""Who calls: bearer keys known by their SHA-256 alone, those of the configuration and those of the record store.

What is known is known at once, by a look into a dict; what is not is looked up beside the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from gateway.access.addresses import Origins, inside
from gateway.access.callers import EXPIRED, Refusal, configured, of_tenant
from gateway.access.claims import LONGEST_USER
from gateway.errors import BadRequest, Forbidden, StageFailed, Unauthenticated
from gateway.values import Caller

if TYPE_CHECKING:
    from gateway.access.stored_keys import StoredKeys
    from gateway.config.access import Access
    from gateway.tenancy import Tenant

_OPEN = Caller("open", key_id="open", role="admin", speaks_for_users=True)
_LIKE_TOKEN = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+").fullmatch


class TokenVerifier(Protocol):
    """Signed tokens of an identity provider. Both raise Unauthenticated, Forbidden or StageFailed."""

    def known(self, token: bytes) -> Caller | None:
        """Whoever has a token that was verified before and is still good; None where it has to be verified."""
        ...

    async def verify(self, token: bytes) -> Caller: ...


class Keyring:
    """The keys of one revision, and behind them the record store's.

    In open mode any bearer, or none, is let in, but a known key is still itself, and one that was revoked is none.
    Open mode ends once there is a key in the record store that administers the gateway.
    """

    def __init__(
        self,
        access: Access,
        *,
        open: bool,
        stored: StoredKeys | None = None,
        tokens: TokenVerifier | None = None,
        prepare: Callable[[str], None] | None = None,
    ) -> None:
        """`prepare` has ready what `Caller.guardrails` names, which may take long; called in a thread."""
        self._access = access
        self._open = open
        self._stored = stored
        self._tokens = tokens
        self._prepare = prepare
        self._origins = Origins(access.trusted_proxies)
        self._callers: dict[bytes, Caller] = {}
        self._others: dict[bytes, Caller | Refusal] = {}
        self.tenants_changed()
        if stored is not None:
            stored.watch(self)

    @property
    def open(self) -> bool:
        """Whether whoever has no key is let in, or nobody can say yet."""
        return self._open and (self._stored is None or not self._stored.administered)

    def tenants_changed(self) -> None:
        """Take over what the record store says of tenants that configured keys belong to."""
        tenants: Mapping[str, Tenant] = self._stored.tenants if self._stored is not None else {}
        callers: dict[bytes, Caller] = {}
        others: dict[bytes, Caller | Refusal] = {}
        for key in self._access.keys:
            who, digest = configured(key, tenants), bytes.fromhex(key.hash.removeprefix("sha256:"))
            if isinstance(who, Caller) and who.expires_at is None and not who.networks:
                callers[digest] = who
            else:
                others[digest] = who
        self._callers, self._others = callers, others

    def address(self, scope: Mapping[str, Any]) -> str:
        """From where a request comes, as text; "" where that can't be told."""
        return str(self._origins.address(scope) or "")

    async def identify(self, authorization: bytes | None, scope: Mapping[str, Any]) -> Caller:
        """The caller behind an Authorization header, known or not. Raises as `known` and `look_up` do."""
        return self.known(authorization, scope) or await self.look_up(authorization, scope)

    def known(self, authorization: bytes | None, scope: Mapping[str, Any]) -> Caller | None:
        """The caller, where that can be told at once; None where it has to be looked up.

        `scope` is ASGI's, for the address. Raises Unauthenticated, Forbidden, or StageFailed where nobody can say.

        A key is looked up by its digest: whatever time that takes says nothing of a stored key's characters,
        since nobody can choose a digest's bytes.
        """
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return self._stranger(b"")
        token = authorization[7:].strip()
        digest = hashlib.sha256(token).digest()
        caller = self._callers.get(digest)
        if caller is not None:
            return caller
        stored = self._stored
        if stored is not None and (caller := stored.callers.get(digest)) is not None:
            return caller
        who = self._others.get(digest) or (stored.others.get(digest) if stored is not None else None)
        if who is not None:
            return self._admitted(who, scope)
        if not token:
            return self._stranger(token)
        if self._tokens is not None and _LIKE_TOKEN(token):
            verified = self._tokens.known(token)
            return self._in_tenant(verified) if verified is not None else None
        if stored is None or stored.is_stranger(digest):
            return self._stranger(token)
        return None

    async def look_up(self, authorization: bytes | None, scope: Mapping[str, Any]) -> Caller:
        """The caller whom `known` does not know. Raises Unauthenticated, Forbidden, StageFailed or Overloaded."""
        token = authorization[7:].strip() if authorization is not None else b""
        if self._tokens is not None and _LIKE_TOKEN(token):
            return self._in_tenant(await self._tokens.verify(token))
        if self._stored is None:
            return self._stranger(token)
        who = await self._stored.look_up(hashlib.sha256(token).digest())
        if who is None:
            return self._stranger(token)
        caller = self._admitted(who, scope)
        if caller.guardrails and self._prepare is not None:
            await asyncio.to_thread(self._prepare, caller.guardrails)
        return caller

    async def refresh(self) -> None:
        """Take over now what was changed in the record store."""
        if self._stored is not None:
            await self._stored.round()

    def speaking_for(self, caller: Caller, user: str | None) -> Caller:
        """The caller with the user that the request names, where this key is trusted to name one.

        With the groups that the record store knows this user to be in. Raises Forbidden for a suspended user, and
        BadRequest for a name that is too long.
        """
        if user is not None and caller.speaks_for_users and user != caller.user:
            if len(user) > LONGEST_USER:
                raise BadRequest(f"A user's name has {LONGEST_USER} characters at most.", param="user")
            caller = replace(caller, user=user)
        if caller.user is None or self._stored is None or not self._stored.users:
            return caller
        known = self._stored.users.get((caller.tenant, caller.user))
        if known is None:
            return caller
        if known.suspended_at is not None:
            raise Forbidden("This user is suspended. Ask whoever runs this gateway.")
        return replace(caller, groups=caller.groups | frozenset(known.groups)) if known.groups else caller

    def _in_tenant(self, caller: Caller) -> Caller:
        """Whom a token speaks of, with what the record store says of its tenant."""
        if self._stored is None or caller.tenant not in self._stored.tenants:
            return caller
        who = of_tenant(caller, self._stored.tenants)
        if isinstance(who, Refusal):
            raise who.error()
        return who

    def _admitted(self, who: Caller | Refusal, scope: Mapping[str, Any]) -> Caller:
        """`who`, if it is now and from there that they may call."""
        if isinstance(who, Refusal):
            raise who.error()
        if who.expires_at is not None and time.time() >= who.expires_at:
            raise EXPIRED.error()
        if who.networks:
            address = self._origins.address(scope)
            if address is None or not inside(address, who.networks):
                raise Unauthenticated("This API key may not be used from this address.", code="ip_not_authorized")
        return who

    def _stranger(self, token: bytes) -> Caller:
        if self._open:
            administered = self._stored.administered if self._stored is not None else False
            if administered is False:
                return _OPEN
            if administered is None:
                raise StageFailed("Keys can't be looked up yet. Try again in a moment.", code="keys_unavailable")
        if not token:
            raise Unauthenticated(
                "You didn't provide an API key. Provide it in the Authorization header: Bearer YOUR_KEY.",
                code="missing_api_key",
            )
        raise Unauthenticated("Incorrect API key provided. Ask whoever runs this gateway for a key.")
