"""What is left of budgets, for the metrics: of those in use that are a tenant's, a key's, a model's, or everybody's.

A budget by user is told to whoever asks for it (`/admin/limits`): there may be as many as there are users.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gateway.access.rules import NANO

if TYPE_CHECKING:
    from gateway.access.meters import Meter, Meters
    from gateway.telemetry.metrics import Metrics

_MOST = 200  # budgets told of: those with the smallest share left

_Levels = Mapping[tuple[str, ...], float]


def tell(metrics: Metrics, meters: Meters, clock: Callable[[], float]) -> None:
    """Have the metrics look here when scraped."""
    labels = ("budget", "period")
    metrics.levels(
        "rag_gateway_budget_usd", "Budgets in use, by whose they are and for what period.", labels,
        lambda: {_named(meter): meter.ceiling.most / NANO for meter, _ in _in_use(meters, clock())}, how="max",
    )  # fmt: skip
    metrics.levels(
        "rag_gateway_budget_left_usd", "What is left of them in this period, beside what is reserved.", labels,
        lambda: {_named(meter): left / NANO for meter, left in _in_use(meters, clock())}, how="min",
    )  # fmt: skip


def _named(meter: Meter) -> tuple[str, ...]:
    return meter.spelled, meter.ceiling.period or ""


def _in_use(meters: Meters, now: float) -> list[tuple[Meter, int]]:
    """Each with what is left of it, in billionths of a USD."""
    told = []
    for meter in meters:
        if meter.ceiling.measure == "budget" and "user" not in meter.rule.per:
            purse = meter.state
            used = purse.used if purse.ends > now else 0  # its period is over, and nobody has called in the next yet
            told.append((meter, max(0, meter.ceiling.most - used)))
    return heapq.nsmallest(_MOST, told, key=lambda one: one[1] / max(1, one[0].ceiling.most))
