"""What a caller may do beside calling models: parts of the API, and the admin API by role and scope."""

from __future__ import annotations

from gateway.errors import Forbidden
from gateway.values import Caller, Role

_RANK: dict[Role | None, int] = {None: 0, "viewer": 1, "operator": 2, "admin": 3}


def has_role(caller: Caller, role: Role) -> bool:
    """Whether the caller's role is this one or one above it, over whomever."""
    return _RANK[caller.role] >= _RANK[role]


def is_over(caller: Caller, tenant: str, organisation: str | None) -> bool:
    """Whether the caller's role, if there is one, is over this tenant, which belongs to `organisation`."""
    if caller.scope == "gateway":
        return True
    if caller.scope == "organisation" and caller.organisation is not None and caller.organisation == organisation:
        return True
    return caller.tenant == tenant


def bound_to(caller: Caller) -> str | None:
    """The user for whom the caller looks at calls, not at other users'; None where they may look at all the tenant's."""
    return None if has_role(caller, "viewer") else caller.user


def require_role(caller: Caller, role: Role, *, everywhere: bool = True) -> None:
    """Raises Forbidden where the caller has not this role; `everywhere`, where it is not over the whole gateway."""
    if not has_role(caller, role):
        raise Forbidden(f"This needs a key with the role `{role}`.")
    if everywhere and caller.scope != "gateway":
        raise Forbidden(f"This needs a key with the role `{role}` over the whole gateway, not over its {caller.scope}.")


def require_endpoint(caller: Caller, endpoint: str) -> None:
    """Raises Forbidden where the caller's key is not for this part of the API."""
    if caller.endpoints is not None and endpoint not in caller.endpoints:
        raise Forbidden(f"This key may not call {endpoint}.")
