"""Counts and histograms that one event loop adds to: a few plain integers, no locks, read when somebody scrapes.

prometheus_client's own guard each value by a lock, for programs of many threads; every call here would pay for a dozen
of them. Whoever scrapes from another thread sees a moment of each series, and a histogram's count is made of its
buckets, so that the two never differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mypy_extensions import i64
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Counts(Collector):
    """A counter: `add` for each event, by its labels' values; `of` gives their series, for whoever adds to it often."""

    def __init__(self, name: str, help_: str, labels: Labels) -> None:
        self._name, self._help, self._labels = name, help_, labels
        self._counts: dict[Labels, Count] = {}

    def of(self, *values: str) -> Count:
        self.add(values, 0.0)
        return self._counts[values]

    def add(self, of: Labels, amount: float = 1.0) -> None:
        count = self._counts.get(of)
        if count is None:
            count = self._counts[of] = Count()
        count.value += amount

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for values, count in list(self._counts.items()):
            family.add_metric(values, count.value)
        yield family


class Distribution:
    """One series of a histogram. `bounds` are the buckets' upper ends, which belong to them."""

    __slots__ = ("_bounds", "buckets", "total")

    def __init__(self, bounds: list[float]) -> None:
        self._bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.observe_each(value, 1)

    def observe_each(self, value: float, count: int) -> None:
        """As many times."""
        bounds = self._bounds
        low: i64 = 0  # bisect_left, which in place and compiled takes half
        high: i64 = len(bounds)
        while low < high:
            middle = (low + high) >> 1
            if bounds[middle] < value:
                low = middle + 1
            else:
                high = middle
        self.buckets[low] += count
        self.total += value * count


class Distributions(Collector):
    """A histogram: `of` gives the series for its labels' values, to be kept by whoever adds to it often."""

    def __init__(self, name: str, help_: str, labels: Labels, bounds: Sequence[float]) -> None:
        self._name, self._help, self._labels = name, help_, labels
        self._bounds = [float(bound) for bound in bounds]
        self._ends = [*map(floatToGoString, self._bounds), "+Inf"]
        self._series: dict[Labels, Distribution] = {}

    def of(self, *values: str) -> Distribution:
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = Distribution(self._bounds)
        return series

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for values, series in list(self._series.items()):
            so_far, buckets = 0, []
            for end, count in zip(self._ends, list(series.buckets), strict=True):
                so_far += count
                buckets.append((end, float(so_far)))
            if so_far:  # what does not stream has no time to its first chunk
                family.add_metric(values, buckets, series.total)
        yield family
