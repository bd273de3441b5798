"""What is kept goes when its time is up, or when its user wishes so; over SQLite and PostgreSQL alike."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text

from gateway.exchange import Exchange
from gateway.records.calls import CallLog
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.feedback import Feedback, FeedbackStore, NoSuchCall
from gateway.records.pseudonyms import PseudonymStore
from gateway.records.quality import Judgement, QualityStore
from gateway.records.responses import ResponseStore, StoredResponse
from gateway.records.retention import Periods, RetentionSweep
from gateway.records.rewrapping import Rewrapped, rewrap
from gateway.records.rows import row
from gateway.records.schema import feedback, quality
from gateway.records.sealing import Seal
from gateway.records.users import UserRecords, _by_size
from gateway.values import Caller

DAY = 86_400.0
SEAL = Seal([b"k" * 32])
CONTENTS = Contents(SEAL)


def record(database: Database, tenant: str = "a", user: str | None = None, age: float = 0.0, **facts: Any) -> str:
    """A call of `age` seconds ago, with content."""
    exchange = Exchange("chat.completions")
    exchange.started_at -= int(age * 1e9)
    exchange.caller = Caller("team", tenant, user)
    exchange.record_content = True
    exchange.messages = [{"role": "user", "content": f"canary of {user}"}]
    exchange.answer_text = "an answer"
    for name, value in facts.items():
        setattr(exchange, name, value)
    exchange.settle()
    CallLog(database).write([row(exchange, CONTENTS)])
    return exchange.call_id


def calls(database: Database) -> dict[str, bool]:
    """Each call's id, and whether it has content."""
    with database.reading() as connection:
        return {
            name: content is not None
            for name, content in connection.execute(text("SELECT call_id, content FROM calls"))
        }


def tenant(database: Database, name: str, retention: dict[str, str] | None) -> None:
    grants = json.dumps({"retention": retention} if retention else {})
    with database.writing() as connection:
        connection.execute(
            text(
                "INSERT INTO tenants (id, name, grants, created_at, created_by, sequence) "
                "VALUES (:id, :id, :grants, 0, 'test', 1)"
            ),
            {"id": name, "grants": grants},
        )


def test_content_is_sealed_in_the_store_and_told_to_its_tenant(database: Database) -> None:
    call = record(database, user="jo")

    with database.reading() as connection:
        (kept,) = connection.execute(text("SELECT * FROM calls")).mappings()
    assert b"canary" not in repr(dict(kept)).encode()
    told = CallLog(database, CONTENTS).find(call, "a")
    assert told is not None
    assert (told["messages"], told["answer"]) == ([{"role": "user", "content": "canary of jo"}], "an answer")


def test_what_is_past_its_time_goes_and_nothing_else(database: Database) -> None:
    old, middle, new = (record(database, age=age * DAY) for age in (40, 20, 1))
    FeedbackStore(database).add(Feedback(old, "a", score=1.0))
    FeedbackStore(database).add(Feedback(new, "a", score=1.0))

    sweep = RetentionSweep(database, Periods(calls=30 * DAY, content=10 * DAY))

    assert sweep.run() == {"calls": 1, "contents": 1}
    assert calls(database) == {middle: False, new: True}
    assert FeedbackStore(database).of(old, "a") == []
    assert len(FeedbackStore(database).of(new, "a")) == 1
    assert sweep.run() == {"calls": 0, "contents": 0}


def test_a_tenant_s_own_time_goes_before_the_gateway_s(database: Database) -> None:
    tenant(database, "short", {"calls": "1d"})
    tenant(database, "long", {"calls": "forever"})
    tenant(database, "plain", None)
    kept = [record(database, name, age=5 * DAY) for name in ("short", "long", "plain", "unknown")]

    RetentionSweep(database, Periods(calls=3 * DAY)).run()

    assert set(calls(database)) == {kept[1]}


def test_many_records_go_in_small_steps(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.records.retention._AT_ONCE", 3)
    for _ in range(10):
        record(database, age=2 * DAY)

    assert RetentionSweep(database, Periods(content=DAY)).run() == {"calls": 0, "contents": 10}
    assert RetentionSweep(database, Periods(calls=DAY)).run() == {"calls": 10, "contents": 0}


def everything_of(database: Database, tenant: str, user: str) -> list[str]:
    """Something of each kind; the ids of the calls."""
    ids = [record(database, tenant, user) for _ in range(2)]
    FeedbackStore(database).add(Feedback(ids[0], tenant, user, comment=f"said by {user}"))
    FeedbackStore(database).add(Feedback(ids[1], tenant, "another", comment="about it"))
    store = ResponseStore(database, DAY, CONTENTS)
    store.add(StoredResponse(f"resp_{tenant}_{user}", None, [{"said": user}], {"id": "r"}), tenant, user)
    PseudonymStore(database, SEAL, DAY).add(f"{tenant}{user}".encode(), [("<A_1>", "A", user)], (tenant, user))
    with database.writing() as connection:
        connection.execute(
            text("INSERT INTO spend VALUES (:subject, 'day:2026-11-21', 1.5, 2, 3)"),
            {"subject": f"tenant={tenant}&user={user.replace('@', '%40')}"},
        )
    return ids


def held(database: Database, tenant: str, user: str) -> list[str]:
    """The kinds of what is held of a user, as the export tells them."""
    records = UserRecords(database, CONTENTS, PseudonymStore(database, SEAL, DAY))
    return [one["object"] for one in records.exported(tenant, user)]


def test_a_user_s_data_is_handed_over_whole(database: Database) -> None:
    ids = everything_of(database, "a", "jo@example.org")
    everything_of(database, "b", "jo@example.org")
    records = UserRecords(database, CONTENTS, PseudonymStore(database, SEAL, DAY))

    told = list(records.exported("a", "jo@example.org"))

    assert [one["object"] for one in told] == [
        "call",
        "call",
        "feedback",
        "feedback",
        "response.kept",
        "spend",
        "pseudonym",
    ]
    assert [one["id"] for one in told[:2]] == ids
    assert told[0]["messages"] == [{"role": "user", "content": "canary of jo@example.org"}]
    assert told[2]["comment"] == "said by jo@example.org"
    assert told[4]["input"] == [{"said": "jo@example.org"}]
    assert told[5]["usd"] == 1.5
    assert told[6]["value"] == "jo@example.org"
    assert list(records.exported("a", "nobody")) == []


def test_a_user_of_megabytes_is_handed_over_a_few_records_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or whoever says enough could have the gateway run out of memory by asking for it back."""
    everything_of(database, "a", "jo@example.org")
    whole = list(UserRecords(database, CONTENTS).exported("a", "jo@example.org"))
    for number in (1, 2, 5):
        monkeypatch.setattr("gateway.records.users._PAGE", number)
        monkeypatch.setattr("gateway.records.users._PAGE_BYTES", 1)
        assert list(UserRecords(database, CONTENTS).exported("a", "jo@example.org")) == whole
    assert list(_by_size([("a", 3), ("b", 1), ("c", 0), ("d", 9)])) == [["a"], ["b", "c"], ["d"]]
    monkeypatch.setattr("gateway.records.users._PAGE_BYTES", 5)
    assert list(_by_size([("a", 3), ("b", 1), ("c", 9), ("d", 1)])) == [["a", "b"], ["c"], ["d"]]


def test_an_erased_user_is_gone_and_nobody_else(database: Database) -> None:
    everything_of(database, "a", "jo@example.org")
    for other in (("b", "jo@example.org"), ("a", "jo@example.org.uk"), ("a", "o@example.org")):
        everything_of(database, *other)
    before = held(database, "b", "jo@example.org")
    records = UserRecords(database, CONTENTS, PseudonymStore(database, SEAL, DAY))

    gone = records.erase("a", "jo@example.org")

    assert gone == {"calls": 2, "feedback": 2, "responses": 1, "spend": 1, "conversations": 1}
    assert held(database, "a", "jo@example.org") == []
    for other in (("b", "jo@example.org"), ("a", "jo@example.org.uk"), ("a", "o@example.org")):
        assert held(database, *other) == before
    assert records.erase("a", "jo@example.org") == dict.fromkeys(gone, 0)


def test_a_receipt_proves_the_erasure_and_names_nobody(database: Database) -> None:
    records = UserRecords(database)
    receipt = records.keep_receipt("a", "jo@example.org", {"calls": 2}, {"logs": "elsewhere"})
    records.keep_receipt("b", "jo@example.org", {"calls": 0}, {})

    assert records.receipts(frozenset({"a"})) == [receipt.told()]
    assert len(records.receipts(None)) == 2
    with database.reading() as connection:
        kept = connection.execute(text("SELECT * FROM erasures")).mappings().all()
    assert "jo@example.org" not in repr(kept)


def test_a_record_that_came_late_is_caught(database: Database) -> None:
    records = UserRecords(database)
    record(database, "a", "jo")
    records.erase("a", "jo")
    records.keep_receipt("a", "jo", {}, {})
    late = record(database, "a", "jo", age=60, answer_id="resp_late")
    responses = ResponseStore(database, DAY, CONTENTS)
    for name in ("resp_late", "resp_new"):
        responses.add(StoredResponse(name, None, [], {"id": name}), "a", "jo")
    others = [record(database, "a", "joe", age=60), record(database, "b", "jo", age=60)]
    time.sleep(0.001)  # its clock is to say later
    again = record(database, "a", "jo")
    said = Feedback(again, "a", "jo", 0.5, None, "new", None)
    FeedbackStore(database).add(said)

    assert records.erase_late() == 2
    assert responses.find("resp_late", "a", "jo") is None
    assert responses.find("resp_new", "a", "jo") is not None
    assert FeedbackStore(database).rated([again]) == {again}
    assert set(calls(database)) == {*others, again}
    assert late not in calls(database)


def test_nothing_is_kept_of_an_erased_call(database: Database) -> None:
    call = record(database, "a", "jo")
    judged = Judgement(call, "a", "relevance", 0.5, "e", time.time_ns())
    UserRecords(database).erase("a", "jo")

    assert QualityStore(database, lake=True).add([judged]) == [judged]
    with pytest.raises(NoSuchCall):
        FeedbackStore(database, lake=True).add(Feedback(call, "a", "max", score=1.0))
    assert said_of_calls(database) == 0


@pytest.mark.parametrize("by", ["erasure", "retention"])
def test_what_is_added_to_a_call_that_is_just_being_removed_goes_too(
    database: Database, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Whoever adds has seen the call when the other one begins."""
    removals = []

    def remove() -> None:
        if by == "erasure":
            UserRecords(database).erase("a", "jo")
        else:
            RetentionSweep(database, Periods(calls=DAY)).run()

    def meanwhile(tell: Callable[..., None]) -> Callable[..., None]:
        def telling(*told: Any) -> None:
            tell(*told)
            removal = threading.Thread(target=remove)
            removals.append(removal)
            removal.start()
            removal.join(0.3)  # as far as it comes

        return telling

    with monkeypatch.context() as patched:
        for module in ("quality", "feedback"):
            name = f"gateway.records.{module}.tell_{module}"
            patched.setattr(name, meanwhile(lambda *told: None))
        call = record(database, "a", "jo", age=2 * DAY)
        FeedbackStore(database, lake=True).add(Feedback(call, "a", "max", score=1.0))
        removals[0].join()
        call = record(database, "a", "jo", age=2 * DAY)
        QualityStore(database, lake=True).add([Judgement(call, "a", "relevance", 0.5, "e", time.time_ns())])
        removals[1].join()
    assert (calls(database), said_of_calls(database)) == ({}, 0)


def said_of_calls(database: Database) -> int:
    """How much of feedback and judgements is stored."""
    with database.reading() as connection:
        return sum(connection.scalar(select(func.count()).select_from(table)) or 0 for table in (feedback, quality))


def test_after_a_rotation_all_is_brought_under_the_first_key(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.records.rewrapping._PAGE", 2)
    for user in ("jo", "joe", "cleo"):
        everything_of(database, "a", user)
    old, new = b"k" * 32, b"n" * 32

    assert rewrap(database, Seal([new, old])) == Rewrapped(changed=6 + 3 + 3 + 3)
    assert rewrap(database, Seal([new, old])) == Rewrapped()
    assert rewrap(database, Seal([b"x" * 32])) == Rewrapped(lost=15)

    only = Seal([new])
    told = list(UserRecords(database, Contents(only), PseudonymStore(database, only, DAY)).exported("a", "jo"))
    assert told[0]["messages"] == [{"role": "user", "content": "canary of jo"}]
    assert [one["input"] for one in told if one["object"] == "response.kept"] == [[{"said": "jo"}]]
