"""Calls of the log, chosen by what is recorded of them, over both kinds of store."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.exchange import Exchange
from gateway.records.call_queries import BadCursor, CallFilter, CallQueries
from gateway.records.calls import CallLog
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.feedback import Feedback, FeedbackStore
from gateway.records.rows import row
from gateway.values import Caller, Target


def settled(tenant: str = "a", user: str | None = None, **facts: Any) -> Exchange:
    exchange = Exchange("chat.completions")
    exchange.caller = Caller("app", tenant, user)
    exchange.requested_model = exchange.model = "m"
    exchange.target = Target("one", "x")
    exchange.status = 200
    exchange.messages, exchange.answer_text = [{"role": "user", "content": "hello"}], "hello"
    for name, value in facts.items():
        setattr(exchange, name, value)
    exchange.settle()
    return exchange


def stored(database: Database, *exchanges: Exchange) -> list[str]:
    CallLog(database).write([row(exchange, Contents()) for exchange in exchanges])
    return [exchange.call_id for exchange in exchanges]


def test_each_filter_finds_its_calls(database: Database) -> None:
    tricky = '"template":{"reference":"handbook@1","made_for":{"purpose":"replay"'
    plain, other, of_two, of_twelve, canary, failed, replay, kept = stored(
        database,
        settled(),
        settled(tenant="b", user="jo"),
        settled(template="handbook@2", degraded=[tricky]),
        settled(template="handbook@12"),
        settled(arm="canary", propensity=0.1, target=Target("two", "y")),
        settled(outcome="error", error_code="upstream_timeout", status=504, cache="miss"),
        settled(made_for=("replay", "call_0")),
        settled(record_content=True, user="kim", model="n"),
    )
    queries = CallQueries(database)
    made = [plain, other, of_two, of_twelve, canary, failed, replay, kept]

    def found(**wanted: Any) -> list[str]:
        return sorted((call["id"] for call in queries.page(CallFilter(**wanted), 100).calls), key=made.index)

    every = [plain, other, of_two, of_twelve, canary, failed, kept]
    assert found() == every
    assert found(tenant="b") == found(user="jo") == [other]
    assert found(template="handbook") == [of_two, of_twelve]
    assert found(template="handbook@2") == [of_two]
    assert found(template="handbook@1") == [], "neither a longer number nor what a text says"
    assert found(arm="canary") == found(target="two/y") == [canary]
    assert found(outcome="error") == found(error_code="upstream_timeout") == found(cache="miss") == [failed]
    assert found(made_for="replay") == [replay]
    assert found(made_for="shadow") == []
    assert found(with_content=True) == found(model="n") == found(user="kim") == [kept]
    assert found(key="app", endpoints=("chat.completions", "messages")) == every
    assert found(key="app", endpoints=("messages",)) == []
    now = time.time_ns()
    assert found(since=now - 60 * 10**9, until=now + 10**9) == every
    assert found(since=now + 10**9) == found(until=now - 60 * 10**9) == []


def test_calls_are_found_by_what_was_said_of_them(database: Database) -> None:
    good, bad, commented, unrated = stored(database, settled(), settled(), settled(), settled())
    store = FeedbackStore(database)
    for said in (
        Feedback(good, "a", score=1.0, label="right"),
        Feedback(bad, "a", score=0.25, label="wrong"),
        Feedback(commented, "a", comment="hm"),
    ):
        assert store.add(said)
        assert not store.add(said), "the same thing again is nothing new"
    assert store.add(Feedback(bad, "a", user="jo", score=0.25, label="wrong"))
    queries = CallQueries(database)

    made = [good, bad, commented, unrated]

    def found(**wanted: Any) -> list[str]:
        return sorted((call["id"] for call in queries.page(CallFilter(**wanted), 100).calls), key=made.index)

    assert found(label="wrong") == found(max_score=0.5) == [bad]
    assert found(label="wrong", max_score=0.1) == []
    assert found(rated=True) == [good, bad, commented]
    assert found(rated=False) == [unrated]
    told = queries.find(bad)
    assert told is not None
    assert [(one["user"], one["score"]) for one in told["feedback"]] == [(None, 0.25), ("jo", 0.25)]


def test_pages_hold_each_call_once_though_some_began_at_once(database: Database) -> None:
    ids = stored(database, *(settled(started_at=10**18 + moment) for moment in (1, 2, 2, 2, 3)))
    queries = CallQueries(database)
    pages, after = [], None
    while True:
        page = queries.page(CallFilter(tenant="a"), 2, after)
        pages.append([call["id"] for call in page.calls])
        after = page.next
        if after is None:
            break
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [call for page in pages for call in page] == [ids[4], *sorted(ids[1:4], reverse=True), ids[0]]
    assert [told["id"] for told in queries.whole(CallFilter(tenant="a"), 3)] == [*pages[0], pages[1][0]]
    of_all = queries.page(CallFilter(), 3)
    assert [call["id"] for call in of_all.calls] == sorted(ids, reverse=True)[:3]
    assert [call["id"] for call in queries.page(CallFilter(), 3, of_all.next).calls] == sorted(ids)[1::-1]
    for wrong in ("", "x", "1.call_", "99999999999999999999.call_1", "1.call_1' OR 1=1"):
        with pytest.raises(BadCursor):
            queries.page(CallFilter(), 2, wrong)
