"""A report's parts put together: where its calls come from, what is told of them, the page."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from gateway.assembly.sealing import seal_of
from gateway.drift.settings import watching
from gateway.drift.watch import look
from gateway.lake.opened import queries
from gateway.lake.settings import lake_options, lake_url
from gateway.lake.signals import Signals
from gateway.records.contents import Contents
from gateway.report.facts import Period, gather
from gateway.report.from_store import queries_of_store
from gateway.report.page import page

if TYPE_CHECKING:
    from gateway.config.models import Configuration
    from gateway.records.database import Database


def html(configuration: Configuration, database: Database, seconds: float, title: str) -> str:
    """Of the last `seconds`. Raises what the lake and the store raise."""
    until = time.time()
    drift = configuration.drift
    since = until - max(seconds, drift.window + drift.reference if drift is not None else 0.0)
    with contextlib.ExitStack() as stack:
        if configuration.lake is not None:
            asked = queries(database, lake_url(configuration), lake_options(configuration))
        else:
            contents = Contents(seal_of(configuration))
            asked = stack.enter_context(queries_of_store(database, contents, Signals(), since))
        facts = gather(asked, Period(until - seconds, until))
        findings = look(asked, watching(drift), until) if drift is not None else None
        return page(facts, findings, title)
