"""What one who makes keys may give: everything, over the whole gateway; else no more than their own key has."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING, Any

from gateway.access.callers import configured_key_id
from gateway.config.access import SetsOfRules, StoredGrants, unknown_models
from gateway.config.guardrails import unfit_for_input, unfit_for_output
from gateway.errors import BadRequest, Forbidden
from gateway.values import TOKEN_ID, Caller

if TYPE_CHECKING:
    from gateway.config.models import Configuration

_WIDTH = {"tenant": 0, "organisation": 1, "gateway": 2}
_BEFORE = {"low": 0, "normal": 1, "high": 2}


def check_known(grants: StoredGrants, configuration: Configuration) -> None:
    """Raises BadRequest for a model or a set of guardrails that the configuration does not have."""
    if unknown := unknown_models(grants.models, configuration):
        raise BadRequest(f"There is no model '{unknown[0]}'.", param="models")
    side = grants.front_end.side_calls if grants.front_end is not None else None
    if side is not None and unknown_models([side], configuration):
        raise BadRequest(f"There is no model '{side}'.", param="front_end.side_calls")
    labels = configuration.residency.labels if configuration.residency is not None else None
    if labels is not None and grants.sensitivity is not None and grants.sensitivity not in labels:
        raise BadRequest(f"'{grants.sensitivity}' is not one of the labels: {', '.join(labels)}.", param="sensitivity")
    sets = grants.guardrails or SetsOfRules()
    for names, unfit in ((sets.input, unfit_for_input), (sets.output, unfit_for_output)):
        for name in names:
            rules = configuration.guardrails.get(name)
            if rules is None:
                known = ", ".join(sorted(configuration.guardrails)) or "none"
                message = f"There is no set '{name}' in the configuration's `guardrails`; there are: {known}."
                raise BadRequest(message, param="guardrails")
            if fault := next(filter(None, map(unfit, rules)), None):
                raise BadRequest(f"The set '{name}' does not fit here: {fault}.", param="guardrails")


def known_tenants(configuration: Configuration) -> set[str]:
    """Those that are there without having been created: of configured keys and tokens, and the one of who names none."""
    named = (name for issuer in configuration.access.tokens for name in issuer.tenant.named)
    return {"default", *(key.tenant for key in configuration.access.keys), *named}


def tokens_name_tenants(configuration: Configuration) -> bool:
    """Whether there may be tenants that nobody has named here: an issuer's tokens say what theirs is called."""
    return any(
        issuer.tenant.claim is not None and issuer.tenant.values is None for issuer in configuration.access.tokens
    )


def configured_keys(configuration: Configuration) -> dict[str, dict[str, Any]]:
    """What is told of the configuration's keys, by their ids."""
    return {
        configured_key_id(key.name): {
            "id": configured_key_id(key.name),
            "object": "key",
            "prefix": None,
            "status": "expired" if key.expires_at is not None and time.time() >= key.expires_at else "active",
            "source": "configuration",
            **key.model_dump(mode="json", exclude={"hash", "admin", "guardrails"}),
            "role": key.granted_role,
        }
        for key in configuration.access.keys
    }


def bounded(granter: Caller, written: Mapping[str, Any]) -> dict[str, Any]:
    """What is granted, where `granter` may: with what was left out as it is for themselves. Raises Forbidden, and
    ValidationError.

    One who administers a tenant can't make a key that reaches further than their own. What it may use up is not part
    of this: a tenant's limits hold for all of its keys together.
    """
    granted = dict(written)
    if granter.scope == "gateway":
        return granted
    if granter.models is not None:
        granted.setdefault("models", sorted(granter.models))
    if granter.endpoints is not None:
        granted.setdefault("endpoints", sorted(granter.endpoints))
    if granter.prompts is not None:
        granted.setdefault("prompts", sorted(granter.prompts))
    if granter.networks and not granted.get("networks"):
        granted["networks"] = [str(network) for network in granter.networks]
    if granter.sensitivity is not None:
        granted.setdefault("sensitivity", granter.sensitivity)
    if granter.priority == "low":
        granted.setdefault("priority", "low")
    if granter.guardrails.startswith("sets:"):
        granted.setdefault("guardrails", SetsOfRules.read(granter.guardrails).model_dump())
    _within(granter, StoredGrants.model_validate(granted))
    return granted


def end_of(granter: Caller, grants: StoredGrants, end: float | None) -> float | None:
    """When a key ends that `granter` makes to end then: one with a role not after their own. Raises Forbidden.

    A token ends with its session, which says nothing of how long its holder may administer.
    """
    own = granter.expires_at
    if granter.scope == "gateway" or own is None or grants.role is None or granter.key_id.startswith(TOKEN_ID):
        return end
    if end is not None and end > own:
        raise Forbidden("A key that administers can't make one that does so for longer than itself.")
    return own if end is None else end


def check_may_change(granter: Caller, grants: StoredGrants | None) -> None:
    """Raises Forbidden for a key that administers more than `granter`'s: nobody may shut out those who bound them."""
    if granter.scope == "gateway":
        return
    if grants is None or (grants.role is not None and _WIDTH[grants.scope] > _WIDTH[granter.scope]):
        raise Forbidden("This key's role is over more than yours: ask who administers the whole gateway.")


def check_place(granter: Caller, grants: StoredGrants | None, tenant: str) -> None:
    """Raises Forbidden for a key that administers the organisation from another of its tenants than `granter`'s: what
    bounds their own could be changed with it.
    """
    if granter.scope != "organisation" or tenant == granter.tenant or grants is None:
        return
    if grants.role == "admin" and grants.scope == "organisation":
        raise Forbidden(
            f"Of keys that administer the organisation you have those of the tenant '{granter.tenant}' only."
        )


def check_may_hold(
    granter: Caller, grants: StoredGrants | None, tenant: str, tenant_models: Sequence[str] | None
) -> None:
    """Raises Forbidden for a key that reaches further than `granter`'s, who is about to be told a secret of it.

    `tenant_models` are what its tenant may use: all that a key may which names no models.
    """
    if granter.scope == "gateway":
        return
    check_may_change(granter, grants)
    check_place(granter, grants, tenant)
    assert grants is not None
    if grants.models is None:
        grants = grants.model_copy(update={"models": tenant_models})
    if granter.networks and not grants.networks:
        raise Forbidden("A key that is bound to networks can't have the secret of one that is not.")
    _within(granter, grants)


def _within(granter: Caller, grants: StoredGrants) -> None:
    """Raises Forbidden."""
    if _WIDTH[grants.scope] > _WIDTH[granter.scope]:
        raise Forbidden(f"A key whose role is over its {granter.scope} can't make one over the {grants.scope}.")
    own = granter.models
    if own is not None and (grants.models is None or not all(model in own for model in grants.models)):
        raise Forbidden("This key may not use all of these models, so that it can't grant them.")
    if granter.endpoints is not None and (grants.endpoints is None or not granter.endpoints >= set(grants.endpoints)):
        raise Forbidden("This key may not call all of these endpoints, so that it can't grant them.")
    if granter.prompts is not None and (grants.prompts is None or not granter.prompts >= set(grants.prompts)):
        raise Forbidden("This key may not use all of these prompt templates, so that it can't grant them.")
    if granter.networks and not all(_inside(network, granter) for network in grants.networks):
        raise Forbidden("A key that is bound to networks can't make one for others.")
    if _BEFORE[grants.priority] > _BEFORE[granter.priority]:
        raise Forbidden(f"This key's priority is `{granter.priority}`, so that it can't grant `{grants.priority}`.")
    if grants.speaks_for_users and not granter.speaks_for_users:
        raise Forbidden("This key may not speak for users, so that it can't grant it.")
    if granter.sensitivity is not None and grants.sensitivity != granter.sensitivity:
        raise Forbidden(f"Keys that this one makes have its sensitivity, `{granter.sensitivity}`.")
    if granter.guardrails:
        kept, given = SetsOfRules.read(granter.guardrails), grants.guardrails or SetsOfRules()
        if not kept.digest or not (set(kept.input) <= set(given.input) and set(kept.output) <= set(given.output)):
            raise Forbidden("Keys that this one makes have its guardrails, and may have more.")


def _inside(network: str, granter: Caller) -> bool:
    asked = ip_network(network)
    for own in granter.networks:
        if isinstance(asked, IPv4Network):
            if isinstance(own, IPv4Network) and asked.subnet_of(own):
                return True
        elif not isinstance(own, IPv4Network) and asked.subnet_of(own):
            return True
    return False
