"""Anthropic's Messages API: what goes out. https://platform.claude.com/docs/en/api/messages/create

What is theirs alone and must come back with the next call, the signature of a thinking block, travels in the
message's `thinking_blocks`; clients that send an assistant message back as they got it keep a tool loop whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gateway.chat import JSON
from gateway.errors import BadRequest
from gateway.providers.anthropic_answers import JSON_TOOL, StreamDecoder, read_answer, read_error
from gateway.providers.claude_models import ClaudeModel, claude_model
from gateway.providers.claude_schemas import closed
from gateway.providers.dialect import Asked, Capabilities, Outgoing
from gateway.providers.refusals import Said

VERSION = "2023-06-01"  # the later one, 2026-10-21, takes no sampling parameters, which older models still have
_MAX_TOKENS = 4096  # theirs is required; OpenAI's is not
_ROOM_TO_THINK = 16_384  # thinking counts as output
# Tokens to think with for each of OpenAI's levels, for models that think within a budget.
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768}
_SAMPLERS = ("temperature", "top_p", "top_k")
_IDENTIFIER = re.compile(r"[^a-zA-Z0-9_-]")


class Anthropic:
    """The dialect. `default_max_tokens` is sent where a request has none."""

    stream_type: ClassVar[bytes] = b"text/event-stream"
    capabilities: ClassVar[Capabilities] = Capabilities(
        fields={
            "chat.completions": frozenset(
                {
                    "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "tools",
                    "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "thinking",
                }
            )
        },
        images=True,
        tools=True,
        json_schema=True,
        reasoning=True,
        notes=(
            "`temperature`, `top_p` and `top_k` are taken by models up to 4.6 only, and not beside reasoning; "
            "`temperature` up to 1.",
            "`response_format` is the vendor's own structured output from 4.5 on; before, and for `json_object`, "
            "a tool whose input is the answer, which can't be mixed with `tools`.",
            "`reasoning_effort` is the vendor's effort from 4.6 on, before it a thinking budget; `thinking` is passed "
            "on as it is. Where a tool loop comes back without its `thinking_blocks`, a budget is left out, as the "
            "vendor would refuse it.",
            "`prompt_cache_key` switches the vendor's prompt cache on.",
        ),
    )  # fmt: skip

    def __init__(self, default_max_tokens: int = _MAX_TOKENS) -> None:
        self._max_tokens = default_max_tokens

    def lacking(self, endpoint: str, asked: Asked, model: str) -> list[str]:
        """The fields, of those that the API has, that this model does not take."""
        facts = claude_model(model)
        thinks = bool(_wanted_effort(asked) or (asked.get("thinking") or {}).get("type", "disabled") != "disabled")
        given = [
            name for name in _SAMPLERS if asked.get(name) is not None and not (name != "top_k" and asked[name] == 1)
        ]
        form = (asked.get("response_format") or {}).get("type")
        told = []
        if thinks or not facts.samples:
            told += given
        elif facts.one_sampler and {"temperature", "top_p"} <= set(given):
            told.append("top_p")
        by_tool = form == "json_object" or (form == "json_schema" and not facts.structured)
        if by_tool and (asked.get("tools") or not facts.can_be_forced):
            told.append("response_format")
        if _wanted_effort(asked) and not facts.adaptive and (_limit(asked) or 1025) <= 1024:
            told.append("reasoning_effort")
        return told

    def outgoing(self, endpoint: str, asked: Asked, model: str, *, stream: bool) -> Outgoing:
        facts = claude_model(model)
        system, messages = _messages(asked["messages"])
        body: dict[str, Any] = {
            "model": model,
            "messages": messages,
            "max_tokens": _limit(asked) or self._max_tokens,
        }
        if system:
            body["system"] = system
        if stream:
            body["stream"] = True
        for name in _SAMPLERS:
            if asked.get(name) is not None and (facts.samples or name == "top_k"):
                body[name] = asked[name]
        if body.get("temperature", 0) > 1:
            raise BadRequest("This target takes a temperature from 0 to 1.", param="temperature")
        if stop := asked.get("stop"):
            body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        if user := asked.get("safety_identifier") or asked.get("user"):
            body["metadata"] = {"user_id": str(user)[:512]}
        if asked.get("prompt_cache_key"):
            ttl = {"ttl": "1h"} if asked.get("prompt_cache_retention") == "24h" else {}
            body["cache_control"] = {"type": "ephemeral", **ttl}
        _tools(asked, body, facts)
        _form(asked, body, facts)
        _thinking(asked, body, facts)
        return Outgoing(b"/v1/messages", JSON.encode(body))

    def answer(self, endpoint: str, body: bytes, asked: Asked) -> dict[str, Any]:
        return read_answer(body)

    def decoder(self, asked: Asked) -> StreamDecoder:
        return StreamDecoder()

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Said:
        return read_error(status, body)


def _limit(asked: Asked) -> int | None:
    return asked.get("max_completion_tokens") or asked.get("max_tokens")


# -- messages ---------------------------------------------------------------------------------------------
def _messages(given: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system blocks, and turns of user and assistant in alternation: neighbours of one role become one."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for order, message in enumerate(given):
        role = message["role"]
        if role in ("system", "developer"):
            system += _content(message.get("content"), order)
            continue
        if role in ("tool", "function"):
            role, blocks = "user", [_tool_result(message, order)]
        elif role == "assistant":
            blocks = _assistant(message, order)
        else:
            blocks = _content(message.get("content"), order)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    if not turns:
        raise BadRequest("This target needs at least one message by the user.", param="messages")
    for turn in turns:
        # In a turn that answers tool calls, the results come first. The sort is stable.
        turn["content"].sort(key=lambda block: block["type"] != "tool_result" and turn["role"] == "user")
    return system, turns


def _assistant(message: Mapping[str, Any], order: int) -> list[dict[str, Any]]:
    # Thinking comes first, as they ask for when tools are in use; without its signature it could not be sent back.
    blocks = [
        {name: value for name, value in block.items() if name in ("type", "thinking", "signature", "data")}
        for block in message.get("thinking_blocks") or ()
    ]
    blocks += _content(message.get("content") or message.get("refusal"), order)
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        try:
            given = json.loads(function.get("arguments") or "{}")
        except ValueError:
            given = None
        where = f"messages[{order}].tool_calls"
        if not isinstance(given, dict):
            raise BadRequest("The arguments of a tool call should be a JSON object.", param=where)
        name = function.get("name")
        blocks.append({"type": "tool_use", "id": _identifier(call.get("id"), where), "name": name, "input": given})
    return blocks


def _tool_result(message: Mapping[str, Any], order: int) -> dict[str, Any]:
    content = message.get("content")
    told = content if isinstance(content, str) else _content(content, order)
    where = f"messages[{order}].tool_call_id"
    return {
        "type": "tool_result",
        "tool_use_id": _identifier(message.get("tool_call_id"), where),
        "content": told or "",
    }


def _identifier(given: Any, where: str) -> str:
    """A call's id in the letters that they take, the same for the call and for its result."""
    if not isinstance(given, str) or not given:
        raise BadRequest("A tool call and its result need an id.", param=where)
    return _IDENTIFIER.sub("_", given)


def _content(content: Any, order: int) -> list[dict[str, Any]]:
    """OpenAI's content, text or parts, as blocks. They refuse empty text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [block for part in content or () if (block := _part(part, order)) is not None]


def _part(part: Mapping[str, Any], order: int) -> dict[str, Any] | None:
    kind = part.get("type")
    where = f"messages[{order}].content"
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not text:
            return None
        cached = {"cache_control": part["cache_control"]} if part.get("cache_control") else {}
        return {"type": "text", "text": text, **cached}
    if kind == "image_url":
        url = str((part.get("image_url") or {}).get("url", ""))
        return {"type": "image", "source": _source(url, where)}
    if kind == "file" and (data := (part.get("file") or {}).get("file_data")):
        title = part["file"].get("filename")
        named = {"title": title} if title and title != "document.pdf" else {}
        return {"type": "document", "source": _source(str(data), where), **named}
    raise BadRequest(f"This target takes no content of type '{kind}'.", param=where, code="unsupported_parameter")


def _source(url: str, where: str) -> dict[str, Any]:
    """A data URL as base64, one of the web as it is: they fetch that."""
    if url.startswith("data:"):
        head, comma, data = url[5:].partition(",")
        media, _, encoding = head.partition(";")
        if not comma or encoding != "base64" or not media:
            raise BadRequest("A data URL should be like data:image/png;base64,…", param=where)
        return {"type": "base64", "media_type": media, "data": data}
    if url.startswith(("https://", "http://")):
        return {"type": "url", "url": url}
    raise BadRequest("An image or file is a data URL or an http URL.", param=where)


# -- parameters -------------------------------------------------------------------------------------------
def _tools(asked: Asked, body: dict[str, Any], facts: ClaudeModel) -> None:
    tools = [_tool(tool, facts) for tool in asked.get("tools") or ()]
    if not tools:
        # They want the tools of a conversation told as long as its calls are; OpenAI's callers may leave them out.
        called = dict.fromkeys(
            block["name"] for turn in body["messages"] for block in turn["content"] if block["type"] == "tool_use"
        )
        if called:
            body["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in called]
            body["tool_choice"] = {"type": "none"}
        return
    body["tools"] = tools
    choice = asked.get("tool_choice")
    told: dict[str, Any]
    if isinstance(choice, dict):
        if choice.get("type") != "function":
            raise BadRequest(
                f"This target takes no tool_choice of type '{choice.get('type')}'.",
                param="tool_choice",
                code="unsupported_parameter",
            )
        told = {"type": "tool", "name": (choice.get("function") or {}).get("name")}
    else:
        told = {"type": {"required": "any", "none": "none"}.get(choice or "auto", "auto")}
    if asked.get("parallel_tool_calls") is False and told["type"] != "none":
        told["disable_parallel_tool_use"] = True
    if choice is not None or "disable_parallel_tool_use" in told:
        body["tool_choice"] = told


def _tool(tool: Mapping[str, Any], facts: ClaudeModel) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise BadRequest("This target takes tools of type 'function'.", param="tools", code="unsupported_parameter")
    strict = bool(function.get("strict")) and facts.structured
    schema = {"type": "object", **(function.get("parameters") or {})}
    told: dict[str, Any] = {"name": function.get("name"), "input_schema": closed(schema) if strict else schema}
    if function.get("description"):
        told["description"] = function["description"]
    if strict:
        told["strict"] = True
    return told


def _form(asked: Asked, body: dict[str, Any], facts: ClaudeModel) -> None:
    """`response_format`: the vendor's own, or a tool whose input is the answer."""
    form = asked.get("response_format") or {}
    if form.get("type") not in ("json_schema", "json_object"):
        return
    wanted = form.get("json_schema") or {}
    schema = wanted.get("schema") or {"type": "object"}
    if form["type"] == "json_schema" and facts.structured:
        body["output_config"] = {"format": {"type": "json_schema", "schema": closed(schema)}}
        return
    described = wanted.get("description") or "The whole answer, as JSON."
    body["tools"] = [{"name": JSON_TOOL, "description": described, "input_schema": {"type": "object", **schema}}]
    body["tool_choice"] = {"type": "tool", "name": JSON_TOOL, "disable_parallel_tool_use": True}


def _wanted_effort(asked: Asked) -> str | None:
    effort = asked.get("reasoning_effort")
    return None if effort in (None, "none") or asked.get("thinking") is not None else str(effort)


def _thinking(asked: Asked, body: dict[str, Any], facts: ClaudeModel) -> None:
    if (thinking := asked.get("thinking")) is not None:
        body["thinking"] = thinking
        return
    effort = _wanted_effort(asked)
    if effort is None:
        if asked.get("reasoning_effort") == "none" and facts.may_not_think:
            body["thinking"] = {"type": "disabled"}
        return
    if effort not in _BUDGETS:
        raise BadRequest(f"This target has no reasoning_effort '{effort}'.", param="reasoning_effort")
    limit = _limit(asked)
    for name in _SAMPLERS:
        body.pop(name, None)  # what is left of them says no more than its absence
    if facts.adaptive:
        if limit is None:
            body["max_tokens"] = max(body["max_tokens"], _ROOM_TO_THINK)
        # Newer models keep their thoughts to themselves unless they are asked.
        body["thinking"] = {"type": "adaptive", "display": "summarized"}
        level = {"minimal": "low", "xhigh": facts.top_effort}.get(effort, effort)
        body.setdefault("output_config", {})["effort"] = level
        return
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise BadRequest(
            "This target can't reason where a tool or a JSON answer is forced: leave reasoning_effort out.",
            param="reasoning_effort",
            code="unsupported_parameter",
        )
    if _forgotten_thoughts(body["messages"]):
        return
    budget = _BUDGETS[effort]
    if limit is None:
        body["max_tokens"] += budget  # an answer needs room beside its thinking
    elif limit <= budget:
        budget = max(1024, limit // 2)
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _forgotten_thoughts(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last turn of the assistant calls tools and does not begin with the thoughts that led to it."""
    last = next((turn["content"] for turn in reversed(turns) if turn["role"] == "assistant"), None)
    if not last or not any(block["type"] == "tool_use" for block in last):
        return False
    return last[0]["type"] not in ("thinking", "redacted_thinking")
