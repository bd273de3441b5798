"""The database under the record store: versions, transactions, and what is said when it is away."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from postgres_process import PostgresProcess
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import IntegrityError

from gateway.records.database import Database, StoreUnavailable, WrongVersion
from gateway.records.migrations import snapshot
from gateway.records.migrations.running import configuration, migrate
from gateway.records.schema import VERSION, metadata


def _same(context: object, column: object, *types: object) -> None:
    return None  # whether two types are the same is Alembic's to say


def test_the_program_is_of_the_newest_version() -> None:
    assert ScriptDirectory.from_config(configuration()).get_current_head() == VERSION


def test_an_upgrade_makes_what_the_program_says_that_there_is(database: Database) -> None:
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": _same, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_a_new_file_is_what_the_migrations_make(tmp_path: Path) -> None:
    new, migrated = create_engine(f"sqlite:///{tmp_path}/new.db"), create_engine(f"sqlite:///{tmp_path}/migrated.db")
    with new.begin() as connection:
        snapshot.apply(connection)
    with migrated.begin() as connection:
        migrate(connection)

    assert snapshot.dump(new) == snapshot.dump(migrated), "run `python -m gateway.records.migrations.snapshot`"

    new.dispose()
    migrated.dispose()


def test_a_snapshot_of_an_older_version_is_brought_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old.sql"
    engine = create_engine(f"sqlite:///{tmp_path}/old.db")
    with engine.begin() as connection:
        migrate(connection, "0007")
    old.write_text(snapshot.dump(engine), "utf-8")
    engine.dispose()
    monkeypatch.setattr(snapshot, "_FILE", old)

    database = Database(f"sqlite:///{tmp_path}/new.db")

    assert database.upgrade() == (None, VERSION)
    with database.reading() as connection:
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())
    database.close()


def test_an_upgrade_that_is_repeated_changes_nothing(url: str) -> None:
    first, second = Database(url), Database(url)

    assert first.upgrade() == (None, VERSION)
    assert second.upgrade() == (VERSION, VERSION)

    first.close()
    second.close()


def test_gateways_that_start_at_once_take_turns(url: str) -> None:
    told: list[tuple[str | None, str]] = []
    databases = [Database(url) for _ in range(4)]
    threads = [threading.Thread(target=lambda made: told.append(made.upgrade()), args=[made]) for made in databases]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(told, key=str) == sorted([(None, VERSION), *[(VERSION, VERSION)] * 3], key=str)
    for made in databases:
        made.close()


def test_a_newer_store_is_left_alone(database: Database, url: str) -> None:
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    older = Database(url)

    with pytest.raises(WrongVersion, match="newer"):
        older.prepare()
    with pytest.raises(WrongVersion, match="newer"):
        older.upgrade()
    with pytest.raises(StoreUnavailable):
        with older.reading():
            pass
    older.close()


def test_a_server_s_tables_are_changed_by_the_command_alone(postgres_server: PostgresProcess) -> None:
    database = Database(postgres_server.database())

    with pytest.raises(WrongVersion, match="rag-gateway db upgrade"):
        database.prepare()
    with database._transaction(database._engine, at_any_version=True) as connection:
        assert inspect(connection).get_table_names() == []
    database.close()


def test_a_file_is_made_and_brought_up_by_its_first_use(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'deep' / 'records.db'}")

    database.prepare()

    with database.reading() as connection:
        assert "calls" in inspect(connection).get_table_names()
    database.close()


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.writing() as connection:
        connection.execute(text("INSERT INTO routing VALUES ('m', 1, :document)"), {"document": b"{}"})
        raise ZeroDivisionError

    with database.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM routing")) == 0


def test_a_wrong_value_is_not_an_outage(database: Database) -> None:
    with pytest.raises(IntegrityError), database.writing() as connection:
        connection.execute(text("INSERT INTO routing (model, sequence) VALUES ('m', 1)"))


def test_a_table_that_is_gone_is_one(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE routing RENAME TO elsewhere"))

    with pytest.raises(StoreUnavailable), database.reading() as connection:
        connection.execute(text("SELECT * FROM routing"))


def test_text_that_postgresql_can_not_hold_is_kept_near_enough(postgres_server: PostgresProcess) -> None:
    database = Database(postgres_server.database())
    database.upgrade()

    with database.writing() as connection:
        connection.execute(
            text("INSERT INTO routing VALUES (:model, 1, :document)"), {"model": "a\0b", "document": b"\0"}
        )
    with database.reading() as connection:
        assert connection.execute(text("SELECT model, document FROM routing")).all() == [("a\ufffdb", b"\0")]
    database.close()


def test_a_writer_of_a_file_waits_its_turn_and_no_longer_than_it_may(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'records.db'}", patience=0.05)
    database.upgrade()
    other = sqlite3.connect(tmp_path / "records.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="locked"):
        with database.writing():
            pass
    with database.reading() as connection:  # who only reads is not held up
        assert connection.scalar(text("SELECT count(*) FROM routing")) == 0

    other.close()
    database.close()


def test_a_file_that_is_moved_away_is_missed_and_not_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "a folder #1?" / "records.db"
    database = Database(f"sqlite:///{file}")
    database.prepare()
    with database.writing() as connection:
        connection.execute(text("INSERT INTO routing VALUES ('m', 1, :document)"), {"document": b"{}"})
    away = tmp_path / "away.db"
    for name in ("", "-wal", "-shm"):
        if file.with_name(file.name + name).exists():
            file.with_name(file.name + name).rename(f"{away}{name}")

    for transaction in (database.reading, database.writing):
        with pytest.raises(StoreUnavailable):
            with transaction():
                pass
    assert not file.exists()

    for name in ("", "-wal", "-shm"):
        if Path(f"{away}{name}").exists():
            Path(f"{away}{name}").rename(file.with_name(file.name + name))
    with database.reading() as connection:
        assert connection.scalar(text("SELECT model FROM routing")) == "m"
    database.close()


def test_a_server_that_goes_and_comes_back(tmp_path: Path) -> None:
    with PostgresProcess(tmp_path) as server:
        database = Database(server.database())
        database.upgrade()
        server.stop()
        with pytest.raises(StoreUnavailable):
            with database.reading():
                pass

        server.start()

        with database.writing() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        database.close()


def test_a_server_that_hangs_holds_nobody_for_ever(tmp_path: Path) -> None:
    with PostgresProcess(tmp_path) as server:
        database = Database(server.database(), patience=1.0)
        database.upgrade()
        server.hang()
        began = time.monotonic()

        for _ in range(2):  # on a connection that was there, and on a new one
            with pytest.raises(StoreUnavailable):
                with database.reading() as connection:
                    connection.execute(text("SELECT 1"))

        assert time.monotonic() - began < 60  # and not the minutes of the operating system
        server.wake()
        with database.reading() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        database.close()


@pytest.mark.parametrize("tables", [1, 2, 3, 4])
def test_a_file_from_before_versions_keeps_what_it_has(tables: int, tmp_path: Path) -> None:
    file = tmp_path / "gateway.db"
    old = sqlite3.connect(file)
    for script in _BEFORE[:tables]:
        old.executescript(script)
    old.execute(f"PRAGMA user_version = {tables}")
    columns = [row[1] for row in old.execute("PRAGMA table_info(calls)")]
    values = dict.fromkeys(columns, 0) | {"call_id": "call_1", "tenant": "a", "detail": b"{}"}
    old.execute(f"INSERT INTO calls ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", [*values.values()])
    if tables > 1:
        old.execute("INSERT INTO routing VALUES ('m', 7, '{}')")
    old.commit()
    old.close()

    database = Database(f"sqlite:///{file}")
    database.prepare()

    with database.reading() as connection:
        assert connection.execute(text("SELECT call_id, tenant, detail FROM calls")).all() == [("call_1", "a", b"{}")]
        assert connection.scalar(text("SELECT max(sequence) FROM routing")) == (7 if tables > 1 else None)
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())
    database.close()


# The tables as the versions before made them, by `PRAGMA user_version`.
_BEFORE = (
    """
    CREATE TABLE calls (
        call_id TEXT PRIMARY KEY, request_id TEXT NOT NULL, answer_id TEXT, tenant TEXT NOT NULL,
        key_name TEXT NOT NULL, user TEXT, endpoint TEXT NOT NULL, requested_model TEXT, model TEXT, target TEXT,
        served_model TEXT, started_at INTEGER NOT NULL, status INTEGER NOT NULL, outcome TEXT NOT NULL,
        error_code TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, cached_tokens INTEGER,
        reasoning_tokens INTEGER, usage_estimated INTEGER, cache TEXT NOT NULL, finish_reason TEXT,
        duration_us INTEGER NOT NULL, first_chunk_us INTEGER, trace_id TEXT NOT NULL, revision TEXT NOT NULL,
        detail BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX calls_by_time ON calls (tenant, started_at);
    CREATE INDEX calls_by_answer ON calls (answer_id) WHERE answer_id IS NOT NULL;
    CREATE INDEX calls_by_request ON calls (request_id) WHERE request_id != call_id;
    """,
    """
    CREATE TABLE routing (model TEXT PRIMARY KEY, sequence INTEGER NOT NULL, document BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX routing_by_sequence ON routing (sequence);
    CREATE TABLE routing_events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, model TEXT NOT NULL, actor TEXT NOT NULL,
        action TEXT NOT NULL, reason TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL
    );
    CREATE TABLE feedback (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, call_id TEXT NOT NULL, tenant TEXT NOT NULL,
        user TEXT, score REAL, label TEXT, comment TEXT, correction TEXT
    );
    CREATE INDEX feedback_by_call ON feedback (call_id);
    CREATE INDEX calls_by_model ON calls (model, started_at);
    """,
    """
    CREATE TABLE responses (
        id TEXT PRIMARY KEY, tenant TEXT NOT NULL, user TEXT, previous_id TEXT, expires_at REAL NOT NULL,
        input BLOB NOT NULL, response BLOB NOT NULL
    );
    CREATE INDEX responses_by_expiry ON responses (expires_at);
    """,
    """
    CREATE TABLE pseudonyms (conversation BLOB PRIMARY KEY, expires_at REAL NOT NULL, sealed BLOB NOT NULL);
    CREATE INDEX pseudonyms_by_expiry ON pseudonyms (expires_at);
    """,
)
