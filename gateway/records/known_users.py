"""Users of whom the record store knows more than what their calls say: names, groups, and who is suspended.

What is logged of a change has a digest in the user's place, and no name: the audit log can't forget anybody.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from gateway.records import audit_log
from gateway.records.database import Database
from gateway.records.schema import access_sequence, users
from gateway.tenancy import Actor, Deed, User

# Rows of `access_sequence`.
CHANGED = 1
USERS_CHANGED = 2


class KnownUsers:
    """Blocking; any thread may. Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, user: User, actor: Actor) -> User:
        """Keep what is known of a user, in place of what was; as it is kept."""
        with self._database.writing() as connection:
            _mark(connection)
            before = _user_of(connection, user.tenant, user.id)
            if before is not None:
                user = User(
                    user.tenant,
                    user.id,
                    user.name,
                    user.groups,
                    before.created_at,
                    before.created_by,
                    user.suspended_at,
                )
                _remove(connection, user.tenant, user.id)
            connection.execute(users.insert().values(**_columns(user)))
            deed = Deed(
                "users.put", user.label, user.tenant, _shown(before) if before is not None else None, _shown(user)
            )
            audit_log.append(connection, actor, deed)
        return user

    def remove(self, tenant: str, user_id: str, actor: Actor) -> bool:
        """Forget what is known of a user; False where that was nothing."""
        with self._database.writing() as connection:
            before = _user_of(connection, tenant, user_id)
            if before is None:
                return False
            _mark(connection)
            _remove(connection, tenant, user_id)
            audit_log.append(connection, actor, Deed("users.remove", before.label, tenant, _shown(before)))
        return True

    def user(self, tenant: str, user_id: str) -> User | None:
        with self._database.reading() as connection:
            return _user_of(connection, tenant, user_id)

    def users(
        self, *, of_tenants: frozenset[str] | None = None, after: tuple[str, str] | None = None, limit: int = 100
    ) -> list[User]:
        """By tenant and id; `after` goes on where a page ended."""
        query = select(users).order_by(users.c.tenant, users.c.id).limit(limit)
        if of_tenants is not None:
            query = query.where(users.c.tenant.in_(sorted(of_tenants)))
        if after is not None:
            tenant, user_id = after
            query = query.where((users.c.tenant > tenant) | ((users.c.tenant == tenant) & (users.c.id > user_id)))
        with self._database.reading() as connection:
            return [_user(row) for row in connection.execute(query)]


def all_users(connection: Connection) -> tuple[User, ...]:
    return tuple(_user(row) for row in connection.execute(select(users)))


def count_up(connection: Connection) -> int:
    """The number of a change of keys, tenants or users; nobody else gets one until this transaction has ended."""
    counted = update(access_sequence).where(access_sequence.c.id == CHANGED).values(value=access_sequence.c.value + 1)
    return int(connection.execute(counted.returning(access_sequence.c.value)).scalar_one())


def _mark(connection: Connection) -> None:
    number = count_up(connection)
    connection.execute(update(access_sequence).where(access_sequence.c.id == USERS_CHANGED).values(value=number))


def _remove(connection: Connection, tenant: str, user_id: str) -> None:
    connection.execute(delete(users).where(users.c.tenant == tenant, users.c.id == user_id))


def _user_of(connection: Connection, tenant: str, user_id: str) -> User | None:
    row = connection.execute(select(users).where(users.c.tenant == tenant, users.c.id == user_id)).one_or_none()
    return _user(row) if row is not None else None


def _user(row: Row[Any]) -> User:
    return User(
        row.tenant, row.id, row.name, tuple(json.loads(row.groups)), row.created_at, row.created_by, row.suspended_at
    )


def _columns(user: User) -> dict[str, Any]:
    return {
        "tenant": user.tenant,
        "id": user.id,
        "name": user.name,
        "groups": json.dumps(user.groups, ensure_ascii=False),
        "created_at": user.created_at,
        "created_by": user.created_by,
        "suspended_at": user.suspended_at,
    }


def _shown(user: User) -> dict[str, Any]:
    return {"groups": list(user.groups), "suspended_at": user.suspended_at}
