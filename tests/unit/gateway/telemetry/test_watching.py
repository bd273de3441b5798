"""What is looked at again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.watching import watch_components, watch_loop


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def told(metrics: Metrics, start: str) -> list[str]:
    return [line for line in metrics.exposition().decode().splitlines() if line.startswith(start)]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_component_is_told_to_be_away_and_back(caplog: pytest.LogCaptureFixture) -> None:
    states: dict[str, str] | None = {"records": "ok", "knowledge": "starting"}
    looks = 0

    async def health() -> dict[str, str]:
        nonlocal looks
        looks += 1
        if states is None:
            raise RuntimeError("the pool is closed")
        return states

    metrics = Metrics(lambda: 0, lambda: 0)
    up = "rag_gateway_component_up{"
    async with running(watch_components(metrics, health, every=0.001)):
        await until(lambda: len(told(metrics, up)) == 2)
        assert told(metrics, up) == [up + 'component="records"} 1.0', up + 'component="knowledge"} 0.0']
        states = {"records": "unavailable", "knowledge": "ok"}
        await until(lambda: up + 'component="records"} 0.0' in told(metrics, up))
        states, before = None, looks
        await until(lambda: looks > before + 2)
        assert told(metrics, up) == [up + 'component="records"} 0.0', up + 'component="knowledge"} 1.0']
    assert "can't be told" in caplog.text


async def test_the_loops_tasks_and_its_lag_are_told() -> None:
    metrics = Metrics(lambda: 0, lambda: 0)
    async with running(watch_loop(metrics, every=0.001)):
        await until(lambda: told(metrics, "rag_gateway_tasks "))
        (line,) = told(metrics, "rag_gateway_tasks ")
        assert float(line.split()[1]) == len(asyncio.all_tasks())
        lag = "rag_gateway_event_loop_lag_seconds_count "
        await until(lambda: (lines := told(metrics, lag)) and float(lines[0].split()[1]) >= 3)
