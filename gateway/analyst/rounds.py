"""What the lake's process does, again and again: fill, erase, merge, let go of what is past its time, look for drift."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import SecretStr
from sqlalchemy import func, select

from gateway.analyst.settings import Settings, Told
from gateway.config.section import bytes_of_key
from gateway.lake.catching_up import CatchingUp
from gateway.lake.filling import Filled, Filling
from gateway.lake.lake import Lake, UnreadableFile
from gateway.lake.manifest import LEASE, LeaseLost, Manifest
from gateway.lake.signals import Detect, Signals
from gateway.lake.storage import LakeUnavailable, Storage
from gateway.lake.upkeep import Compaction, Erasures, Keeping
from gateway.lake.vectors import Sampler
from gateway.records.contents import Contents
from gateway.records.database import Database, StoreUnavailable, WrongVersion
from gateway.records.retention import Periods, periods_by_tenant
from gateway.records.schema import lake_queue
from gateway.records.sealing import Seal

if TYPE_CHECKING:
    from gateway.drift.watch import Watch

log = logging.getLogger(__name__)

_LOOK = 1.0  # seconds between looks for an erasure
_HOLD = LEASE / 4  # seconds between renewals of the lease, or looks whether it is free
_SWEEP = 3_600.0
_PATIENCE = 300.0  # seconds for one transaction: nobody waits for this process
_MERGES = 50  # partitions merged between two looks at the queue


class Rounds:
    def __init__(self, settings: Settings, tell: Callable[[Told], None], ending: threading.Event) -> None:
        self._settings = settings
        self._tell = tell
        self._ending = ending
        pa.set_cpu_count(1)
        pa.set_io_thread_count(2)
        self._database = Database(settings.store, patience=_PATIENCE)
        self._manifest = Manifest(self._database, settings.holder)
        self._lake = Lake(Storage(settings.url, settings.options), self._manifest)
        seal = Seal([bytes_of_key(SecretStr(key)) for key in settings.keys]) if settings.keys else None
        self._filling = Filling(
            self._database,
            self._lake,
            Contents(seal),
            Signals(_language(), settings.refusals),
            keep_contents=settings.content,
            sampler=_sampler(settings),
        )
        self._erasures = Erasures(self._database, self._lake)
        self._keeping = Keeping(self._lake, partial(periods_by_tenant, self._database, _periods(settings)))
        self._compaction = Compaction(self._lake, settings.file_size)
        self._drift = _watch(settings, self._database)
        self._holds = False
        self._well: bool | None = None  # nothing is known yet
        self._held = self._filled = self._swept = self._watched = float("-inf")

    def run(self) -> None:
        """Until `ending` is set."""
        while not self._ending.is_set():
            try:
                told = self._round()
                if told is not None:
                    self._tell(told)
                if not self._well:
                    log.info("the lake is filled by %s process", "this" if self._holds else "another")
                self._well = True
            except LeaseLost:
                self._holds = False
            except (StoreUnavailable, WrongVersion, LakeUnavailable) as failure:
                self._failed(str(failure))
            except Exception as failure:
                self._failed(type(failure).__name__, failure)
            self._ending.wait(_LOOK)
        if self._holds:
            with contextlib.suppress(StoreUnavailable):  # its time runs out
                self._manifest.release()
        self._database.close()

    def _failed(self, why: str, failure: Exception | None = None) -> None:
        if self._well is not False or failure is not None:
            log.error("the lake is not filled for now: %s", why, exc_info=failure)
        self._well = False
        self._held = float("-inf")  # who has failed to take the lease does not know that another has it
        self._tell(Told(self._holds, failed=1, lag=self._lag() if self._database.ready else 0.0))
        self._ending.wait(self._settings.every)

    def _round(self) -> Told | None:
        """What there is to tell."""
        now = time.monotonic()
        if not self._database.ready:
            self._database.prepare()
        if now - self._held >= _HOLD:
            self._held = now
            self._hold()
            if not self._holds:
                return Told()
        if not self._holds:
            return None
        due = now - self._filled >= self._settings.every
        self._erasures.run()
        filled = Filled()
        if due:
            self._filled = now
            filled = self._fill()
            while not self._ending.is_set() and self._compaction.run(_MERGES):
                pass
        if now - self._swept >= _SWEEP:
            self._swept = now
            self._keeping.run()
        levels = None
        if self._drift is not None and now - self._watched >= self._drift.every:
            self._watched = now
            levels = self._drift.run()
        return Told(True, self._lag(), filled.calls, levels=levels) if due or levels is not None else None

    def _hold(self) -> None:
        """Take the lease, or renew it; whoever takes it looks through what there is."""
        if self._holds:
            self._holds = self._manifest.take(self._settings.url) is not None
        if not self._holds and self._lake.open():
            try:
                CatchingUp(self._database, self._lake).run()
            except UnreadableFile as fault:  # it holds up nothing else
                self._lake.unreadable(fault)
            self._holds = True

    def _fill(self) -> Filled:
        total = Filled()
        while not self._ending.is_set() and (filled := self._filling.step()) is not None:
            total += filled
        return total

    def _lag(self) -> float:
        try:
            with self._database.reading() as connection:
                oldest = connection.scalar(select(func.min(lake_queue.c.at)))
        except StoreUnavailable:
            return 0.0
        return max(0.0, time.time() - oldest / 1e9) if oldest is not None else 0.0


def _periods(settings: Settings) -> Periods:
    calls, content = settings.calls_kept, settings.content_kept
    return Periods("forever" if calls is None else calls, "forever" if content is None else content)


def _language() -> Detect | None:
    """Where what tells languages is installed: it comes with the guardrails."""
    try:
        from gateway.lake.languages import Languages
    except ImportError:
        return None
    return Languages()


def _sampler(settings: Settings) -> Sampler | None:
    if settings.embedder is None or not settings.vectors:
        return None
    from gateway.analyst.embedding import EmbeddingProcess

    return Sampler(settings.vectors, settings.embedder.model, EmbeddingProcess(settings.embedder).embed)


def _watch(settings: Settings, database: Database) -> Watch | None:
    if settings.drift is None:
        return None
    from gateway.drift.watch import Watch
    from gateway.lake.opened import queries

    return Watch(settings.drift, queries(database, settings.url, settings.options, threads=1))
