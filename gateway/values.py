"""The gateway's own words: small frozen values that stages hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Residency = Literal["on_premises", "external"]
"""Where a provider is: what is sent to one on the premises does not leave them."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as proved by the key; never by anything the request's body claims.

    `models` is None where the key may use every model. `user` is the key's own user unless the key may
    speak for users. `groups` are the key's own, for documents that name them as readers. `key_name` is the label an operator gave the key, safe to log. `guardrails` names the rules that this key adds
    to every model's; "" where it adds none.
    """

    key_name: str
    tenant: str = "default"
    user: str | None = None
    models: frozenset[str] | None = None
    admin: bool = False
    sensitivity: str | None = None
    speaks_for_users: bool = False
    groups: frozenset[str] = frozenset()
    guardrails: str = ""

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


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `prompt_tokens` includes cached ones, `completion_tokens` includes reasoning.

    `estimated` says that the provider reported none and the gateway counted what it saw.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one target. `outcome` is "ok" or the error's code; `ms` until its answer or its failure.

    `upstream_id` is the provider's own id of the request, which its support asks for.
    """

    target: Target
    outcome: str
    status: int
    ms: float
    upstream_id: str | None = None
    residency: Residency = "external"
