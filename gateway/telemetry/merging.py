"""The metrics of several processes as one exposition.

Each process keeps its series in its own memory, where counting is cheapest, and hands over a snapshot: every second or
so, at each scrape, and when it ends. What a process had counted stays in the sums after it has gone, so that a counter
never falls because a worker was replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

# How the processes' values of one metric become one: `sum` with those that have gone, `live` without them, the largest
# of the `max`, the smallest of the `min`, or `each` for itself under the label `worker`.
How = Literal["sum", "live", "max", "min", "each"]

# One metric as [name, help, type, how, [[sample's name, [[label, value] …], value] …]]
Snapshot = list[list[Any]]
_Labels = tuple[tuple[str, str], ...]
_Key = tuple[str, _Labels]


def snapshot(registry: CollectorRegistry, how: Mapping[str, How]) -> Snapshot:
    """What the registry holds now. `how` is by a metric's name; counters and histograms are sums, gauges `live`."""
    families: Snapshot = []
    for family in registry.collect():
        way = how.get(family.name) or ("live" if family.type == "gauge" else "sum")
        samples = [
            [sample.name, list(sample.labels.items()), sample.value]
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]
        families.append([family.name, family.documentation, family.type, way, samples])
    return families


class _Family:
    __slots__ = ("documentation", "how", "type", "values")

    def __init__(self, documentation: str, type_: str, how: How) -> None:
        self.documentation = documentation
        self.type = type_
        self.how = how
        self.values: dict[_Key, float] = {}

    def add(self, key: _Key, value: float) -> None:
        if self.how == "max":
            self.values[key] = max(self.values.get(key, value), value)
        elif self.how == "min":
            self.values[key] = min(self.values.get(key, value), value)
        else:
            self.values[key] = self.values.get(key, 0.0) + value


class Totals:
    """The latest snapshot of each process, and the sums of those that have gone."""

    def __init__(self) -> None:
        self._latest: dict[int, tuple[int, Snapshot]] = {}
        self._gone: dict[str, _Family] = {}

    def put(self, process: int, worker: int, told: Snapshot) -> None:
        """`process` tells two generations of the same `worker` apart."""
        self._latest[process] = worker, told

    def end(self, process: int) -> None:
        """That process counts no more."""
        if (known := self._latest.pop(process, None)) is not None:
            _merge(self._gone, *known, only_sums=True)

    def exposition(self) -> bytes:
        """All processes together, in Prometheus' text format."""
        families: dict[str, _Family] = {}
        for name, family in self._gone.items():
            kept = families[name] = _Family(family.documentation, family.type, family.how)
            kept.values.update(family.values)
        for worker, told in self._latest.values():
            _merge(families, worker, told)
        return generate_latest(_Merged(families))


class _Merged(Collector):
    def __init__(self, families: Mapping[str, _Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        for name, family in sorted(self._families.items()):
            metric = Metric(name, family.documentation, family.type)
            for (sample, labels), value in family.values.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


def _merge(families: dict[str, _Family], worker: int, told: Snapshot, *, only_sums: bool = False) -> None:
    for name, documentation, type_, how, samples in told:
        if only_sums and how != "sum":
            continue
        family = families.get(name)
        if family is None:
            family = families[name] = _Family(documentation, type_, how)
        for sample, labels, value in samples:
            pairs = tuple((label, text) for label, text in labels)
            if how == "each":
                pairs = (*pairs, ("worker", str(worker)))
            family.add((sample, pairs), value)
