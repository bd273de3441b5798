"""Spooled calls into the store: once each, charged once, whoever brings them and whatever happened before."""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gateway_process import until
from sqlalchemy import text

from gateway.records.calls import CallLog
from gateway.records.database import Database
from gateway.records.drain import Drain
from gateway.records.journal import _encode
from gateway.records.ledger import Entry, Ledger
from gateway.records.rows import COLUMNS
from gateway.records.spend import SpendStore
from gateway.records.spool import Spool

WHO, DAY = "key=k1", "day:2026-11-21"


def call(name: str, **more: Any) -> tuple[Any, ...]:
    known: dict[str, Any] = dict.fromkeys(("started_at", "status", "duration_us"), 0)
    known |= dict.fromkeys(("request_id", "tenant", "key_name", "endpoint", "outcome", "cache", "trace_id"), "x")
    known |= {"call_id": name, "revision": "r", "detail": b'{"stages": [], "attempts": []}', **more}
    return tuple(known.get(column) for column in COLUMNS)


def entry(number: int, usd: float = 0.25, **more: Any) -> tuple[int, Entry]:
    return number, Entry(call(f"call_{number}", **more), [(WHO, DAY), ("tenant=a", "month:2026-11")], usd, 7)


def kept(database: Database) -> list[str]:
    with database.reading() as connection:
        return sorted(row[0] for row in connection.execute(text("SELECT call_id FROM calls")))


def spent(database: Database) -> list[tuple[Any, ...]]:
    with database.reading() as connection:
        rows = connection.execute(text("SELECT subject, period, usd, calls, tokens FROM spend ORDER BY subject"))
        return [tuple(row) for row in rows]


def test_what_comes_twice_is_kept_and_charged_once(database: Database) -> None:
    ledger = Ledger(database)
    ledger.apply("s", COLUMNS, [entry(1), entry(2)])
    ledger.apply("s", COLUMNS, [entry(1), entry(2), entry(3)])
    ledger.apply("s", COLUMNS, [entry(2)])
    assert kept(database) == ["call_1", "call_2", "call_3"]
    assert spent(database) == [(WHO, DAY, 0.75, 3, 21), ("tenant=a", "month:2026-11", 0.75, 3, 21)]
    assert SpendStore(database).spent(WHO, DAY) == 0.75
    assert SpendStore(database).spent(WHO, "day:2026-11-22") == 0.0


def test_each_spool_is_counted_for_itself_and_can_be_forgotten(database: Database) -> None:
    ledger = Ledger(database)
    ledger.apply("s", COLUMNS, [entry(1)])
    ledger.apply("t", COLUMNS, [(1, Entry(call("other")))])
    assert kept(database) == ["call_1", "other"]
    ledger.forget("s")
    with database.reading() as connection:
        assert connection.execute(text("SELECT spool_id, sequence FROM spool_cursors")).all() == [("t", 1)]


def test_all_of_a_group_or_none(database: Database) -> None:
    ledger = Ledger(database)
    with pytest.raises(Exception, match=r"out of range|too large|NOT NULL|null value"):
        ledger.apply("s", COLUMNS, [entry(1), (2, Entry(call("broken", tenant=None)))])
    assert kept(database) == []
    assert spent(database) == []
    ledger.apply("s", COLUMNS, [entry(1)])
    assert kept(database) == ["call_1"]


def test_many_who_bring_the_same_spool_count_it_once(database: Database) -> None:
    together = threading.Barrier(4)

    def bring(order: int) -> None:
        together.wait()
        for first in range(1, 41, 4):
            Ledger(database).apply("s", COLUMNS, [entry(number) for number in range(first, first + 4)])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(bring, range(4)))
    assert len(kept(database)) == 40
    assert spent(database)[0] == (WHO, DAY, 10.0, 40, 280)


def test_a_transaction_that_a_dead_process_left_running_is_waited_for(database: Database) -> None:
    """Its commit was on the way when it was killed, and comes in the end."""
    ledger, begun, end = Ledger(database), threading.Event(), threading.Event()

    def dead() -> None:
        with database.writing() as connection:
            connection.execute(text("INSERT INTO spool_cursors (spool_id, sequence) VALUES ('s', 2)"))
            begun.set()
            assert end.wait(30)

    with ThreadPoolExecutor(2) as threads:
        left = threads.submit(dead)
        assert begun.wait(30)
        now = threads.submit(ledger.apply, "s", COLUMNS, [entry(1), entry(2), entry(3)])
        assert not now.done()
        end.set()
        left.result(30)
        now.result(30)
    assert kept(database) == ["call_3"]


def test_a_record_that_can_not_be_stored_is_left_out_alone(database: Database, tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "spool", COLUMNS)
    good = [entry(1), entry(3), entry(4, requested_model="nul \0 in it")]
    wrong = entry(2, prompt_tokens=2**63)
    records = [(number, _encode(made), None) for number, made in sorted([*good, wrong])]
    spool.append(records, 1, sync=False)
    drain = Drain(Ledger(database), spool, lambda most: (), lambda number: None, 0.0)
    assert drain.round()
    assert (drain.dropped, drain.healthy) == (1, True)
    assert kept(database) == ["call_1", "call_3", "call_4"]
    assert spent(database)[0] == (WHO, DAY, 0.75, 3, 21)
    assert spool.close()


def test_a_value_too_long_for_an_index_does_not_hold_up_the_others(database: Database, tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "spool", COLUMNS)
    records = [entry(1), entry(2, user=secrets.token_hex(20_000)), entry(3)]
    spool.append([(number, _encode(made), None) for number, made in records], 1, sync=False)
    drain = Drain(Ledger(database), spool, lambda most: (), lambda number: None, 0.0)
    assert drain.round()
    assert drain.healthy
    assert {"call_1", "call_3"} <= set(kept(database))
    assert drain.dropped == (0 if database.embedded else 1)
    assert spool.close()


def test_the_call_log_tells_what_the_ledger_wrote(database: Database) -> None:
    Ledger(database).apply("s", COLUMNS, [(1, Entry(call("c", tenant="a", request_id="c")))])
    told = until(lambda: CallLog(database).find("c", "a"))
    assert told["id"] == "c"
