"""Records into the spool; into memory, bounded, while its disk takes none; and when there is room for more."""

from __future__ import annotations

import logging
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, repeat
from typing import Final

from gateway.records.segments import Record
from gateway.records.spool import Spool

log = logging.getLogger(__name__)

_MOST_IN_MEMORY: Final = 64_000_000  # bytes
_WRITE: Final = 1_000_000  # bytes written at once, about
_GROUP: Final = 5_000


class Intake:
    """One thread brings records, the drain's looks what is left over; `full` and `lost` may be read from anywhere."""

    def __init__(self, spool: Spool, used: Callable[[], int], *, sync: bool, max_bytes: int, refuse: bool) -> None:
        """`used` is how many bytes of records wait on the disk. Beyond `max_bytes`, or where the disk takes nothing,
        `refuse` has `full` say so, and else records are lost and counted.
        """
        self._spool = spool
        self._used = used
        self._sync = sync
        self._max_bytes = max_bytes
        self._refuse = refuse
        self._guard = threading.Lock()
        self._left: deque[Record] = deque()
        self._left_bytes = 0
        self._losing = False
        self.number = 0  # of the last record
        self.lost = 0
        self.disk_refuses = False
        self.full = False

    @property
    def left(self) -> int:
        """Records that only this memory has."""
        return len(self._left)

    def bring(self, payloads: Sequence[bytes], entries: Sequence[object]) -> None:
        """Number the records and write them, with all that waits. `disk_refuses` says whether that went well.

        `entries` are what the payloads were made from: who reads what was written lately need not make them again.
        """
        self._keep(payloads, entries)
        try:
            # With nothing to write, a disk that has refused is tried all the same.
            while (records := self._next(_GROUP)) or self.disk_refuses:
                self._spool.append(records, records[0][0] if records else self.number + 1, sync=self._sync)
                if self.disk_refuses:
                    log.warning("the spool takes call records again")
                self.disk_refuses = False
                if records:
                    self.stored(records[-1][0])
        except OSError as failure:
            if not self.disk_refuses:
                log.error("the spool takes no call records, they wait in memory: %s", failure.strerror)
            self.disk_refuses = True
        self.look_for_room()

    def left_over(self, most: int) -> Sequence[Record]:
        """Up to so many records that the disk does not take, for the store; else they come by way of the spool."""
        return self._next(most) if self.disk_refuses else ()

    def stored(self, through: int) -> None:
        """The records up to this number need not be kept here any longer."""
        with self._guard:
            if self._left and self._left[-1][0] <= through:  # as nearly always
                self._left.clear()
                self._left_bytes = 0
            while self._left and self._left[0][0] <= through:
                self._left_bytes -= len(self._left.popleft()[1])

    def look_for_room(self) -> None:
        self.full = self._refuse and (self.disk_refuses or self._used() >= self._max_bytes)

    def _keep(self, payloads: Sequence[bytes], entries: Sequence[object]) -> None:
        room = self._refuse or self._used() < self._max_bytes
        with self._guard:
            before = list(accumulate(map(len, payloads), initial=self._left_bytes))  # bytes before each, and after all
            count = min(bisect_right(before, _MOST_IN_MEMORY), len(payloads)) if room else 0
            # What waits for the disk has a bound in bytes, in which the payloads alone are counted.
            made = repeat(None) if self.disk_refuses else entries
            self._left.extend(zip(range(self.number + 1, self.number + count + 1), payloads, made, strict=False))
            self.number += count
            self._left_bytes = before[count]
            if count < len(payloads):
                self._lose(len(payloads) - count)
                return
        if self._losing and payloads:
            log.warning("call records are kept again; %d were dropped", self.lost)
            self._losing = False

    def _lose(self, count: int) -> None:
        self.lost += count
        if not self._losing:
            log.error("there is no room for call records: they are dropped and counted from now on")
            self._losing = True

    def _next(self, most: int) -> list[Record]:
        """Up to so many of what is left, and not many more bytes than a write should have."""
        chosen: list[Record] = []
        size = 0
        with self._guard:
            if len(self._left) <= most and self._left_bytes <= _WRITE:
                return list(self._left)
            for record in self._left:
                chosen.append(record)
                size += len(record[1])
                if len(chosen) == most or size > _WRITE:
                    break
        return chosen
