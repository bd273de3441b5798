"""Which stored calls a replay runs: a filter with a number, as one writes it on a command line."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.config.quantities import duration
from gateway.records.call_queries import CallFilter, CallQueries
from gateway.replay.changes import ReplayFault
from gateway.replay.stored import ENDPOINTS, StoredCall

_NAMES = (
    "model", "tenant", "user", "key", "target", "template", "arm", "outcome", "error_code", "cache", "label",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selection:
    """The newest `last` calls that `filter` lets through: callers' own, that words were asked of, and of which what was
    said is kept."""

    filter: CallFilter = field(default_factory=CallFilter)
    last: int = 500

    @classmethod
    def parse(cls, written: str) -> Selection:
        """`last:500`, `since:7d`, `last:100,model:handbook,label:bad`: parts with commas between them.

        `since` and `until` say how long ago; `max_score` is the highest score that feedback gave; the others are a
        call's `model`, `tenant`, `user`, `key`, `target`, `template`, `arm`, `outcome`, `error_code`, `cache`, or the
        `label` of feedback on it. Raises ReplayFault.
        """
        parts = []
        for part in filter(None, (part.strip() for part in written.split(","))):
            name, colon, value = part.partition(":")
            if not colon or not value:
                raise ReplayFault(f"'{part}' selects no calls: write it like last:500 or model:handbook")
            parts.append((name, value))
        return cls.of(parts)

    @classmethod
    def of(cls, parts: Iterable[tuple[str, str]]) -> Selection:
        """The same of (name, value). Raises ReplayFault."""
        last = 500
        given: dict[str, object] = {}
        for name, value in parts:
            try:
                if name == "last":
                    last = int(value)
                    if last < 1:
                        raise ValueError("a whole number from 1 on, please")
                elif name in ("since", "until"):
                    given[name] = int((time.time() - duration(value)) * 1e9)
                elif name == "max_score":
                    given[name] = float(value)
                elif name in _NAMES:
                    given[name] = value
                else:
                    known = ", ".join(("last", "since", "until", "max_score", *_NAMES))
                    raise ReplayFault(f"'{name}' selects no calls; there are {known}")
            except ValueError as fault:
                raise ReplayFault(f"{name} {value}: {fault}") from None
        return cls(CallFilter(**given), last)  # type: ignore[arg-type]  # each is of its field's type


def select(queries: CallQueries, selection: Selection) -> list[StoredCall]:
    """The calls, newest first. Blocking. Raises StoreUnavailable, and ReplayFault where there is none, which says why."""
    wanted = replace(selection.filter, endpoints=ENDPOINTS, with_content=True)
    found = [StoredCall.of(told) for told in queries.whole(wanted, selection.last, _is_kept)]
    if not found:
        unkept = queries.page(replace(wanted, with_content=False), 1).calls
        raise ReplayFault(
            "nothing of what was said in these calls was kept: set `records: {content: on}`, or `record_content: true` "
            "for a model, and replay calls that come after; what a guardrail blocks on its way in is kept with "
            "`records: {blocked: on}` too"
            if unkept
            else "no call is recorded that this selects"
        )
    return found


def _is_kept(told: Mapping[str, Any]) -> bool:
    """Not of one that a guardrail blocked, where that is not kept, or that was sealed with a key that is gone."""
    return StoredCall.of(told).conversation is not None


def find(queries: CallQueries, call_ids: Sequence[str]) -> list[StoredCall]:
    """These calls, by call id, answer id or request id. Blocking. Raises StoreUnavailable, and ReplayFault for one that
    there is not."""
    calls = []
    for call_id in call_ids:
        told = queries.find(call_id)
        if told is None:
            raise ReplayFault(f"no call {call_id} is recorded here")
        calls.append(StoredCall.of(told))
    return calls
