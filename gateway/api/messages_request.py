"""A request of Anthropic's Messages API, as one of OpenAI's chat API.

https://platform.claude.com/docs/en/api/messages/create
What has no counterpart and would change the answer is refused by name, as the vendor refuses it; what only asks for
another price, speed or place of caching is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from gateway.chat import JSON, ChatRequest
from gateway.errors import BadRequest

GATEWAY_SIGNATURE = "rag-gateway"
"""Signs the thoughts of models whose vendor signs none: a client sends it back, and they stay here."""


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Thinking(msgspec.Struct):
    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: Annotated[int, msgspec.Meta(ge=1024)] | None = None
    display: str | None = None


class _Format(msgspec.Struct):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class _OutputConfig(msgspec.Struct, forbid_unknown_fields=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _Format | None = None


class _ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class _Tool(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: Any = None


class MessagesEnvelope(msgspec.Struct, forbid_unknown_fields=True):
    """All that a request may hold. `rag` is ours, as in the chat API."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1, max_length=100_000)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
    system: str | list[dict[str, Any]] | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=2**31)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    metadata: _Metadata | None = None
    rag: dict[str, Any] | None = None
    # Without a bearing on what is answered: where a prompt is cached, what the call costs, how fast it is.
    cache_control: Any = None
    service_tier: str | None = None
    speed: str | None = None
    diagnostics: Any = None
    context_management: Any = None


class CountEnvelope(MessagesEnvelope, kw_only=True):
    """What `count_tokens` takes: a request without its limit."""

    max_tokens: int | None = None  # type: ignore[assignment]  # the one field that is optional here


_decode = msgspec.json.Decoder(MessagesEnvelope).decode
_decode_count = msgspec.json.Decoder(CountEnvelope).decode


def chat_request(body: bytes) -> ChatRequest:
    """The same request in OpenAI's terms. Raises BadRequest naming the field at fault."""
    asked = _read(body, _decode)
    chat: dict[str, Any] = {
        "model": asked.model,
        "messages": _messages(asked),
        "max_completion_tokens": asked.max_tokens,
    }
    for name in ("temperature", "top_p", "top_k", "rag"):
        if (value := getattr(asked, name)) is not None:
            chat[name] = value
    if asked.stream:
        chat["stream"] = True
        chat["stream_options"] = {"include_usage": True}
    if asked.stop_sequences:
        chat["stop"] = asked.stop_sequences
    if asked.metadata is not None and asked.metadata.user_id is not None:
        chat["user"] = asked.metadata.user_id
    if asked.tools:
        chat["tools"] = [_tool(tool, order) for order, tool in enumerate(asked.tools)]
    if asked.tool_choice is not None:
        _choose(asked, asked.tool_choice, chat)
    if (effort := _effort(asked)) is not None:
        chat["reasoning_effort"] = effort
    if asked.output_config is not None and asked.output_config.format is not None:
        form = {"name": "answer", "schema": asked.output_config.format.schema, "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": form}
    if b'"cache_control"' in body:
        # Their marks say where a prompt may be cached, OpenAI's key which prompts begin alike.
        beginning = JSON.encode([chat.get("tools"), chat["messages"][:2]])
        chat["prompt_cache_key"] = hashlib.sha256(beginning).hexdigest()[:32]
    return ChatRequest(JSON.encode(chat))


def count_tokens(body: bytes) -> tuple[str, int]:
    """The model that is asked about, and about how many tokens its prompt has: UTF-8 bytes / 4, rounded up.

    A picture counts as 1,600, the most that the vendor's largest takes. Raises BadRequest.
    """
    asked = _read(body, _decode_count)
    pictures = 0
    size = 0
    for message in _messages(asked):
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        for part in parts:
            if part["type"] == "text":
                size += len(part["text"].encode("utf-8", "replace"))
            else:
                pictures += 1
        size += len(JSON.encode(message.get("tool_calls") or ""))
        size += 12  # a turn's own marks
    if asked.tools:
        size += len(JSON.encode([_tool(tool, order) for order, tool in enumerate(asked.tools)]))
    return asked.model, -(-size // 4) + 1_600 * pictures


def _read(body: bytes, decode: Any) -> MessagesEnvelope:
    try:
        return decode(body)  # type: ignore[no-any-return]  # the decoder's type says it
    except msgspec.ValidationError as fault:
        raise _fault(str(fault)) from None
    except msgspec.DecodeError as fault:
        raise BadRequest(f"The request body is not valid JSON: {fault}", code="invalid_json") from None
    except (RecursionError, UnicodeDecodeError):
        raise BadRequest(
            "The request body is not valid JSON: it is nested too deeply or not UTF-8.", code="invalid_json"
        ) from None


def _fault(told: str) -> BadRequest:
    """msgspec says "Expected `int` >= 1 - at `$.n[0]`"; the vendor says "n.0: expected int >= 1"."""
    said, _, path = told.partition(" - at ")
    where = path.strip("`").removeprefix("$").removeprefix(".").replace("[", ".").replace("]", "")
    if (name := said.removeprefix("Object missing required field `")) != said:
        field = f"{where}.{name[:-1]}" if where else name[:-1]
        return BadRequest(f"{field}: Field required", param=field, code="missing_required_parameter")
    if (name := said.removeprefix("Object contains unknown field `")) != said:
        field = f"{where}.{name[:-1]}" if where else name[:-1]
        return BadRequest(f"{field}: Extra inputs are not permitted", param=field, code="unknown_parameter")
    return _at(where or "body", said.replace("`", ""))


def _at(where: str, said: str) -> BadRequest:
    return BadRequest(f"{where}: {said}", param=where)


# -- messages ---------------------------------------------------------------------------------------------
def _messages(asked: MessagesEnvelope) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    if asked.system:
        told.append({"role": "system", "content": _words(asked.system, "system")})
    for order, message in enumerate(asked.messages):
        where = f"messages.{order}"
        if message.role == "system":
            told.append({"role": "system", "content": _words(message.content, where)})
        elif isinstance(message.content, str):
            told.append({"role": message.role, "content": message.content})
        elif message.role == "user":
            told += _user(message.content, f"{where}.content")
        else:
            told.append(_assistant(message.content, f"{where}.content"))
    return told


def _words(content: str | Sequence[Mapping[str, Any]], where: str) -> str:
    if isinstance(content, str):
        return content
    parts = [_part(block, f"{where}.{order}") for order, block in enumerate(content)]
    if any(part["type"] != "text" for part in parts):
        raise _at(where, "only text blocks can stand here")
    return "\n\n".join(part["text"] for part in parts)


def _user(blocks: Sequence[Mapping[str, Any]], where: str) -> list[dict[str, Any]]:
    """The tools' results, each a message of its own, and then what else the turn says."""
    results: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for order, block in enumerate(blocks):
        here = f"{where}.{order}"
        if block.get("type") != "tool_result":
            parts.append(_part(block, here))
            continue
        content = block.get("content") or ""
        inner = [{"type": "text", "text": content}] if isinstance(content, str) else _list(content, f"{here}.content")
        shown = [_part(part, f"{here}.content.{at}") for at, part in enumerate(inner)]
        text = "\n".join(part["text"] for part in shown if part["type"] == "text")
        pictures = [part for part in shown if part["type"] != "text"]
        if pictures:
            # A tool's message holds text only in OpenAI's API; pictures follow as the user's.
            text = text or "(The result follows as a picture.)"
            parts += pictures
        if block.get("is_error"):
            text = f"Error: {text}" if text else "Error."
        results.append({"role": "tool", "tool_call_id": _text(block, "tool_use_id", here), "content": text})
    if parts:
        plain = len(parts) == 1 and parts[0]["type"] == "text"
        results.append({"role": "user", "content": parts[0]["text"] if plain else parts})
    if not results:
        raise _at(where, "all messages must have non-empty content")
    return results


def _assistant(blocks: Sequence[Mapping[str, Any]], where: str) -> dict[str, Any]:
    said: list[str] = []
    thoughts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for order, block in enumerate(blocks):
        here = f"{where}.{order}"
        kind = block.get("type")
        if kind == "text":
            said.append(_text(block, "text", here))
        elif kind == "thinking":
            signature = _text(block, "signature", here)
            if signature != GATEWAY_SIGNATURE:
                thought = _text(block, "thinking", here)
                thoughts.append({"type": "thinking", "thinking": thought, "signature": signature})
        elif kind == "redacted_thinking":
            thoughts.append({"type": "redacted_thinking", "data": _text(block, "data", here)})
        elif kind == "tool_use":
            given = block.get("input")
            if not isinstance(given, dict):
                raise _at(f"{here}.input", "Input should be a valid dictionary")
            function = {"name": _text(block, "name", here), "arguments": JSON.encode(given).decode()}
            calls.append({"id": _text(block, "id", here), "type": "function", "function": function})
        else:
            raise _at(f"{here}.type", f"'{kind}' can't stand in a turn of the assistant")
    message: dict[str, Any] = {"role": "assistant", "content": "".join(said) or None}
    if calls:
        message["tool_calls"] = calls
    elif not said:
        message["content"] = ""
    if thoughts:
        message["thinking_blocks"] = thoughts
    return message


def _part(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    """One block of text, picture or document, as a part of a message."""
    match block.get("type") if isinstance(block, Mapping) else None:
        case "text":
            return {"type": "text", "text": _text(block, "text", where)}
        case "image":
            return {"type": "image_url", "image_url": {"url": _url(_source(block, where), f"{where}.source")}}
        case "document":
            return _document(block, where)
        case "search_result":
            content = _list(block.get("content"), f"{where}.content")
            text = "\n".join(_text(part, "text", f"{where}.content.{at}") for at, part in enumerate(content))
            title, source = _text(block, "title", where), _text(block, "source", where)
            return {"type": "text", "text": f"{title} ({source})\n{text}"}
        case kind:
            raise _at(f"{where}.type", f"'{kind}' is not served here")


def _document(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    source = _source(block, where)
    title = block.get("title")
    here = f"{where}.source"
    if source.get("type") == "text":
        text = _text(source, "data", here)
        return {"type": "text", "text": f"{title}\n{text}" if title else text}
    if source.get("type") == "content":
        return {"type": "text", "text": _words(source.get("content") or "", f"{here}.content")}
    if source.get("type") != "base64":
        raise _at(f"{here}.type", "a document is served as base64 or text")
    return {"type": "file", "file": {"filename": title or "document.pdf", "file_data": _url(source, here)}}


def _source(block: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    source = block.get("source")
    if not isinstance(source, dict):
        raise _at(f"{where}.source", "Field required")
    return source


def _url(source: Mapping[str, Any], where: str) -> str:
    if source.get("type") == "base64":
        return f"data:{_text(source, 'media_type', where)};base64,{_text(source, 'data', where)}"
    if source.get("type") == "url":
        return _text(source, "url", where)
    raise _at(f"{where}.type", "a picture is served as base64 or url")


def _text(block: Mapping[str, Any], key: str, where: str) -> str:
    value = block.get(key) if isinstance(block, Mapping) else None
    if not isinstance(value, str):
        raise _at(f"{where}.{key}", "Input should be a valid string")
    return value


def _list(value: Any, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise _at(where, "Input should be a valid list")
    return value


# -- parameters -------------------------------------------------------------------------------------------
def _tool(tool: _Tool, order: int) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        raise _at(f"tools.{order}.type", f"tools that a vendor runs, such as '{tool.type}', are not served here")
    if tool.input_schema is None:
        raise _at(f"tools.{order}.input_schema", "Field required")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choose(asked: MessagesEnvelope, choice: _ToolChoice, chat: dict[str, Any]) -> None:
    names = [tool.name for tool in asked.tools or ()]
    if not names:
        raise _at("tool_choice", "may only be specified while providing tools")
    if choice.type == "tool":
        if choice.name not in names:
            raise _at("tool_choice.name", f"tool '{choice.name}' not found in provided tools")
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    else:
        chat["tool_choice"] = {"auto": "auto", "any": "required", "none": "none"}[choice.type]
    if choice.disable_parallel_tool_use:
        chat["parallel_tool_calls"] = False


def _effort(asked: MessagesEnvelope) -> str | None:
    """How hard to think, in OpenAI's levels: by the effort that is named, else by the budget."""
    thinking = asked.thinking
    if thinking is None or thinking.type == "disabled":
        return None
    if thinking.type == "enabled":
        if thinking.budget_tokens is None:
            raise _at("thinking.enabled.budget_tokens", "Field required")
        if thinking.budget_tokens >= asked.max_tokens:
            raise _at("max_tokens", "must be greater than thinking.budget_tokens")
    effort = asked.output_config.effort if asked.output_config is not None else None
    if effort is not None:
        return "xhigh" if effort == "max" else effort
    if thinking.budget_tokens is None:
        return "high"  # the vendor's default
    return "low" if thinking.budget_tokens < 4_096 else "medium" if thinking.budget_tokens < 16_384 else "high"
