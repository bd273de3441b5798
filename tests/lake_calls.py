"""Calls as the ledger brings them to a record store that has a lake."""

from __future__ import annotations

import itertools
import time
from typing import Any

from gateway.exchange import Exchange
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.ledger import Entry, Ledger
from gateway.records.rows import COLUMNS, row
from gateway.values import Caller

DAY = 86_400.0
_numbers = itertools.count(1)


def exchange_of(tenant: str = "a", user: str | None = None, age: float = 0.0, **facts: Any) -> Exchange:
    """A settled call that began `age` seconds ago."""
    made = Exchange("chat.completions")
    made.started_at = time.time_ns() - int(age * 1e9)
    made.caller = Caller("team", tenant, user)
    made.requested_model = made.model = "handbook"
    made.status = 200
    for name, value in facts.items():
        setattr(made, name, value)
    made.settle()
    return made


def store(database: Database, *exchanges: Exchange, contents: Contents | None = None, lake: bool = True) -> list[str]:
    """Keep them in one transaction, as the ledger does; their ids."""
    entries = [Entry(row(one, contents or Contents())) for one in exchanges]
    spool = f"spool-{next(_numbers)}"
    Ledger(database, lake=lake).apply(spool, COLUMNS, list(enumerate(entries, 1)))
    return [one.call_id for one in exchanges]


def say(question: str, answer: str) -> dict[str, Any]:
    """The facts of a call whose content is recorded."""
    return {
        "record_content": True,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}],
        "answer_text": answer,
    }
