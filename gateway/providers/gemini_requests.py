"""OpenAI's chat request to Google's GenerateContentRequest: https://ai.google.dev/api/generate-content

A function call's `thoughtSignature` must come back with the next call. It travels in the tool call's
`extra_content.google.thought_signature`, where Google's own OpenAI-compatible endpoint puts it.
"""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from gateway.errors import BadRequest
from gateway.providers.dialect import Asked

# https://ai.google.dev/gemini-api/docs/openai#thinking
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576}
# Google's word for a function call that another model made; theirs is refused without a signature since Gemini 3.
# https://ai.google.dev/gemini-api/docs/thought-signatures#faqs
_NO_SIGNATURE = "skip_thought_signature_validator"
_MODES = {"required": "ANY", "none": "NONE", "auto": "AUTO"}
_GENERATION = (
    ("max_tokens", "maxOutputTokens"),
    ("max_completion_tokens", "maxOutputTokens"),
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("seed", "seed"),
    ("n", "candidateCount"),
    ("frequency_penalty", "frequencyPenalty"),
    ("presence_penalty", "presencePenalty"),
    ("logprobs", "responseLogprobs"),
    ("top_logprobs", "logprobs"),
)


def generation_of(model: str) -> int:
    """The 3 of `gemini-3-flash`; 0 where the name does not say."""
    found = re.search(r"gemini-(\d+)", model)
    return int(found[1]) if found else 0


def body_of(asked: Asked, model: str) -> dict[str, Any]:
    """The request's body. Raises BadRequest, naming the field, for what Google's API has no place for."""
    system, contents = _contents(asked["messages"], signed=generation_of(model) >= 3)
    body: dict[str, Any] = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    if generation := _generation(asked, model):
        body["generationConfig"] = generation
    _tools(asked, body)
    if asked.get("safety_settings"):
        body["safetySettings"] = asked["safety_settings"]
    return body


# -- the conversation -------------------------------------------------------------------------------------
def _contents(given: Sequence[Mapping[str, Any]], *, signed: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system parts, and turns of `user` and `model`; tools' results are a turn of the user's of their own.

    `signed`: the model insists on signatures of function calls.
    """
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}  # a tool call's id to its function's name, which is what theirs go by
    last = ""
    for order, message in enumerate(given):
        role = message["role"]
        if role in ("system", "developer"):
            system += _parts(message.get("content"), order)
            continue
        if role in ("tool", "function"):
            kind, parts = "tool", [_function_response(message, names, order)]
        elif role == "assistant":
            kind, parts = "model", _assistant(message, order, signed=signed)
            for call in message.get("tool_calls") or ():
                names[str(call.get("id"))] = str((call.get("function") or {}).get("name"))
        else:
            kind, parts = "user", _parts(message.get("content"), order)
        if not parts:
            continue
        if kind == last:
            turns[-1]["parts"] += parts
        else:
            turns.append({"role": "model" if kind == "model" else "user", "parts": parts})
        last = kind
    if not turns:
        raise BadRequest("This target needs at least one message by the user.", param="messages")
    return system, turns


def _assistant(message: Mapping[str, Any], order: int, *, signed: bool) -> list[dict[str, Any]]:
    parts = _parts(message.get("content") or message.get("refusal"), order)
    signature = _signature(message)
    if signature and parts:
        parts[-1]["thoughtSignature"] = signature
    calls = [_function_call(call, order) for call in message.get("tool_calls") or ()]
    # Of parallel calls only the first is signed.
    if signed and calls and "thoughtSignature" not in calls[0]:
        calls[0]["thoughtSignature"] = _NO_SIGNATURE
    return parts + calls


def _signature(holder: Mapping[str, Any]) -> str | None:
    return ((holder.get("extra_content") or {}).get("google") or {}).get("thought_signature")


def _function_call(call: Mapping[str, Any], order: int) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        where = f"messages[{order}].tool_calls"
        raise BadRequest("The arguments of a tool call should be a JSON object.", param=where)
    told: dict[str, Any] = {"name": function.get("name"), "args": arguments}
    if call.get("id"):
        told["id"] = call["id"]
    part: dict[str, Any] = {"functionCall": told}
    if signature := _signature(call):
        part["thoughtSignature"] = signature
    return part


def _function_response(message: Mapping[str, Any], names: Mapping[str, str], order: int) -> dict[str, Any]:
    id = message.get("tool_call_id")
    name = names.get(str(id)) or message.get("name")
    if not name:
        raise BadRequest("No tool call before this message has its id.", param=f"messages[{order}].tool_call_id")
    parts = _parts(message.get("content"), order)
    text = "".join(part.get("text", "") for part in parts)
    try:
        told = json.loads(text)
    except ValueError:
        told = text
    response: dict[str, Any] = {"name": name, "response": told if isinstance(told, dict) else {"result": told}}
    if id:
        response["id"] = id
    if media := [part for part in parts if "text" not in part]:
        response["parts"] = media
    return {"functionResponse": response}


def _parts(content: Any, order: int) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"text": content}] if content else []
    return [part for given in content or () if (part := _part(given, f"messages[{order}].content")) is not None]


def _part(part: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"text": part[kind]} if part.get(kind) else None
    if kind == "image_url":
        return _media(str((part.get("image_url") or {}).get("url", "")), where)
    if kind == "file":
        file = part.get("file") or {}
        if not file.get("file_data"):
            raise BadRequest("This target takes a file's content as `file_data`, and no `file_id`.", param=where)
        return _media(str(file["file_data"]), where)
    if kind == "input_audio":
        audio = part.get("input_audio") or {}
        return {"inlineData": {"mimeType": f"audio/{audio.get('format')}", "data": audio.get("data")}}
    raise BadRequest(f"This target takes no content of type '{kind}'.", param=where, code="unsupported_parameter")


def _media(url: str, where: str) -> dict[str, Any]:
    if url.startswith("data:"):
        head, comma, data = url[5:].partition(",")
        media, _, encoding = head.partition(";")
        if not comma or not encoding.endswith("base64") or not media:
            raise BadRequest("A data URL should be like data:image/png;base64,…", param=where)
        return {"inlineData": {"mimeType": media, "data": data}}
    if not url.startswith(("https://", "gs://")):
        raise BadRequest("An image or file is a data URL, an https URL or a gs:// one.", param=where)
    told = {"fileUri": url}
    if guessed := mimetypes.guess_type(urlsplit(url).path)[0]:
        told["mimeType"] = guessed  # Vertex AI insists on it
    return {"fileData": told}


# -- how to answer ----------------------------------------------------------------------------------------
def _generation(asked: Asked, model: str) -> dict[str, Any]:
    told: dict[str, Any] = {theirs: asked[ours] for ours, theirs in _GENERATION if asked.get(ours) is not None}
    if stop := asked.get("stop"):
        told["stopSequences"] = [stop] if isinstance(stop, str) else stop
    form = asked.get("response_format") or {}
    if form.get("type") in ("json_object", "json_schema"):
        told["responseMimeType"] = "application/json"
        if schema := (form.get("json_schema") or {}).get("schema"):
            told["responseJsonSchema"] = schema
    effort = asked.get("reasoning_effort")
    if effort is not None:
        told["thinkingConfig"] = _thinking(effort, model)
    return told


def _thinking(effort: str, model: str) -> dict[str, Any]:
    """https://ai.google.dev/gemini-api/docs/thinking: levels since Gemini 3, before that budgets of tokens."""
    if effort not in _BUDGETS:
        allowed = ", ".join(_BUDGETS)
        raise BadRequest(f"reasoning_effort should be one of {allowed}.", param="reasoning_effort")
    if generation_of(model) >= 3:
        level = "high" if effort == "xhigh" else effort
        if model.startswith("gemini-3-pro"):
            level = {"minimal": "low", "medium": "high"}.get(level, level)  # it has these two
        return {"thinkingLevel": level, "includeThoughts": True}
    return {"thinkingBudget": _BUDGETS[effort], "includeThoughts": effort != "none"}


def _tools(asked: Asked, body: dict[str, Any]) -> None:
    declared = []
    for order, tool in enumerate(asked.get("tools") or ()):
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, dict):
            where = f"tools[{order}].type"
            raise BadRequest("This target takes tools of type 'function'.", param=where, code="unsupported_parameter")
        one = {"name": function.get("name"), "description": function.get("description") or ""}
        if function.get("parameters"):
            one["parametersJsonSchema"] = function["parameters"]
        declared.append(one)
    if not declared:
        return
    body["tools"] = [{"functionDeclarations": declared}]
    if (choice := asked.get("tool_choice")) is not None:
        body["toolConfig"] = {"functionCallingConfig": _calling(choice)}


def _calling(choice: Any) -> dict[str, Any]:
    """https://ai.google.dev/gemini-api/docs/function-calling#function_calling_modes"""
    if isinstance(choice, str) and choice in _MODES:
        return {"mode": _MODES[choice]}
    if isinstance(choice, dict) and (choice.get("function") or {}).get("name"):
        return {"mode": "ANY", "allowedFunctionNames": [choice["function"]["name"]]}
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools") or {}
        names = [(tool.get("function") or {}).get("name") for tool in allowed.get("tools") or ()]
        if names and all(names):
            mode = "ANY" if allowed.get("mode") == "required" else "VALIDATED"
            return {"mode": mode, "allowedFunctionNames": names}
    raise BadRequest(
        "This target takes a tool_choice of auto, required, none, a function, or allowed_tools with functions.",
        param="tool_choice",
    )
