"""The record store's database: a SQLite file of this machine, or a PostgreSQL server. Blocking, for threads.

Whoever uses it gets a connection in a transaction and SQL that both understand. That the database is away, busy, full
or read-only is one error here, `StoreUnavailable`, which comes within `patience` also where a server hangs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.records.schema import VERSION

log = logging.getLogger(__name__)

# For each value but numbers and text the driver looks for an adapter, and asks the value itself where there is none: that
# took a quarter of an insert of which a third is None. `{}.get` gives None for None.
sqlite3.register_adapter(type(None), {}.get)  # type: ignore[arg-type]  # what gives None is taken for NULL

_EMBEDDED: Final = "sqlite:///"
_CONNECTIONS: Final = 10  # of one process, at most
_WRITING: Final = "rag_gateway_writing"
_OTHERS_TAKE: Final = 60.0  # seconds, at most, that the upgrades of other processes are waited for
_MIGRATING: Final = 7_230_014  # the advisory lock that upgrades of one PostgreSQL database take in turn


class StoreUnavailable(Exception):
    """The database is away, hangs, is full or refuses to write for now. The message names neither host nor values."""


class WrongVersion(Exception):
    """The tables are of another version than this program. The message says what to do."""


class Database:
    def __init__(self, url: str, *, patience: float | None = 5.0) -> None:
        """`url` is sqlite:///PATH or postgresql://…; nothing is opened yet. `patience`: seconds that one transaction
        may take in all, None for as long as it needs. Raises ImportError where PostgreSQL's driver is not installed,
        and ValueError for a URL that can't be read.
        """
        self.embedded = url.startswith(_EMBEDDED)
        self._file = Path(url.removeprefix(_EMBEDDED))  # any path: what a URL would read into its `?` stays there
        self._engine = _sqlite(self._file, patience) if self.embedded else _postgresql(_known(url), patience)
        self._writer = self._engine.execution_options(**{_WRITING: True})
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether it was prepared; nothing can be read or written before."""
        return self._ready

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a transaction that only reads. Raises StoreUnavailable."""
        with self._transaction(self._engine) as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction that is committed at the end, whole or not at all. Raises StoreUnavailable.

        Writers of a SQLite file take turns from the beginning on, so that what is read here is still so when it is
        written.
        """
        with self._transaction(self._writer) as connection:
            yield connection

    def prepare(self) -> None:
        """See that the tables are this program's; an embedded database is brought up to it.

        Raises StoreUnavailable, and WrongVersion where an operator has to do something.
        """
        if self.embedded:
            _make(self._file)
        found = self._version()
        _refuse_newer(found)
        if found != VERSION:
            if not self.embedded:
                raise WrongVersion("the record store needs `rag-gateway db upgrade` before this version can use it")
            self.upgrade()
        self._ready = True

    def upgrade(self) -> tuple[str | None, str]:
        """Bring the tables to this program's version, in one transaction; the versions before and after.

        Of several that begin at once each waits for those before it. Raises StoreUnavailable, and WrongVersion where the
        tables are newer.
        """
        until = time.monotonic() + _OTHERS_TAKE
        while True:
            try:
                return self._upgraded()
            except StoreUnavailable as failure:
                if not self.embedded or "locked" not in str(failure) or time.monotonic() > until:
                    raise

    def _upgraded(self) -> tuple[str | None, str]:
        if self.embedded:
            _make(self._file)
        with self._transaction(self._writer, at_any_version=True) as connection:
            if not self.embedded:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
            before = _version_of(connection)
            _refuse_newer(before)
            now = before
            if self.embedded and connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one() == 0:
                from gateway.records.migrations.snapshot import apply

                apply(connection)
                now = _version_of(connection)
            if now != VERSION:
                from gateway.records.migrations.running import migrate

                migrate(connection)
        self._ready = True
        return before, VERSION

    def wipe(self) -> None:
        """Leave nothing of what was deleted in the files of an embedded database: its journal keeps old pages until it
        begins anew. Who reads at the same time may keep that from happening now. Raises StoreUnavailable.
        """
        if not self.embedded:
            return
        try:
            with contextlib.closing(self._engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (NoneFree, DBAPIError, sqlite3.Error) as failure:
            raise StoreUnavailable(f"the record store: {type(failure).__name__}") from None

    def sync(self) -> None:
        """What was committed outlives a machine that loses its power, too: a PostgreSQL sees to that itself, and an
        embedded database's journal is written to the disk. Raises StoreUnavailable.
        """
        if not self.embedded:
            return
        try:
            with open(f"{self._file}-wal", "rb") as journal:
                os.fsync(journal.fileno())
        except FileNotFoundError:  # all of it is in the file, which was written to the disk with it
            return
        except OSError as fault:
            raise StoreUnavailable(f"the record store: {fault.strerror}") from None

    def close(self) -> None:
        self._engine.dispose()

    def _version(self) -> str | None:
        with self._transaction(self._engine, at_any_version=True) as connection:
            return _version_of(connection)

    @contextlib.contextmanager
    def _transaction(self, engine: Engine, *, at_any_version: bool = False) -> Iterator[Connection]:
        if not self._ready and not at_any_version:
            raise StoreUnavailable("the record store has not been reached yet")
        try:
            with engine.begin() as connection:
                yield connection
        except NoneFree:
            raise StoreUnavailable("all connections to the record store are taken") from None
        except DBAPIError as failure:
            if not _is_away(failure):
                raise
            raise StoreUnavailable(f"the record store: {_reason(failure)}") from None


def _version_of(connection: Connection) -> str | None:
    """None where there is no version yet: a new database, or one from before versions were kept by Alembic."""
    try:
        with connection.begin_nested():
            return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())
    except (OperationalError, ProgrammingError) as failure:
        if "no such table" not in str(failure.orig) and getattr(failure.orig, "sqlstate", "") != "42P01":
            raise
        return None


def _refuse_newer(found: str | None) -> None:
    if found is not None and found > VERSION:
        raise WrongVersion("the record store was written by a newer version of rag-gateway: upgrade this one")


def _known(url: str) -> URL:
    try:
        made = make_url(url)
    except SQLAlchemyError:
        raise ValueError(
            "the record store's URL can't be read: sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from None
    return made.set(drivername="postgresql+psycopg")


def _make(file: Path) -> None:
    """Raises StoreUnavailable. From then on the file is only ever opened: one that is gone is not made anew."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)
    except OSError as fault:
        raise StoreUnavailable(f"the record store's file can't be made: {fault.strerror}") from None


def _sqlite(file: Path, patience: float | None) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=f"file:{quote(str(file))}", query={"mode": "rw", "uri": "true"}),
        hide_parameters=True,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=patience or 60.0,
        connect_args={"timeout": patience or 60.0, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _opened(connection: Any, record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # transactions begin below, and not when the driver thinks so
        # WAL with synchronous=NORMAL survives the process's death whole; the machine's may cost the last commits.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what was erased is no longer in the file
        record.info["file"] = _identity(file)

    @event.listens_for(engine, "checkout")
    def _taken(connection: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
        if record.info["file"] != _identity(file):  # it was moved away, and would be written to where it is now
            raise DisconnectionError

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writing = connection.get_execution_options().get(_WRITING)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _postgresql(url: URL, patience: float | None) -> Engine:
    from gateway.records.postgresql import NulFree

    options = "-c timezone=UTC" + (f" -c statement_timeout={int(patience * 1000)}" if patience else "")
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=_CONNECTIONS // 2,
        max_overflow=_CONNECTIONS - _CONNECTIONS // 2,
        pool_timeout=min(2.0, patience or 60.0),
        connect_args={"connect_timeout": 2, "application_name": "rag-gateway", "options": options},
    )

    @event.listens_for(engine, "connect")
    def _opened(connection: Any, record: ConnectionPoolEntry) -> None:
        connection.adapters.register_dumper(str, NulFree)

    @event.listens_for(engine, "checkout")
    def _taken(connection: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
        """Watched from here on: a server that hangs would hold this thread for ever, whatever it was told."""
        if patience is not None:
            watch = threading.Timer(patience * 1.2, _cut, (connection.fileno(),))
            watch.daemon = True
            watch.start()
            record.info["watch"] = watch
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except Exception:
            _unwatched(record)
            raise DisconnectionError from None  # the pool takes another, or makes one

    @event.listens_for(engine, "checkin")
    def _returned(connection: Any, record: ConnectionPoolEntry) -> None:
        _unwatched(record)

    return engine


def _unwatched(record: ConnectionPoolEntry) -> None:
    watch = record.info.pop("watch", None)
    if watch is not None:
        watch.cancel()


def _cut(descriptor: int) -> None:
    with contextlib.suppress(OSError), socket.socket(fileno=socket.dup(descriptor)) as connection:
        connection.shutdown(socket.SHUT_RDWR)


# SQLSTATEs of PostgreSQL that are no OperationalError in its driver.
_AWAY: Final = {
    "25006",  # read_only_sql_transaction: a standby, or a server that was told so
    "42P01", "42703",  # undefined_table, undefined_column: whoever changes tables by hand is at it
    "57014", "57P01", "57P02", "57P03",  # cancelled by the time limit, shutting down, starting
}  # fmt: skip

# program_limit_exceeded and its like, which its driver holds to be operational: a value that is too long for an index.
_TOO_MUCH: Final = "54"


def _is_away(failure: DBAPIError) -> bool:
    """Whether it is the database's state and not what was asked of it; SQLite has one class for most of the former."""
    state = getattr(failure.orig, "sqlstate", None) or ""
    if state.startswith(_TOO_MUCH):
        return False
    return failure.connection_invalidated or isinstance(failure, OperationalError) or state in _AWAY


def _reason(failure: DBAPIError) -> str:
    if type(failure.orig).__module__ == "sqlite3":
        return str(failure.orig)  # "database is locked", "disk I/O error": never a value
    return type(failure.orig).__name__
