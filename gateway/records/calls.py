"""The call log: a settled Exchange as a row, and a row as what `GET /v1/calls/{id}` tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from gateway.exchange import Exchange
from gateway.records.contents import Contents
from gateway.records.database import Database

COLUMNS = (
    "call_id", "request_id", "answer_id", "tenant", "key_name", "user", "endpoint", "requested_model", "model",
    "target", "served_model", "started_at", "status", "outcome", "error_code", "prompt_tokens",
    "completion_tokens", "cached_tokens", "reasoning_tokens", "usage_estimated", "cache", "finish_reason",
    "duration_us", "first_chunk_us", "trace_id", "revision", "detail", "cost", "sensitivity", "key_id",
    "content",
)  # fmt: skip

_ATTEMPT = ("target", "outcome", "status", "ms", "upstream_id", "residency")  # older rows have the first four

_LONGEST_NAME = 512  # characters

_encode = msgspec.json.Encoder().encode
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

        With a `user`, not another user's: what came without a user is the whole tenant's.
        """
        with self._database.reading() as connection:
            found = connection.execute(self._find, {"id": call_id, "tenant": tenant, "user": user}).mappings().first()
        return told(dict(found), self._contents) if found is not None else None


def insert(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """In the driver's own words, since this is done for every call: rows as they come from `row`."""
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    connection.exec_driver_sql(
        f"INSERT INTO calls ({_NAMES}) VALUES ({', '.join([mark] * len(COLUMNS))}) ON CONFLICT DO NOTHING", list(rows)
    )


def row(exchange: Exchange, contents: Contents) -> tuple[Any, ...]:
    """The values of COLUMNS, in their order. `started_at` is nanoseconds since the epoch."""
    caller, usage, target = exchange.caller, exchange.usage, exchange.target
    assert caller is not None, "only calls of known callers are kept"
    started = exchange.started
    return (
        exchange.call_id, exchange.request_id, _short(exchange.answer_id), caller.tenant, caller.key_name, caller.user,
        exchange.endpoint, exchange.requested_model, exchange.model, target.label if target else None,
        _short(exchange.served_model), exchange.started_at, exchange.status, exchange.outcome, exchange.error_code,
        usage.prompt_tokens if usage else None, usage.completion_tokens if usage else None,
        usage.cached_tokens if usage else None, usage.reasoning_tokens if usage else None,
        int(usage.estimated) if usage else None, exchange.cache, exchange.finish_reason,
        (exchange.ended - started) // 1000,
        (exchange.first_chunk - started) // 1000 if exchange.first_chunk else None,
        exchange.trace_id, exchange.revision, _encode(_detail(exchange)), exchange.cost, exchange.sensitivity,
        caller.key_id or None, _content(exchange, contents),
    )  # fmt: skip


def _short(told: str | None) -> str | None:
    """What a provider calls things may be of any length; an index takes some 2,700 bytes."""
    return told[:_LONGEST_NAME] if told is not None else None


def _content(exchange: Exchange, contents: Contents) -> bytes | None:
    """What was asked, found and answered, where that may be recorded."""
    if not exchange.record_content:
        return None
    said: dict[str, Any] = {"messages": exchange.messages, "answer": exchange.answer_text}
    if exchange.passages:
        said["passages"] = [passage.text for passage in exchange.passages]
    if exchange.error_message is not None:
        said["error_message"] = exchange.error_message
    return contents.written(said, place_of(exchange.call_id))


def place_of(call_id: str) -> str:
    """Where a call's content is sealed for."""
    return f"call:{call_id}"


def _detail(exchange: Exchange) -> dict[str, Any]:
    """What has no column of its own; only what there is to say, so that a plain call's row stays small."""
    started = exchange.started
    detail: dict[str, Any] = {
        "stages": [[name, (begin - started) // 1000, (end - begin) // 1000] for name, begin, end in exchange.stages],
        "attempts": [
            [a.target.label, a.outcome, a.status, round(a.ms, 3), a.upstream_id, a.residency] for a in exchange.attempts
        ],
    }
    if exchange.template is not None:
        detail["template"] = {"reference": exchange.template, "trimmed": exchange.trimmed}
    if exchange.features is not None:
        features = exchange.features
        detail["features"] = {
            "service": features.service, "entity": dict(features.entity), "values": dict(features.values),
            "missing": features.missing,
        }  # fmt: skip
    if exchange.passages:
        detail["passages"] = [
            {
                "n": n, "document_id": p.document_id, "version": p.version, "section_id": p.section_id,
                "collection": p.collection, "score": round(p.score, 4), "title": p.title, "url": p.url,
                "heading": p.heading,
            }
            for n, p in enumerate(exchange.passages, 1)
        ]  # fmt: skip
    if exchange.verdicts:
        detail["guardrails"] = [
            {
                "stage": stage, "check": v.check, "action": v.action, "version": v.version,
                "findings": [
                    {"kind": f.kind, "start": f.start, "end": f.end, "score": round(f.score, 3)} for f in v.findings
                ],
                **({"would": v.would} if v.would else {}),
                **({"failure": v.failure} if v.failure else {}),
            }
            for stage, v in exchange.verdicts
        ]  # fmt: skip
    if exchange.cache_key is not None:
        detail["cache"] = {"key": exchange.cache_key.digest.hex()}
        if exchange.cache_age is None:  # a kept answer's parts are those of the call that made it
            detail["cache"]["parts"] = exchange.cache_key.parts()
        else:
            detail["cache"]["age"] = round(exchange.cache_age, 3)
        if exchange.semantic is not None:
            detail["cache"]["semantic"] = exchange.semantic.told()
    if exchange.cost is not None:
        detail["cost"] = exchange.cost
    if exchange.arm is not None:
        detail["arm"] = {"name": exchange.arm, "propensity": exchange.propensity}
    if exchange.made_for is not None:
        detail["made_for"] = dict(zip(("purpose", "call_id"), exchange.made_for, strict=True))
    if exchange.mirrors:
        detail["mirrors"] = exchange.mirrors
    if exchange.sensitivity is not None:
        detail["sensitivity"] = exchange.sensitivity
    if exchange.left_out:
        detail["left_out"] = exchange.left_out
    if exchange.degraded:
        detail["degraded"] = exchange.degraded
    # A provider's own words may repeat the prompt; they are kept where prompts are.
    if exchange.error_message is not None and exchange.status != 400 and not exchange.record_content:
        detail["error_message"] = exchange.error_message
    return detail


def told(values: Mapping[str, Any], contents: Contents) -> dict[str, Any]:
    """The `call` object of the API, from a row."""
    detail: dict[str, Any] = _decode(values["detail"])
    said = contents.read(values["content"], place_of(values["call_id"])) or {}
    for passage, text_ in zip(detail.get("passages", ()), said.pop("passages", ()), strict=False):
        passage["text"] = text_
    detail |= said
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
        "caller": {"key": values["key_name"], "tenant": values["tenant"], "user": values["user"]},
        "requested_model": values["requested_model"],
        "model": values["model"],
        "template": detail.get("template"),
        "messages": detail.get("messages"),
        "answer": detail.get("answer"),
        "features": detail.get("features"),
        "passages": detail.get("passages", []),
        "guardrails": detail.get("guardrails", []),
        "cache": values["cache"],
        "cache_decision": detail.get("cache"),
        "target": values["target"],
        "served_model": values["served_model"],
        "attempts": [dict(zip(_ATTEMPT, attempt, strict=False)) for attempt in detail["attempts"]],
        "cost": detail.get("cost"),
        "arm": detail.get("arm"),
        "sensitivity": detail.get("sensitivity"),
        "left_out": detail.get("left_out", []),
        "made_for": detail.get("made_for"),
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
        "config_revision": values["revision"],
    }
