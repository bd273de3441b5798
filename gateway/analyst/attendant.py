"""The process beside the gateway that fills the lake and watches for drift: started, started again, ended with it.

It is another process so that the calls pay nothing for it: no memory, no turn of their interpreter. It ends when the
pipe to it does, in whatever way the gateway goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from gateway.analyst.settings import Settings, Told

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.drift.settings import Level
    from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds before one that has ended is started again
_WELL = 120.0  # seconds after which one that ended is no sign of a fault that stays
_ENDS_IN = 10.0  # seconds
_SILENT = 120.0  # seconds beyond its rounds after which a process that says nothing is taken to do nothing
_LINE = 1_000_000  # bytes


class Analyst:
    """One for each gateway, whatever its number of workers; of several gateways on one store, one at a time works."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._told = Told()
        self._at = time.monotonic()
        self._rows = 0
        self._failed = 0
        self._levels: dict[tuple[str, str], tuple[float, float, bool]] = {}
        self.drifted: Callable[[Level], None] | None = None  # who is told of what was found, each time

    def tell(self, metrics: Metrics) -> None:
        """What it tells becomes metrics."""
        lag = "Age of the oldest record that the lake does not have."
        metrics.gauge("rag_gateway_lake_lag_seconds", lag, self._lag, how="max")
        metrics.counted("rag_gateway_lake_rows", "Calls written to the lake.", (), lambda: {(): self._rows})
        failures = "Rounds of the lake's process that failed, and its own ends."
        metrics.counted("rag_gateway_lake_failures", failures, (), lambda: {(): self._failed})
        of = ("kind", "name")
        for index, (name, meaning) in enumerate((
            ("rag_gateway_drift_score", "How far the last window is from its reference, 0 to 1."),
            ("rag_gateway_drift_threshold", "The smallest score that counts as drift."),
            ("rag_gateway_drift", "Whether the score is above its threshold and no chance."),
        )):  # fmt: skip
            metrics.levels(name, meaning, of, partial(self._level, index), how="max")

    def _lag(self) -> float:
        """It grows where nothing is told: by a process that has said that it is behind, or that hangs."""
        silent = time.monotonic() - self._at
        if not self._told.holds or not (self._told.lag or silent > 2 * self._settings.every + _SILENT):
            return self._told.lag
        return self._told.lag + silent

    def _level(self, index: int) -> dict[tuple[str, ...], float]:
        return {name: float(values[index]) for name, values in self._levels.items()}

    async def run(self) -> None:
        """Until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                status: object = await self._once()
            except OSError as fault:
                status = fault.strerror
            except ValueError:  # asyncio's, for a line that is too long
                status = "what it says has no end"
            self._failed += 1
            pause = _FIRST_PAUSE if time.monotonic() - began > _WELL else min(pause * 2, _LONGEST_PAUSE)
            log.error("the lake's process has ended (%s); starting it again in %.0f s", status, pause)
            await asyncio.sleep(pause)

    async def _once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.analyst",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(ConnectionError):
                process.stdin.write(msgspec.json.encode(self._settings) + b"\n")
                await process.stdin.drain()
            async for line in process.stdout:
                self._take(line)
            return await process.wait()
        finally:
            process.stdin.close()
            try:
                async with asyncio.timeout(_ENDS_IN):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    def _take(self, line: bytes) -> None:
        try:
            told = msgspec.json.decode(line, type=Told)
        except msgspec.DecodeError:
            log.warning("the lake's process says what nobody understands")
            return
        self._told, self._at = told, time.monotonic()
        self._rows += told.rows
        self._failed += told.failed
        if told.levels is not None:
            self._levels = {(one.kind, one.name): (one.score, one.threshold, one.drifted) for one in told.levels}
            if (drifted := self.drifted) is not None:
                for one in told.levels:
                    drifted(one)
