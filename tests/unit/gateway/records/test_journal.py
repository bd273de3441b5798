"""The call log: what is appended is written, told to its own tenant, and not lost on SIGKILL."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import Exchange
from gateway.records.calls import COLUMNS, row
from gateway.records.journal import CallJournal
from gateway.records.sqlite import _FIND, SqliteCalls
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


@pytest.fixture
def calls(tmp_path: Path) -> SqliteCalls:
    return SqliteCalls(tmp_path / "deep" / "calls.db")


def test_a_call_is_found_by_each_of_its_ids_in_its_tenant_only(calls: SqliteCalls) -> None:
    journal = CallJournal(calls)
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
    journal.close()


def test_what_is_told_of_a_call(calls: SqliteCalls) -> None:
    journal = CallJournal(calls)
    exchange = settled(content=True)
    journal.append(exchange)
    journal.flush()
    told = journal.find(exchange.call_id, "a")
    journal.close()
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
        }
    ]
    assert told["guardrails"][0]["findings"] == [{"kind": "EMAIL_ADDRESS", "start": 1, "end": 5, "score": 1.0}]
    assert [stage["name"] for stage in told["stages"]] == ["call"]


def test_content_is_kept_only_where_it_may_be(calls: SqliteCalls, tmp_path: Path) -> None:
    journal = CallJournal(calls)
    journal.append(settled(content=False))
    journal.close()
    kept = b"".join(file.read_bytes() for file in (tmp_path / "deep").iterdir())
    assert b"handbook" in kept
    assert b"canary" not in kept


def test_a_disk_that_refuses_delays_and_loses_nothing() -> None:
    class Failing:
        """Refuses the first writes, as a full disk does."""

        def __init__(self) -> None:
            self.refusals = 1
            self.rows: list[tuple[Any, ...]] = []

        def write(self, rows: Sequence[tuple[Any, ...]]) -> None:
            if self.refusals:
                self.refusals -= 1
                raise sqlite3.OperationalError("database or disk is full")
            self.rows += rows

        def find(self, call_id: str, tenant: str) -> None:
            return None

        def close(self) -> None:
            pass

    store = Failing()
    journal = CallJournal(store)
    for _ in range(5):
        journal.append(settled())
    assert journal.flush(10)
    journal.close()
    assert len(store.rows) == 5
    assert journal.healthy


def test_a_record_that_can_not_be_told_does_not_stop_the_others(calls: SqliteCalls) -> None:
    journal = CallJournal(calls)
    broken, good = settled(), settled()
    broken.attempts = [None]  # type: ignore[list-item]  # what a defect might leave there
    journal.append(broken)
    journal.append(good)
    assert journal.flush()
    assert journal.find(good.call_id, "a") is not None
    journal.close()


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_journal import settled
from gateway.records.journal import CallJournal
from gateway.records.sqlite import SqliteCalls
journal = CallJournal(SqliteCalls(Path(sys.argv[1])))
while True:
    exchange = settled()
    journal.append(exchange)
    print(exchange.call_id, time.time(), flush=True)
    time.sleep(0.0005)
"""


def test_sigkill_loses_at_most_the_last_100_ms(tmp_path: Path) -> None:
    file = tmp_path / "calls.db"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(file), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    told = [child.stdout.readline().split() for _ in range(400)]
    killed = time.time()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    kept = {row[0] for row in connection.execute("SELECT call_id FROM calls")}
    connection.close()
    due = {call_id for call_id, at in told if float(at) < killed - 0.1}
    assert due
    assert due <= kept


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "calls.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(sqlite3.DatabaseError, match="newer version"):
        SqliteCalls(tmp_path / "calls.db")


def test_rows_are_as_wide_as_their_columns(calls: SqliteCalls) -> None:
    assert len(row(settled())) == len(COLUMNS)


def test_a_row_that_can_not_be_stored_is_left_out_alone(calls: SqliteCalls) -> None:
    journal = CallJournal(calls)
    broken, good = settled(), settled()
    broken.usage = Usage(2**64, 0)  # more than SQLite's integers hold
    for exchange in (settled(), broken, good):
        journal.append(exchange)
    assert journal.flush()
    assert journal.find(good.call_id, "a") is not None
    assert journal.find(broken.call_id, "a") is None
    assert (journal.dropped, journal.healthy) == (1, True)
    journal.close()


def test_a_locked_file_delays_and_loses_nothing(calls: SqliteCalls, tmp_path: Path) -> None:
    journal = CallJournal(calls)
    other = sqlite3.connect(tmp_path / "deep" / "calls.db")
    other.execute("BEGIN IMMEDIATE")
    exchange = settled()
    journal.append(exchange)
    assert not journal.flush(0.3)
    other.rollback()
    other.close()
    assert journal.flush(10)
    assert journal.find(exchange.call_id, "a") is not None
    journal.close()


def test_a_call_is_found_by_index_and_not_by_walking_its_tenants(calls: SqliteCalls, tmp_path: Path) -> None:
    journal = CallJournal(calls)
    connection = sqlite3.connect(tmp_path / "deep" / "calls.db")
    plan = connection.execute("EXPLAIN QUERY PLAN " + _FIND, {"tenant": "a", "id": "x"}).fetchall()
    connection.close()
    journal.close()
    used = " ".join(row[3] for row in plan)
    assert "calls_by_answer" in used
    assert "calls_by_time" not in used
