"""From the hot path to the disk: settled calls are queued here and written in groups by a thread of their own."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gateway.exchange import Exchange
from gateway.records.calls import row

log = logging.getLogger(__name__)

_GATHER = 0.04  # seconds that a group is gathered; with the write itself, under the 100 ms that may be lost
_GROUP = 5_000
_MOST_WAITING = 200_000  # calls kept while the disk refuses, before new ones are counted as dropped
_RETRY = 1.0


class Calls(Protocol):
    def write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Keep all of `rows` or none. Raises sqlite3.Error."""

    def find(self, call_id: str, tenant: str) -> dict[str, Any] | None:
        """One call of a tenant."""

    def close(self) -> None: ...


class CallJournal:
    """`append` never waits. `export` sees each group too, after it is on the disk: traces are made from it."""

    def __init__(
        self,
        calls: Calls,
        export: Callable[[Sequence[Exchange]], None] | None = None,
        price: Callable[[Exchange], None] | None = None,
    ) -> None:
        """`price` finds out what a call cost, where that was not known when it ended."""
        self._calls = calls
        self._price = price
        self._export = export
        self._waiting: deque[Exchange] = deque()
        self._awake = threading.Event()
        self._written = threading.Condition()
        self._closing = False
        self._asleep = True
        self._appended = 0
        self._settled = 0
        self.dropped = 0
        self.healthy = True
        self._thread = threading.Thread(target=self._run, name="call-journal", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def append(self, exchange: Exchange) -> None:
        """Queue a settled call. From the event loop only."""
        if len(self._waiting) >= _MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(exchange)
        self._appended += 1
        if self._asleep:
            self._asleep = False
            self._awake.set()

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until all that was appended before is written; False when that takes longer than `timeout`."""
        wanted = self._appended
        with self._written:
            return self._written.wait_for(lambda: self._settled >= wanted, timeout)

    def find(self, call_id: str, tenant: str) -> dict[str, Any] | None:
        return self._calls.find(call_id, tenant)

    def close(self) -> None:
        """Write what waits, then end."""
        self._closing = True
        self._awake.set()
        self._thread.join(timeout=10.0)
        self._calls.close()

    def _run(self) -> None:
        while True:
            self._awake.wait()
            self._awake.clear()
            while self._waiting:
                if not self._closing:
                    time.sleep(_GATHER)
                self._write(min(len(self._waiting), _GROUP))
                if self._closing and not self.healthy:
                    log.error("%d call records could not be written", len(self._waiting))
                    return
            if self._closing:
                return
            self._asleep = True
            if self._waiting:  # appended between the last look and the flag
                self._awake.set()

    def _write_rows(self, rows: list[tuple[Any, ...]]) -> None:
        """All in one transaction; where one of them can't be stored, each for itself and that one left out.

        Raises sqlite3.OperationalError while the disk or a lock refuses all of them.
        """
        try:
            self._calls.write(rows)
        except sqlite3.OperationalError:
            raise
        except Exception as error:
            if len(rows) == 1:
                self.dropped += 1
                log.error("the record of call %s can't be stored: %s", rows[0][0], error)
                return
            for row_ in rows:
                self._write_rows([row_])

    def _write(self, count: int) -> None:
        group = [self._waiting[order] for order in range(count)]
        rows = []
        for exchange in group:
            try:
                if self._price is not None:
                    self._price(exchange)
                rows.append(row(exchange))
            except Exception:  # one call that can't be told must not stop the others
                self.dropped += 1
                log.exception("the record of call %s was left out", exchange.call_id)
        try:
            self._write_rows(rows)
        except sqlite3.OperationalError as error:
            if self.healthy:
                log.error("the call log can't be written, calls go on and wait for it: %s", error)
            self.healthy = False
            if not self._closing:
                time.sleep(_RETRY)
            return
        if not self.healthy:
            log.warning("the call log is written again")
        self.healthy = True
        for _ in group:
            self._waiting.popleft()
        if self._export is not None:
            try:
                self._export(group)
            except Exception:
                log.exception("spans of %d calls were left out", len(group))
        with self._written:
            self._settled += len(group)
            self._written.notify_all()
