"""The gateway's own words: small frozen values that stages hand to each other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal, Protocol

import msgspec

Residency = Literal["on_premises", "external"]
"""Where a provider is: what is sent to one on the premises does not leave them."""

Role = Literal["viewer", "operator", "admin"]
"""What a key may do under /admin; each may do what the one before it may."""

Scope = Literal["tenant", "organisation", "gateway"]
"""Over whom a role holds: the key's own tenant, its organisation's tenants, or everybody."""


Priority = Literal["high", "normal", "low"]
"""Whose calls go before whose, where they wait for a server of our own."""

FROM_CACHE = frozenset({"hit", "semantic"})
"""What `Exchange.cache` says where the answer was a kept one."""

TOKEN_ID = "tok_"
"""What the `key_id` of a token's caller begins with."""


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """A chat front end behind a key, and what is understood of it.

    `user`: which of the names that it forwards is the user's. `side_calls`: the public model that answers what it asks
    beside a conversation; None for the conversation's own.
    """

    kind: Literal["open_webui"]
    user: Literal["id", "email", "name"] = "email"
    side_calls: str | None = None


@dataclass(frozen=True, slots=True)
class SideCall:
    """What a front end asks of its own about a conversation: for a title, for tags. `model`: that it was asked of."""

    front_end: str
    task: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as proved by the key or token; never by anything the request's body claims.

    `models`, `endpoints` and `prompts` are None where the key may use all. `user` is the key's own user unless the key may
    speak for users. `groups` are for documents that name them as readers. `key_name` is the label an operator gave
    the key, safe to log; `key_id` names it for good, where names may be given again. `guardrails` names the rules that
    this key adds to every model's; "" where it adds none. `role` is what it may do under /admin, and `scope` over
    whom: its own `tenant`, all of its `organisation`, or the whole `gateway`. `expires_at` is in seconds since the
    epoch, and `networks` are where it may be used from, everywhere where there are none; the keyring checks both.
    `limits` are the key's and its tenant's own rules, compiled. `priority` is for queues before servers of our own.
    `front_end` is what this key's calls come from, where its dialect is spoken.
    """

    key_name: str
    tenant: str = "default"
    user: str | None = None
    models: frozenset[str] | None = None
    role: Role | None = None
    sensitivity: str | None = None
    speaks_for_users: bool = False
    groups: frozenset[str] = frozenset()
    guardrails: str = ""
    key_id: str = ""
    organisation: str | None = None
    scope: Scope = "gateway"
    endpoints: frozenset[str] | None = None
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    expires_at: float | None = None
    limits: tuple[Any, ...] = ()
    priority: Priority = "normal"
    prompts: frozenset[str] | None = None
    front_end: FrontEnd | None = None

    @property
    def admin(self) -> bool:
        return self.role == "admin"

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models


@dataclass(frozen=True, slots=True)
class Target:
    """One upstream model at one provider. `label` is what the `x-gateway-target` header shows."""

    provider: str
    model: str
    weight: float = 1.0

    @property
    def label(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else self.provider


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one call. `prompt_tokens` includes cached ones, `completion_tokens` includes reasoning.

    `estimated` says that the provider reported none and the gateway counted what it saw.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


class Attempt(msgspec.Struct, gc=False):
    """One try at one target. `outcome` is "ok", "cancelled" or the error's code; `ms` until its answer or its failure.

    `upstream_id` is the provider's own id of the request, which its support asks for. `began` is
    `time.perf_counter_ns()`, `span_id` what the provider was told of. `sent` is where the request went, None where it
    was no HTTP request or was never sent, and `http_status` that of its answer, 0 where none came.
    """

    target: Target
    outcome: str = ""
    status: int = 0
    ms: float = 0.0
    upstream_id: str | None = None
    residency: Residency = "external"
    began: int = 0
    span_id: str = ""
    sent: tuple[Sent, bytes] | None = None
    http_status: int = 0


class Sent(Protocol):
    """Where a provider listens: what its requests' paths stand behind."""

    @property
    def url(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def port(self) -> int: ...


Origin = Literal["template", "feature", "input", "conversation", "passage"]
"""Who wrote words of a prompt: its template's author, the feature store, whoever filled in a template's inputs, the
caller, a document. The first is trusted, the last least."""


@dataclass(frozen=True, slots=True)
class PromptPart:
    """So many characters of the message of this order, from 0, are of this origin."""

    message: int
    origin: Origin
    characters: int


@dataclass(frozen=True, slots=True)
class CacheWish:
    """What a caller says of the cache: gateway/cache/wishes.py reads it, and a caller can only narrow.

    `look_up`: whether a kept answer may be given; `keep`: whether the new one may be kept. `max_age` is in seconds, of
    the answer that is given; `ttl` of the one that is kept. `semantic`: whether an answer to a question that means the
    same will do, from a likeness of `threshold` on.
    """

    look_up: bool = True
    keep: bool = True
    max_age: float | None = None
    only_if_cached: bool = False
    semantic: bool = True
    ttl: float | None = None
    threshold: float | None = None


@dataclass(slots=True)
class SemanticLook:
    """What a semantic cache found for a call, and why it gave nothing.

    `outcome`: hit | miss (nothing is like it) | refused (`reason` says what tells the questions apart) | unfit (the
    passages differ) | unavailable | late; in shadow mode shadow (not compared yet), agreed or false_hit. `likeness` is
    that of the most alike question, -1 to 1; `key` of the call that made the answer. `carried` is for the cache itself.
    """

    outcome: str = "miss"
    likeness: float | None = None
    reason: str | None = None
    key: str | None = None
    carried: object = None

    def told(self) -> dict[str, object]:
        """For the call's record."""
        likeness = round(self.likeness, 4) if self.likeness is not None else None
        told = {"outcome": self.outcome, "likeness": likeness, "reason": self.reason, "key": self.key}
        return {name: value for name, value in told.items() if value is not None}


@dataclass(slots=True)
class Searched:
    """What passages were searched for: `queries`, what matters most first, in `collection`.

    `rewritten` says that the first is not as it was asked; `found` is how many came back.
    """

    collection: str
    queries: Sequence[str]
    rewritten: bool
    mode: str
    rerank: bool
    top_k: int
    min_score: float | None
    found: int = 0


class CacheKey:
    """What had to be equal for a kept answer to be given: 32 bytes, and the parts that they are made of."""

    __slots__ = ("_parts", "digest")

    def __init__(self, digest: bytes, parts: Mapping[str, Any]) -> None:
        """`parts` are text, or whatever holds bytes, like raw JSON; they are read only when `parts` is asked for."""
        self.digest = digest
        self._parts = parts

    def parts(self) -> dict[str, str]:
        """A short digest of each part, in their order: two calls' show which of them differ, and none its value."""
        tenant = str(self._parts.get("tenant"))
        told = {}
        for name, value in self._parts.items():
            held = value.encode("utf-8", "replace") if isinstance(value, str) else bytes(value)
            salted = f"{len(tenant)} {tenant} {name} ".encode() + held
            told[name] = hashlib.sha256(salted).hexdigest()[:16]
        return told
