"""Which files the lake is made of, and who fills it: in the record store, so that files and queue change together.

Before a file is written it is announced as pending; the transaction that makes it live also lets go of what it was made
from, and of the files that it replaces. Whoever takes over removes what was pending or dead when its predecessor ended.
So each row is in exactly one live file, wherever a process was killed.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from sqlalchemy import Connection, Select, delete, insert, select, update

from gateway.records.database import Database
from gateway.records.schema import lake_files, lake_lease

log = logging.getLogger(__name__)

LEASE = 60.0  # seconds for which a process that says nothing is still believed to be at work
_AT_ONCE = 500  # rows of one statement


@dataclass(frozen=True, slots=True)
class Lease:
    """The lake's id, the URL that it had when it was last filled, and how often files were announced."""

    lake: str
    url: str
    position: int


class LeaseLost(Exception):
    """Another process fills this lake now: what was being done is nobody's."""


@dataclass(frozen=True, slots=True)
class LakeFile:
    """`first` and `last`: when its oldest and newest row were, in ns since the epoch. `day` is like 2026-11-21."""

    path: str
    table: str
    day: str
    tenant: str
    rows: int = 0
    bytes: int = 0
    first: int = 0
    last: int = 0


def new_file(table: str, day: str, tenant: str) -> LakeFile:
    """A name that nothing has had, in its partition as Hive, Spark and DuckDB read it."""
    name = f"{table}-{secrets.token_hex(16)}.parquet"
    return LakeFile(f"{table}/date={day}/tenant={quote(tenant, safe='')}/{name}", table, day, tenant)


def file_at(path: str) -> LakeFile:
    """The file that has this path, by what the path tells of it."""
    table, day, tenant, _ = path.split("/")
    return LakeFile(path, table, day.removeprefix("date="), unquote(tenant.removeprefix("tenant=")))


class Manifest:
    """Blocking; any thread may. Raises StoreUnavailable."""

    def __init__(self, database: Database, holder: str | None = None) -> None:
        self._database = database
        self.holder = holder or secrets.token_hex(8)
        self._said = float("-inf")

    def take(self, url: str, *, by_force: bool = False) -> Lease | None:
        """Become the one who fills the lake, or stay it. None while somebody else does, unless it is taken `by_force`:
        then that one finds out, and waits.
        """
        now = time.time()
        with self._database.writing() as connection:
            found = connection.execute(select(lake_lease).where(lake_lease.c.id == 1).with_for_update()).first()
            if found is None:
                lake = secrets.token_hex(8)
                connection.execute(
                    insert(lake_lease).values(id=1, lake=lake, url=url, holder=self.holder, until=now + LEASE)
                )
                return Lease(lake, url, 0)
            if found.holder != self.holder and now < found.until <= now + 2 * LEASE and not by_force:
                return None
            connection.execute(update(lake_lease).values(holder=self.holder, until=now + LEASE))
            return Lease(found.lake, found.url, found.position)

    def release(self) -> None:
        with self._database.writing() as connection:
            connection.execute(update(lake_lease).where(lake_lease.c.holder == self.holder).values(until=0.0))

    @contextlib.contextmanager
    def holding(self) -> Iterator[Connection]:
        """A transaction of the one who fills the lake. Raises LeaseLost where that is somebody else."""
        with self._database.writing() as connection:
            mine = update(lake_lease).where(lake_lease.c.holder == self.holder)
            if not connection.execute(mine.values(until=time.time() + LEASE)).rowcount:
                raise LeaseLost
            self._said = time.monotonic()
            yield connection

    def keep(self) -> None:
        """In work that may take longer than the lease, say now and then that it is being done. Raises LeaseLost.

        Or another process would begin the same work, lose it in the same way, and nobody would ever end it.
        """
        if time.monotonic() - self._said > LEASE / 4:
            with self.holding():
                pass

    def moved(self, url: str, *, with_files: bool) -> str:
        """The lake is at another URL from now on; its id there. Without its files it is a new and empty one, and what
        lies at the old URL is the operator's.
        """
        with self.holding() as connection:
            connection.execute(update(lake_lease).values(url=url))
            if not with_files:
                log.warning("the lake is at another URL now: what the record store has is written there anew")
                connection.execute(delete(lake_files))
                connection.execute(update(lake_lease).values(lake=secrets.token_hex(8)))
            return str(connection.scalar(select(lake_lease.c.lake)))

    def live(self, table: str | None = None, tenant: str | None = None) -> list[LakeFile]:
        """By day, then as they were made."""
        query = select(lake_files).where(lake_files.c.state == "live")
        if table is not None:
            query = query.where(lake_files.c.dataset == table)
        if tenant is not None:
            query = query.where(lake_files.c.tenant == tenant)
        with self._database.reading() as connection:
            return _files(connection, query.order_by(lake_files.c.day, lake_files.c.tenant, lake_files.c.first))

    def unfinished(self) -> list[LakeFile]:
        """What was announced and never became live, and what is no longer: none that is somebody else's work. Raises
        LeaseLost.
        """
        with self.holding() as connection:
            return _files(connection, select(lake_files).where(lake_files.c.state != "live"))

    def announce(self, files: Iterable[LakeFile]) -> Lease:
        """The lease as it is then, which the machine's loss of power does not undo."""
        with self.holding() as connection:
            rows = [_row(file, "pending") for file in files]
            for begin in range(0, len(rows), _AT_ONCE):
                connection.execute(insert(lake_files), rows[begin : begin + _AT_ONCE])
            connection.execute(update(lake_lease).values(position=lake_lease.c.position + 1))
            found = connection.execute(select(lake_lease)).one()
        self._database.sync()
        return Lease(found.lake, found.url, found.position)

    def sync(self) -> None:
        """See gateway.records.database.Database.sync."""
        self._database.sync()

    def swap(self, connection: Connection, new: Sequence[LakeFile], old: Sequence[LakeFile] = ()) -> None:
        """In the transaction of `connection`, `new` are live and `old` are dead."""
        for file in new:
            connection.execute(update(lake_files).where(lake_files.c.path == file.path).values(**_row(file, "live")))
        for file in old:
            connection.execute(update(lake_files).where(lake_files.c.path == file.path).values(state="dead"))

    def begin_anew(self, connection: Connection, lease: Lease, new: Sequence[LakeFile], there: Iterable[str]) -> None:
        """In the transaction of `connection`, the lake is the one of `lease`, of the files that are `there`, of which
        `new` are not live yet.
        """
        connection.execute(update(lake_lease).values(lake=lease.lake, url=lease.url, position=lease.position))
        found, paths = set(there), {file.path for file in new}
        for path in connection.scalars(select(lake_files.c.path)).all():
            if path not in found or path in paths:
                connection.execute(delete(lake_files).where(lake_files.c.path == path))
        rows = [_row(file, "live") for file in new]
        for begin in range(0, len(rows), _AT_ONCE):
            connection.execute(insert(lake_files), rows[begin : begin + _AT_ONCE])

    def forget(self, files: Sequence[LakeFile]) -> None:
        """They are gone from the lake's folder."""
        paths = [file.path for file in files]
        with self.holding() as connection:
            for begin in range(0, len(paths), _AT_ONCE):
                connection.execute(delete(lake_files).where(lake_files.c.path.in_(paths[begin : begin + _AT_ONCE])))


def _files(connection: Connection, query: Select[Any]) -> list[LakeFile]:
    return [
        LakeFile(row.path, row.dataset, row.day, row.tenant, row.rows, row.bytes, row.first, row.last)
        for row in connection.execute(query)
    ]


def _row(file: LakeFile, state: str) -> dict[str, object]:
    return {
        "path": file.path, "dataset": file.table, "day": file.day, "tenant": file.tenant, "state": state,
        "rows": file.rows, "bytes": file.bytes, "first": file.first, "last": file.last,
    }  # fmt: skip
