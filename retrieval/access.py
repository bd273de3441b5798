"""Who may find what: a tenant's documents, and of those the ones that name the reader, a group of theirs, or everyone.

Both are part of every search, never a choice made among its results. Nobody is let in by default: without a tenant
nothing is found, without a user only what is public, and a document without readers is found by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from retrieval.expressions import any_of, holds, quoted, token, token_set

SHARED = "*"
"""The tenant of what every tenant may read; no key's tenant can be called so."""

PUBLIC = "public"
"""The reader that stands for everybody in the document's tenant."""

HIDDEN = "#"
"""What the tenant of a collection's own records begins with: no reader's tenant may."""

_MOST_GROUPS = 100


class NotReadable(ValueError):
    """A reader that can't be one; the message says why."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who searches, as proved to whoever asks on their behalf: never taken from what a caller claims."""

    tenant: str
    user: str | None = None
    groups: frozenset[str] = frozenset()


def audience(tenant: str, readers: Iterable[str]) -> str:
    """The stored form of a document's readers: `public`, `user:NAME` or `group:NAME`. Raises NotReadable.

    Names are the tenant's own: the same name in another tenant is somebody else. So what is shared by all tenants
    can be public only.
    """
    tokens = []
    for reader in readers:
        kind, colon, name = reader.partition(":")
        if reader == PUBLIC:
            tokens.append(PUBLIC)
        elif kind in ("user", "group") and colon and name:
            if tenant == SHARED:
                raise NotReadable(f"{reader}: documents of all tenants can be `{PUBLIC}` only; name a tenant")
            tokens.append(token(tenant, kind, name))
        else:
            raise NotReadable(f"{reader!r} is no reader; write `{PUBLIC}`, `user:NAME` or `group:NAME`")
    return token_set(tokens)


def tenant_clause(tenant: str) -> str:
    """What a tenant may read of all tenants' rows."""
    if tenant.startswith(HIDDEN):
        raise ValueError(f"{HIDDEN} is no tenant")
    return f"tenant in {any_of(dict.fromkeys((SHARED, tenant)))}"


def readable(reader: Reader) -> str | None:
    """The clause that every search for this reader has; None where the reader can find nothing at all."""
    if not reader.tenant:
        return None
    tokens = [PUBLIC]
    if reader.user:
        tokens.append(token(reader.tenant, "user", reader.user))
    # A reader of more groups than are asked for finds less, never more.
    tokens += [token(reader.tenant, "group", group) for group in sorted(reader.groups)[:_MOST_GROUPS] if group]
    allowed = " or ".join(holds("readers", each) for each in tokens)
    return f"{tenant_clause(reader.tenant)} and ({allowed})"


def records_of(tenant: str) -> str:
    """The tenant under which a collection keeps its records of a tenant's documents."""
    return HIDDEN + tenant


def records_clause(tenant: str) -> str:
    return f"tenant == {quoted(records_of(tenant))}"
