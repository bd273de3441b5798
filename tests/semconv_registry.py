"""OpenTelemetry's own files of its conventions (tests/semconv), and spans held against them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from otlp_sink import attributes_of

FOLDER = Path(__file__).parent / "semconv"
OURS = "rag_gateway."

# Values of open enumerations that the conventions leave to instrumentations, and that ours documents.
OWN_VALUES = {
    "gen_ai.operation.name": {"rerank", "moderations"},
    "gen_ai.provider.name": {"vllm", "openai_compatible", "extractive", "local_embeddings", "rag_gateway"},
    "db.system.name": {"milvus"},
}
_KINDS = {"internal": 1, "server": 2, "client": 3}
_SHAPES = {
    "gen_ai.input.messages": "gen-ai-input-messages",
    "gen_ai.output.messages": "gen-ai-output-messages",
    "gen_ai.system_instructions": "gen-ai-system-instructions",
    "gen_ai.retrieval.documents": "gen-ai-retrieval-documents",
}
_BY_OPERATION = {
    "chat": "span.gen_ai.inference.client",
    "text_completion": "span.gen_ai.inference.client",
    "rerank": "span.gen_ai.inference.client",
    "moderations": "span.gen_ai.inference.client",
    "embeddings": "span.gen_ai.embeddings.client",
    "retrieval": "span.gen_ai.retrieval.client",
    "execute_tool": "span.gen_ai.execute_tool.internal",
}


@cache
def groups() -> dict[str, dict[str, Any]]:
    found = {}
    for file in sorted(FOLDER.rglob("*.yaml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            found[group["id"]] = group
    return found


@cache
def attributes() -> dict[str, dict[str, Any]]:
    """Every attribute that the vendored registries define, by its name."""
    return {
        attribute["id"]: attribute
        for group in groups().values()
        for attribute in group.get("attributes", ())
        if "id" in attribute
    }


@cache
def of_group(name: str) -> dict[str, Any]:
    """The requirement level of each attribute of a group, with those that it extends."""
    group = groups()[name]
    levels = dict(of_group(group["extends"])) if "extends" in group else {}
    for attribute in group.get("attributes", ()):
        ref = attribute.get("ref", attribute.get("id"))
        levels[ref] = attribute.get("requirement_level", levels.get(ref, "recommended"))
    return levels


def faults(span: Any) -> list[str]:
    """What of a span that was received is not as the conventions say."""
    told = attributes_of(span)
    found = [fault for name, value in told.items() if (fault := _fault(name, value)) is not None]
    group = _group(span, told)
    if group is None:
        strange = [name for name in told if not name.startswith(OURS) and name not in ("error.type",)]
        return [f"{span.name}: {fault}" for fault in (*found, *(f"{name} on a span of our own" for name in strange))]
    levels = of_group(group)
    if group == "span.openai.inference.client":  # whose provider is said in words, and must be told all the same
        levels = of_group("span.gen_ai.inference.client") | levels
    for name in told:
        if not name.startswith((OURS, "openai.")) and name not in levels:
            found.append(f"{name} is no attribute of {group}")
    for name, level in levels.items():
        if level == "required" and name not in told:
            found.append(f"{name} is required and missing")
        elif (
            isinstance(level, dict)
            and "conditionally_required" in level
            and _needed(name, span, told) != (name in told)
        ):
            found.append(f"{name} is there or not against its condition: {level['conditionally_required']}")
    kind = groups()[group].get("span_kind")
    in_process = told.get("gen_ai.provider.name") in ("extractive", "local_embeddings")
    if kind is not None and span.kind != _KINDS[kind] and not in_process:
        found.append(f"is of kind {span.kind}, not {kind}")
    if (title := _name(told)) is not None and span.name != title:
        found.append(f"should be named {title!r}")
    return [f"{span.name} ({group}): {fault}" for fault in found]


def event_faults(event: Any) -> list[str]:
    """What of an event that was received, a log record, is not as the conventions say."""
    told = attributes_of(event)
    levels = of_group(f"event.{event.event_name}")
    found = [fault for name, value in told.items() if (fault := _fault(name, value)) is not None]
    found += [f"{name} is no attribute of it" for name in told if not name.startswith(OURS) and name not in levels]
    found += [f"{name} is required and missing" for name in levels if levels[name] == "required" and name not in told]
    return [f"{event.event_name}: {fault}" for fault in found]


def metric_faults(metric: Any) -> list[str]:
    """What of a metric of the conventions that was received, a histogram, is not as they say."""
    group = groups().get(f"metric.{metric.name}")
    if group is None:
        return [f"{metric.name} is no metric of the conventions"]
    levels = of_group(group["id"])
    told = {name for point in metric.histogram.data_points for name in attributes_of(point)}
    found = [
        f"{name} is no attribute of it" for name in told if not name.startswith("rag_gateway") and name not in levels
    ]
    found += [f"{name} is required and missing" for name in levels if levels[name] == "required" and name not in told]
    found += [f"its unit should be {group['unit']}"] if metric.unit != group["unit"] else []
    return [f"{metric.name}: {fault}" for fault in found]


def _group(span: Any, told: dict[str, Any]) -> str | None:
    operation = told.get("gen_ai.operation.name")
    if operation is not None:
        if told.get("gen_ai.provider.name") == "openai" and operation == "chat":
            return "span.openai.inference.client"
        return _BY_OPERATION[operation]
    if "db.system.name" in told:
        return "span.db.client"
    if "http.request.method" in told:
        return "span.http.server" if span.kind == 2 else "span.http.client"
    return None


def _name(told: dict[str, Any]) -> str | None:
    operation = told.get("gen_ai.operation.name")
    if operation is None:
        return None
    of = {"retrieval": "gen_ai.data_source.id", "execute_tool": "gen_ai.tool.name"}.get(
        operation, "gen_ai.request.model"
    )
    return f"{operation} {told.get(of, '')}".rstrip()


def _needed(name: str, span: Any, told: dict[str, Any]) -> bool:
    """Whether the condition under which an attribute must be there holds, as far as a span shows it."""
    if name == "error.type":
        return bool(span.status.code == 2)
    if name == "server.port":
        return "server.address" in told
    return name in told


def _fault(name: str, value: Any) -> str | None:
    if name.startswith(OURS):
        return None
    known = attributes().get(name)
    if known is None:
        return f"{name} is no attribute of the conventions"
    if "deprecated" in known:
        return f"{name} is deprecated"
    kind = known["type"]
    if isinstance(kind, dict):
        members = {member["value"] for member in kind["members"]} | OWN_VALUES.get(name, set())
        if name == "error.type" or value in members:
            return None if isinstance(value, str) else f"{name} is no text"
        return f"{name} has no value {value!r}"
    if kind == "any":
        shape = json.loads((FOLDER / "docs" / "gen-ai" / f"{_SHAPES[name]}.json").read_text())
        try:
            jsonschema.validate(json.loads(value), shape)
        except jsonschema.ValidationError as fault:
            return f"{name}: {fault.message}"
        return None
    types: dict[str, Any] = {"string": str, "int": int, "double": float, "boolean": bool, "string[]": list}
    if type(value) is not types[kind]:
        return f"{name} should be {kind}, and is {value!r}"
    return None
