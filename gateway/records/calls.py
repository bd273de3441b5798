"""The call log: rows of calls, and a row as what `GET /v1/calls/{id}` tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.feedback import feedback_on
from gateway.records.quality import quality_of
from gateway.records.rows import COLUMNS, place_of

_ATTEMPT = (
    "target",
    "outcome",
    "status",
    "ms",
    "upstream_id",
    "residency",
    "start_ms",
)  # older rows have the first few

_decode = msgspec.json.Decoder().decode

_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
_FIND = f"""
    SELECT {_NAMES} FROM calls
    WHERE {{plus}}tenant = :tenant AND (CAST(:user AS TEXT) IS NULL OR "user" IS NULL OR {{plus}}"user" = :user)
    AND (call_id = :id OR answer_id = :id OR (request_id = :id AND request_id != call_id))
    ORDER BY call_id = :id DESC, {{plus}}started_at DESC LIMIT 1
"""


class CallLog:
    """Over a prepared database. Blocking; any thread may. Raises StoreUnavailable."""

    def __init__(self, database: Database, contents: Contents | None = None) -> None:
        """`contents` reads what was recorded; without, only what is not sealed."""
        self._database = database
        self._contents = contents or Contents()
        # The plus signs keep SQLite's planner from walking the tenant's calls instead of the three ids' indexes.
        self._find = text(_FIND.format(plus="+" if database.embedded else ""))

    def write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """All of `rows` or none. A row that is already there stays as it is."""
        with self._database.writing() as connection:
            insert(connection, rows)

    def find(self, call_id: str, tenant: str, user: str | None = None) -> dict[str, Any] | None:
        """The tenant's newest call that `call_id` names: by its id, its answer's id or its request id.

        With a `user`, not another user's: what came without a user is the whole tenant's. With all feedback on it; for
        a `user`, with theirs.
        """
        with self._database.reading() as connection:
            found = connection.execute(self._find, {"id": call_id, "tenant": tenant, "user": user}).mappings().first()
            if found is None:
                return None
            said = feedback_on(connection, found["call_id"], tenant, user)
            judged = quality_of(connection, found["call_id"], tenant)
        return {**told(dict(found), self._contents), "feedback": said, "quality": judged}


def insert(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """In the driver's own words, since this is done for every call: rows as they come from `row`."""
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    connection.exec_driver_sql(
        f"INSERT INTO calls ({_NAMES}) VALUES ({', '.join([mark] * len(COLUMNS))}) ON CONFLICT DO NOTHING", list(rows)
    )


def first_id(since: int) -> str:
    """No call that began at `since` (ns since the epoch) or later has an id below this: they begin with their time."""
    return f"call_{since // 1_000_000:012x}"


def told(values: Mapping[str, Any], contents: Contents) -> dict[str, Any]:
    """The `call` object of the API, from a row."""
    detail: dict[str, Any] = _decode(values["detail"])
    said = contents.read(values["content"], place_of(values["call_id"])) or {}
    for passage, text_ in zip(detail.get("passages", ()), said.pop("passages", ()), strict=False):
        passage["text"] = text_
    detail |= said
    searched = detail.get("searched")
    if searched is not None:
        searched["queries"] = detail.get("queries")
    routing = detail.get("routing")
    if routing is not None:
        routing["passed_over"] = [{"target": target, "why": why} for target, why in routing["passed_over"]]
    usage = None
    if values["prompt_tokens"] is not None:
        usage = {
            name: values[name] for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
        }
        usage["estimated"] = bool(values["usage_estimated"])
    error = {"code": values["error_code"], "message": detail.get("error_message")} if values["error_code"] else None
    first = values["first_chunk_us"]
    return {
        "id": values["call_id"],
        "object": "call",
        "request_id": values["request_id"],
        "answer_id": values["answer_id"],
        "created": values["started_at"] // 1_000_000_000,
        "endpoint": values["endpoint"],
        "caller": {
            "key": values["key_name"],
            "key_id": values["key_id"],
            "tenant": values["tenant"],
            "user": values["user"],
            **detail.get("caller", {}),
        },
        "requested_model": values["requested_model"],
        "model": values["model"],
        "template": detail.get("template"),
        "conversation": detail.get("conversation"),
        "messages": detail.get("messages"),
        "parameters": detail.get("parameters"),
        "rag": detail.get("rag"),
        "file_search": detail.get("file_search"),
        "answer": detail.get("answer"),
        "features": detail.get("features"),
        "searched": searched,
        "passages": detail.get("passages", []),
        "dropped": detail.get("dropped", []),
        "guardrails": detail.get("guardrails", []),
        "cache": values["cache"],
        "cache_decision": detail.get("cache"),
        "target": values["target"],
        "served_model": values["served_model"],
        "routing": routing,
        "attempts": _attempts(detail, values["target"], usage),
        "cost": detail.get("cost"),
        "arm": detail.get("arm"),
        "sensitivity": detail.get("sensitivity"),
        "left_out": detail.get("left_out", []),
        "made_for": detail.get("made_for"),
        "side_call": detail.get("side_call"),
        "mirrors": detail.get("mirrors", []),
        "usage": usage,
        "finish_reason": values["finish_reason"],
        "stages": [
            {"name": name, "start_ms": begin / 1000, "ms": length / 1000} for name, begin, length in detail["stages"]
        ],
        "timings": {"first_chunk_ms": first / 1000 if first else None, "total_ms": values["duration_us"] / 1000},
        "status": values["status"],
        "outcome": values["outcome"],
        "error": error,
        "degraded": detail.get("degraded", []),
        "trace_id": values["trace_id"],
        "span_id": detail.get("span_id"),
        "config_revision": values["revision"],
    }


def _attempts(detail: Mapping[str, Any], target: str | None, usage: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Each try. What was used and what it cost is the answer's: it is told of the last try that gave one."""
    attempts = [dict(zip(_ATTEMPT, attempt, strict=False)) for attempt in detail["attempts"]]
    for attempt in reversed(attempts):
        if attempt["outcome"] == "ok" and attempt["target"] == target:
            attempt |= {"usage": usage, "cost": detail.get("cost")}
            break
    return attempts
