"""Keys and tenants as rows of the record store."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, Select, delete, select

from gateway.config.access import StoredGrants, TenantGrants
from gateway.records.schema import key_secrets, tenants
from gateway.tenancy import Secret, StoredKey, Tenant

log = logging.getLogger(__name__)


def read_keys(connection: Connection, query: Select[Any]) -> tuple[StoredKey, ...]:
    rows = connection.execute(query).all()
    asked = select(key_secrets).where(key_secrets.c.key.in_([row.id for row in rows]))
    secrets: dict[str, list[Secret]] = {}
    for row in connection.execute(asked.order_by(key_secrets.c.created_at.desc())) if rows else ():
        secrets.setdefault(row.key, []).append(Secret(row.digest, row.prefix, row.created_at, row.works_until))
    return tuple(_key(row, secrets[row.id]) for row in rows)


def _key(row: Row[Any], secrets: Iterable[Secret]) -> StoredKey:
    written = json.loads(row.grants)
    return StoredKey(
        id=row.id,
        name=row.name,
        tenant=row.tenant,
        written=written,
        grants=_grants(written, row.id),
        secrets=tuple(secrets),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        rotated_at=row.rotated_at,
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by,
    )


def _grants(written: dict[str, Any], key_id: str) -> StoredGrants | None:
    try:
        return StoredGrants.model_validate(written)
    except ValidationError as failure:  # of a newer version, it may be one that bounds the key
        log.error("%s can't be used: %d of its settings can't be read", key_id, failure.error_count())
        return None


def key_columns(key: StoredKey, number: int) -> dict[str, Any]:
    return {
        "name": key.name,
        "tenant": key.tenant,
        "grants": json.dumps(key.written, ensure_ascii=False),
        "administers": key.administers,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "rotated_at": key.rotated_at,
        "revoked_at": key.revoked_at,
        "revoked_by": key.revoked_by,
        "sequence": number,
    }


def write_secrets(connection: Connection, key: StoredKey) -> None:
    """Those that are there and are no longer the key's are taken out, so that what opens is what it has."""
    connection.execute(delete(key_secrets).where(key_secrets.c.key == key.id))
    connection.execute(
        key_secrets.insert(),
        [
            {
                "digest": secret.digest,
                "key": key.id,
                "prefix": secret.prefix,
                "created_at": secret.created_at,
                "works_until": secret.works_until,
            }
            for secret in key.secrets
        ],
    )


def tenant_of(connection: Connection, tenant_id: str) -> Tenant | None:
    row = connection.execute(select(tenants).where(tenants.c.id == tenant_id)).one_or_none()
    return read_tenant(row) if row is not None else None


def read_tenant(row: Row[Any]) -> Tenant:
    written = json.loads(row.grants)
    try:
        grants, suspended_at = TenantGrants.model_validate(written), row.suspended_at
    except ValidationError as failure:  # of a newer version: what bounds the tenant is not known here
        log.error("the tenant %s is suspended: %d of its settings can't be read", row.id, failure.error_count())
        grants, suspended_at = TenantGrants(), row.suspended_at or row.created_at
    return Tenant(
        id=row.id,
        name=row.name,
        organisation=row.organisation,
        written=written,
        grants=grants,
        created_at=row.created_at,
        created_by=row.created_by,
        suspended_at=suspended_at,
    )


def tenant_columns(tenant: Tenant, number: int) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "organisation": tenant.organisation,
        "grants": json.dumps(tenant.written, ensure_ascii=False),
        "created_at": tenant.created_at,
        "created_by": tenant.created_by,
        "suspended_at": tenant.suspended_at,
        "sequence": number,
    }
