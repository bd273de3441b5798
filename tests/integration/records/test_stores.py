"""What the record store's parts keep and tell, over SQLite and over PostgreSQL alike."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import text

from gateway.exchange import Exchange
from gateway.records.audit import Sent, labelled, rewarded
from gateway.records.calls import CallLog
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.feedback import Feedback, FeedbackStore, TooMuchFeedback
from gateway.records.pseudonyms import PseudonymStore, remove_expired
from gateway.records.responses import ResponseStore, StoredResponse
from gateway.records.routing import Event, RoutingStore
from gateway.records.rows import row as row_of
from gateway.records.sealing import Seal
from gateway.values import Attempt, Caller, Target, Usage

HOUR = 3600.0


def call(tenant: str = "a", **facts: object) -> Exchange:
    exchange = Exchange("chat.completions")
    exchange.caller = Caller("team", tenant)
    exchange.model = exchange.requested_model = "m"
    exchange.usage = Usage(3, 4, estimated=True)
    for name, value in facts.items():
        setattr(exchange, name, value)
    exchange.settle()
    return exchange


def row(exchange: Exchange) -> tuple[Any, ...]:
    return row_of(exchange, Contents())


def test_a_call_is_found_by_each_of_its_ids_in_its_tenant_only(database: Database) -> None:
    calls = CallLog(database)
    mine = call(answer_id="chatcmpl-1", request_id="mine")
    calls.write([row(mine), row(call("b", request_id="mine")), row(call())])

    for name in (mine.call_id, "chatcmpl-1", "mine"):
        found = calls.find(name, "a")
        assert found is not None
        assert found["id"] == mine.call_id
        assert found["usage"]["estimated"] is True
    assert calls.find(mine.call_id, "b") is None
    assert calls.find("nobody's", "a") is None


def test_nobody_stands_before_a_call_by_naming_a_request_after_it(database: Database) -> None:
    calls = CallLog(database)
    first = call()
    calls.write([row(first), row(call(request_id=first.call_id))])
    found = calls.find(first.call_id, "a")
    assert found is not None
    assert found["id"] == first.call_id


def test_a_call_that_is_there_stays_as_it_is(database: Database) -> None:
    calls, exchange = CallLog(database), call()
    calls.write([row(exchange)])
    exchange.model = "another"

    calls.write([row(exchange), row(call())])

    found = calls.find(exchange.call_id, "a")
    assert found is not None
    assert found["model"] == "m"


def test_labelled_calls_tell_where_each_try_went(database: Database) -> None:
    calls = CallLog(database)
    sent = call(sensitivity="internal", attempts=[Attempt(Target("gpu", "q"), "ok", 200, 1.0, None, "on_premises")])
    calls.write([row(sent), row(call())])

    assert list(labelled(database, 0)) == [Sent(sent.call_id, sent.started_at, "internal", "gpu/q", "on_premises")]
    assert list(labelled(database, sent.started_at + 1)) == []


def test_one_user_can_not_fill_the_store_with_feedback_on_one_call(database: Database) -> None:
    store, made = FeedbackStore(database), call()
    CallLog(database).write([row(made)])
    for number in range(20):
        assert store.add(Feedback(made.call_id, "a", "jo", score=number / 1_000))
    assert not store.add(Feedback(made.call_id, "a", "jo", score=0.0)), "said before"
    with pytest.raises(TooMuchFeedback):
        store.add(Feedback(made.call_id, "a", "jo", comment="x" * 10_000))
    assert store.add(Feedback(made.call_id, "a", "kim", score=0.5)), "others have a say"
    assert store.add(Feedback(made.call_id, "a", None, score=0.5))
    assert len(store.of(made.call_id, "a")) == 22


def test_the_first_score_of_a_call_is_its_reward(database: Database) -> None:
    calls, feedback = CallLog(database), FeedbackStore(database)
    rated, unrated = call(arm="x", propensity=0.25), call(arm="y", propensity=0.75)
    calls.write([row(rated), row(unrated)])
    feedback.add(Feedback(rated.call_id, "a", label="odd"))
    feedback.add(Feedback(rated.call_id, "a", score=0.5))
    feedback.add(Feedback(rated.call_id, "a", score=1.0))

    assert list(rewarded(database, "m", 0)) == [("x", 0.25, 0.5)]
    assert feedback.rated([rated.call_id, unrated.call_id]) == {rated.call_id}


def test_what_was_said_of_a_call_is_told_to_its_tenant(database: Database) -> None:
    feedback, rated = FeedbackStore(database), call()
    CallLog(database).write([row(rated)])
    before = time.time()
    feedback.add(Feedback(rated.call_id, "a", "carla", 1.0, "good", "with a \0 in it", "so"))
    feedback.add(Feedback(rated.call_id, "b", score=0.0))

    (said,) = feedback.of(rated.call_id, "a")

    assert before <= said.pop("at") <= time.time()
    assert said.pop("comment") in ("with a \0 in it", "with a \ufffd in it")
    assert said == {"user": "carla", "score": 1.0, "label": "good", "correction": "so"}


def test_changes_of_routing_are_numbered_and_seen_once(database: Database) -> None:
    store = RoutingStore(database)
    event = Event("m", "ops", "promote", "it is better", "10 %", "100 %")

    assert store.change("m", lambda known: (b"1" if known is None else b"!", [event])) == b"1"
    assert store.change("n", lambda known: (b"2", [])) == b"2"
    assert store.since(0) == (2, {"m": b"1", "n": b"2"})
    assert store.change("m", lambda known: ((known or b"") + b"1", [])) == b"11"
    assert store.since(2) == (3, {"m": b"11"})
    assert store.since(3) == (3, {})
    assert [(said["model"], said["after"]) for said in store.events()] == [("m", "100 %")]
    assert store.events("n") == []


def test_no_change_of_routing_is_lost_between_writers(database: Database) -> None:
    store = RoutingStore(database)

    def count() -> None:
        for _ in range(10):
            store.change("m", lambda known: (str(int(known or b"0") + 1).encode(), []))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.since(0) == (40, {"m": b"40"})


def stored(name: str, before: str | None = None) -> StoredResponse:
    return StoredResponse(name, before, [{"said": name}], {"id": name})


def test_a_conversation_of_responses_is_told_whole_to_its_user(database: Database) -> None:
    store = ResponseStore(database, HOUR)
    store.add(stored("r1"), "a", None)
    store.add(stored("r2", "r1"), "a", "carla")

    assert store.conversation("r2", "a", "carla") == [stored("r1"), stored("r2", "r1")]
    assert store.find("r2", "a", "carla") == stored("r2", "r1")
    assert store.find("r1", "a", None) == stored("r1")
    for tenant, user in (("a", None), ("a", "dan"), ("b", "carla")):
        assert store.conversation("r2", tenant, user) == []
        assert store.find("r2", tenant, user) is None
        assert not store.remove("r2", tenant, user)
    assert store.remove("r1", "a", "carla")
    assert store.conversation("r2", "a", "carla") == []


def test_a_response_that_is_continued_is_kept_on(database: Database) -> None:
    ResponseStore(database, HOUR).add(stored("r1"), "a", None)
    ResponseStore(database, -1.0).add(stored("gone"), "a", None)
    ResponseStore(database, 2 * HOUR).add(stored("r2", "r1"), "a", None)

    with database.reading() as connection:
        left = dict(connection.execute(text("SELECT id, expires_at FROM responses")).all())  # type: ignore[arg-type]  # pairs
    assert set(left) == {"r1", "r2"}
    assert left["r1"] == pytest.approx(time.time() + 2 * HOUR, abs=60)


def test_pseudonyms_of_a_conversation_add_up(database: Database) -> None:
    store = PseudonymStore(database, Seal([b"k" * 32]), HOUR)
    store.add(b"c1", [("<A_1>", "A", "Anna")])

    def add(order: int) -> None:
        store.add(b"c1", [(f"<B_{order}>", "B", str(order))])

    threads = [threading.Thread(target=add, args=[order]) for order in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(store.find(b"c1")) == [("<A_1>", "A", "Anna"), *[(f"<B_{n}>", "B", str(n)) for n in range(6)]]
    assert store.find(b"c2") == []


def test_pseudonyms_expire(database: Database) -> None:
    PseudonymStore(database, Seal([b"k" * 32]), -1.0).add(b"c1", [("<A_1>", "A", "Anna")])
    assert PseudonymStore(database, Seal([b"k" * 32]), HOUR).find(b"c1") == []

    remove_expired(database)

    with database.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM pseudonyms")) == 0
