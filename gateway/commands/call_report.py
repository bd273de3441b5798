"""Calls of the record, for people: one whole, or many in a table."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def print_calls(calls: Sequence[dict[str, Any]]) -> None:
    if not calls:
        Console(stderr=True).print("no calls")
        return
    table = Table("began", "call", "tenant", "user", "model", "target", "outcome", box=None)
    for name in ("tokens", "USD", "ms"):
        table.add_column(name, justify="right")
    for call in calls:
        tokens = "" if call["prompt_tokens"] is None else f"{call['prompt_tokens']}+{call['completion_tokens']}"
        outcome = call["outcome"] if call["error_code"] is None else f"{call['outcome']} {call['error_code']}"
        table.add_row(
            _moment(call["created"]), call["id"], _text(call["caller"]["tenant"]), _text(call["caller"]["user"]),
            _text(call["model"] or call["requested_model"]), _text(call["target"]), _text(outcome), tokens,
            _usd(call["cost"]), f"{call['timings']['total_ms']:.0f}",
        )  # fmt: skip
    Console(width=220, highlight=False, markup=False).print(table)


def print_call(call: dict[str, Any]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for title, lines in _parts(call):
        told = [line for line in lines if line]
        if told:
            console.print(title, style="bold")
            for line in told:
                console.print(f"  {line}")


def _parts(call: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Title and lines of each part, in the order of the call's journey."""
    who = call["caller"]
    error = call["error"]
    ended = call["outcome"] if error is None else f"{call['outcome']}: {_text(error['code'])} {_text(error['message'])}"
    yield (
        f"{call['id']}  {_moment(call['created'])}",
        [
            f"{call['endpoint']} to {_text(call['model'] or call['requested_model'])}, {ended}, HTTP {call['status']}",
            f"by key {_text(who['key'])} of tenant {_text(who['tenant'])}"
            + (f", user {_text(who['user'])}" if who["user"] else "")
            + (f", groups {_text(', '.join(who['groups']))}" if who.get("groups") else ""),
            f"configuration {call['config_revision']}, trace {call['trace_id']}, request {_text(call['request_id'])}",
            f"made for {call['made_for']['purpose']} of {call['made_for']['call_id']}" if call["made_for"] else "",
            f"sensitivity {call['sensitivity']}" if call["sensitivity"] else "",
            f"degraded: {', '.join(call['degraded'])}" if call["degraded"] else "",
        ],
    )
    template = call["template"]
    if template:
        trimmed = f", no room for: {_text(', '.join(template['trimmed']))}" if template["trimmed"] else ""
        yield "Template", [f"{_text(template['reference'])} ({template.get('hash') or 'no hash kept'}){trimmed}"]
    if features := call["features"]:
        yield "Features", list(_features(features))
    yield "Retrieval", list(_retrieval(call))
    yield "Guardrails", [_verdict(verdict) for verdict in call["guardrails"]]
    if call["cache"] != "off":
        decision = call["cache_decision"] or {}
        yield "Cache", [call["cache"], *(f"{name}: {_text(json.dumps(value))}" for name, value in decision.items())]
    yield "Routing", list(_routing(call))
    yield "Conversation", [_message(message) for message in call["conversation"] or call["messages"] or ()]
    if call.get("parameters"):
        yield "Parameters", [_text(json.dumps(call["parameters"], ensure_ascii=False))]
    if call["answer"] is not None:
        yield "Answer", _text(call["answer"]).splitlines()
    elif call["messages"] is None and call["outcome"] == "ok":
        yield "Answer", ["not kept: `records: {content: on}` keeps what is said"]
    usage = call["usage"]
    if usage:
        estimated = ", estimated" if usage["estimated"] else ""
        spent = f"{usage['prompt_tokens']} in ({usage['cached_tokens']} cached), {usage['completion_tokens']} out"
        yield "Usage", [f"{spent}{estimated}", f"{_usd(call['cost'])} USD" if call["cost"] is not None else ""]
    first = call["timings"]["first_chunk_ms"]
    stages = [f"{stage['name']}: {stage['ms']:.1f} ms, from {stage['start_ms']:.1f}" for stage in call["stages"]]
    total = f"total: {call['timings']['total_ms']:.1f} ms"
    yield "Times", [*stages, f"first content: {first:.1f} ms" if first is not None else "", total]
    yield "Quality", [_text(json.dumps(one, ensure_ascii=False)) for one in call.get("quality") or ()]
    yield "Feedback", [_feedback(one) for one in call.get("feedback") or ()]


def _features(features: dict[str, Any]) -> Iterator[str]:
    times = features.get("event_times") or {}
    yield f"{_text(features['service'])} of {_text(json.dumps(features['entity']))}"
    for name, value in features["values"].items():
        known = f", as of {_moment(times[name])}" if name in times else ""
        state = "missing" if name in features["missing"] else "stale" if name in features.get("stale", ()) else ""
        yield f"{_text(name)}: {_text(json.dumps(value, ensure_ascii=False))}{known}{f' ({state})' if state else ''}"


def _retrieval(call: dict[str, Any]) -> Iterator[str]:
    searched = call["searched"]
    if searched:
        how = f"{searched['mode']}{' and reranked' if searched['rerank'] else ''}"
        floor = f", from a score of {searched['min_score']:g}" if searched["min_score"] is not None else ""
        yield f"{_text(searched['collection'])}: {how}, {searched['found']} of up to {searched['top_k']}{floor}"
        for query in searched["queries"] or ():
            yield f"{'rewritten: ' if searched['rewritten'] else 'asked: '}{_text(query)}"
    for passage in call["passages"]:
        where = f"{_text(passage['section_id'])}@{passage['version']}"
        yield f"[{passage['n']}] {passage['score']:.4f}  {where}  {_text(passage['title'])}"
    for one in call["dropped"]:
        yield f"dropped: {one['score']:.4f}  {_text(one['section_id'])}@{one['version']}  {one['why']}"


def _verdict(verdict: dict[str, Any]) -> str:
    found = ", ".join(f"{f['kind']} at {f['start']}-{f['end']} ({f['score']:.2f})" for f in verdict["findings"])
    more = "".join(f", {name} {verdict[name]}" for name in ("would", "failure") if verdict.get(name))
    return f"{verdict['stage']}: {_text(verdict['check'])} {verdict['action']}{more}: {_text(found)}"


def _routing(call: dict[str, Any]) -> Iterator[str]:
    routing, arm = call["routing"], call["arm"]
    if arm:
        yield f"arm {_text(arm['name'])}, chosen with a chance of {arm['propensity']:.3f}"
    if routing:
        yield f"{routing['strategy']} among {_text(', '.join(routing['candidates']))}"
        for one in routing["passed_over"]:
            yield f"passed over: {_text(one['target'])}, {one['why']}"
    for attempt in call["attempts"]:
        upstream = f", upstream id {_text(attempt['upstream_id'])}" if attempt.get("upstream_id") else ""
        yield (
            f"{_text(attempt['target'])}: {attempt['outcome']}, HTTP {attempt['status']}, {attempt['ms']:.1f} ms, "
            f"{attempt.get('residency') or 'unknown'}{upstream}"
        )
    if call["left_out"]:
        yield f"left out of the request: {_text(', '.join(call['left_out']))}"


def _message(message: dict[str, Any]) -> str:
    content = message.get("content")
    said = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return _text(f"{message.get('role')}: {said}")


def _feedback(one: dict[str, Any]) -> str:
    said = [f"{name} {one[name]}" for name in ("score", "label", "comment", "correction") if one[name] is not None]
    return _text(f"{_moment(one['at'])} by {one['user'] or 'no user'}: {', '.join(said)}")


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _usd(cost: float | None) -> str:
    return "" if cost is None else f"{cost:.6f}"


def _text(value: Any) -> str:
    return "" if value is None else _CONTROL.sub("", str(value))
