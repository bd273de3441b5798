"""A key, as it is configured or stored, to the caller that whoever holds it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any, Self

from gateway.access.rules import own_rule
from gateway.config.access import Grants, Key
from gateway.errors import Forbidden, GatewayError, Unauthenticated
from gateway.tenancy import Secret, StoredKey, Tenant
from gateway.values import Caller, FrontEnd


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a key that is known opens nothing."""

    message: str
    forbidden: bool = False

    def error(self) -> GatewayError:
        return Forbidden(self.message) if self.forbidden else Unauthenticated(self.message)


REVOKED = Refusal("This API key was revoked. Ask whoever runs this gateway for a new one.")
EXPIRED = Refusal("This API key has expired. Ask whoever runs this gateway for a new one.")
_SUSPENDED = Refusal("This key's tenant is suspended. Ask whoever runs this gateway.", forbidden=True)
_UNREADABLE = Refusal("This key can't be used with this version of the gateway.", forbidden=True)


def user_in_header(value: bytes) -> str:
    """A user's name as a header has it: UTF-8, or else ISO-8859-1, which many clients write. Never one name for two."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def configured_key_id(name: str) -> str:
    """The id of a configured key: the same as long as its name is, whatever its hash."""
    return "cfg_" + hashlib.sha256(name.encode()).hexdigest()[:16]


def configured(key: Key, tenants: Mapping[str, Tenant]) -> Caller | Refusal:
    """Who holds a key of the configuration file."""
    tenant = tenants.get(key.tenant)
    if tenant is not None and tenant.suspended_at is not None:
        return _SUSPENDED
    return _caller(
        key, key.name, configured_key_id(key.name), key.tenant, tenant,
        role=key.granted_role, scope=key.scope, expires_at=key.expires_at,
        guardrails=key.guardrails.digest if key.guardrails is not None else "",
    )  # fmt: skip


def stored(key: StoredKey, secret: Secret, tenants: Mapping[str, Tenant]) -> Caller | Refusal:
    """Who holds this secret of a key of the record store."""
    tenant = tenants.get(key.tenant)
    if key.revoked_at is not None:
        return REVOKED
    if key.grants is None:
        return _UNREADABLE
    if tenant is not None and tenant.suspended_at is not None:
        return _SUSPENDED
    ends = [end for end in (key.expires_at, secret.works_until) if end is not None]
    grants = key.grants
    return _caller(
        grants, key.name, key.id, key.tenant, tenant,
        role=grants.role, scope=grants.scope, expires_at=min(ends, default=None),
        guardrails=grants.guardrails.digest if grants.guardrails is not None else "",
    )  # fmt: skip


def of_tenant(caller: Caller, tenants: Mapping[str, Tenant]) -> Caller | Refusal:
    """A caller that a token speaks of, with what the record store says of its tenant."""
    tenant = tenants.get(caller.tenant)
    if tenant is None:
        return caller
    if tenant.suspended_at is not None:
        return _SUSPENDED
    return replace(
        caller,
        organisation=tenant.organisation,
        models=_within(caller.models, tenant),
        limits=caller.limits + own_rule(tenant.grants.limits, "tenant"),
    )


def _within(models: frozenset[str] | None, tenant: Tenant | None) -> frozenset[str] | None:
    """Of a key's models those that its tenant may use."""
    bound = models_named(tenant.grants.models) if tenant is not None else None
    if models is None or bound is None:
        return bound if models is None else models
    return _InBoth(models, bound)


def _caller(grants: Grants, name: str, key_id: str, tenant_id: str, tenant: Tenant | None, **more: Any) -> Caller:
    return Caller(
        key_name=name,
        key_id=key_id,
        tenant=tenant_id,
        organisation=tenant.organisation if tenant is not None else None,
        user=grants.user,
        models=_within(models_named(grants.models), tenant),
        sensitivity=grants.sensitivity,
        speaks_for_users=grants.speaks_for_users,
        groups=frozenset(grants.groups),
        priority=grants.priority,
        front_end=FrontEnd(**grants.front_end.model_dump()) if grants.front_end is not None else None,
        prompts=frozenset(grants.prompts) if grants.prompts is not None else None,
        endpoints=frozenset(grants.endpoints) if grants.endpoints is not None else None,
        networks=tuple(ip_network(network) for network in grants.networks),
        limits=own_rule(grants.limits, "key")
        + own_rule(tenant.grants.limits if tenant is not None else None, "tenant"),
        **more,
    )


class _WithFamilies(frozenset[str]):
    """Names of models, where `openai/*` stands for every model of that provider."""

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name):
            return True
        provider, slash, _ = str(name).partition("/")
        return bool(slash) and super().__contains__(f"{provider}/*")


class _InBoth(frozenset[str]):
    """A key's models, as far as its tenant may use them: a name has to be in both."""

    _own: frozenset[str]
    _within: frozenset[str]

    def __new__(cls, own: frozenset[str], within: frozenset[str]) -> Self:
        made = super().__new__(cls, own)
        made._within = within
        made._own = own
        return made

    def __contains__(self, name: object) -> bool:
        return name in self._own and name in self._within


def models_named(names: Sequence[str] | None) -> frozenset[str] | None:
    """What `Caller.models` is for these names; None where all models are meant."""
    if names is None:
        return None
    return _WithFamilies(names) if any(name.endswith("/*") for name in names) else frozenset(names)
