"""A call as the record store keeps it, as a row of the lake: what the store has in one JSON, in columns of its own.

What was said becomes lengths, languages and counts, and no text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.lake.signals import Signals

_ATTEMPT = ("target", "outcome", "status", "ms", "upstream_id", "residency")
_PASSAGE = ("n", "document_id", "version", "section_id", "collection", "score")
_SAME = (
    "call_id", "request_id", "answer_id", "tenant", "key_id", "key_name", "user", "endpoint", "requested_model", "model",
    "target", "served_model", "status", "outcome", "error_code", "prompt_tokens", "completion_tokens", "cached_tokens",
    "reasoning_tokens", "cost", "cache", "finish_reason", "trace_id", "revision", "sensitivity",
)  # fmt: skip

_decode = msgspec.json.Decoder().decode


def call_row(kept: Mapping[str, Any], said: Mapping[str, Any] | None, signals: Signals) -> dict[str, Any]:
    """`kept` is a row of the store's table `calls`, `said` its content as it can be read here, if it can."""
    detail: dict[str, Any] = _decode(kept["detail"])
    first = kept["first_chunk_us"]
    row = {name: kept[name] for name in _SAME}
    row["started_at"] = kept["started_at"] // 1000
    row["usage_estimated"] = None if kept["usage_estimated"] is None else bool(kept["usage_estimated"])
    row["duration_ms"] = kept["duration_us"] / 1000
    row["first_chunk_ms"] = None if first is None else first / 1000
    row["cache_age"] = (detail.get("cache") or {}).get("age")
    template = detail.get("template") or {}
    row["template"], row["template_hash"] = template.get("reference"), template.get("hash")
    arm = detail.get("arm") or {}
    row["arm"], row["propensity"] = arm.get("name"), arm.get("propensity")
    made = detail.get("made_for") or {}
    row["purpose"], row["made_for"] = made.get("purpose"), made.get("call_id")
    row["task"] = (detail.get("side_call") or {}).get("task")
    row["attempts"] = [_attempt(one) for one in detail.get("attempts", ())]
    row["stages"] = [
        {"name": name, "start_ms": begin / 1000, "ms": length / 1000}
        for name, begin, length in detail.get("stages", ())
    ]
    _add_passages(row, detail)
    _add_features(row, detail.get("features"))
    row["guardrails"] = [_verdict(one) for one in detail.get("guardrails", ())]
    row["degraded"], row["left_out"] = detail.get("degraded", []), detail.get("left_out", [])
    row |= signals.of(said, [one["n"] for one in row["passages"]])
    return row


def _attempt(told: Any) -> dict[str, Any]:
    """Named by position, or, where the record names them, by name."""
    values = told if isinstance(told, dict) else dict(zip(_ATTEMPT, told, strict=False))
    return {name: values.get(name) for name in _ATTEMPT}


def _add_passages(row: dict[str, Any], detail: Mapping[str, Any]) -> None:
    found = [{name: one.get(name) for name in _PASSAGE} for one in detail.get("passages", ())]
    for one in found:
        one["version"] = None if one["version"] is None else str(one["version"])
    searched = bool(found) or any(name == "retrieval" for name, *_ in detail.get("stages", ()))
    scores = [one["score"] for one in found if one["score"] is not None]
    row["passages"] = found
    row["passage_count"] = len(found) if searched else None
    row["top_score"] = max(scores) if scores else None


def _add_features(row: dict[str, Any], told: Mapping[str, Any] | None) -> None:
    row["feature_service"] = told.get("service") if told else None
    row["features"] = [_feature(name, value) for name, value in (told or {}).get("values", {}).items()]


def _feature(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and "value" in value:  # with its event time
        value = value["value"]
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    text = None if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return {"name": name, "value": text, "number": number}


def _verdict(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "stage": told.get("stage"), "check": told.get("check"), "action": told.get("action"),
        "version": told.get("version"), "kinds": [one.get("kind") for one in told.get("findings", ())],
        "would": told.get("would"), "failure": told.get("failure"),
    }  # fmt: skip
