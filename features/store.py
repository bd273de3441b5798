"""A Feast repository, opened for online reads and pushes.

What is asked for together is read together (`batching`), types and ages come from the repository's definitions, and
these are looked at again beside the reads, never within one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.batching import Batcher
from features.definitions import Definitions, Feature, Service, to_json
from features.loading import without_torch
from features.online import Cell, EntityRow, Erased, OnlineStore, Reading, TransformFailed
from features.repository import Repository
from features.rows import checked, read_csv, whole_number
from features.vector import FeaturesUnavailable, FeatureValue, FeatureVector, WrongEntity

log = logging.getLogger(__name__)

_NOBODY = "__dummy_id"  # Feast's key of views that are about nobody
_TRUE, _FALSE = ("true", "1"), ("false", "0")

Row = tuple[str | int | float | bool, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What of a service is read where only these keys are given. `without` is the same without on-demand views."""

    reading: Reading
    keys: tuple[str, ...]
    names: frozenset[str]
    without: Reading | None


class FeastStore:
    """A FeatureReader over a Feast repository. Make one with `open`."""

    def __init__(self, repository: Repository, definitions: Definitions, online: OnlineStore, deadline: float) -> None:
        self._repository = repository
        self._deadline = deadline
        self._open(definitions, online)
        self.newest: dict[str, float] = {}  # event time of the newest value that was seen, by view
        self.stale: dict[str, int] = {}  # values too old to be used, by view

    def _open(self, definitions: Definitions, online: OnlineStore) -> None:
        self.definitions = definitions
        self._online = online
        self._plans: dict[tuple[str, frozenset[str]], _Plan | None] = {}
        self._batchers: dict[_Plan, Batcher[Row, dict[str, Cell]]] = {}

    @classmethod
    def open(cls, repository: Repository, *, deadline: float = 1.0) -> FeastStore:
        """Open the repository; apply its definitions where they are new or have changed.

        `deadline`: seconds that a read may take. Blocking, some seconds. Raises FeaturesUnavailable.
        """
        definitions = repository.definitions(apply=True)
        if repository.server is not None:
            from features.server import FeatureServer

            server = FeatureServer(repository.server, definitions, deadline=deadline)
            return cls(repository, definitions, server, deadline)
        definitions, online = _opened(repository, deadline)
        return cls(repository, definitions, online, deadline)

    async def refresh(self) -> bool:
        """Look at the registry again, in a thread; whether something was new, and holds for reads from now on.

        Raises FeaturesUnavailable; then the reads go on with what they know.
        """
        if self._repository.server is not None:
            return False
        definitions, online = await asyncio.to_thread(_opened, self._repository, self._deadline)
        if to_json(definitions) == to_json(self.definitions):
            await online.aclose()
            return False
        old, batchers = self._online, list(self._batchers.values())
        self._open(definitions, online)
        for batcher in batchers:
            await batcher.ended()
        await old.aclose()
        return True

    async def read(
        self, service: str, entity: Mapping[str, str], max_age: Mapping[str, float] | float | None = None
    ) -> FeatureVector:
        known = self.definitions.services.get(service)
        if known is None:
            there = sorted(self.definitions.services)
            raise FeaturesUnavailable(f"there is no feature service `{service}`; there are {there}")
        types = self.definitions.entity_types
        row: dict[str, Any] = {}
        for key, value in entity.items():
            if key in known.join_keys:
                row[key] = _typed(key, value, types.get(key, "STRING"))
            elif key in known.inputs:
                row[key] = _typed(key, value, known.inputs[key])
        plan = self._plan(known, frozenset(row))
        cells = await self._cells(plan, row) if plan is not None else {}
        return self._vector(known, {key: row[key] for key in known.join_keys if key in row}, cells, max_age)

    def unread(self, service: str) -> FeatureVector | None:
        known = self.definitions.services.get(service)
        return self._vector(known, {}, {}, None) if known is not None else None

    async def push(self, source: str, rows: Sequence[Any]) -> int:
        """Write rows into the online store; how many. Raises RowFault before any is written, and FeaturesUnavailable."""
        views = checked(self.definitions, source, rows)
        for view, pushed in views.items():
            await self._online.write(view, pushed)
            newest = max(row.event_time for row in pushed)
            self.newest[view] = max(newest, self.newest.get(view, 0.0))
        return len(rows)

    async def load_samples(self, file: Path) -> int:
        """Push the rows of a CSV file, once for each content of it; how many were pushed.

        Its columns are the join keys of one push source and features. Raises FeaturesUnavailable.
        """
        try:
            content = await asyncio.to_thread(file.read_bytes)
            where = self._repository.online_store.split("@")[-1].encode()
            mark = hashlib.sha256(where + b"\0" + content).hexdigest()[:16]
            marker = self._repository.data_dir / f"samples-{mark}"
            if marker.exists():
                return 0
            source, rows = read_csv(self.definitions, content.decode())
            count = await self.push(source, rows)
        except (OSError, ValueError) as error:
            raise FeaturesUnavailable(f"the samples in {file.name} can't be loaded: {error}") from error
        marker.touch()
        return count

    async def known_of(self, entity: Mapping[str, str]) -> dict[str, FeatureValue]:
        """All that is in the online store of an entity alone, as VIEW:FEATURE. Raises FeaturesUnavailable."""
        views = [view for view in self.definitions.views.values() if set(view.join_keys) == set(entity)]
        features = tuple(f"{view.name}:{feature.name}" for view in views for feature in view.features)
        row = self._typed_entity(entity)
        if not features or row is None:
            return {}
        (told,) = await self._online.read(Reading("", features, full_names=True), [row])
        values = {name: told.get(name.replace(":", "__"), (None, None))[0] for name in features}
        return {name: value for name, value in values.items() if value is not None}

    async def erase(self, entity: Mapping[str, str]) -> Erased:
        """Have the online store forget an entity, beside other keys too. Raises FeaturesUnavailable."""
        views = [view for view in self.definitions.views.values() if set(entity) <= set(view.join_keys)]
        row = self._typed_entity(entity)
        return await self._online.erase(row) if views and row is not None else Erased(0)

    def ages(self) -> dict[str, float]:
        """Seconds since the newest value of each view that this process has read or written."""
        now = time.time()
        return {view: max(0.0, now - at) for view, at in self.newest.items()}

    async def aclose(self) -> None:
        for batcher in self._batchers.values():
            await batcher.aclose()
        await self._online.aclose()

    def _typed_entity(self, entity: Mapping[str, str]) -> dict[str, Any] | None:
        """None for a value that no such entity has: a user whose name is no number, where the store has numbers."""
        types = self.definitions.entity_types
        try:
            return {key: _typed(key, value, types.get(key, "STRING")) for key, value in entity.items()}
        except WrongEntity:
            return None

    def _plan(self, service: Service, given: frozenset[str]) -> _Plan | None:
        """None where nothing can be read with the keys that are given."""
        try:
            return self._plans[service.name, given]
        except KeyError:
            plan = self._plans[service.name, given] = _planned(service, self.definitions, given)
            return plan

    async def _cells(self, plan: _Plan, row: Mapping[str, Any]) -> dict[str, Cell]:
        batcher = self._batchers.get(plan)
        if batcher is None:
            online = self._online

            async def read(rows: Sequence[Row]) -> list[dict[str, Cell]]:
                return await _read(online, plan, [dict(zip(plan.keys, values, strict=True)) for values in rows])

            batcher = self._batchers[plan] = Batcher(read)
        return await batcher.ask(tuple(row.get(key, "") for key in plan.keys))

    def _vector(
        self,
        service: Service,
        entity: Mapping[str, str | int],
        cells: Mapping[str, Cell],
        max_age: Mapping[str, float] | float | None,
    ) -> FeatureVector:
        now = time.time()
        named = tuple((service.called(feature), feature) for feature in service.features)
        values: dict[str, FeatureValue] = {}
        times: dict[str, float] = {}
        missing, stale = [], []
        for name, feature in named:
            value, at = cells.get(name, (None, None))
            if feature.on_demand:  # it is as old as the oldest of what it is made of
                made_of = [cells.get(other, (None, None))[1] for other, one in named if one.view in feature.sources]
                at = min((time for time in made_of if time is not None), default=None)
            elif at is not None and at > self.newest.get(feature.view, 0.0):
                self.newest[feature.view] = at
            if value is not None and at is not None:
                times[name] = at
                if _too_old(now - at, feature, name, max_age):
                    self.stale[feature.view] = self.stale.get(feature.view, 0) + 1
                    stale.append(name)
                    value = None
            elif value is None:
                missing.append(name)
            values[name] = value
        return FeatureVector(
            service.name,
            entity,
            values,
            tuple(missing),
            tuple(sorted({feature.sensitivity for feature in service.features if feature.sensitivity})),
            tuple(stale),
            times,
            tuple(name for name, feature in named if feature.sensitive),
            named,
        )


def _opened(repository: Repository, deadline: float) -> tuple[Definitions, OnlineStore]:
    """Feast's own library, imported only here. Blocking. Raises FeaturesUnavailable."""
    with without_torch():
        from features.sdk import open_store

    return open_store(repository, deadline=deadline)


def _planned(service: Service, definitions: Definitions, given: frozenset[str]) -> _Plan | None:
    inputs = tuple(service.inputs)
    on_demand = {feature.view for feature in service.features if feature.on_demand}
    whole = given >= {*service.join_keys, *inputs}
    own = {name: view.join_keys for name, view in definitions.views.items()}
    views = [
        view
        for view, keys in service.needs.items()
        if given.issuperset(keys)
        and (whole or (given.issuperset(inputs) if view in on_demand else own.get(view) == keys))
    ]
    if not views:
        return None
    read = [feature for feature in service.features if feature.view in views]
    keys = tuple(dict.fromkeys(key for view in views for key in service.needs[view]))
    if any(feature.on_demand for feature in read):
        keys += inputs
    part = None if whole else _references(read)
    bare = [feature for feature in read if not feature.on_demand]
    return _Plan(
        Reading(service.name, part, service.full_names),
        keys or (_NOBODY,),
        frozenset(service.called(feature) for feature in read),
        Reading(service.name, _references(bare), service.full_names) if len(bare) < len(read) else None,
    )


def _references(features: Sequence[Feature]) -> tuple[str, ...]:
    return tuple(f"{feature.view}:{feature.name}" for feature in features)


async def _read(online: OnlineStore, plan: _Plan, rows: Sequence[EntityRow]) -> list[dict[str, Cell]]:
    """Where an on-demand view can't be made of one row, the others of its batch shall not suffer, nor what it reads."""
    try:
        return await online.read(plan.reading, rows)
    except TransformFailed as fault:
        if plan.without is None:
            raise FeaturesUnavailable(str(fault)) from fault
        if len(rows) > 1:
            return [(await _read(online, plan, [row]))[0] for row in rows]
        log.debug("an on-demand view of %s could not be made: %s", plan.reading.service, fault)
        return await online.read(plan.without, rows) if plan.without.features else [{} for _ in rows]


def _too_old(age: float, feature: Feature, name: str, max_age: Mapping[str, float] | float | None) -> bool:
    limit = max_age.get(name) if isinstance(max_age, Mapping) else max_age
    return (feature.ttl is not None and age > feature.ttl) or (limit is not None and age > limit)


def _typed(key: str, value: str, kind: str) -> str | int | float | bool:
    """What an entity or an input says, as its type. Raises WrongEntity."""
    if kind.startswith(("INT", "UNIX")):
        if (whole := whole_number(value, kind)) is None:
            raise WrongEntity(key, "a whole number")
        return whole
    if kind in ("FLOAT", "DOUBLE"):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise WrongEntity(key, "a number")
        return number
    if kind == "BOOL":
        if value.lower() not in _TRUE + _FALSE:
            raise WrongEntity(key, "true or false")
        return value.lower() in _TRUE
    return value
