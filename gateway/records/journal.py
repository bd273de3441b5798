"""From the hot path to the disk: settled calls are queued here, and a thread of its own brings them to the spool.

What is in the spool survives the process; the drain brings it on to the store at its own pace. `fast`: calls gather for
some milliseconds and are written to the page cache. `strict`: they are on the disk before `kept` returns, and whoever
answers waits for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec

from gateway.errors import Overloaded
from gateway.exchange import Exchange
from gateway.records.contents import Contents
from gateway.records.database import StoreUnavailable
from gateway.records.drain import Drain, Store
from gateway.records.intake import Intake
from gateway.records.ledger import Entry
from gateway.records.rows import COLUMNS, row
from gateway.records.spool import SEGMENT_BYTES, Spool

log = logging.getLogger(__name__)

# These two are not Final: benchmarks/instructions.py stretches them.
_GATHER = 0.04  # seconds that a group is gathered; with the write itself, under the 100 ms that may be lost
_PACE = 0.1  # seconds that records gather in the spool, so that the store sees few transactions
_GROUP: Final = 5_000
_MOST_WAITING: Final = 200_000  # calls that may wait for this thread, before new ones are counted as dropped
_RETRY: Final = 0.1

NO_ROOM: Final = "This gateway has no room to record calls, and is configured not to answer without. Try again later."

_encode: Final = msgspec.msgpack.Encoder().encode


class Calls(Protocol):
    def find(self, call_id: str, tenant: str, user: str | None = None) -> dict[str, Any] | None:
        """One call of a tenant, or of its `user`. Raises StoreUnavailable."""


class CallJournal:
    """`append` never waits. `export` sees each group too, after it is on the disk: traces are made from it."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        calls: Calls,
        export: Callable[[Sequence[Exchange]], None] | None = None,
        price: Callable[[Exchange], None] | None = None,
        *,
        contents: Contents | None = None,
        strict: bool = False,
        max_bytes: int = 1_000_000_000,
        when_full: Literal["drop", "refuse"] = "drop",
    ) -> None:
        """`folder` is where spools are. `price` finds out what a call cost, where that was not known when it ended.
        `contents` writes what may be recorded of what was said: sealed from here on, where there is a key.

        `max_bytes` of records may wait on the disk; then new ones are dropped and counted, or `full` says that no more
        calls should be taken. Raises StoreUnavailable where `folder` can't be written.
        """
        self.strict = strict
        self._calls = calls
        self._contents = contents or Contents()
        self._price = price
        self._export = export
        self._refuse = when_full == "refuse"
        try:
            self._spool = Spool.create(folder, COLUMNS, min(SEGMENT_BYTES, max_bytes // 8))
        except OSError as failure:
            raise StoreUnavailable(f"no call records can be kept in {folder}: {failure.strerror}") from None
        self._waiting: deque[Exchange] = deque()
        self._awake = threading.Event()
        self._hurry = threading.Event()
        self._progress = threading.Condition()
        self._closing = threading.Event()
        self._asleep = True
        self._appended = 0  # calls, by the loop
        self._taken = 0  # of these by the thread: they are records now, or dropped
        self._safe = 0  # of these in the spool, or dropped
        self._in_store = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lost = 0
        self._intake = Intake(
            self._spool, lambda: self.spooled_bytes, sync=strict, max_bytes=max_bytes, refuse=self._refuse
        )
        self._drain = Drain(store, self._spool, self._intake.left_over, self._stored, _PACE)
        self._running = threading.Thread(target=self._run, name="call-journal", daemon=True)
        self._drain.start()
        self._running.start()

    # -- for the event loop ------------------------------------------------------------------------------
    def append(self, exchange: Exchange) -> None:
        """Queue a settled call. From the event loop only."""
        if len(self._waiting) >= _MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append(exchange)
        self._appended += 1
        if self._asleep:
            self._asleep = False
            self._awake.set()

    async def kept(self) -> None:
        """Wait until all that was appended before is on the disk. Raises Overloaded where the disk does not take it;
        where records may be dropped, it is not waited for any longer then.
        """
        loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiters.append((self._appended, future))
        self._tell_waiters()  # the thread may have been faster
        await future

    def _tell_waiters(self) -> None:
        while self._waiters:
            wanted, future = self._waiters[0]
            failed = self._intake.disk_refuses and wanted <= self._taken
            if wanted > self._safe and not failed:
                return
            self._waiters.popleft()
            if future.done():  # its caller has gone
                continue
            if wanted > self._safe and self._refuse:
                future.set_exception(Overloaded(NO_ROOM, retry_after="5"))
            else:
                future.set_result(None)

    # -- for other threads -------------------------------------------------------------------------------
    @property
    def waiting(self) -> int:
        """Calls of this process that are not in the store yet."""
        return len(self._waiting) + self._intake.number - self._in_store

    @property
    def spooled_bytes(self) -> int:
        """On the disk, with what dead processes have left there."""
        return self._spool.size + self._drain.adopted_bytes

    @property
    def dropped(self) -> int:
        return self._lost + self._intake.lost + self._drain.dropped

    @property
    def healthy(self) -> bool:
        return self._drain.healthy and not self._intake.disk_refuses

    @property
    def full(self) -> bool:
        """Whether new calls should be refused."""
        return self._intake.full

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until all that was appended before is in the store, and what dead processes had left at the start.

        False when the store takes nothing now, or that takes longer than `timeout` seconds.
        """
        wanted, drain = self._appended, self._drain
        self._hurry.set()
        with self._progress:
            if not self._progress.wait_for(lambda: self._taken >= wanted, timeout):
                return False
            number, failures = self._intake.number, drain.failures
            drain.hurry()
            self._progress.wait_for(
                lambda: (self._in_store >= number and drain.recovered) or drain.failures > failures, timeout
            )
            return self._in_store >= number and drain.recovered

    def find(self, call_id: str, tenant: str, user: str | None = None) -> dict[str, Any] | None:
        """A call of a tenant, or of its `user`, that has ended. Raises StoreUnavailable where its record may still be on its way."""
        complete = self.flush()
        call = self._calls.find(call_id, tenant, user)
        if call is None and not complete:
            raise StoreUnavailable("call records wait for the record store")
        return call

    def close(self) -> None:
        """Write what waits, then end. What the store does not take now is brought by the next process."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._hurry.set()
        self._awake.set()
        self._running.join(timeout=10.0)
        self._drain.close()
        if self._intake.left:
            log.error("%d call records could not be kept: the spool's disk takes none", self._intake.left)
        if not self._spool.close():
            log.warning("%d bytes of call records wait in the spool for the next start", self._spool.size)

    # -- the thread --------------------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            self._awake.wait()
            self._awake.clear()
            while self._waiting or self._intake.disk_refuses:
                if not self.strict:
                    self._hurry.wait(_GATHER)
                    self._hurry.clear()
                self._take(min(len(self._waiting), _GROUP))
                if self._intake.disk_refuses and self._closing.wait(_RETRY) and not self._waiting:
                    return
            if self._closing.is_set():
                return
            self._asleep = True
            if self._waiting:  # appended between the last look and the flag
                self._awake.set()

    def _take(self, count: int) -> None:
        """The next calls into the spool, and whatever it did not take before."""
        group = [self._waiting.popleft() for _ in range(count)]
        entries: list[Entry] = []
        payloads: list[bytes] = []
        for exchange in group:
            try:
                entry = self._entry(exchange)
                payloads.append(_encode(entry))
                entries.append(entry)
            except Exception:  # one call that can't be told must not stop the others
                self._lost += 1
                log.exception("the record of call %s was left out", exchange.call_id)
        self._intake.bring(payloads, entries)
        self._drain.wake()
        if self._export is not None and group:
            try:
                self._export(group)
            except Exception:
                log.exception("spans of %d calls were left out", len(group))
        with self._progress:
            self._taken += count
            if not self._intake.disk_refuses:
                self._safe = self._taken
            self._progress.notify_all()
        if self._waiters and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._tell_waiters)

    def _entry(self, exchange: Exchange) -> Entry:
        if self._price is not None:
            self._price(exchange)
        usage = exchange.usage
        tokens = usage.prompt_tokens + usage.completion_tokens if usage is not None else 0
        return Entry(row(exchange, self._contents), exchange.charges, exchange.charged or 0.0, tokens)

    # -- the drain's thread ------------------------------------------------------------------------------
    def _stored(self, number: int) -> None:
        with self._progress:
            self._in_store = max(self._in_store, number)
            self._progress.notify_all()
        self._intake.stored(number)
        if self.full:
            self._intake.look_for_room()
