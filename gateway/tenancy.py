"""Organisations, their tenants, and the tenants' keys, as the record store keeps them; and who changed them.

Times are in seconds since the epoch. A key has several secrets while one is rotated: each is known by its SHA-256,
and that is never told. What `told` gives is what the admin API shows and the audit log keeps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.config.access import StoredGrants, TenantGrants

DEFAULT_TENANT = "default"

_ALL_GRANTS = StoredGrants().model_dump(mode="json")
_ALL_TENANT_GRANTS = TenantGrants().model_dump(mode="json")

Status = Literal["active", "expired", "revoked"]


class DirectoryUnavailable(Exception):
    """The record store can't be asked for keys now."""


@dataclass(frozen=True, slots=True)
class Organisation:
    id: str
    name: str
    created_at: float
    created_by: str

    def told(self) -> dict[str, Any]:
        return {"id": self.id, "object": "organisation", "name": self.name, **_made(self)}


@dataclass(frozen=True, slots=True)
class Tenant:
    """A project. `suspended_at`: its keys are refused since then."""

    id: str
    name: str
    organisation: str | None
    written: Mapping[str, Any]
    grants: TenantGrants
    created_at: float
    created_by: str
    suspended_at: float | None = None

    def told(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "tenant",
            "name": self.name,
            "organisation": self.organisation,
            **_ALL_TENANT_GRANTS,
            **self.written,
            **_made(self),
            "suspended_at": self.suspended_at,
        }


@dataclass(frozen=True, slots=True)
class User:
    """Somebody of a tenant, of whom more is known than a name in a request.

    `groups` are added to those of the key that calls in the user's name; `suspended_at`: no call in it since then.
    """

    tenant: str
    id: str
    name: str
    groups: tuple[str, ...]
    created_at: float
    created_by: str
    suspended_at: float | None = None

    def told(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "user",
            "name": self.name,
            "tenant": self.tenant,
            "groups": list(self.groups),
            **_made(self),
            "suspended_at": self.suspended_at,
        }

    @property
    def label(self) -> str:
        """What the audit log calls the user: who is forgotten everywhere else can't be found there either."""
        return user_label(self.tenant, self.id)


@dataclass(frozen=True, slots=True)
class Secret:
    """One of a key's secrets. `prefix` is its first characters, to show; the newest has no `works_until`."""

    digest: bytes
    prefix: str
    created_at: float
    works_until: float | None = None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """`secrets` has the newest first. `written` is what it was granted, as JSON has it; `grants` the same, read: None
    where this version can't, and then the key opens nothing."""

    id: str
    name: str
    tenant: str
    written: Mapping[str, Any]
    grants: StoredGrants | None
    secrets: tuple[Secret, ...]
    created_at: float
    created_by: str
    expires_at: float | None = None
    rotated_at: float | None = None
    revoked_at: float | None = None
    revoked_by: str | None = None

    def status(self, now: float) -> Status:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "active"

    @property
    def administers(self) -> bool:
        """Whether it is one that everything can be administered with."""
        return self.grants is not None and self.grants.role == "admin" and self.grants.scope == "gateway"

    def told(self, now: float) -> dict[str, Any]:
        newest, *older = self.secrets
        return {
            "id": self.id,
            "object": "key",
            "name": self.name,
            "prefix": newest.prefix,
            "tenant": self.tenant,
            "status": self.status(now),
            "source": "store",
            **_ALL_GRANTS,
            **self.written,
            **_made(self),
            "expires_at": self.expires_at,
            "rotated_at": self.rotated_at,
            "rotated_out": [{"prefix": each.prefix, "works_until": each.works_until} for each in older],
            "revoked_at": self.revoked_at,
            "revoked_by": self.revoked_by,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up found, and the sequence number that the store had come to by then."""

    key: StoredKey | None
    sequence: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What was changed after a sequence number, up to `sequence`.

    `administered`: whether there has ever been a key that administers the whole gateway; `users` are all of them. Either
    is None where nothing changed of it.
    """

    sequence: int
    keys: tuple[StoredKey, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    administered: bool | None = None
    users: tuple[User, ...] | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something that the audit log keeps, and from where."""

    key_id: str
    key_name: str
    tenant: str
    address: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done: `action` like keys.create, `object` what it was done to, in `tenant`; None is the gateway's."""

    action: str
    object: str
    tenant: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    reason: str = ""


def _made(thing: Organisation | Tenant | User | StoredKey) -> dict[str, Any]:
    return {"created_at": thing.created_at, "created_by": thing.created_by}


def user_label(tenant: str, user: str) -> str:
    """A user in the audit log: a digest that who knows the name can compare."""
    return "user:" + hashlib.sha256(f"{tenant}\0{user}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
