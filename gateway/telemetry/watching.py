"""What nobody notes by itself is looked at again and again: the event loop, and the state of what the gateway needs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


async def watch_loop(metrics: Metrics, every: float = 0.5) -> None:
    """Measure how late the event loop is, and how many tasks it has, until cancelled."""
    loop = asyncio.get_running_loop()
    metrics.gauge(
        "rag_gateway_tasks", "Tasks of a process's event loop.", lambda: len(asyncio.all_tasks(loop)), how="each"
    )
    while True:
        before = time.perf_counter()
        await asyncio.sleep(every)
        metrics.loop_lag.observe(max(0.0, time.perf_counter() - before - every))


async def watch_components(
    metrics: Metrics, health: Callable[[], Awaitable[Mapping[str, str]]], every: float = 5.0
) -> None:
    """Have the metrics tell what `/readyz` tells of each component, until cancelled: 1 where it is well, 0 where it is
    away or starting. Of several workers, the one that can't reach it is heard.
    """
    told: dict[tuple[str, ...], float] = {}
    metrics.levels(
        "rag_gateway_component_up", "What the gateway needs: 1 where it is well.", ("component",), lambda: dict(told),
        how="min",
    )  # fmt: skip
    while True:
        try:
            states = await health()
        except Exception:  # what can't be looked at now is looked at again; the alert is on what was seen last
            log.exception("the state of the components can't be told")
        else:
            told = {(name,): float(state == "ok") for name, state in states.items()}
        await asyncio.sleep(every)
