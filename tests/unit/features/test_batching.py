"""Reads that come together are made together, and none harms another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from features.batching import Batcher
from features.vector import FeaturesUnavailable


class Reads:
    """A store whose reads wait until they may go on; it tells what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.go_on = asyncio.Event()
        self.fails: Exception | None = None

    async def __call__(self, rows: Sequence[int]) -> list[int]:
        self.asked.append(list(rows))
        await self.go_on.wait()
        if self.fails is not None:
            raise self.fails
        return [row * 10 for row in rows]


async def test_what_is_asked_for_in_one_turn_is_one_read() -> None:
    reads = Reads()
    reads.go_on.set()
    batcher: Batcher[int, int] = Batcher(reads)
    told = await asyncio.gather(*(batcher.ask(row) for row in (1, 2, 1, 3)))
    assert told == [10, 20, 10, 30]
    assert reads.asked == [[1, 2, 3]]


async def test_a_lone_read_waits_for_nobody() -> None:
    reads = Reads()
    reads.go_on.set()
    batcher: Batcher[int, int] = Batcher(reads)
    assert [await batcher.ask(row) for row in (1, 2)] == [10, 20]
    assert reads.asked == [[1], [2]]


async def test_while_reads_run_the_next_gather_within_bounds() -> None:
    reads = Reads()
    batcher: Batcher[int, int] = Batcher(reads, most=3, at_once=1, waiting=5)
    first = asyncio.ensure_future(batcher.ask(0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(batcher.ask(row)) for row in range(1, 6)]
    await asyncio.sleep(0)
    with pytest.raises(FeaturesUnavailable, match="too many reads wait"):
        await batcher.ask(6)
    reads.go_on.set()
    assert await asyncio.gather(first, *others) == [0, 10, 20, 30, 40, 50]
    assert reads.asked == [[0], [1, 2, 3], [4, 5]]


async def test_who_gives_up_takes_nobodys_answer_away() -> None:
    reads = Reads()
    batcher: Batcher[int, int] = Batcher(reads, at_once=1)
    leaving, staying = (asyncio.ensure_future(batcher.ask(1)) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(batcher.ask(2))
    gone = asyncio.ensure_future(batcher.ask(3))
    await asyncio.sleep(0)
    leaving.cancel()
    gone.cancel()
    await asyncio.sleep(0)
    reads.go_on.set()
    assert [await staying, await waiting] == [10, 20]
    assert reads.asked == [[1], [2]]


async def test_a_failure_is_everybodys_who_asked_and_nobody_elses() -> None:
    reads = Reads()
    reads.go_on.set()
    reads.fails = FeaturesUnavailable("away")
    batcher: Batcher[int, int] = Batcher(reads)
    told = await asyncio.gather(batcher.ask(1), batcher.ask(2), return_exceptions=True)
    assert [str(one) for one in told] == ["away", "away"]
    reads.fails = None
    assert await batcher.ask(1) == 10
    await batcher.aclose()
