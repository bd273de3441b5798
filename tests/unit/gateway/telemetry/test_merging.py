"""Several processes' metrics as one exposition."""

from __future__ import annotations

import json

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.merging import How, Totals, snapshot

HOW: dict[str, How] = {"dropped": "sum", "revision": "max", "well": "min", "memory": "each"}


class Process:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.calls = Counter("calls", "Calls.", ("model",), registry=registry)
        self.seconds = Histogram("seconds", "Time.", buckets=(1, 2), registry=registry)
        self.running = Gauge("running", "Now.", registry=registry)
        self.dropped = Gauge("dropped", "Lost.", registry=registry)
        self.revision = Gauge("revision", "The newest.", registry=registry)
        self.well = Gauge("well", "Whether all is.", registry=registry)
        self.memory = Gauge("memory", "Bytes.", registry=registry)

    def told(self) -> object:
        """As it comes over a channel."""
        return json.loads(json.dumps(snapshot(self.registry, HOW)))


def values(totals: Totals) -> dict[str, float]:
    """Every sample by its name and labels, read as Prometheus does."""
    families = text_string_to_metric_families(totals.exposition().decode())
    return {
        sample.name + "".join(f" {name}={text}" for name, text in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def put(totals: Totals, number: int, process: Process, pid: int = 0) -> None:
    totals.put(pid or number, number, process.told())  # type: ignore[arg-type]  # JSON


def test_counters_and_histograms_are_added_gauges_as_they_say() -> None:
    totals, one, two = Totals(), Process(), Process()
    for process, count in ((one, 1), (two, 2)):
        process.calls.labels("a").inc(count)
        process.seconds.observe(count - 0.5)
        for gauge in (process.running, process.dropped, process.revision, process.well, process.memory):
            gauge.set(count)
    two.calls.labels("b").inc(7)
    put(totals, 1, one)
    put(totals, 2, two)
    assert values(totals) == {
        "calls_total model=a": 3, "calls_total model=b": 7,
        "seconds_bucket le=1.0": 1, "seconds_bucket le=2.0": 2, "seconds_bucket le=+Inf": 2,
        "seconds_count": 2, "seconds_sum": 2,
        "running": 3, "dropped": 3, "revision": 2, "well": 1, "memory worker=1": 1, "memory worker=2": 2,
    }  # fmt: skip


def test_what_a_process_has_counted_stays_when_it_has_gone_and_what_it_was_does_not() -> None:
    totals, one, two, again = Totals(), Process(), Process(), Process()
    for process in (one, two):
        process.calls.labels("a").inc(5)
        process.seconds.observe(0.5)
        process.running.set(3)
        process.dropped.set(4)
        process.memory.set(9)
    put(totals, 1, one)
    put(totals, 2, two)
    totals.end(1)
    told = values(totals)
    assert told["calls_total model=a"] == 10
    assert told["seconds_count"] == told["seconds_bucket le=1.0"] == 2
    assert (told["running"], told["dropped"]) == (3, 8)
    assert {name for name in told if name.startswith("memory")} == {"memory worker=2"}
    again.calls.labels("a").inc()
    put(totals, 1, again, pid=11)
    assert values(totals)["calls_total model=a"] == 11


def test_no_counter_falls_however_processes_come_and_go() -> None:
    totals, before = Totals(), 0.0
    for pid in range(1, 20):
        process = Process()
        for _ in range(3):
            process.calls.labels("a").inc()
            put(totals, pid % 2 + 1, process, pid)
            now = values(totals)["calls_total model=a"]
            assert now == before + 1
            before = now
        totals.end(pid)
        totals.end(pid)
        assert values(totals)["calls_total model=a"] == before
