"""Work that one process at a time may do; a lock is of the file as it was opened, so two tasks stand for two processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.alone import alone


async def test_one_is_inside_at_a_time_and_each_has_its_turn(tmp_path: Path) -> None:
    inside, most, turns = 0, 0, []

    async def work(number: int) -> None:
        nonlocal inside, most
        async with alone(tmp_path / "made" / "lock"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            turns.append(number)
            inside -= 1

    await asyncio.gather(*(work(number) for number in range(3)))
    assert most == 1
    assert sorted(turns) == [0, 1, 2]


async def test_who_waits_can_be_cancelled_and_holds_nothing(tmp_path: Path) -> None:
    async def wait() -> None:
        async with alone(tmp_path / "lock"):
            pass

    async with alone(tmp_path / "lock"):
        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await wait()


async def test_what_fails_inside_lets_the_next_one_in(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        async with alone(tmp_path / "lock"):
            raise RuntimeError
    async with alone(tmp_path / "lock"):
        pass
