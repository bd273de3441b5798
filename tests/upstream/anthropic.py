"""An imitation of Anthropic's Messages API, strict in what it takes, that misbehaves on command.

https://platform.claude.com/docs/en/api/messages and …/build-with-claude/streaming; the shapes are those of the types
in Anthropic's own SDK. Commands come as in `upstream.vendor`, besides these: `thinking` (the thought before an answer),
`redacted`, `refusal`, `stop_reason`, `error_event` (an `error` event in place of event n) with `error_type`.
What a request may hold follows the model's generation, which its name tells: `claude-sonnet-5`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jsonschema
from upstream.vendor import Answer, Seen, Vendor

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _block(kind: str, required: str = "", **properties: Any) -> dict[str, Any]:
    cached = {"cache_control": _object("type", type={"const": "ephemeral"}, ttl={"enum": ["5m", "1h"]})}
    return _object(f"type {required}", type={"const": kind}, **cached, **properties)


_TEXT = {"type": "string", "minLength": 1}
_ID = {"type": "string", "pattern": "^[a-zA-Z0-9_-]+$"}
_TOOL_NAME = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,128}$"}
_IMAGE_TYPES = {"enum": ["image/jpeg", "image/png", "image/gif", "image/webp"]}
_URL_SOURCE = _object("type url", type={"const": "url"}, url={"type": "string", "pattern": "^https?://"})
_TEXT_BLOCK = _block("text", "text", text=_TEXT)
_IMAGE_BLOCK = _block(
    "image",
    "source",
    source={
        "anyOf": [
            _object("type media_type data", type={"const": "base64"}, media_type=_IMAGE_TYPES, data=_TEXT),
            _URL_SOURCE,
        ]
    },
)
_PDF = {"const": "application/pdf"}
_DOCUMENT_BLOCK = _block(
    "document",
    "source",
    title={"type": "string"},
    source={
        "anyOf": [
            _object("type media_type data", type={"const": "base64"}, media_type=_PDF, data=_TEXT),
            _object("type media_type data", type={"const": "text"}, media_type={"const": "text/plain"}, data=_TEXT),
            _URL_SOURCE,
        ]
    },
)
_RESULT_BLOCK = _block(
    "tool_result",
    "tool_use_id",
    tool_use_id=_ID,
    is_error={"type": "boolean"},
    content={
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"anyOf": [_TEXT_BLOCK, _IMAGE_BLOCK, _DOCUMENT_BLOCK]}},
        ]
    },
)
_THINKING_BLOCKS = [
    _block("thinking", "thinking signature", thinking={"type": "string"}, signature=_TEXT),
    _block("redacted_thinking", "data", data=_TEXT),
]
_USE_BLOCK = _block("tool_use", "id name input", id=_ID, name=_TOOL_NAME, input={"type": "object"})
_BLOCKS = {
    "user": [_TEXT_BLOCK, _IMAGE_BLOCK, _DOCUMENT_BLOCK, _RESULT_BLOCK],
    "assistant": [_TEXT_BLOCK, _USE_BLOCK, *_THINKING_BLOCKS],
}
_CHOICES = [
    _object("type", type={"enum": ["auto", "any"]}, disable_parallel_tool_use={"type": "boolean"}),
    _object("type", type={"const": "none"}),
    _object("type name", type={"const": "tool"}, name=_TOOL_NAME, disable_parallel_tool_use={"type": "boolean"}),
]
_TOOL = _object(
    "name input_schema",
    type={"const": "custom"},
    name=_TOOL_NAME,
    description={"type": "string"},
    input_schema={"type": "object", "properties": {"type": {"const": "object"}}, "required": ["type"]},
    strict={"type": "boolean"},
    cache_control={"type": "object"},
)
_DISPLAY = {"enum": ["summarized", "omitted"]}
_THINKING = [
    _object("type budget_tokens", type={"const": "enabled"}, budget_tokens={"type": "integer"}, display=_DISPLAY),
    _object("type", type={"const": "adaptive"}, display=_DISPLAY),
    _object("type", type={"const": "disabled"}),
]
_FORMAT = _object("type schema", type={"const": "json_schema"}, schema={"type": "object"})
REQUEST = _object(
    "model max_tokens messages",
    model=_TEXT,
    max_tokens={"type": "integer", "minimum": 1, "maximum": 128_000},
    messages={
        "type": "array",
        "minItems": 1,
        "items": _object("role content", role={"enum": ["user", "assistant"]}, content={"type": ["string", "array"]}),
    },
    system={"anyOf": [_TEXT, {"type": "array", "items": _TEXT_BLOCK, "minItems": 1}]},
    stream={"type": "boolean"},
    temperature={"type": "number", "minimum": 0, "maximum": 1},
    top_p={"type": "number", "minimum": 0, "maximum": 1},
    top_k={"type": "integer", "minimum": 0},
    stop_sequences={"type": "array", "items": {"type": "string", "pattern": r"\S"}},
    metadata=_object("", user_id={"type": "string", "maxLength": 512}),
    service_tier={"enum": ["auto", "standard_only"]},
    thinking={"anyOf": _THINKING},
    cache_control=_object("type", type={"const": "ephemeral"}, ttl={"enum": ["5m", "1h"]}),
    tools={"type": "array", "items": _TOOL},
    tool_choice={"anyOf": _CHOICES},
    output_config=_object("", effort={"enum": ["low", "medium", "high", "xhigh", "max"]}, format=_FORMAT),
)
_VALIDATOR = jsonschema.Draft202012Validator(REQUEST)
_BLOCK_VALIDATORS = {
    (role, block["properties"]["type"]["const"]): jsonschema.Draft202012Validator(block)
    for role, blocks in _BLOCKS.items()
    for block in blocks
}


def signature(thinking: str) -> str:
    """What proves that a thought is this vendor's own."""
    return base64.b64encode(hashlib.sha256(("secret of the vendor " + thinking).encode()).digest() * 4).decode()


def generation(model: str) -> tuple[float, str]:
    """A model's version and family by its name; (5, "sonnet") where it tells none."""
    told = re.match(r"claude-(opus|sonnet|haiku|fable)-(\d+)(?:-(\d)(?!\d))?", model)
    return (float(f"{told[2]}.{told[3] or 0}"), told[1]) if told else (5.0, "sonnet")


@dataclass
class AnthropicVendor(Vendor):
    """Start with `with AnthropicVendor() as vendor`."""

    api_key: str = "sk-ant-upstream-canary-0815"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        return await MessagesAnswer(self, seen, writer).give()


class MessagesAnswer(Answer):
    request_id = "request-id: req_upstream_011CSHoEeqs5C35K2UUqR7Fy"
    breakable = '"type"'
    keepalive = b'event: ping\ndata: {"type": "ping"}\n\n'

    async def give(self) -> bool:
        headers, how = self._seen.headers, self._how
        # Either header carries the key; their SDK sends the second.
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        refused = how["refuse_key"] in key if "refuse_key" in how else key != self._vendor.api_key
        if refused:
            return await self._error(401, "invalid x-api-key")
        self._how = {name: value for name, value in how.items() if name != "refuse_key"}
        return await super().give()

    # -- what may be asked ------------------------------------------------------------------------------
    def _refusal(self) -> str | None:
        seen, body = self._seen, self._seen.body
        if seen.path != "/v1/messages":
            return f"{seen.path}: not found"
        version = seen.headers.get("anthropic-version")
        if version not in ("2023-06-01", "2026-10-21"):
            return (
                f"anthropic-version: '{version}' is not a valid version"
                if version
                else "anthropic-version: header is required"
            )
        if version == "2026-10-21" and (given := {"temperature", "top_p", "top_k"} & set(body)):
            return f"{sorted(given)[0]}: Extra inputs are not permitted"
        if not seen.headers.get("content-type", "").startswith("application/json"):
            return "content-type: must be application/json"
        fault = jsonschema.exceptions.best_match(_VALIDATOR.iter_errors(body))
        if fault is not None:
            where = ".".join(str(step) for step in fault.absolute_path)
            return f"{where}: {fault.message}" if where else fault.message
        return _messages_fault(body) or _tools_fault(body) or _thinking_fault(body) or _generation_fault(body)

    # -- answers by the book ----------------------------------------------------------------------------
    def _text(self) -> str:
        if "text" in self._how:
            return str(self._how["text"]) * int(self._how.get("repeat", 1))
        form = (self._seen.body.get("output_config") or {}).get("format")
        if form is not None:
            return json.dumps(_example(form["schema"]))
        last = self._seen.body["messages"][-1]["content"]
        blocks = [{"type": "text", "text": last}] if isinstance(last, str) else last
        told = []
        for block in blocks:
            if block["type"] == "tool_result":
                content = block.get("content") or ""
                told.append(content if isinstance(content, str) else " ".join(b.get("text", "") for b in content))
            else:
                told.append(block.get("text") or f"<{block['type']}>")
        return "echo: " + " ".join(told)

    def _blocks(self) -> list[dict[str, Any]]:
        how, body = self._how, self._seen.body
        blocks: list[dict[str, Any]] = []
        thinking = body.get("thinking") or {"type": "disabled"}
        if thinking["type"] != "disabled":
            version, _ = generation(body["model"])
            shown = thinking.get("display", "summarized" if version < 4.7 else "omitted") == "summarized"
            thought = str(how.get("thinking", "Let me think about that. "))
            blocks.append(
                {"type": "thinking", "thinking": thought if shown else "", "signature": signature(thought * shown)}
            )
            if how.get("redacted"):
                blocks.append({"type": "redacted_thinking", "data": signature("redacted")})
        if how.get("refusal"):
            return blocks
        tools = self._wanted_tools()
        if not tools or how.get("preamble"):
            blocks.append({"type": "text", "text": how.get("preamble") or self._text()})
        for n, tool in enumerate(tools):
            given = how.get("input", _example(tool["input_schema"]) or {})
            blocks.append({"type": "tool_use", "id": f"toolu_{n:024d}", "name": tool["name"], "input": given})
        return blocks

    def _wanted_tools(self) -> list[dict[str, Any]]:
        body = self._seen.body
        choice = body.get("tool_choice") or {"type": "auto"}
        tools: list[dict[str, Any]] = body.get("tools") or []
        last = body["messages"][-1]["content"]
        answered = isinstance(last, list) and any(block["type"] == "tool_result" for block in last)
        if choice["type"] == "none" or (choice["type"] == "auto" and answered):
            return []
        if choice["type"] == "tool":
            tools = [tool for tool in tools if tool["name"] == choice["name"]]
        return tools[:1] if choice.get("disable_parallel_tool_use") else tools

    def _stopped(self, blocks: list[dict[str, Any]]) -> dict[str, Any]:
        reason = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
        if self._how.get("refusal"):
            details = {"type": "refusal", "category": "cyber", "explanation": str(self._how["refusal"])}
            return {"stop_reason": "refusal", "stop_sequence": None, "stop_details": details}
        reason = self._how.get("stop_reason", reason)
        sequence = (self._seen.body.get("stop_sequences") or [None])[0] if reason == "stop_sequence" else None
        return {"stop_reason": reason, "stop_sequence": sequence}

    def _frame(self, kind: str) -> dict[str, Any]:
        unique = hashlib.sha256(self._seen.raw + str(self._seen.at).encode()).hexdigest()[:24]
        return {"id": f"msg_{unique}", "type": "message", "role": "assistant", "model": "claude-mock-20260101"}

    def _usage(self) -> dict[str, Any]:
        told = {
            "input_tokens": 8, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3,
            "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 0},
            "output_tokens": max(1, len(self._text()[:100_000].split())), "service_tier": "standard",
        }  # fmt: skip
        if (self._seen.body.get("thinking") or {}).get("type", "disabled") != "disabled":
            told["output_tokens"] += 6
            told["output_tokens_details"] = {"thinking_tokens": 6}
        return told

    def _completion(self) -> dict[str, Any]:
        blocks = self._blocks()
        return {**self._frame("message"), "content": blocks, **self._stopped(blocks), "usage": self._usage()}

    def _events(self) -> list[dict[str, Any]]:
        used = self._usage()
        empty = {"content": [], "stop_reason": None, "stop_sequence": None}
        begun = {**self._frame("message"), **empty, "usage": {**used, "output_tokens": 1}}
        events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
        blocks = self._blocks()
        for index, block in enumerate(blocks):
            pieces = self._pieces(block)
            opened = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
            events.append(
                {
                    "type": "content_block_start",
                    "index": index,
                    "content_block": {**block, **opened.get(block["type"], {})},
                }
            )
            if index == 0:
                events.append({"type": "ping"})
            events += [{"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces]
            events.append({"type": "content_block_stop", "index": index})
        told = {key: value for key, value in used.items() if key not in ("service_tier", "cache_creation")}
        events.append({"type": "message_delta", "delta": self._stopped(blocks), "usage": told})
        events.append({"type": "message_stop"})
        if "error_event" in self._how:
            kind = self._how.get("error_type", "overloaded_error")
            events[self._how["error_event"] :] = [{"type": "error", "error": {"type": kind, "message": "Overloaded"}}]
        return events

    def _pieces(self, block: dict[str, Any]) -> list[dict[str, Any]]:
        size = self._how.get("piece", 4)

        def cut(kind: str, key: str, text: str) -> list[dict[str, Any]]:
            return [{"type": kind, key: text[at : at + size]} for at in range(0, len(text), size)]

        match block["type"]:
            case "text":
                return cut("text_delta", "text", block["text"])
            case "thinking":
                proof = {"type": "signature_delta", "signature": block["signature"]}
                return [*cut("thinking_delta", "thinking", block["thinking"]), proof]
            case "tool_use":
                given = json.dumps(block["input"], ensure_ascii=False) if block["input"] else ""
                first = {"type": "input_json_delta", "partial_json": ""}
                return [first, *cut("input_json_delta", "partial_json", given)]
        return []

    def frames(self) -> Iterable[bytes]:
        return (self._sse(event, event["type"]) for event in self._events())

    def bad_frame(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type": "content_block_delta", "delta": {\n\n'

    def error(self, status: int, message: str) -> dict[str, Any]:
        kind = self._how.get("error_type") or ERROR_TYPES.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": self.request_id[12:]}


# -- faults of a request, in the vendor's own words ----------------------------------------------------------
def _messages_fault(body: dict[str, Any]) -> str | None:
    messages = body["messages"]
    if messages[0]["role"] != "user":
        return 'messages: first message must use the "user" role'
    used: set[str] = set()  # the tool_use ids of the turn before
    for order, message in enumerate(messages):
        role, content = message["role"], message["content"]
        if order and messages[order - 1]["role"] == role:
            return f'messages: roles must alternate between "user" and "assistant", but found multiple "{role}" roles'
        if not content:
            return f"messages.{order}: all messages must have non-empty content"
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for at, block in enumerate(blocks):
            validator = _BLOCK_VALIDATORS.get((role, block.get("type")))
            if validator is None:
                return f"messages.{order}.content.{at}: `{block.get('type')}` is not allowed in a turn of the {role}"
            fault = jsonschema.exceptions.best_match(validator.iter_errors(block))
            if fault is not None:
                return f"messages.{order}.content.{at}: {fault.message}"
            if block["type"] == "thinking" and block["signature"] != signature(block["thinking"]):
                return f"messages.{order}.content.{at}: Invalid `signature` in `thinking` block"
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if [block["type"] == "tool_result" for block in blocks] != sorted(
            (block["type"] == "tool_result" for block in blocks), reverse=True
        ):
            return f"messages.{order}: `tool_result` blocks must come first"
        if stray := set(results) - used:
            return f"messages.{order}: unexpected `tool_use_id` found in `tool_result` blocks: {sorted(stray)[0]}"
        if (missing := used - set(results)) and role == "user":
            return (
                f"messages.{order - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{sorted(missing)[0]}"
            )
        ids = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(ids)) != len(ids):
            return f"messages.{order}: `tool_use` ids must be unique"
        used = set(ids)
    if used:
        return f"messages.{len(messages) - 1}: `tool_use` ids were found without `tool_result` blocks"
    return None


def _tools_fault(body: dict[str, Any]) -> str | None:
    names = [tool["name"] for tool in body.get("tools") or ()]
    if len(set(names)) != len(names):
        return "tools: Tool names must be unique."
    choice = body.get("tool_choice")
    if choice is not None and not names:
        return "tool_choice: may only be specified while providing tools"
    if choice is not None and choice["type"] == "tool" and choice["name"] not in names:
        return f"Tool '{choice['name']}' not found in provided tools"
    called = any(
        block["type"] in ("tool_use", "tool_result")
        for message in body["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
    )
    if called and not names:
        return "tools: must be given where messages hold `tool_use` or `tool_result` blocks"
    form = (body.get("output_config") or {}).get("format")
    return None if form is None else _schema_fault(form["schema"])


def _schema_fault(schema: Any) -> str | None:
    """What their structured outputs do not take: https://platform.claude.com/docs/en/build-with-claude/structured-outputs"""
    if isinstance(schema, list):
        return next((fault for one in schema if (fault := _schema_fault(one))), None)
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
    for word in ("minimum", "maximum", "multipleOf", "minLength", "maxLength", "maxItems"):
        if word in schema and not isinstance(schema[word], dict):
            kind = schema.get("type")
            return f"output_config.format.schema: For '{kind}' type, properties {word} are not supported"
    return _schema_fault(list(schema.values()))


def _thinking_fault(body: dict[str, Any]) -> str | None:
    thinking = body.get("thinking") or {"type": "disabled"}
    if thinking["type"] == "disabled":
        return None
    if thinking["type"] == "enabled":
        if thinking["budget_tokens"] < 1024:
            return "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        if thinking["budget_tokens"] >= body["max_tokens"]:
            return "`max_tokens` must be greater than `thinking.budget_tokens`."
        if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
            return "Thinking may not be enabled when tool_choice forces tool use."
        last = next((m["content"] for m in reversed(body["messages"]) if m["role"] == "assistant"), "")
        in_loop = isinstance(last, list) and any(block["type"] == "tool_use" for block in last)
        if in_loop and last[0]["type"] not in ("thinking", "redacted_thinking"):
            return "Expected `thinking` or `redacted_thinking`, but found `tool_use` at the start of the last turn."
    if body.get("temperature", 1) != 1:
        return "`temperature` may only be set to 1 when thinking is enabled."
    if "top_k" in body:
        return "`top_k` must be unset when thinking is enabled."
    if body.get("top_p", 1) < 0.95:
        return "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled."
    return None


def _generation_fault(body: dict[str, Any]) -> str | None:
    model = body["model"]
    version, family = generation(model)
    kind = (body.get("thinking") or {"type": "disabled"})["type"]
    config = body.get("output_config") or {}
    if version > 4.6 and (given := {"temperature", "top_p", "top_k"} & set(body)):
        return f"`{sorted(given)[0]}` is deprecated for this model."
    if version >= 4.1 and {"temperature", "top_p"} <= set(body):
        return "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
    if version > 4.6 and kind == "enabled":
        return '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
    if version < 4.6 and kind == "adaptive":
        return "adaptive thinking is not supported on this model"
    if "effort" in config and version < 4.6 and (family, version) != ("opus", 4.5):
        return "This model does not support the effort parameter."
    if config.get("effort") == "xhigh" and version < 4.7:
        return "This model does not support effort level 'xhigh'."
    if "format" in config and version < 4.5:
        return f"'{model}' does not support output format."
    if family == "fable" and (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        return "tool_choice: this model does not take a forced tool."
    if version >= 4.6 and body["messages"][-1]["role"] == "assistant":
        return "This model does not support assistant message prefill. The conversation must end with a user message."
    return None


def _example(schema: dict[str, Any]) -> Any:
    """The plainest value that a schema allows."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _example(given) for name, given in (schema.get("properties") or {}).items()}
        case "array":
            return [_example(schema.get("items") or {"type": "string"})]
        case "integer":
            return 7
        case "number":
            return 2.5
        case "boolean":
            return True
        case "null":
            return None
    return "Zürich 🏔"
