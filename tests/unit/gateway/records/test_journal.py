"""The call log: what is appended is written, told to its own tenant, and lost neither on SIGKILL nor in an outage."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from gateway_process import until
from sqlalchemy import text

from gateway.errors import Overloaded
from gateway.exchange import Exchange
from gateway.records import drain
from gateway.records.calls import _FIND, CallLog
from gateway.records.contents import Contents
from gateway.records.database import Database, StoreUnavailable
from gateway.records.journal import CallJournal
from gateway.records.ledger import Entry, Ledger
from gateway.records.rows import COLUMNS, row
from gateway.values import Attempt, Caller, Target, Usage
from guardrails.verdicts import Finding, Verdict
from retrieval.passages import Passage


def settled(tenant: str = "a", *, content: bool = False) -> Exchange:
    exchange = Exchange("chat.completions")
    exchange.caller = Caller("key-name", tenant, "ada")
    exchange.requested_model = exchange.model = "handbook"
    exchange.target = Target("openai", "gpt-x")
    exchange.attempts = [Attempt(exchange.target, "ok", 200, 12.3456)]
    exchange.usage = Usage(10, 20, 3, 4)
    exchange.status = 200
    exchange.answer_id = f"chatcmpl-{exchange.call_id}"
    exchange.record_content = content
    exchange.messages = [{"role": "user", "content": "canary question"}]
    exchange.answer_text = "canary answer"
    exchange.passages = [Passage("d", "v", "d#0", "c", 0.5, "t", "u", "canary passage", ("h",))]
    exchange.verdicts = [("input", Verdict("pii", "mask", (Finding("EMAIL_ADDRESS", 1, 5, 1.0),), "1"))]
    exchange.stage("call", exchange.started)
    exchange.settle()
    return exchange


Begin = Callable[..., CallJournal]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'deep' / 'calls.db'}")
    database.prepare()
    yield database
    database.close()


@pytest.fixture
def begin(database: Database, tmp_path: Path) -> Iterator[Begin]:
    """Makes journals over the one database, as one process after the other would; they are closed at the end."""
    made: list[CallJournal] = []

    def journal(store: Any = None, **options: Any) -> CallJournal:
        made.append(CallJournal(tmp_path / "deep" / "spool", store or Ledger(database), CallLog(database), **options))
        return made[-1]

    yield journal
    for journal_ in made:
        journal_.close()


def kept(database: Database) -> list[str]:
    with database.reading() as connection:
        return [row[0] for row in connection.execute(text("SELECT call_id FROM calls ORDER BY started_at"))]


class Away:
    """The ledger of a store that comes and goes."""

    def __init__(self, database: Database) -> None:
        self._ledger = Ledger(database)
        self.away = True

    def apply(self, spool_id: str, columns: Sequence[str], entries: Sequence[tuple[int, Entry]]) -> None:
        if self.away:
            raise StoreUnavailable("the record store: OperationalError")
        self._ledger.apply(spool_id, columns, entries)

    def forget(self, spool_id: str) -> None:
        self._ledger.forget(spool_id)


def test_a_call_is_found_by_each_of_its_ids_in_its_tenant_only(begin: Begin) -> None:
    journal = begin()
    exchange = settled()
    exchange.request_id = "mine-1"
    journal.append(exchange)
    assert journal.flush()
    for name in (exchange.call_id, "mine-1", exchange.answer_id):
        found = journal.find(str(name), "a")
        assert found is not None
        assert found["id"] == exchange.call_id
        assert journal.find(str(name), "b") is None
    for hostile in ("' OR 1=1 --", "%", "", "call_"):
        assert journal.find(hostile, "a") is None


def test_what_is_told_of_a_call(begin: Begin) -> None:
    journal = begin()
    exchange = settled(content=True)
    journal.append(exchange)
    journal.flush()
    told = journal.find(exchange.call_id, "a")
    assert told is not None
    assert told["messages"] == [{"role": "user", "content": "canary question"}]
    assert told["answer"] == "canary answer"
    assert told["passages"][0]["text"] == "canary passage"
    assert told["usage"] == {
        "prompt_tokens": 10, "completion_tokens": 20, "cached_tokens": 3, "reasoning_tokens": 4, "estimated": False,
    }  # fmt: skip
    assert told["attempts"] == [
        {
            "target": "openai/gpt-x",
            "outcome": "ok",
            "status": 200,
            "ms": 12.346,
            "upstream_id": None,
            "residency": "external",
            "start_ms": None,
            "usage": told["usage"],
            "cost": None,
        }
    ]
    assert told["guardrails"][0]["findings"] == [{"kind": "EMAIL_ADDRESS", "start": 1, "end": 5, "score": 1.0}]
    assert [stage["name"] for stage in told["stages"]] == ["call"]


def test_content_is_kept_only_where_it_may_be(database: Database, begin: Begin, tmp_path: Path) -> None:
    away = Away(database)
    journal = begin(away)
    journal.append(settled(content=False))
    until(lambda: journal.spooled_bytes)

    def on_the_disk() -> bytes:
        return b"".join(file.read_bytes() for file in (tmp_path / "deep").rglob("*") if file.is_file())

    assert b"handbook" in on_the_disk()  # in the spool
    assert b"canary" not in on_the_disk()
    away.away = False
    until(journal.flush)
    assert b"canary" not in on_the_disk()


def test_a_record_that_can_not_be_told_does_not_stop_the_others(begin: Begin) -> None:
    journal = begin()
    broken, good = settled(), settled()
    broken.attempts = [None]  # type: ignore[list-item]  # what a defect might leave there
    journal.append(broken)
    journal.append(good)
    assert journal.flush()
    assert journal.find(good.call_id, "a") is not None
    assert journal.dropped == 1


CHILD = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_journal import settled
from gateway.records.calls import CallLog
from gateway.records.database import Database
from gateway.records.journal import CallJournal
from gateway.records.ledger import Ledger
database = Database("sqlite:///" + sys.argv[1])
database.prepare()
journal = CallJournal(Path(sys.argv[1]).parent / "spool", Ledger(database), CallLog(database))
while True:
    exchange = settled()
    journal.append(exchange)
    print(exchange.call_id, time.time(), flush=True)
    time.sleep(0.0005)
"""


@pytest.fixture
def child(database: Database, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that records calls without end, and tells each one's id and time on its standard output."""
    tests = [str(Path(__file__).parent), str(Path(__file__).parents[3])]
    command = [sys.executable, "-c", CHILD, str(tmp_path / "deep" / "calls.db"), *tests]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield running
    running.kill()
    running.wait()
    assert running.stdout is not None
    running.stdout.close()


def killed_after(child: subprocess.Popen[str], calls: int) -> set[str]:
    """The calls that it had told of 100 ms before it was killed."""
    assert child.stdout is not None
    told = [child.stdout.readline().split() for _ in range(calls)]
    killed = time.time()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    due = {call_id for call_id, at in told if float(at) < killed - 0.1}
    assert due
    return due


def test_sigkill_loses_at_most_the_last_100_ms(
    child: subprocess.Popen[str], database: Database, begin: Begin, tmp_path: Path
) -> None:
    due = killed_after(child, 400)
    assert begin().flush(10)
    with contextlib.closing(sqlite3.connect(tmp_path / "deep" / "calls.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert due <= set(kept(database))


def test_a_process_that_runs_takes_over_what_a_killed_one_left(
    child: subprocess.Popen[str], database: Database, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_LOOK_ROUND", 0.02)
    running = begin()
    due = killed_after(child, 400)
    until(lambda: due <= set(kept(database)))
    spools = tmp_path / "deep" / "spool"
    until(lambda: [folder.name for folder in spools.iterdir()] == [running._spool.id])

    def cursors() -> list[Any]:
        with database.reading() as connection:
            return list(connection.execute(text("SELECT spool_id FROM spool_cursors")))

    until(lambda: cursors() == [], what="nothing left of the spool that is gone")


def test_rows_are_as_wide_as_their_columns() -> None:
    assert len(row(settled(), Contents())) == len(COLUMNS)


class Seen:
    """A store that notes what it is given."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def apply(self, spool_id: str, columns: Sequence[str], entries: Sequence[tuple[int, Entry]]) -> None:
        self.entries += [entry for _, entry in entries]

    def forget(self, spool_id: str) -> None:
        pass


def test_a_record_is_the_same_from_memory_and_from_the_disk(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most come to the store as they were made, the others as they were read."""
    calls = [settled(), settled(content=True), Exchange("embeddings")]
    calls[0].charges, calls[0].charged = (("tenant:a", "2026-11"), ("user:ada", "2026-11-22")), 0.25
    calls[2].caller = Caller("key-name", "b")
    calls[2].settle()

    def brought() -> list[Entry]:
        seen = Seen()
        journal = begin(seen)
        for exchange in calls:
            journal.append(exchange)
        assert journal.flush()
        return seen.entries

    decoded: list[bytes] = []
    decode = drain._decode
    monkeypatch.setattr(drain, "_decode", lambda payload: decoded.append(payload) or decode(payload))
    made = brought()
    assert (len(made), decoded) == (3, [])
    monkeypatch.setattr("gateway.records.spool._AT_HAND", 0)
    read = brought()
    assert len(decoded) == 3
    for one, other in zip(made, read, strict=True):
        assert [(type(value), value) for value in one.values] == [(type(value), value) for value in other.values]
        assert [tuple(charge) for charge in one.charges] == [tuple(charge) for charge in other.charges]
        assert (one.usd, one.tokens) == (other.usd, other.tokens)


def test_a_row_that_can_not_be_stored_is_left_out_alone(begin: Begin) -> None:
    journal = begin()
    broken, good = settled(), settled()
    broken.usage = Usage(2**63, 0)  # more than the database's integers hold
    for exchange in (settled(), broken, good):
        journal.append(exchange)
    assert journal.flush()
    assert journal.find(good.call_id, "a") is not None
    assert journal.find(broken.call_id, "a") is None
    assert (journal.dropped, journal.healthy) == (1, True)


def test_a_locked_file_delays_and_loses_nothing(begin: Begin, tmp_path: Path) -> None:
    journal = begin()
    other = sqlite3.connect(tmp_path / "deep" / "calls.db")
    other.execute("BEGIN IMMEDIATE")
    exchange = settled()
    journal.append(exchange)
    assert not journal.flush(0.3)
    other.rollback()
    other.close()
    until(journal.flush)
    assert journal.find(exchange.call_id, "a") is not None


def test_a_call_is_found_by_index_and_not_by_walking_its_tenants(database: Database) -> None:
    with database.reading() as connection:
        query = text("EXPLAIN QUERY PLAN " + _FIND.format(plus="+"))
        plan = connection.execute(query, {"tenant": "a", "id": "x", "user": None}).fetchall()
    used = " ".join(row[3] for row in plan)
    assert "calls_by_answer" in used
    assert "calls_by_time" not in used


# --- the store away -----------------------------------------------------------------------------------
def test_a_store_that_is_away_delays_and_loses_nothing(
    database: Database, begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    away = Away(database)
    journal = begin(away)
    calls = [settled() for _ in range(30)]
    for exchange in calls:
        journal.append(exchange)
        if exchange is calls[15]:
            assert not journal.flush()
    assert not journal.flush()
    assert (journal.healthy, journal.dropped, journal.waiting) == (False, 0, 30)
    away.away = False
    until(journal.flush)
    assert kept(database) == [exchange.call_id for exchange in calls]
    assert (journal.healthy, journal.waiting) == (True, 0)
    assert caplog.text.count("takes no records") == 1


def test_what_the_store_did_not_take_is_brought_by_the_next_process(database: Database, begin: Begin) -> None:
    away = Away(database)
    first = begin(away)
    calls = [settled() for _ in range(5)]
    for exchange in calls:
        first.append(exchange)
    first.close()
    assert kept(database) == []
    second = begin()
    late = settled()
    second.append(late)
    assert second.flush()
    assert kept(database) == [*(exchange.call_id for exchange in calls), late.call_id]


def test_a_program_with_other_columns_left_its_spool_behind(database: Database, begin: Begin, tmp_path: Path) -> None:
    from gateway.records import journal as module

    exchange = settled()
    with pytest.MonkeyPatch.context() as older:
        at = COLUMNS.index("first_chunk_us")
        older.setattr(module, "COLUMNS", ("gone", *COLUMNS[:at], *COLUMNS[at + 1 :]))

        def older_row(exchange: Exchange, contents: Contents) -> tuple[Any, ...]:
            values = row(exchange, contents)
            return ("x", *values[:at], *values[at + 1 :])

        older.setattr(module, "row", older_row)
        old = begin(Away(database))
        old.append(exchange)
        old.close()
    assert begin().flush()
    assert kept(database) == [exchange.call_id]


# --- no room ------------------------------------------------------------------------------------------
def test_a_full_spool_drops_counts_and_says_so_once(
    database: Database, begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    away = Away(database)
    journal = begin(away, max_bytes=10_000)
    calls = [settled() for _ in range(60)]
    for at in range(0, 60, 10):
        for exchange in calls[at : at + 10]:
            journal.append(exchange)
        journal.flush()
    assert journal.spooled_bytes < 20_000
    assert journal.dropped > 0
    assert not journal.full
    assert caplog.text.count("no room for call records") == 1
    away.away = False
    until(journal.flush)
    assert kept(database) == [exchange.call_id for exchange in calls[: 60 - journal.dropped]]
    journal.append(last := settled())
    until(journal.flush)
    assert journal.find(last.call_id, "a") is not None
    assert "are kept again" in caplog.text


def test_a_full_spool_refuses_and_takes_calls_again_when_there_is_room(database: Database, begin: Begin) -> None:
    away = Away(database)
    journal = begin(away, max_bytes=10_000, when_full="refuse")
    calls = [settled() for _ in range(30)]
    for exchange in calls:
        journal.append(exchange)
    until(lambda: journal.full)
    journal.append(running := settled())  # begun before it was full
    journal.flush()
    away.away = False
    until(lambda: not journal.full)
    until(journal.flush)
    assert journal.dropped == 0
    assert kept(database) == [exchange.call_id for exchange in (*calls, running)]


class FullDisk:
    """Every write of a spool fails while `full`."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.full = True
        self._real = os.pwrite
        patched.setattr(os, "pwrite", self._pwrite)

    def _pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._real(descriptor, data, offset)


def test_what_the_disk_does_not_take_goes_to_the_store_from_memory(
    database: Database, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    journal = begin()
    calls = [settled() for _ in range(5)]
    for exchange in calls:
        journal.append(exchange)
    until(journal.flush)
    assert kept(database) == [exchange.call_id for exchange in calls]
    assert not journal.healthy
    disk.full = False
    until(lambda: journal.healthy)
    assert journal.dropped == 0


def test_what_neither_disk_nor_store_takes_waits_in_memory_bounded_and_counted(
    database: Database, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.records import intake

    monkeypatch.setattr(intake, "_MOST_IN_MEMORY", 3_000)
    disk, away = FullDisk(monkeypatch), Away(database)
    journal = begin(away)
    calls = [settled() for _ in range(20)]
    for exchange in calls:
        journal.append(exchange)
    journal.flush()
    assert 0 < journal.dropped < 20
    disk.full = False
    until(lambda: journal.spooled_bytes)
    away.away = False
    until(journal.flush)
    assert kept(database) == [exchange.call_id for exchange in calls[: 20 - journal.dropped]]


def test_a_disk_that_takes_nothing_makes_the_journal_full_until_it_does(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    journal = begin(when_full="refuse")
    journal.append(settled())
    until(lambda: journal.full)
    until(journal.flush)  # the store has it now, and nothing waits: the disk is tried all the same
    assert journal.full
    disk.full = False
    until(lambda: not journal.full)


def test_a_folder_that_can_not_be_written_is_said_at_the_start(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "deep" / "spool").write_text("a file")
    with pytest.raises(StoreUnavailable, match=r"deep/spool: .*exists"):
        begin()


# --- strict -------------------------------------------------------------------------------------------
async def test_strict_answers_wait_for_the_disk_in_groups(
    database: Database, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def noted(descriptor: int) -> None:
        real(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fdatasync", noted)
    journal = begin(Away(database), strict=True)

    async def one() -> None:
        journal.append(settled())
        await journal.kept()
        assert synced

    await asyncio.gather(*[one() for _ in range(200)])
    assert journal.spooled_bytes == synced[-1] > 200 * 100
    assert len(synced) < 200


@pytest.mark.parametrize("when_full", ["refuse", "drop"])
async def test_strict_answers_when_the_disk_takes_nothing(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, when_full: str
) -> None:
    FullDisk(monkeypatch)
    journal = begin(strict=True, when_full=when_full)
    journal.append(settled())
    if when_full == "refuse":
        with pytest.raises(Overloaded, match="no room to record calls"):
            await journal.kept()
    else:
        await journal.kept()
