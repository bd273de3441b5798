"""What calls write back about their user, so that the next answer knows: gathered beside the calls, pushed in one go.

Sums are read, added to and written again by one process of a data folder at a time; Feast has no way to add.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from features.definitions import Definitions
from features.rows import RowFault
from features.vector import FeaturesUnavailable, FeatureValue
from gateway.alone import alone
from gateway.entities import UserEntities, user_entities

if TYPE_CHECKING:
    from gateway.config.features import CallFact, FromCalls
    from gateway.config.models import Configuration
    from gateway.exchange import Exchange
    from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_USERS = 10_000  # whose events wait at most
_TOPICS = 5
_TOPIC = 120  # characters
_GOOD = 0.5  # the score from which feedback is good
SUMS = frozenset({"calls", "tokens", "cost", "feedback.good", "feedback.bad"})


class Store(Protocol):
    @property
    def definitions(self) -> Definitions: ...

    async def push(self, source: str, rows: list[Any]) -> int: ...

    async def known_of(self, entity: Mapping[str, str]) -> dict[str, FeatureValue]: ...


@dataclass(slots=True)
class _Facts:
    """Of one user, since the last write."""

    sums: dict[str, float] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    topics: list[str] = field(default_factory=list)

    def add(self, name: str, amount: float) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + amount

    def take_back(self, earlier: _Facts) -> None:
        """What could not be written."""
        for name, amount in earlier.sums.items():
            self.add(name, amount)
        self.last = {**earlier.last, **self.last}
        self.topics = _newest(self.topics, earlier.topics)


class FeatureEvents:
    def __init__(self, settings: FromCalls, store: Store, entities: UserEntities, open_label: str, lock: Path) -> None:
        """`open_label`: passages of this sensitivity may give their titles to topics, others not. `lock`: a file."""
        self._settings = settings
        self._store = store
        self._entities = entities
        self._open_label = open_label
        self._lock = lock
        self._facts: dict[tuple[str, str], _Facts] = {}
        self._writing = asyncio.Lock()
        self.lost = 0

    @classmethod
    def of(cls, configuration: Configuration, store: Store) -> FeatureEvents | None:
        """None where calls write nothing."""
        features = configuration.features
        if features is None or features.from_calls is None:
            return None
        mappings = [model.features.mapping(features) for model in configuration.models.values() if model.features]
        residency = configuration.residency
        return cls(
            features.from_calls,
            store,
            user_entities(mappings, configuration.feature_owner),
            residency.labels[0] if residency is not None else "public",
            configuration.data_dir / "features" / "events.lock",
        )

    def tell(self, metrics: Metrics) -> None:
        metrics.counted(
            "rag_gateway_feature_events_lost", "Users' events that were not written.", (), lambda: {(): self.lost}
        )

    def ended(self, exchange: Exchange) -> None:
        """A call has ended. Nothing waits for what comes of it."""
        caller = exchange.caller
        if caller is None or caller.user is None or exchange.outcome != "ok" or exchange.made_for is not None:
            return
        facts = self._of(caller.tenant, caller.user)
        if facts is None:
            return
        facts.add("calls", 1)
        if exchange.usage is not None:
            facts.add("tokens", exchange.usage.prompt_tokens + exchange.usage.completion_tokens)
        facts.add("cost", exchange.cost or 0.0)
        facts.last["model"] = exchange.model
        facts.last["time"] = datetime.fromtimestamp(exchange.started_at / 1e9, UTC).isoformat()
        titles = [p.title[:_TOPIC] for p in exchange.passages if p.sensitivity == self._open_label and p.title]
        facts.topics = _newest(titles, facts.topics)

    def rated(self, tenant: str, user: str | None, score: float | None) -> None:
        """A call of this user's was rated, from 0 to 1."""
        facts = self._of(tenant, user) if user is not None and score is not None else None
        if facts is not None and score is not None:
            facts.add("feedback.good" if score >= _GOOD else "feedback.bad", 1)
            facts.last["feedback.score"] = score

    def _of(self, tenant: str, user: str) -> _Facts | None:
        facts = self._facts.get((tenant, user))
        if facts is None:
            if len(self._facts) >= _USERS:
                self.lost += 1
                return None
            facts = self._facts[tenant, user] = _Facts()
        return facts

    async def run(self) -> None:
        """Write what has gathered, again and again, until cancelled; then once more."""
        try:
            while True:
                await asyncio.sleep(self._settings.every)
                try:
                    await self.write()
                except Exception:  # the events to come are written all the same
                    log.exception("users' events could not be written")
        finally:
            await self.write()

    async def write(self) -> None:
        async with self._writing:
            if not self._facts:
                return
            gathered, self._facts = self._facts, {}
            written = 0
            try:
                async with alone(self._lock):
                    rows = [row for who, facts in gathered.items() for row in await self._rows(*who, facts)]
                    for start in range(0, len(rows), 500):
                        await self._push(rows[start : start + 500])
                        written += 500
            except FeaturesUnavailable as failure:
                log.warning("users' events wait for the feature store: %s", failure)
                if written:
                    self.lost += len(gathered)
                else:
                    for (tenant, user), facts in gathered.items():
                        if (now := self._of(tenant, user)) is not None:
                            now.take_back(facts)

    async def _push(self, rows: list[dict[str, Any]]) -> None:
        """All that fit: one user whose row does not keeps no other's from being written."""
        while rows:
            try:
                await self._store.push(self._settings.push_source, rows)
                return
            except RowFault as fault:
                log.error("a user's events don't fit %s: %s", self._settings.push_source, fault)
                if fault.row is None:
                    self.lost += len(rows)
                    return
                self.lost += 1
                del rows[fault.row]

    async def forget(self, entity: Mapping[str, str]) -> None:
        """What waits to be written about an entity goes; what is being written just now is, before this returns."""
        async with self._writing:
            for tenant, user in list(self._facts):
                if dict(entity) in self._entities.of(tenant, user, everywhere=True):
                    del self._facts[tenant, user]

    async def _rows(self, tenant: str, user: str, facts: _Facts) -> list[dict[str, Any]]:
        views = self._store.definitions.pushed_to(self._settings.push_source)
        keys = {key for view in views for key in view.join_keys}
        types = {feature.name: feature.type for view in views for feature in view.features}
        rows = []
        for entity in self._entities.of(tenant, user, everywhere=True):
            if set(entity) != keys:
                continue
            known = {name.partition(":")[2]: value for name, value in (await self._store.known_of(entity)).items()}
            row: dict[str, Any] = dict(entity)
            for name, fact in self._settings.features.items():
                value = _value(fact, facts, known.get(name), types.get(name, ""))
                if value is not None:
                    row[name] = value
            if len(row) > len(entity):
                rows.append(row)
        return rows


def _value(fact: CallFact, facts: _Facts, known: FeatureValue, kind: str) -> FeatureValue:
    """What the feature is now; None where nothing has happened to it."""
    if fact in SUMS:
        if fact not in facts.sums:
            return None
        total = facts.sums[fact] + (known if isinstance(known, (int, float)) else 0)
        return int(total) if kind.startswith("Int") else float(total)
    if fact == "topics":
        if not facts.topics:
            return None
        listed = kind.startswith("Array")
        before = known if isinstance(known, list) else known.split("; ") if isinstance(known, str) and known else []
        topics = _newest(facts.topics, [str(topic) for topic in before])
        return list(topics) if listed else "; ".join(topics)
    value: FeatureValue = facts.last.get(fact)
    return value


def _newest(new: list[str], old: list[str]) -> list[str]:
    """Each once, what was talked of last before the others."""
    return list(dict.fromkeys([*new, *old]))[:_TOPICS]


FITS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("calls", "tokens", "feedback.good", "feedback.bad"), ("Int32", "Int64", "Float32", "Float64")),
    **dict.fromkeys(("cost", "feedback.score"), ("Float32", "Float64")),
    "topics": ("Array(String)", "String"),
    "model": ("String",),
    "time": ("UnixTimestamp", "String"),
}
"""The types that a feature may have for each fact."""
