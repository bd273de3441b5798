"""A second try beside a slow first one: whichever begins to answer first is the answer, the other is cut off.

Dean and Barroso, The Tail at Scale, 2013: hedged requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.providers.protocol import Chunks

T = TypeVar("T")
Begun = tuple[T, Chunks]
Try = Callable[[], Awaitable[Begun[T]]]


async def hedged(first: Try[T], second: Try[T], after: float, may: Callable[[], bool]) -> Begun[T]:
    """The answer of `first`, or of `second`, which begins when `first` has said nothing for `after` seconds.

    `may` is asked before the second begins. Raises `first`'s error when both fail, or when it fails alone.
    """
    leading = asyncio.ensure_future(first())
    running: set[asyncio.Future[Begun[T]]] = {leading}
    try:
        done, _ = await asyncio.wait(running, timeout=after)
        if not done and may():
            running.add(asyncio.ensure_future(second()))
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            good = [task for task in done if not task.cancelled() and task.exception() is None]
            if good:
                running.update(good[1:])
                return good[0].result()
        return leading.result()
    finally:
        for task in running:
            task.add_done_callback(_let_go)
            task.cancel()


def _let_go(task: asyncio.Future[Begun[T]]) -> None:
    """The loser may have come in at the very same moment: then its connection is ours to close."""
    if not task.cancelled() and task.exception() is None:
        task.result()[1].close()
