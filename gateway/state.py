"""What gateways share through Redis: one client, a short deadline, and a breaker, so that Redis away costs calls nothing.

The first command that fails opens the breaker. From then on every command is refused at once, until a probe beside
the calls has had an answer again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import BusyLoadingError, DataError, ReadOnlyError, RedisError, ResponseError

log = logging.getLogger(__name__)

T = TypeVar("T")

_CONNECTIONS = 50  # at most; a command that finds none free waits for one, within its deadline
_PROBE_EVERY = 0.25  # seconds
_PROBE_PATIENCE = 1.0  # seconds: a connection to another machine may need more than a call may


class StateUnavailable(Exception):
    """Redis did not answer in time, or did not lately. The message names neither host nor key."""


class RedisState:
    """One process's Redis. Belongs to the event loop that first uses it."""

    def __init__(self, url: str, *, deadline: float = 0.05, prefix: str = "rag-gateway") -> None:
        """`url` is redis:// or rediss://; `deadline` is in seconds; every key begins with `prefix` and a colon.

        Nothing is opened yet. Raises ValueError for a URL that can't be read.
        """
        pool = BlockingConnectionPool.from_url(
            url, max_connections=_CONNECTIONS, timeout=None, socket_connect_timeout=_PROBE_PATIENCE, retry=None
        )
        self._redis = Redis(connection_pool=pool)
        self._deadline = deadline
        self.prefix = prefix
        self._open = False
        self._probe: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        return not self._open

    async def run(self, work: Callable[[Redis], Awaitable[T]], *, deadline: float | None = None) -> T:
        """What `work` gives, within the deadline. Raises StateUnavailable; a fault of `work` itself as it is.

        `work` may have taken effect all the same where its answer was late.
        """
        if self._open:
            raise StateUnavailable("Redis is away")
        try:
            async with asyncio.timeout(deadline or self._deadline):
                return await work(self._redis)
        except (RedisError, OSError, TimeoutError) as failure:
            if _is_a_fault_of_ours(failure):
                raise
            self._break(failure)
            raise StateUnavailable("Redis is away") from None

    async def aclose(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probe
        await self._redis.aclose(close_connection_pool=True)

    def _break(self, failure: BaseException) -> None:
        if self._open:
            return
        log.error("Redis is away, what it is for goes on without it: %s", type(failure).__name__)
        self._open = True
        self._probe = asyncio.get_running_loop().create_task(self._until_it_answers())

    async def _until_it_answers(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_EVERY)
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(_PROBE_PATIENCE):
                    await cast(Awaitable[bool], self._redis.ping())
                break
        self._open = False
        log.warning("Redis answers again")


def _is_a_fault_of_ours(failure: BaseException) -> bool:
    """Redis is there and says that the command is wrong; it says so too where it may not write or is loading."""
    if isinstance(failure, DataError):
        return True
    refused = ("OOM", "MISCONF", "READONLY", "LOADING", "NOAUTH", "WRONGPASS", "NOPERM", "MASTERDOWN", "BUSY")
    if isinstance(failure, ResponseError) and not isinstance(failure, (BusyLoadingError, ReadOnlyError)):
        return not str(failure).startswith(refused)
    return False
