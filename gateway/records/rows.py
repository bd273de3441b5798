"""A settled Exchange as a row of the call log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.exchange import Asked, Exchange
from gateway.records.contents import Contents

COLUMNS: Final = (
    "call_id", "request_id", "answer_id", "tenant", "key_name", "user", "endpoint", "requested_model", "model",
    "target", "served_model", "started_at", "status", "outcome", "error_code", "prompt_tokens",
    "completion_tokens", "cached_tokens", "reasoning_tokens", "usage_estimated", "cache", "finish_reason",
    "duration_us", "first_chunk_us", "trace_id", "revision", "detail", "cost", "sensitivity", "key_id",
    "content",
)  # fmt: skip

# The first are told elsewhere; the others don't change an answer, may name people, and no guardrail looks at them.
_NOT_TOLD: Final = frozenset({
    "messages", "model", "stream", "stream_options", "user", "input", "query", "documents",
    "metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
})  # fmt: skip

_LONGEST_NAME: Final = 512  # characters

_encode: Final = msgspec.json.Encoder().encode


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
    if exchange.messages is not None:  # the input guardrails have let it pass
        if exchange.asked is not None:
            said["conversation"] = exchange.asked
        if exchange.request is not None:
            said |= _asked(exchange.request, exchange.said)
        if exchange.searched is not None:
            said["queries"] = exchange.searched.queries
    elif exchange.withheld is not None:
        said |= {"conversation": exchange.withheld.messages, **_asked(exchange.withheld, None)}
    if exchange.passages:
        said["passages"] = [passage.text for passage in exchange.passages]
    if exchange.error_message is not None:
        said["error_message"] = exchange.error_message
    return contents.written(said, place_of(exchange.call_id))


def _asked(request: Asked, said: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a request says beside its messages, and has not said to the gateway alone: enough to ask it again."""
    asked: dict[str, Any] = {}
    # The event loop may set the target's model in the fields meanwhile: a copy is made in one step.
    given = said if said is not None else dict(request.fields)
    fields = {name: value for name, value in given.items() if name not in _NOT_TOLD}
    if fields:
        asked["parameters"] = fields
    if request.rag is not None:
        asked["rag"] = {name: value for name, value in msgspec.structs.asdict(request.rag).items() if value is not None}
    if request.file_search is not None:
        asked["file_search"] = request.file_search
    return asked


def _thousandths(value: float) -> float:
    """Rounded to them; `round`, which is exact to the last digit, goes by way of text."""
    return int(value * 1000 + 0.5) / 1000


def place_of(call_id: str) -> str:
    """Where a call's content is sealed for."""
    return f"call:{call_id}"


def _detail(exchange: Exchange) -> dict[str, Any]:
    """What has no column of its own; only what there is to say, so that a plain call's row stays small."""
    started = exchange.started
    detail: dict[str, Any] = {
        "stages": [[name, (begin - started) // 1000, (end - begin) // 1000] for name, begin, end in exchange.stages],
        "attempts": [
            [
                a.target.label,
                a.outcome,
                a.status,
                _thousandths(a.ms),
                a.upstream_id,
                a.residency,
                (a.began - started) // 1000 / 1000 if a.began else None,
            ]
            for a in exchange.attempts
        ],
    }
    if exchange.template is not None:
        detail["template"] = {
            "reference": exchange.template,
            "hash": exchange.template_hash,
            "trimmed": exchange.trimmed,
        }
        if exchange.prompt_parts:
            detail["template"]["parts"] = exchange.prompt_parts
    if exchange.features is not None:
        features = exchange.features
        detail["features"] = {
            "service": features.service, "entity": dict(features.entity), "values": features.shown(),
            "missing": features.missing,
        }  # fmt: skip
        if features.sensitivity:
            detail["features"]["sensitivity"] = features.sensitivity
        if features.stale:
            detail["features"]["stale"] = features.stale
        if features.event_times:
            detail["features"]["event_times"] = dict(features.event_times)
    if exchange.searched is not None:
        searched = exchange.searched
        detail["searched"] = {
            "collection": searched.collection, "mode": searched.mode, "rerank": searched.rerank,
            "top_k": searched.top_k, "min_score": searched.min_score, "rewritten": searched.rewritten,
            "found": searched.found,
        }  # fmt: skip
    if exchange.dropped:
        detail["dropped"] = exchange.dropped
    if exchange.passages:
        detail["passages"] = [
            {
                "n": n, "document_id": p.document_id, "version": p.version, "section_id": p.section_id,
                "collection": p.collection, "score": round(p.score, 4), "title": p.title, "url": p.url,
                "heading": p.heading, **({"sensitivity": p.sensitivity} if p.sensitivity != "public" else {}),
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
            detail["cache"]["age"] = _thousandths(exchange.cache_age)
        if exchange.semantic is not None:
            detail["cache"]["semantic"] = exchange.semantic.told()
    if exchange.cost is not None:
        detail["cost"] = exchange.cost
    if len(exchange.ranked) > 1 or exchange.passed_over:
        detail["routing"] = {
            "strategy": exchange.strategy,
            "candidates": [candidate.target.label for candidate in exchange.ranked],
            "passed_over": exchange.passed_over,
        }
    caller = exchange.caller
    if caller is not None and (caller.groups or caller.guardrails):
        detail["caller"] = {"groups": sorted(caller.groups), "guardrails": caller.guardrails}
    if exchange.parameters is not None:  # it becomes spans
        detail["span_id"] = exchange.span_id
    if exchange.arm is not None:
        detail["arm"] = {"name": exchange.arm, "propensity": exchange.propensity}
    if exchange.side_call is not None:
        detail["side_call"] = {"front_end": exchange.side_call.front_end, "task": exchange.side_call.task}
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
