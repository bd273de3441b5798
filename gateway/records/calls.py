"""A settled Exchange as a row of the call log, and a row as what `GET /v1/calls/{id}` tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.exchange import Exchange

COLUMNS = (
    "call_id", "request_id", "answer_id", "tenant", "key_name", "user", "endpoint", "requested_model", "model",
    "target", "served_model", "started_at", "status", "outcome", "error_code", "prompt_tokens",
    "completion_tokens", "cached_tokens", "reasoning_tokens", "usage_estimated", "cache", "finish_reason",
    "duration_us", "first_chunk_us", "trace_id", "revision", "detail",
)  # fmt: skip

_ATTEMPT = ("target", "outcome", "status", "ms", "upstream_id", "residency")  # older rows have the first four

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def row(exchange: Exchange) -> tuple[Any, ...]:
    """The values of COLUMNS, in their order. `started_at` is nanoseconds since the epoch."""
    caller, usage, target = exchange.caller, exchange.usage, exchange.target
    assert caller is not None, "only calls of known callers are kept"
    started = exchange.started
    return (
        exchange.call_id, exchange.request_id, exchange.answer_id, caller.tenant, caller.key_name, caller.user,
        exchange.endpoint, exchange.requested_model, exchange.model, target.label if target else None,
        exchange.served_model, exchange.started_at, exchange.status, exchange.outcome, exchange.error_code,
        usage.prompt_tokens if usage else None, usage.completion_tokens if usage else None,
        usage.cached_tokens if usage else None, usage.reasoning_tokens if usage else None,
        usage.estimated if usage else None, exchange.cache, exchange.finish_reason,
        (exchange.ended - started) // 1000,
        (exchange.first_chunk - started) // 1000 if exchange.first_chunk else None,
        exchange.trace_id, exchange.revision, _encode(_detail(exchange)),
    )  # fmt: skip


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
                "heading": p.heading, **({"text": p.text} if exchange.record_content else {}),
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
    if exchange.error_message is not None and (exchange.record_content or exchange.status != 400):
        detail["error_message"] = exchange.error_message
    if exchange.record_content:
        detail["messages"] = exchange.messages
        detail["answer"] = exchange.answer_text
    return detail


def told(values: Mapping[str, Any]) -> dict[str, Any]:
    """The `call` object of the API, from a row."""
    detail: dict[str, Any] = _decode(values["detail"])
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
