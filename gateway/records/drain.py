"""From the spools to the store: what dead processes left behind first, then this one's own, each in its order."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from gateway.records.database import StoreUnavailable
from gateway.records.ledger import Entry
from gateway.records.segments import Record
from gateway.records.spool import Spool, abandoned

log = logging.getLogger(__name__)

_SMALLEST, _LARGEST = 50, 5_000  # records in a transaction: fewer where the store does not manage more in its time
_LOOK_ROUND: Final = 5.0  # seconds between looks for spools of processes that have died
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds before a store that is away is tried again
# OperationalError: a value too long for an index. That the store is away is another error, StoreUnavailable.
_WRONG_VALUES: Final = (DataError, IntegrityError, OperationalError, OverflowError)
_decode: Final = msgspec.msgpack.Decoder(Entry).decode


class Store(Protocol):
    """Where records end up; `gateway.records.ledger.Ledger` says what each does and raises."""

    def apply(self, spool_id: str, columns: Sequence[str], entries: Sequence[tuple[int, Entry]]) -> None: ...

    def forget(self, spool_id: str) -> None: ...


class Drain:
    """A thread of its own, so that a store that hangs holds up nobody else."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        left_over: Callable[[int], Sequence[Record]],
        stored: Callable[[int], None],
        pace: float,
    ) -> None:
        """`left_over` gives up to so many records that the spool had no room for, which come after all that is in it.
        `stored` is told the number of the last own record that is in the store, 0 where it is not about one.
        `pace`: seconds for which records may gather before they are brought, unless `hurry` is called.
        """
        self._store = store
        self._own = spool
        self._parent: Path = spool.folder.parent
        self._left_over = left_over
        self._stored = stored
        self._pace = pace
        self._adopted: deque[Spool] = deque()
        self._group = _LARGEST
        self._looked = -_LOOK_ROUND
        self._awake = threading.Event()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self.recovered = False  # whether what dead processes had left at the start is in the store
        self.failures = 0
        self.healthy = True
        self.dropped = 0
        self._running = threading.Thread(target=self._run, name="record-store", daemon=True)

    def start(self) -> None:
        self._awake.set()
        self._running.start()

    @property
    def adopted_bytes(self) -> int:
        return sum(spool.size for spool in list(self._adopted))

    def wake(self) -> None:
        """There is something in the spool."""
        self._awake.set()

    def hurry(self) -> None:
        """The same, and somebody waits for it."""
        self._hurry.set()
        self._awake.set()

    def close(self) -> None:
        """One more try to bring what there is; the rest stays in the spool for the next process."""
        self._closing.set()
        self.hurry()
        self._running.join(timeout=10.0)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._awake.wait(_LOOK_ROUND)
            self._awake.clear()
            self._hurry.wait(self._pace)
            self._hurry.clear()
            closing = self._closing.is_set()
            if self.round():
                pause = _FIRST_PAUSE
            elif not closing:
                self._hurry.wait(pause)
                self._awake.set()
                pause = min(pause * 2, _LONGEST_PAUSE)
            if closing:
                for spool in self._adopted:
                    spool.close()
                return

    def round(self) -> bool:
        """Bring everything; False where the store, or the disk, does not let it."""
        try:
            self._adopt()
            while self._adopted:
                self._bring(self._adopted[0])
                self._leave(self._adopted.popleft())
            self.recovered = True
            self._stored(0)
            self._bring(self._own)
            self._own.shrink(0.5)
            while records := self._left_over(self._group):
                self._apply(self._own.id, self._own.columns, records)
                self._stored(records[-1][0])
        except StoreUnavailable as failure:
            self._report(False, f"{failure}")
            return False
        except Exception as failure:  # whatever it is, no record may be lost for it
            self._report(False, f"{type(failure).__name__}", failure)
            return False
        return True

    def _adopt(self) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_ROUND:
            return
        self._looked = now
        self._own.shrink()
        for spool in abandoned(self._parent, self._own.id):
            if spool.size:
                log.info("the records of a process that has ended are brought to the store (spool %s)", spool.id)
            self._adopted.append(spool)

    def _leave(self, spool: Spool) -> None:
        """A spool that is drained: its folder goes first, for its cursor must outlive it."""
        if spool.close():
            self._store.forget(spool.id)

    def _bring(self, spool: Spool) -> None:
        while (batch := spool.read(self._group)) is not None:
            self._apply(spool.id, batch.columns, batch.records)
            spool.done(batch)
            self._stored(batch.records[-1][0] if spool is self._own else 0)

    def _apply(self, spool_id: str, columns: Sequence[str], records: Sequence[Record]) -> None:
        """All of them in one transaction; where one can't be stored, each for itself and that one left out."""
        entries = []
        for number, payload, made in records:
            try:
                entries.append((number, made if isinstance(made, Entry) else _decode(payload)))
            except msgspec.DecodeError as failure:
                self._leave_out(f"number {number} of spool {spool_id}", failure)
        try:
            self._store.apply(spool_id, columns, entries)
        except _WRONG_VALUES:
            for number, entry in entries:
                try:
                    self._store.apply(spool_id, columns, [(number, entry)])
                except _WRONG_VALUES as failure:
                    self._leave_out(f"of call {dict(zip(columns, entry.values, strict=False)).get('call_id')}", failure)
        self._report(True)

    def _leave_out(self, which: str, failure: Exception) -> None:
        self.dropped += 1
        log.error("the record %s can't be stored: %s", which, type(failure).__name__)

    def _report(self, well: bool, why: str = "", failure: Exception | None = None) -> None:
        if well and not self.healthy:
            log.warning("the record store takes records again")
        if not well and self.healthy:
            log.error("the record store takes no records, they wait in the spool: %s", why, exc_info=failure)
        self._group = min(self._group * 2, _LARGEST) if well else max(self._group // 2, _SMALLEST)
        self.healthy = well
        if not well:
            self.failures += 1
            self._stored(0)
