"""One process's conversation with Redis about limits: calls to be granted, what was used, what it holds, that it lives.

Calls that wait at the same time go in one round trip, with all that there is to tell. What was told and not answered is
told again, under the same number, so that it is done once; and what the process holds is told anew when Redis or the
other processes may think otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from redis.exceptions import NoScriptError

from gateway.access.redis_script import SCRIPT
from gateway.state import StateUnavailable

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool, Redis
    from redis.asyncio.connection import AbstractConnection

    from gateway.access.clock import SteadyClock
    from gateway.access.meters import Ask
    from gateway.state import RedisState

log = logging.getLogger(__name__)

_SHA = hashlib.sha1(SCRIPT.encode()).hexdigest()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode

LEASE = 6.0  # seconds after which a process that says nothing is held to be gone
_BEAT = 2.0
_GATHER = 0.02  # seconds that a settlement waits for company, or for the next call to be granted
_TOGETHER = 64  # calls in one round trip at most
_WAITING = 2_000  # settlements kept one by one; more are added up, while Redis is away

Settlement = tuple[Any, ...]
"""A kind, the name of a count, and figures: what the script does with each is written there."""
Checks = list[tuple[Any, ...]]
Answer = list[Any]
_Call = tuple[Sequence["Ask"], Checks, "asyncio.Future[Answer | None]"]


class Conversation:
    """Belongs to one event loop, in which `run` goes on.

    `granted` is told of each call that Redis has granted, before the call hears of it; `gone` where the call does not
    wait for it any more.
    """

    def __init__(
        self,
        state: RedisState,
        clock: SteadyClock,
        lease: float,
        granted: Callable[[Sequence[Ask]], None],
        gone: Callable[[Sequence[Ask], Answer | None], None],
    ) -> None:
        self._state = state
        self._clock = clock
        self._lease = lease
        self._granted = granted
        self._gone = gone
        self._prefix = f"{state.prefix}:limits:"
        self._line = _Line()
        self._worker = secrets.token_hex(8)
        self._calls: list[_Call] = []
        self._ended = False
        self._settlements: list[Settlement] = []
        self._sent: list[Settlement] = []  # of which it is not known whether Redis has done them
        self._seq = 0
        self._most_waiting = _WAITING
        self._presence = "join"
        self._holdings: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._due: asyncio.TimerHandle | None = None

    @property
    def healthy(self) -> bool:
        return self._state.healthy

    async def ask(self, asks: Sequence[Ask], checks: Checks) -> Answer | None:
        """What Redis says; None when it is away."""
        if self._ended or not self._state.healthy:
            return None
        answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._calls.append((asks, checks, answer))
        self._wake.set()
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled():
                self._gone(asks, answer.result())
            raise

    def hold(self, name: str, amount: int) -> None:
        self._holdings[name] = self._holdings.get(name, 0) + amount

    def let_go(self, name: str, amount: int, *, soon: bool = False) -> None:
        left = self._holdings.get(name, 0) - amount
        if left > 0:
            self._holdings[name] = left
        else:
            self._holdings.pop(name, None)
        if amount:
            self.tell(("release", name, amount), soon=soon)

    def tell(self, settlement: Settlement, *, soon: bool = False) -> None:
        self._settlements.append(settlement)
        if soon:
            self._wake.set()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(_GATHER, self._wake.set)
        if len(self._settlements) > self._most_waiting and not self._state.healthy:
            self._settlements = _added_up(self._settlements)
            self._most_waiting = max(_WAITING, 2 * len(self._settlements))

    async def run(self) -> None:
        """Talk to Redis, until cancelled; then say farewell."""
        beat = asyncio.ensure_future(self._beat())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._due is not None:
                    self._due.cancel()
                    self._due = None
                while self._calls or self._settlements or self._sent or self._presence:
                    try:
                        heard = await self._turn()
                    except Exception:
                        log.exception("limits can't be counted in Redis")
                        heard = False
                    if not heard:
                        self._refuse_waiting(self._calls)
                        self._calls = []
                        break
        finally:
            beat.cancel()
            self._ended = True
            self._refuse_waiting(self._calls)
            self._calls = []
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(asyncio.ensure_future(self._farewell()))
            await self._line.aclose()

    async def _farewell(self) -> None:
        while (self._sent or self._settlements) and await self._turn():
            pass
        self._presence = "leave"
        await self._turn()

    async def _beat(self) -> None:
        while True:
            self._presence = self._presence or "beat"
            self._wake.set()
            await asyncio.sleep(min(_BEAT, self._lease / 3))

    async def _turn(self) -> bool:
        """One round trip with all there is to say; whether Redis was there."""
        calls, self._calls = self._calls[:_TOGETHER], self._calls[_TOGETHER:]
        if not self._sent and self._settlements:
            self._sent, self._settlements = self._settlements, []
            self._seq += 1
        presence, self._presence = self._presence, ""
        if presence == "join":  # what is held is told as it is now
            self._settlements = [one for one in self._settlements if one[0] != "release"]
            self._sent = [one for one in self._sent if one[0] != "release"]
        at = round(self._clock() * 1000)
        message = [
            at, self._worker, round(self._lease * 1000), self._seq, self._sent, presence,
            self._holdings if presence == "join" else {}, [checks for _, checks, _ in calls],
        ]  # fmt: skip
        payload = _encode(message)
        try:
            now, joined, answers = _decode(await self._state.run(partial(self._line.asked, self._prefix, payload)))
        except BaseException as failure:
            # It may have been done all the same: what this process holds is told anew, and with it what it does not.
            self._presence = "leave" if presence == "leave" else "join"
            self._sent = [one for one in self._sent if one[0] != "release"]
            self._refuse_waiting(calls)
            if not isinstance(failure, StateUnavailable):
                if isinstance(failure, asyncio.CancelledError):
                    raise
                log.exception("limits can't be counted in Redis")
                self._sent = []
            return False
        self._sent = []
        if joined:
            self._presence = "join"
        self._agree(now, at, joined=presence == "join")
        try:
            for (asks, _, answer), told in zip(calls, answers, strict=True):
                if told[0] == 1:
                    self._granted(asks)
                if answer.done():
                    self._gone(asks, told)
                else:
                    answer.set_result(told)
        finally:
            self._refuse_waiting(calls)  # of a fault of ours nobody waits for ever
        return True

    def _agree(self, now: int, at: int, *, joined: bool) -> None:
        """Go by the furthest clock: never further than it, or slow round trips would make time run fast."""
        behind = now / 1000 - self._clock()
        if behind > 0:
            self._clock.move(behind)
        elif joined and now < at:
            self._clock.move((now - at) / 1000)

    def _refuse_waiting(self, calls: Sequence[_Call]) -> None:
        """Let those that still wait go without Redis."""
        for _, _, answer in calls:
            if not answer.done():
                answer.set_result(None)


class _Line:
    """One connection, kept: to take one out of the pool for each round trip costs more than the round trip."""

    def __init__(self) -> None:
        self._connection: AbstractConnection | None = None
        self._pool: ConnectionPool | None = None

    async def asked(self, prefix: str, payload: bytes, redis: Redis) -> bytes:
        """What the script answers. Raises RedisError, OSError."""
        if self._connection is None:
            self._pool = redis.connection_pool
            self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # of redis-py
        connection = self._connection
        try:
            await connection.send_command("EVALSHA", _SHA, 1, prefix, payload)
            try:
                return await connection.read_response()  # type: ignore[no-any-return]  # the script gives bytes
            except NoScriptError:
                await connection.send_command("EVAL", SCRIPT, 1, prefix, payload)
                return await connection.read_response()  # type: ignore[no-any-return]  # the script gives bytes
        except BaseException:
            await self.aclose()  # what comes on it now is an answer that nobody waits for
            raise

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._pool is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)


def _added_up(settlements: Sequence[Settlement]) -> list[Settlement]:
    """The same in fewer words, for a Redis that is away: what each count has used since.

    What was reserved there before is told anew when it is back, and what has left its window by then is left out.
    """
    spent: dict[str, tuple[int, int]] = {}
    used: dict[str, tuple[int, int, int]] = {}
    known: dict[str, Settlement] = {}
    for settlement in settlements:
        kind, name, *values = settlement
        if kind == "spend":
            spent[name] = (spent.get(name, (0, 0))[0] + values[0], values[1])
        elif kind == "note":
            used[name] = (used.get(name, (0, 0, 0))[0] + values[0], values[1], values[2])
        elif kind == "know":
            known[name] = settlement
    # What is known last: it has what was spent before in it, which would be added to it otherwise.
    return [
        *(("spend", name, *values) for name, values in spent.items()),
        *(("note", name, *values) for name, values in used.items()),
        *known.values(),
    ]
