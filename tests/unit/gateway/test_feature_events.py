"""What calls write back: sums added to what is there, what was last in front, each user's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from features.definitions import Definitions, Feature, View
from features.rows import checked
from features.vector import FeaturesUnavailable, FeatureValue
from gateway.config.features import FromCalls
from gateway.entities import EntityTemplate, user_entities
from gateway.exchange import Exchange
from gateway.feature_events import FeatureEvents
from gateway.values import Caller, Usage
from retrieval.passages import Passage

FEATURES = {
    "topics": Feature("topics", "Array(String)", "talks"),
    "asked": Feature("asked", "Int64", "talks"),
    "tokens": Feature("tokens", "Int64", "talks"),
    "cost": Feature("cost", "Float64", "talks"),
    "bad": Feature("bad", "Int64", "talks"),
    "score": Feature("score", "Float64", "talks"),
    "model": Feature("model", "String", "talks"),
}
FACTS: dict[str, Any] = {
    "topics": "topics", "asked": "calls", "tokens": "tokens", "cost": "cost", "bad": "feedback.bad",
    "score": "feedback.score", "model": "model",
}  # fmt: skip


class Store:
    """Holds what is pushed."""

    definitions = Definitions(
        "p", {}, {"talks": View("talks", ("user_id",), None, tuple(FEATURES.values()), "now")}, {}
    )

    def __init__(self) -> None:
        self.held: dict[str, dict[str, FeatureValue]] = {}
        self.away = False

    async def push(self, source: str, rows: list[Any]) -> int:
        if self.away:
            raise FeaturesUnavailable("away")
        assert source == "now"
        checked(self.definitions, source, rows)
        for row in rows:
            self.held.setdefault(row["user_id"], {}).update({k: v for k, v in row.items() if k != "user_id"})
        return len(rows)

    async def known_of(self, entity: Mapping[str, str]) -> dict[str, FeatureValue]:
        return {f"talks:{name}": value for name, value in self.held.get(entity["user_id"], {}).items()}


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def events(store: Store, tmp_path: Path) -> FeatureEvents:
    entities = user_entities([{"user_id": EntityTemplate.parse("{tenant}/{user}")}], "a")
    return FeatureEvents(FromCalls(push_source="now", features=FACTS), store, entities, "public", tmp_path / "lock")


def call(user: str | None = "ada", *titles: str, outcome: str = "ok", sensitivity: str = "public") -> Exchange:
    exchange = Exchange("chat.completions")
    exchange.caller = Caller("key", "a", user)
    exchange.model, exchange.outcome = "help", outcome
    exchange.usage, exchange.cost = Usage(10, 5), 0.25
    exchange.passages = [
        Passage("d", "1", f"s{n}", "c", 0.5, title, "", "text", sensitivity=sensitivity)
        for n, title in enumerate(titles)
    ]
    return exchange


async def test_sums_are_added_to_what_the_store_has(events: FeatureEvents, store: Store) -> None:
    store.held["a/ada"] = {"asked": 3, "cost": 1.0}
    events.ended(call())
    events.ended(call())
    events.rated("a", "ada", 0.0)
    await events.write()
    assert store.held["a/ada"] == {"asked": 5, "tokens": 30, "cost": 1.5, "bad": 1, "score": 0.0, "model": "help"}
    await events.write()
    assert store.held["a/ada"]["asked"] == 5


async def test_topics_are_the_newest_first_and_each_once(events: FeatureEvents, store: Store) -> None:
    for titles in (("tea", "books"), ("maps",), ("tea",)):
        events.ended(call("ada", *titles))
    await events.write()
    assert store.held["a/ada"]["topics"] == ["tea", "maps", "books"]
    events.ended(call("ada", "a", "b", "c"))
    await events.write()
    assert store.held["a/ada"]["topics"] == ["a", "b", "c", "tea", "maps"]


async def test_what_may_not_leave_is_no_topic(events: FeatureEvents, store: Store) -> None:
    events.ended(call("ada", "The merger", sensitivity="restricted"))
    await events.write()
    assert "topics" not in store.held["a/ada"]


@pytest.mark.parametrize("exchange", [call(None), call(outcome="error"), call(outcome="cancelled")])
async def test_of_nobody_and_of_what_failed_nothing_is_written(
    events: FeatureEvents, store: Store, exchange: Exchange
) -> None:
    events.ended(exchange)
    await events.write()
    assert store.held == {}


async def test_what_can_not_be_written_waits(events: FeatureEvents, store: Store) -> None:
    store.away = True
    events.ended(call("ada", "tea"))
    await events.write()
    events.ended(call("ada", "maps"))
    store.away = False
    await events.write()
    assert store.held["a/ada"]["asked"] == 2
    assert store.held["a/ada"]["topics"] == ["maps", "tea"]


async def test_one_user_whose_row_does_not_fit_keeps_no_other_back(events: FeatureEvents, store: Store) -> None:
    """A sum beyond Int64."""
    store.held["a/eve"] = {"asked": 2**63 - 1}
    for user in ("ada", "eve", "zoe"):
        events.ended(call(user))
    await events.write()
    assert (store.held["a/ada"]["asked"], store.held["a/zoe"]["asked"]) == (1, 1)
    assert store.held["a/eve"]["asked"] == 2**63 - 1
    assert events.lost == 1


async def test_what_is_forgotten_is_not_written(events: FeatureEvents, store: Store) -> None:
    events.ended(call("ada"))
    events.ended(call("ben"))
    await events.forget({"user_id": "a/ada"})
    await events.write()
    assert set(store.held) == {"a/ben"}
