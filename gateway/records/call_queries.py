"""Which calls of the log are meant: a filter, and the calls that it lets through, newest first, page by page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Column, ColumnElement, LargeBinary, Select, and_, bindparam, exists, func, or_, select

from gateway.records.calls import first_id, told
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.feedback import feedback_on
from gateway.records.quality import quality_of
from gateway.records.rows import COLUMNS
from gateway.records.schema import calls, feedback

_decode = msgspec.json.Decoder().decode
_CURSOR = re.compile(r"([0-9]{1,19})\.(call_[0-9a-f]{1,64})")
_PAGE = 200
MADE_FOR = '"made_for":{'
"""Stands in the detail of calls that the gateway made of its own, and of no other."""

_SUMMARY = (
    "call_id", "request_id", "answer_id", "tenant", "key_name", "user", "endpoint", "requested_model", "model",
    "target", "served_model", "started_at", "status", "outcome", "error_code", "prompt_tokens", "completion_tokens",
    "cache", "finish_reason", "duration_us", "first_chunk_us", "detail", "cost", "sensitivity",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Every field that is given has to hold. Times are nanoseconds since the epoch: from `since` on, before `until`.

    `template` is `NAME` or `NAME@VERSION`. `label` and `max_score` are of the feedback on a call. `made_for` is the
    purpose of calls that the gateway made of its own (`replay`, `shadow`, …); without it, only callers' own are meant.
    `with_content`: of which what was said is kept.
    """

    tenant: str | None = None
    user: str | None = None
    key: str | None = None
    model: str | None = None
    target: str | None = None
    endpoints: tuple[str, ...] = ()
    outcome: str | None = None
    error_code: str | None = None
    cache: str | None = None
    template: str | None = None
    arm: str | None = None
    label: str | None = None
    max_score: float | None = None
    rated: bool | None = None
    since: int | None = None
    until: int | None = None
    made_for: str | None = None
    with_content: bool = False


class BadCursor(ValueError):
    """What should say where a page begins does not."""


@dataclass(frozen=True, slots=True)
class Page:
    """`next` is where the next page begins; None where there is none."""

    calls: list[dict[str, Any]]
    next: str | None


class CallQueries:
    """Over a prepared database. Blocking; any thread may. Raises StoreUnavailable."""

    def __init__(self, database: Database, contents: Contents | None = None) -> None:
        """`contents` reads what was recorded; without, only what is not sealed."""
        self._database = database
        self._contents = contents or Contents()

    def page(self, wanted: CallFilter, limit: int, after: str | None = None) -> Page:
        """Summaries of up to `limit` calls, newest first, from `after` on: a page's `next`. Raises BadCursor."""
        columns = [calls.c[name] for name in _SUMMARY]
        query = self._newest(columns, wanted, after).limit(limit + 1)
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        shown = rows[:limit]
        return Page([summary(row) for row in shown], _cursor(shown[-1]) if len(rows) > limit else None)

    def whole(
        self, wanted: CallFilter, most: int, fits: Callable[[dict[str, Any]], bool] = lambda told: True
    ) -> Iterator[dict[str, Any]]:
        """The records of up to `most` calls, newest first, as `gateway.records.calls.told` tells them; of those that fit.

        Page after page: no transaction is open for as long as whoever reads takes.
        """
        after: str | None = None
        size = 0
        while most > 0:
            size = min(max(most, 2 * size), _PAGE)  # more at a time, where few fit
            query = self._newest([calls.c[name] for name in COLUMNS], wanted, after).limit(size)
            with self._database.reading() as connection:
                rows = connection.execute(query).mappings().all()
            for row in rows:
                call = told({str(name): value for name, value in row.items()}, self._contents)
                if most > 0 and fits(call):
                    most -= 1
                    yield call
            if len(rows) < size:
                return
            after = _cursor(rows[-1])

    def find(self, call_id: str) -> dict[str, Any] | None:
        """Whoever's newest call has this call id, answer id or request id: for operators at the store itself."""
        named = or_(calls.c.call_id == call_id, calls.c.answer_id == call_id, calls.c.request_id == call_id)
        query = select(*(calls.c[name] for name in COLUMNS)).where(named)
        query = query.order_by((calls.c.call_id == call_id).desc(), calls.c.started_at.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            said = feedback_on(connection, row["call_id"], row["tenant"])
            judged = quality_of(connection, row["call_id"], row["tenant"])
        told_of = told({str(name): value for name, value in row.items()}, self._contents)
        return {**told_of, "feedback": said, "quality": judged}

    def _newest(self, columns: Sequence[Column[Any]], wanted: CallFilter, after: str | None) -> Select[Any]:
        """In the order of an index, so that a page of many calls is found without looking at all of them.

        A tenant's have one by time. All tenants' are in the order of their ids, which begin with the time too, in
        milliseconds.
        """
        query = select(*columns).where(*self._clauses(wanted))
        at, call_id = _read(after)
        if wanted.tenant is None:
            if at is not None:
                query = query.where(calls.c.call_id < call_id)
            if wanted.since is not None:
                query = query.where(calls.c.call_id >= first_id(wanted.since))
            return query.order_by(calls.c.call_id.desc())
        if at is not None:
            older = or_(calls.c.started_at < at, and_(calls.c.started_at == at, calls.c.call_id < call_id))
            query = query.where(calls.c.started_at <= at, older)  # the first is for the index
        return query.order_by(calls.c.started_at.desc(), calls.c.call_id.desc())

    def _clauses(self, wanted: CallFilter) -> Iterator[ColumnElement[bool]]:
        for name, column in (
            ("tenant", "tenant"), ("user", "user"), ("key", "key_name"), ("model", "model"), ("target", "target"),
            ("outcome", "outcome"), ("error_code", "error_code"), ("cache", "cache"),
        ):  # fmt: skip
            if (value := getattr(wanted, name)) is not None:
                here: ColumnElement[Any] = calls.c[column]
                if column == "model" and wanted.tenant is None and self._database.embedded:
                    here = here + ""  # or SQLite's planner takes the index by model, and sorts all that it finds there
                yield here == value
        if wanted.endpoints:
            yield calls.c.endpoint.in_(wanted.endpoints)
        if wanted.since is not None:
            yield calls.c.started_at >= wanted.since
        if wanted.until is not None:
            yield calls.c.started_at < wanted.until
        if wanted.with_content:
            yield calls.c.content.is_not(None)
        if wanted.template is not None:
            reference = json.dumps(wanted.template, ensure_ascii=False)
            written = reference if "@" in wanted.template else f"{reference[:-1]}@"
            yield self._in_detail(f'"template":{{"reference":{written}')
        if wanted.arm is not None:
            yield self._in_detail(f'"arm":{{"name":{json.dumps(wanted.arm, ensure_ascii=False)}')
        if wanted.made_for is None:
            yield ~self._in_detail(MADE_FOR)
        else:
            yield self._in_detail(f'{MADE_FOR}"purpose":{json.dumps(wanted.made_for, ensure_ascii=False)}')
        said = list(_said(wanted))
        if said or wanted.rated is not None:
            there = exists().where(feedback.c.call_id == calls.c.call_id, *said)
            yield ~there if wanted.rated is False else there

    def _in_detail(self, written: str) -> ColumnElement[bool]:
        return in_detail(written, embedded=self._database.embedded)


def in_detail(written: str, *, embedded: bool) -> ColumnElement[bool]:
    """Whether a call's detail holds `written`. A string in it has its quotes escaped, so none can pass for JSON's own."""
    part = bindparam(None, written.encode(), type_=LargeBinary, unique=True)
    if embedded:
        return func.instr(calls.c.detail, part) > 0
    return func.position(part.op("IN")(calls.c.detail)) > 0


def _said(wanted: CallFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.label is not None:
        yield feedback.c.label == wanted.label
    if wanted.max_score is not None:
        yield and_(feedback.c.score.is_not(None), feedback.c.score <= wanted.max_score)


def _cursor(row: Mapping[Any, Any]) -> str:
    return f"{row['started_at']}.{row['call_id']}"


def _read(after: str | None) -> tuple[int, str] | tuple[None, None]:
    """A cursor's time and call id. Raises BadCursor."""
    if after is None:
        return None, None
    cursor = _CURSOR.fullmatch(after)
    if cursor is None or int(cursor[1]) >= 1 << 63:
        raise BadCursor("this is no page's `next`")
    return int(cursor[1]), cursor[2]


def summary(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A call as a list shows it: nothing of what was said."""
    detail: dict[str, Any] = _decode(row["detail"])
    template, arm, made_for = detail.get("template"), detail.get("arm"), detail.get("made_for")
    first = row["first_chunk_us"]
    return {
        "id": row["call_id"],
        "object": "call.summary",
        "request_id": row["request_id"],
        "answer_id": row["answer_id"],
        "created": row["started_at"] // 1_000_000_000,
        "endpoint": row["endpoint"],
        "caller": {"key": row["key_name"], "tenant": row["tenant"], "user": row["user"]},
        "requested_model": row["requested_model"],
        "model": row["model"],
        "template": template["reference"] if template else None,
        "arm": arm["name"] if arm else None,
        "target": row["target"],
        "cache": row["cache"],
        "passages": len(detail.get("passages", ())),
        "attempts": len(detail["attempts"]),
        "prompt_tokens": row["prompt_tokens"],
        "completion_tokens": row["completion_tokens"],
        "cost": row["cost"],
        "sensitivity": row["sensitivity"],
        "finish_reason": row["finish_reason"],
        "timings": {"first_chunk_ms": first / 1000 if first else None, "total_ms": row["duration_us"] / 1000},
        "status": row["status"],
        "outcome": row["outcome"],
        "error_code": row["error_code"],
        "made_for": made_for,
    }
