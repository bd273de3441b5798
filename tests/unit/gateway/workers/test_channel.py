"""Messages between two processes' ends of a channel; here both are in one loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.workers.channel import Channel, ChannelClosed, Refused


class End:
    """One end, and what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.released = asyncio.Event()

    async def handle(self, kind: str, body: Any) -> Any:
        self.told.append((kind, body))
        if kind == "wait":
            await self.released.wait()
        if kind == "refuse":
            raise Refused("not here")
        if kind == "fail":
            raise KeyError("a fault")
        return {"heard": body}


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Channel, Channel, End]]:
    ours, theirs = socket.socketpair()
    end = End()
    asking, answering = await Channel.open(ours, End().handle), await Channel.open(theirs, end.handle)
    running = [asyncio.ensure_future(asking.run()), asyncio.ensure_future(answering.run())]
    try:
        yield asking, answering, end
    finally:
        await asking.aclose()
        await answering.aclose()
        await asyncio.gather(*running)


async def test_what_is_told_is_heard_in_order() -> None:
    async with pair() as (asking, _, end):
        for number in range(100):
            asking.tell("number", number)
        assert await asking.ask("last", "line\nbreak ü", within=5) == {"heard": "line\nbreak ü"}
        assert end.told == [*(("number", number) for number in range(100)), ("last", "line\nbreak ü")]


async def test_an_answer_that_takes_its_time_holds_up_no_other() -> None:
    async with pair() as (asking, _, end):
        slow = asyncio.ensure_future(asking.ask("wait", 1, within=5))
        assert await asking.ask("quick", 2, within=5) == {"heard": 2}
        assert not slow.done()
        end.released.set()
        assert await slow == {"heard": 1}


async def test_a_refusal_and_a_fault_come_back_as_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as (asking, _, _):
        with pytest.raises(Refused, match="^not here$"):
            await asking.ask("refuse", within=5)
        with pytest.raises(Refused, match="KeyError: 'a fault'"):
            await asking.ask("fail", within=5)
        asking.tell("fail")
        assert await asking.ask("after", within=5) == {"heard": None}


async def test_one_that_does_not_answer_in_time_is_a_timeout() -> None:
    async with pair() as (asking, _, end):
        with pytest.raises(TimeoutError):
            await asking.ask("wait", within=0.01)
        end.released.set()  # an answer that comes too late is nobody's
        assert await asking.ask("next", within=5) == {"heard": None}


async def test_who_asks_learns_at_once_that_the_other_has_gone() -> None:
    async with pair() as (asking, answering, _):
        waiting = asyncio.ensure_future(asking.ask("wait", within=60))
        await asking.flush()
        await asyncio.sleep(0)
        await answering.aclose()
        with pytest.raises(ChannelClosed):
            await waiting
        with pytest.raises(ChannelClosed):
            await asking.ask("anything", within=60)
        asking.tell("nobody hears it")


async def test_a_message_of_many_megabytes_arrives_whole() -> None:
    async with pair() as (asking, _, _):
        body = ["x" * 1000] * 20_000
        assert await asking.ask("large", body, within=20) == {"heard": body}
