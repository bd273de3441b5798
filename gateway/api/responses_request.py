"""A request of OpenAI's Responses API, as one of the chat API.

https://platform.openai.com/docs/api-reference/responses/create
What has no counterpart and would change the answer is refused by name.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from gateway.chat import JSON, ChatRequest
from gateway.envelopes import PromptUse, field_fault
from gateway.errors import BadRequest

Item = dict[str, Any]
_NOT_SERVED = ("background", "conversation", "max_tool_calls", "top_logprobs", "context_management")
_INCLUDED = frozenset(
    {"reasoning.encrypted_content", "file_search_call.results", "message.input_image.image_url"}
)  # fmt: skip
_CHAT_NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
}


class _Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class _Reasoning(msgspec.Struct):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: str | None = None
    generate_summary: str | None = None


class _Tool(msgspec.Struct):
    type: str
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    vector_store_ids: Any = None
    max_num_results: Any = None
    filters: Any = None
    ranking_options: Any = None


class _Choice(msgspec.Struct):
    type: str
    name: str | None = None


class ResponsesEnvelope(msgspec.Struct, forbid_unknown_fields=True):
    """All that a request may hold. `rag` is ours, as in the chat API. There is an `input` or a `prompt`."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    input: Annotated[str, msgspec.Meta(min_length=1)] | Annotated[list[Item], msgspec.Meta(min_length=1)] | None = None
    prompt: PromptUse | None = None
    instructions: str | None = None
    previous_response_id: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    store: bool | None = None
    stream: bool | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    truncation: Literal["disabled"] | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    stream_options: dict[str, Any] | None = None  # of no bearing here: they ask for padding
    rag: dict[str, Any] | None = None
    # Named so that they are refused by name.
    background: bool | None = None
    conversation: Any = None
    max_tool_calls: int | None = None
    top_logprobs: int | None = None
    context_management: Any = None


_decode = msgspec.json.Decoder(ResponsesEnvelope).decode


def read(body: bytes) -> ResponsesEnvelope:
    """Raises BadRequest naming the field at fault."""
    try:
        asked = _decode(body)
    except msgspec.ValidationError as fault:
        raise field_fault(str(fault)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise BadRequest("The request body is not valid JSON.", code="invalid_json") from None
    if asked.input is None and asked.prompt is None:
        raise field_fault("Object missing required field `input`")
    for name in _NOT_SERVED:
        if getattr(asked, name):
            raise _refused(name)
    for name in asked.include or ():
        if name not in _INCLUDED:
            raise BadRequest(f"'{name}' can't be included here.", param="include", code="unsupported_parameter")
    return asked


def items_of(given: str | Sequence[Item] | None) -> list[Item]:
    """The input as items, whichever way it was written."""
    if given is None:
        return []
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    return [item if item.get("type") is not None else {**item, "type": "message"} for item in given]


def chat_request(asked: ResponsesEnvelope, before: Sequence[Item]) -> ChatRequest:
    """The same request in the chat API's terms, after the items of the conversation that it continues.

    Raises BadRequest naming the field at fault.
    """
    messages: list[dict[str, Any]] = []
    if asked.instructions:
        messages.append({"role": "system", "content": asked.instructions})
    _append(messages, before, len(before))
    _append(messages, items_of(asked.input), 0)
    chat: dict[str, Any] = {"model": asked.model, "messages": messages}
    for name in (
        "temperature", "top_p", "metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
        "service_tier", "rag", "prompt",
    ):  # fmt: skip
        if (value := getattr(asked, name)) is not None:
            chat[name] = value
    if asked.max_output_tokens is not None:
        chat["max_completion_tokens"] = asked.max_output_tokens
    if asked.stream:
        chat["stream"] = True
        chat["stream_options"] = {"include_usage": True}
    if asked.tools:
        chat["tools"] = [_tool(tool, order) for order, tool in enumerate(asked.tools)]
        if asked.parallel_tool_calls is not None:
            chat["parallel_tool_calls"] = asked.parallel_tool_calls
    if asked.tool_choice is not None:
        chat["tool_choice"] = _choice(asked.tool_choice)
    if asked.reasoning is not None and asked.reasoning.effort is not None:
        chat["reasoning_effort"] = asked.reasoning.effort
    if asked.text is not None:
        if asked.text.verbosity is not None:
            chat["verbosity"] = asked.text.verbosity
        if asked.text.format is not None and asked.text.format.type != "text":
            chat["response_format"] = _format(asked.text.format)
    try:
        request = ChatRequest(JSON.encode(chat))
    except BadRequest as fault:
        named = _CHAT_NAMES.get(re.split(r"[.\[]", fault.param or "")[0])
        if named is None:
            raise
        raise BadRequest(fault.message, param=named, code=fault.code) from None
    # The gateway has read its labels from it, and keeps it with the response. OpenAI's chat API refuses it without
    # `store`, which would keep the answer there.
    request.fields.pop("metadata", None)
    return request


def sealed(blocks: Sequence[Mapping[str, Any]]) -> str:
    """A vendor's signed thoughts as `encrypted_content`, which clients send back as it is."""
    return base64.b64encode(JSON.encode(blocks)).decode()


def _opened(content: str) -> list[dict[str, Any]]:
    try:
        blocks = msgspec.json.decode(base64.b64decode(content, validate=True), type=list[dict[str, Any]])
    except (ValueError, msgspec.MsgspecError):
        return []  # another gateway's, or a vendor's own: nobody here could read it
    return blocks


def _append(messages: list[dict[str, Any]], items: Sequence[Item], stored: int) -> None:
    """`stored`: how many of the items are the gateway's own and need no place in a fault."""
    thoughts: list[dict[str, Any]] = []
    for order, item in enumerate(items):
        where = "previous_response_id" if stored else f"input[{order}]"
        kind = item.get("type")
        if kind == "message":
            message = _message(item, where)
            if message["role"] == "assistant":
                _continued(messages, thoughts).update(content=message["content"])
            else:
                messages.append(message)
        elif kind == "function_call":
            _continued(messages, thoughts, with_calls=True).setdefault("tool_calls", []).append(_call(item, where))
        elif kind == "function_call_output":
            messages.append(
                {"role": "tool", "tool_call_id": _string(item, "call_id", where), "content": _output(item, where)}
            )
        elif kind == "reasoning":
            thoughts += _opened(item.get("encrypted_content") or "")
        elif kind != "file_search_call":
            raise BadRequest(
                f"Items of type '{kind}' are not served here: message, function_call, function_call_output and "
                "reasoning are.",
                param=f"{where}.type",
                code="unsupported_parameter",
            )


def _continued(
    messages: list[dict[str, Any]], thoughts: list[dict[str, Any]], *, with_calls: bool = False
) -> dict[str, Any]:
    """The assistant's message that an item belongs to: of one turn, words and calls are items of their own."""
    last = messages[-1] if messages else None
    if last is None or last["role"] != "assistant" or (not with_calls and last["content"] is not None) or thoughts:
        last = {"role": "assistant", "content": None}
        if thoughts:
            last["thinking_blocks"] = list(thoughts)
            thoughts.clear()
        messages.append(last)
    return last


def _message(item: Item, where: str) -> dict[str, Any]:
    role = item.get("role")
    if role not in ("user", "assistant", "system", "developer"):
        raise BadRequest("role is one of user, assistant, system and developer.", param=f"{where}.role")
    content = item.get("content")
    if isinstance(content, str):
        return {"role": role, "content": content}
    if not isinstance(content, list):
        raise BadRequest("content is a string or a list of parts.", param=f"{where}.content")
    parts = [_part(part, f"{where}.content[{order}]") for order, part in enumerate(content)]
    if all(part["type"] == "text" for part in parts) and len(parts) == 1:
        return {"role": role, "content": parts[0]["text"]}
    return {"role": role, "content": parts}


def _part(part: Any, where: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": _string(part, "text", where)}
    if kind == "refusal":
        return {"type": "text", "text": _string(part, "refusal", where)}
    if kind == "input_image" and part.get("image_url"):
        image = {"url": _string(part, "image_url", where)}
        if part.get("detail"):
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}
    if kind == "input_file" and part.get("file_data"):
        file = {name: part[name] for name in ("filename", "file_data") if part.get(name)}
        return {"type": "file", "file": file}
    if kind in ("input_image", "input_file"):
        raise BadRequest("Send the content itself: image_url, or file_data.", param=where, code="unsupported_parameter")
    raise BadRequest(f"Parts of type '{kind}' are not served here.", param=where, code="unsupported_parameter")


def _call(item: Item, where: str) -> dict[str, Any]:
    function = {"name": _string(item, "name", where), "arguments": _string(item, "arguments", where)}
    told = {"id": _string(item, "call_id", where), "type": "function", "function": function}
    if item.get("extra_content") is not None:
        told["extra_content"] = item["extra_content"]  # Gemini's signature
    return told


def _output(item: Item, where: str) -> Any:
    output = item.get("output")
    if isinstance(output, str):
        return output
    if not isinstance(output, list):
        raise BadRequest("output is a string or a list of parts.", param=f"{where}.output")
    return [_part(part, f"{where}.output[{order}]") for order, part in enumerate(output)]


def _string(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a string.", param=f"{where}.{name}")
    return value


def _tool(tool: _Tool, order: int) -> dict[str, Any]:
    if tool.type == "file_search":
        names = ("vector_store_ids", "max_num_results", "filters", "ranking_options")
        asked = {name: value for name in names if (value := getattr(tool, name)) is not None}
        return {"type": "file_search", **asked}
    if tool.type != "function":
        raise BadRequest(
            f"Tools of type '{tool.type}' are not served here: 'function' and 'file_search' are.",
            param=f"tools[{order}].type",
            code="unsupported_parameter",
        )
    if tool.name is None:
        raise BadRequest("A function has a name.", param=f"tools[{order}].name")
    function: dict[str, Any] = {"name": tool.name}
    for name in ("description", "parameters", "strict"):
        if (value := getattr(tool, name)) is not None:
            function[name] = value
    return {"type": "function", "function": function}


def _choice(choice: str | _Choice) -> Any:
    if isinstance(choice, str):
        return choice
    if choice.type == "file_search":
        return {"type": "file_search"}
    if choice.type != "function" or choice.name is None:
        raise BadRequest(
            "tool_choice names a function or file_search, or is auto, none or required.",
            param="tool_choice",
            code="unsupported_parameter",
        )
    return {"type": "function", "function": {"name": choice.name}}


def _format(form: _Format) -> dict[str, Any]:
    if form.type == "json_object":
        return {"type": "json_object"}
    if form.name is None or form.schema is None:
        missing = "name" if form.name is None else "schema"
        raise BadRequest(f"A json_schema has a {missing}.", param=f"text.format.{missing}")
    schema: dict[str, Any] = {"name": form.name, "schema": form.schema}
    for name in ("description", "strict"):
        if (value := getattr(form, name)) is not None:
            schema[name] = value
    return {"type": "json_schema", "json_schema": schema}


def _refused(name: str) -> BadRequest:
    return BadRequest(f"{name} is not served here: leave it out.", param=name, code="unsupported_parameter")
