"""Organisations, tenants and keys in the record store. What changes them is logged in the same transaction.

Each change counts a row of `access_sequence` up and keeps it until it is in, so that changes come one after the
other, in the order of their numbers: who has seen everything up to a number has missed nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import SQLAlchemyError

from gateway.records import audit_log
from gateway.records.database import Database, StoreUnavailable
from gateway.records.key_rows import key_columns, read_keys, read_tenant, tenant_columns, tenant_of, write_secrets
from gateway.records.known_users import CHANGED, USERS_CHANGED, all_users, count_up
from gateway.records.schema import access_sequence, key_secrets, keys, organisations, tenants
from gateway.tenancy import (
    Actor,
    Changes,
    Deed,
    DirectoryUnavailable,
    Found,
    Organisation,
    StoredKey,
    Tenant,
)


class KeyStore:
    """Blocking; any thread may. Raises StoreUnavailable, but for `find` and `changes`: DirectoryUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- what every worker asks ----------------------------------------------------------------------------
    def find(self, digest: bytes) -> Found:
        with self._reading() as connection:
            # The number first: what is changed between the two is then seen as changed later.
            sequence = _sequence(connection)
            key_id = connection.scalar(select(key_secrets.c.key).where(key_secrets.c.digest == digest))
            found = read_keys(connection, select(keys).where(keys.c.id == key_id)) if key_id is not None else ()
        return Found(found[0] if found else None, sequence)

    def changes(self, since: int) -> Changes:
        with self._reading() as connection:
            sequence = _sequence(connection)
            if sequence <= since:
                return Changes(sequence)
            users = all_users(connection) if _sequence(connection, USERS_CHANGED) > since else None
            since_then = select(keys).where(keys.c.sequence > since, keys.c.sequence <= sequence)
            changed = read_keys(connection, since_then) if since >= 0 else ()
            rows = connection.execute(select(tenants).where(tenants.c.sequence > since))
            return Changes(sequence, changed, tuple(read_tenant(row) for row in rows), _administered(connection), users)

    def has_admin_key(self) -> bool:
        """Whether there is a key that administers the whole gateway, and works."""
        works = keys.c.revoked_at.is_(None) & (keys.c.expires_at.is_(None) | (keys.c.expires_at > time.time()))
        with self._database.reading() as connection:
            return connection.scalar(select(keys.c.id).where(keys.c.administers, works).limit(1)) is not None

    # -- what is shown -------------------------------------------------------------------------------------
    def key(self, key_id: str) -> StoredKey | None:
        with self._database.reading() as connection:
            found = read_keys(connection, select(keys).where(keys.c.id == key_id))
        return found[0] if found else None

    def keys(
        self, *, of_tenants: frozenset[str] | None = None, after: str | None = None, limit: int = 100
    ) -> list[StoredKey]:
        """By their age, the oldest first; `after`, a key's id, goes on where a page ended."""
        query = select(keys).order_by(keys.c.id).limit(limit)
        if of_tenants is not None:
            query = query.where(keys.c.tenant.in_(sorted(of_tenants)))
        if after is not None:
            query = query.where(keys.c.id > after)
        with self._database.reading() as connection:
            return list(read_keys(connection, query))

    def tenant(self, tenant_id: str) -> Tenant | None:
        with self._database.reading() as connection:
            return tenant_of(connection, tenant_id)

    def tenants(self, organisation: str | None = None) -> list[Tenant]:
        query = select(tenants).order_by(tenants.c.id)
        if organisation is not None:
            query = query.where(tenants.c.organisation == organisation)
        with self._database.reading() as connection:
            return [read_tenant(row) for row in connection.execute(query)]

    def organisation(self, organisation_id: str) -> Organisation | None:
        with self._database.reading() as connection:
            row = connection.execute(select(organisations).where(organisations.c.id == organisation_id)).one_or_none()
        return Organisation(*row) if row is not None else None

    def organisations(self) -> list[Organisation]:
        with self._database.reading() as connection:
            return [
                Organisation(*row) for row in connection.execute(select(organisations).order_by(organisations.c.id))
            ]

    # -- what is done --------------------------------------------------------------------------------------
    def add_key(self, key: StoredKey, actor: Actor) -> None:
        with self._changing() as (connection, number):
            connection.execute(keys.insert().values(id=key.id, **key_columns(key, number)))
            write_secrets(connection, key)
            audit_log.append(connection, actor, Deed("keys.create", key.id, key.tenant, None, key.told(time.time())))

    def change_key(
        self, key_id: str, action: str, change: Callable[[StoredKey], StoredKey], actor: Actor, reason: str = ""
    ) -> StoredKey | None:
        """Replace a key by what `change` makes of it; None where there is none. What `change` raises undoes all."""
        with self._changing() as (connection, number):
            found = read_keys(connection, select(keys).where(keys.c.id == key_id))
            if not found:
                return None
            before, after = found[0], change(found[0])
            connection.execute(update(keys).where(keys.c.id == key_id).values(**key_columns(after, number)))
            write_secrets(connection, after)
            now = time.time()
            deed = Deed(action, key_id, after.tenant, before.told(now), after.told(now), reason)
            audit_log.append(connection, actor, deed)
        return after

    def add_tenant(self, tenant: Tenant, actor: Actor) -> bool:
        """False where there is one of that id."""
        with self._changing() as (connection, number):
            if tenant_of(connection, tenant.id) is not None:
                return False
            connection.execute(tenants.insert().values(**tenant_columns(tenant, number)))
            audit_log.append(connection, actor, Deed("tenants.create", tenant.id, tenant.id, None, tenant.told()))
        return True

    def change_tenant(self, tenant_id: str, change: Callable[[Tenant], Tenant], actor: Actor) -> Tenant | None:
        """As `change_key`."""
        with self._changing() as (connection, number):
            before = tenant_of(connection, tenant_id)
            if before is None:
                return None
            after = change(before)
            connection.execute(update(tenants).where(tenants.c.id == tenant_id).values(**tenant_columns(after, number)))
            audit_log.append(
                connection, actor, Deed("tenants.change", tenant_id, tenant_id, before.told(), after.told())
            )
        return after

    def add_organisation(self, organisation: Organisation, actor: Actor) -> bool:
        """False where there is one of that id."""
        with self._changing() as (connection, _):
            there = select(organisations.c.id).where(organisations.c.id == organisation.id)
            if connection.scalar(there) is not None:
                return False
            connection.execute(
                organisations.insert().values(
                    id=organisation.id,
                    name=organisation.name,
                    created_at=organisation.created_at,
                    created_by=organisation.created_by,
                )
            )
            audit_log.append(
                connection, actor, Deed("organisations.create", organisation.id, None, None, organisation.told())
            )
        return True

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._database.reading() as connection:
                yield connection
        except StoreUnavailable as failure:
            raise DirectoryUnavailable(str(failure)) from None
        except SQLAlchemyError as failure:  # tables that are not there, a file that is none: no key is known then
            raise DirectoryUnavailable(f"the record store can't be read: {type(failure).__name__}") from None

    @contextmanager
    def _changing(self) -> Iterator[tuple[Connection, int]]:
        with self._database.writing() as connection:
            yield connection, count_up(connection)


def _sequence(connection: Connection, row: int = CHANGED) -> int:
    return int(connection.execute(select(access_sequence.c.value).where(access_sequence.c.id == row)).scalar_one())


def _administered(connection: Connection) -> bool:
    return connection.scalar(select(keys.c.id).where(keys.c.administers).limit(1)) is not None
