"""Drift, looked for again and again by the lake's process: each model's last window against the time before."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from gateway.drift.findings import Finding, Kind, judged, summaries
from gateway.drift.settings import Level, Watching
from gateway.drift.windows import Windows, compare

if TYPE_CHECKING:
    from gateway.lake.query import Queries

log = logging.getLogger(__name__)


def look(queries: Queries, settings: Watching, until: float) -> list[Finding]:
    """All that was compared at the time `until` (seconds since the epoch), judged. Raises what the lake raises."""
    begin = until - settings.window
    windows = Windows(begin - settings.reference, begin, until)
    return judged(compare(queries, windows, settings.thresholds, settings.min_calls), settings.alpha)


class Watch:
    def __init__(self, settings: Watching, queries: Queries) -> None:
        self._settings = settings
        self._queries = queries
        self._known: set[tuple[Kind, str]] = set()

    @property
    def every(self) -> float:
        return self._settings.every

    def run(self) -> list[Level]:
        """What is told to the metrics. New drift is logged."""
        findings = look(self._queries, self._settings, time.time())
        drifted = {(one.kind, one.name) for one in findings if one.drifted}
        for one in findings:
            if one.drifted and (one.kind, one.name) not in self._known:
                log.warning(
                    "drift of %s in %s (%s): %.2f, threshold %.2f, corrected p %.2g",
                    one.kind, one.name, one.what, one.comparison.effect, one.threshold, one.p,
                )  # fmt: skip
        self._known = drifted
        return [
            Level(kind, name, told.score, told.threshold, told.drifted)
            for (kind, name), told in summaries(findings).items()
        ]
