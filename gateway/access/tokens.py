"""Bearer tokens that others have signed: JWTs of the issuers that the configuration trusts.

A token says by itself who calls, so nothing of it is believed before its signature is verified with a key that came
from its issuer. https://www.rfc-editor.org/rfc/rfc8725.html is what this follows, section by section.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jwt

from gateway.access.claims import caller_of, missing
from gateway.access.issuer_keys import IssuerKeys, KeySets, KeysUnavailable, UnknownKey
from gateway.config.tokens import TokenIssuer
from gateway.errors import Forbidden, GatewayError, StageFailed, Unauthenticated
from gateway.values import Caller

_LONGEST = 16_384  # bytes; Entra ID's with 200 groups have 9,000
_MOST_KEPT = 10_000  # verified tokens, and refused ones, that are remembered
_REFUSED_FOR = 5.0  # seconds: after that its issuer may be asked for other keys again
_TYPES = (None, "jwt", "at+jwt", "application/at+jwt")  # RFC 8725, 3.11: a logout token is no bearer token
_OPTIONS: Any = {"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True}

# What PyJWT finds, in words that repeat nothing of the token. The first fitting class counts.
_REASONS: Sequence[tuple[type[Exception], str, str]] = (
    (jwt.ExpiredSignatureError, "The token has expired: get a new one.", "token_expired"),
    (jwt.InvalidAudienceError, "The token is not meant for this gateway: its audience is another.", "invalid_token"),
    (jwt.InvalidIssuerError, "The token is of an issuer that is not trusted here.", "invalid_token"),
    (jwt.InvalidSignatureError, "The token's signature is not its issuer's.", "invalid_token"),
    (jwt.InvalidKeyError, "The token's key is too weak to be believed.", "invalid_token"),
)


class TokenVerifier:
    """The tokens of one revision's issuers. What was verified, and what was refused, is remembered by its digest."""

    def __init__(
        self,
        issuers: Sequence[TokenIssuer],
        key_sets: KeySets,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = {settings.issuer: _Issuer(settings, key_sets.of(settings)) for settings in issuers}
        self._clock = clock
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._refused: OrderedDict[bytes, _Refused] = OrderedDict()

    def known(self, token: bytes) -> Caller | None:
        """Whose token it is, where it has been verified before and still holds. Raises what refused it lately."""
        digest = hashlib.sha256(token).digest()
        verified = self._verified.get(digest)
        if verified is not None:
            if verified.holds(self._clock()):
                return verified.caller
            del self._verified[digest]
        refused = self._refused.get(digest)
        if refused is not None:
            if refused.holds(self._clock()):
                raise refused.kind(refused.message, code=refused.code)
            del self._refused[digest]
        return None

    async def verify(self, token: bytes) -> Caller:
        """Whose token it is. Raises Unauthenticated, Forbidden; StageFailed where its issuer must be asked but is away."""
        digest = hashlib.sha256(token).digest()
        issuer: _Issuer | None = None
        try:
            header, claims = _read(token)
            issuer = self._issuer(claims)
            proved = await issuer.proved(token, header)
            generation = issuer.keys.generation  # of the key that proved it: nothing was awaited since
            caller = caller_of(proved, issuer.settings)
        except _Passing:
            raise
        except (Unauthenticated, Forbidden) as refusal:
            keys = issuer.keys if issuer is not None else None
            _keep(self._refused, digest, _Refused.of(refusal, self._clock() + _REFUSED_FOR, keys))
            raise
        assert caller.expires_at is not None, "a token has an end"
        until = caller.expires_at + issuer.settings.leeway
        _keep(self._verified, digest, _Verified(caller, until, issuer.keys, generation))
        return caller

    def _issuer(self, claims: Mapping[str, Any]) -> _Issuer:
        """Whose token it says it is: an entry of the configuration, and nothing that the token could choose."""
        named = claims.get("iss")
        issuer = self._issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise _refused("The token is of an issuer that is not trusted here.")
        return issuer


class _Passing(Unauthenticated):
    """A refusal that time may end, or the issuer's next keys: it is not remembered."""


@dataclass(frozen=True, slots=True)
class _Issuer:
    settings: TokenIssuer
    keys: IssuerKeys

    async def proved(self, token: bytes, header: Mapping[str, Any]) -> Mapping[str, Any]:
        """The claims, once the issuer's key has proved them. Raises Unauthenticated; StageFailed."""
        settings = self.settings
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
        if algorithm not in settings.algorithms:
            raise _refused("The token is signed by an algorithm that is not accepted here.")
        if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
            raise _refused("The token is of another type than those that let somebody in.")
        if "crit" in header or "b64" in header:
            raise _refused("The token's header asks for an extension that is not known here.")
        if kid is not None and not isinstance(kid, str):
            raise _refused("The token can't be read: its `kid` is not text.")
        try:
            try:
                claims = await self._decoded(token, kid, algorithm)
            except jwt.InvalidSignatureError:
                # Not every issuer names its keys, or gives a new key a new name.
                if not await self.keys.renewed():
                    raise
                claims = await self._decoded(token, kid, algorithm)
        except jwt.MissingRequiredClaimError as lacking:
            raise missing(lacking.claim) from None
        except jwt.PyJWTError as fault:
            raise _translated(fault) from None
        if "cnf" in claims:
            raise _refused("The token is bound to a key of its holder's (`cnf`), which can't be checked here.")
        return claims

    async def _decoded(self, token: bytes, kid: str | None, algorithm: str) -> Mapping[str, Any]:
        """Raises PyJWTError, Unauthenticated, StageFailed; nothing is awaited after the key was found."""
        settings = self.settings
        try:
            key = await self.keys.find(kid, algorithm)
        except UnknownKey:
            raise _Passing("The token's key is not one of its issuer's.", code="invalid_token") from None
        except KeysUnavailable:
            raise StageFailed(
                "The issuer of this token can't be asked for its keys just now: try again soon.",
                code="token_issuer_unavailable",
                retry_after="5",
            ) from None
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=settings.audience,
            issuer=settings.issuer,
            leeway=settings.leeway,
            options=_OPTIONS,
        )


@dataclass(frozen=True, slots=True)
class _Verified:
    """`until` is in seconds since the epoch; `generation` that of the keys which proved it."""

    caller: Caller
    until: float
    keys: IssuerKeys
    generation: int

    def holds(self, now: float) -> bool:
        return now < self.until and self.keys.generation == self.generation and self.keys.usable


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why a token was refused, until the time is over or its issuer's keys have changed."""

    kind: type[GatewayError]
    message: str
    code: str | None
    until: float
    keys: IssuerKeys | None
    generation: int

    @classmethod
    def of(cls, refusal: GatewayError, until: float, keys: IssuerKeys | None) -> _Refused:
        return cls(type(refusal), refusal.message, refusal.code, until, keys, keys.generation if keys else 0)

    def holds(self, now: float) -> bool:
        return now < self.until and (self.keys is None or self.keys.generation == self.generation)


_E = TypeVar("_E", _Verified, _Refused)


def _keep(entries: OrderedDict[bytes, _E], digest: bytes, entry: _E) -> None:
    entries[digest] = entry
    if len(entries) > _MOST_KEPT:
        entries.popitem(last=False)


def _refused(message: str) -> Unauthenticated:
    return Unauthenticated(message, code="invalid_token")


def _translated(fault: jwt.PyJWTError) -> Unauthenticated:
    if isinstance(fault, jwt.ImmatureSignatureError):
        return _Passing("The token is not valid yet.", code="invalid_token")
    for kind, message, code in _REASONS:
        if isinstance(fault, kind):
            return Unauthenticated(message, code=code)
    return _refused("The token can't be read: it is not a well-formed JWT.")


def _read(token: bytes) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims as they stand there, proved by nothing yet. Raises Unauthenticated.

    A name that stands twice is refused: two readers could take it for two things.
    """
    if len(token) > _LONGEST:
        raise _refused(f"The token is longer than {_LONGEST} bytes.")
    try:
        header, claims, _ = token.split(b".")
        return _object(header), _object(claims)
    except _Twice:
        raise _refused("The token can't be read: it says something twice.") from None
    except (ValueError, RecursionError):
        raise _refused("The token can't be read: it is not a well-formed JWT.") from None


class _Twice(ValueError):
    pass


def _object(segment: bytes) -> Mapping[str, Any]:
    data = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    value = json.loads(data, object_pairs_hook=_once, parse_constant=_no_constant)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Twice
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
