"""Google's generateContent, as the Gemini API and Vertex AI speak it: https://ai.google.dev/api/generate-content

A function call's `thoughtSignature` must come back with the next call. It travels in the tool call's
`extra_content.google.thought_signature`, where Google's own OpenAI-compatible endpoint puts it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from gateway.chat import JSON, Chunk
from gateway.errors import BadRequest, UpstreamFailed
from gateway.providers import shapes
from gateway.providers.dialect import Asked, Capabilities, Outgoing
from gateway.providers.refusals import Said, as_error
from gateway.providers.sse import SseReader

Path = Callable[[str, str], bytes]
"""A model's name and a method to the URL's path."""

_FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "LANGUAGE": "content_filter",
    "MALFORMED_FUNCTION_CALL": "stop",
    "OTHER": "stop",
}
# https://ai.google.dev/gemini-api/docs/openai#thinking
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576}
_STATUSES = {
    "INVALID_ARGUMENT": "invalid_request_error",
    "FAILED_PRECONDITION": "invalid_request_error",
    "NOT_FOUND": "not_found_error",
    "RESOURCE_EXHAUSTED": "rate_limit_error",
}


def gemini_path(model: str, method: str) -> bytes:
    """The Gemini API's: https://ai.google.dev/api"""
    return f"/v1beta/models/{quote(model, safe='-._~')}:{method}".encode("ascii")


def vertex_path(project: str, location: str) -> Path:
    """Vertex AI's: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference"""

    def path(model: str, method: str) -> bytes:
        publisher, _, name = model.rpartition("/")
        whose = quote(publisher or "google", safe="-._~")
        where = f"/v1/projects/{project}/locations/{location}/publishers/{whose}/models/{quote(name, safe='-._~')}"
        return f"{where}:{method}".encode("ascii")

    return path


class Gemini:
    """The dialect; `path` tells the Gemini API and Vertex AI apart."""

    stream_type: ClassVar[bytes] = b"text/event-stream"
    capabilities: ClassVar[Capabilities] = Capabilities(
        fields={
            "chat.completions": frozenset(
                {
                    "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "seed", "tools",
                    "tool_choice", "response_format", "reasoning_effort", "frequency_penalty", "presence_penalty",
                    "logprobs", "top_logprobs", "safety_settings",
                }
            ),
            "embeddings": frozenset({"input", "dimensions", "encoding_format", "task_type"}),
        },
        choices=True,
        images=True,
        tools=True,
        json_schema=True,
        reasoning=True,
        notes=(
            "Images are data URLs, or URLs that Google can read (`gs://`, files of their Files API, https).",
            "`safety_settings` is passed on as it is.",
        ),
    )  # fmt: skip

    def __init__(self, path: Path = gemini_path) -> None:
        self._path = path

    def outgoing(self, endpoint: str, asked: Asked, model: str, *, stream: bool) -> Outgoing:
        if endpoint == "embeddings":
            return self._embeddings(asked, model)
        system, contents = _contents(asked["messages"])
        body: dict[str, Any] = {"contents": contents}
        if system:
            body["systemInstruction"] = {"parts": system}
        if generation := _generation(asked):
            body["generationConfig"] = generation
        _tools(asked, body)
        if asked.get("safety_settings"):
            body["safetySettings"] = asked["safety_settings"]
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return Outgoing(self._path(model, method), JSON.encode(body))

    def _embeddings(self, asked: Asked, model: str) -> Outgoing:
        given = asked["input"]
        texts = [given] if isinstance(given, str) else given
        if not all(isinstance(text, str) for text in texts):
            raise BadRequest("This target embeds texts, not tokens.", param="input", code="unsupported_parameter")
        requests = []
        for text in texts:
            one: dict[str, Any] = {"model": f"models/{model}", "content": {"parts": [{"text": text}]}}
            if asked.get("dimensions"):
                one["outputDimensionality"] = asked["dimensions"]
            if asked.get("task_type"):
                one["taskType"] = asked["task_type"]
            requests.append(one)
        return Outgoing(self._path(model, "batchEmbedContents"), JSON.encode({"requests": requests}))

    def answer(self, endpoint: str, body: bytes, asked: Asked) -> dict[str, Any]:
        told = shapes.json_object(body)
        try:
            if endpoint == "embeddings":
                vectors = [shapes.vector(one["values"], asked.get("encoding_format")) for one in told["embeddings"]]
                return shapes.embeddings(str(asked["model"]), vectors, shapes.usage(0, 0))
            choices = [_choice(order, candidate) for order, candidate in enumerate(told.get("candidates") or ())]
            if not choices:
                choices = [shapes.choice(0, "content_filter", refusal=_blocked(told))]
        except (KeyError, TypeError, AttributeError):
            raise UpstreamFailed("The provider's answer can't be read.", code="upstream_bad_answer") from None
        used = _usage(told.get("usageMetadata") or {})
        return shapes.completion(told.get("modelVersion", ""), choices, used, told.get("responseId"))

    def decoder(self, asked: Asked) -> StreamDecoder:
        return StreamDecoder()

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Said:
        try:
            told = msgspec.json.decode(body)
            return _said(told[0]["error"] if isinstance(told, list) else told["error"])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, IndexError):
            return Said()


class StreamDecoder:
    """Each event is a whole GenerateContentResponse with the parts that are new; the stream just ends."""

    __slots__ = ("_calls", "_finished", "_open", "_reader", "_writer", "done")

    def __init__(self) -> None:
        self._reader = SseReader()
        self._writer: shapes.ChunkWriter | None = None
        self._calls: dict[int, int] = {}  # tool calls of each choice
        self._finished = False
        self._open: set[int] = set()  # choices that have begun and not ended
        self.done = False

    @property
    def may_end(self) -> bool:
        return self._finished and not self._open and not self._reader.inside_event

    def feed(self, segment: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        for payload in self._reader.feed(segment):
            try:
                chunks += self._event(shapes.json_object(payload))
            except (KeyError, TypeError, AttributeError):
                raise UpstreamFailed(
                    "The provider sent an event that can't be read.", code="upstream_bad_answer"
                ) from None
        return chunks

    def _event(self, told: dict[str, Any]) -> list[Chunk]:
        if "error" in told:
            error = told["error"]
            raise as_error(int(error.get("code") or 500), {}, _said(error), ())
        if self._writer is None:
            self._writer = shapes.ChunkWriter(told.get("modelVersion", ""), told.get("responseId"))
        chunks: list[Chunk] = []
        candidates = told.get("candidates") or ()
        for order, candidate in enumerate(candidates):
            chunks += self._candidate(candidate.get("index", order), candidate)
        if not candidates and (told.get("promptFeedback") or {}).get("blockReason"):
            self._finished = True
            chunks += [self._writer.delta({"refusal": _blocked(told)}), self._writer.finish("content_filter")]
        # Usage comes with every event and grows; what counts is the one of the event that ends the last choice.
        if told.get("usageMetadata") and self._finished and not self._open:
            chunks.append(self._writer.usage(_usage(told["usageMetadata"])))
        return chunks

    def _candidate(self, index: int, candidate: Mapping[str, Any]) -> list[Chunk]:
        assert self._writer is not None
        chunks = []
        self._open.add(index)
        logprobs = _logprobs(candidate)
        for part in (candidate.get("content") or {}).get("parts") or ():
            if "functionCall" in part:
                order = self._calls.get(index, 0)
                self._calls[index] = order + 1
                call = {"index": order, **_tool_call(part)}
                chunks.append(self._writer.delta({"tool_calls": [call]}, index))
            elif part.get("thought"):
                chunks.append(self._writer.delta({"reasoning_content": part.get("text", "")}, index))
            elif part.get("text"):
                chunks.append(self._writer.delta({"content": part["text"]}, index, logprobs))
                logprobs = None
        if reason := candidate.get("finishReason"):
            self._finished = True
            self._open.discard(index)
            chunks.append(self._writer.finish(_finish(reason, calls=index in self._calls), index))
        return chunks


# -- what goes out ----------------------------------------------------------------------------------------
def _contents(given: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system parts, and turns of `user` and `model`; a tool's result is a part of the user's."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}  # a tool call's id to its function's name, which is what theirs go by
    for order, message in enumerate(given):
        role = message["role"]
        if role in ("system", "developer"):
            system += _parts(message.get("content"), order)
            continue
        if role in ("tool", "function"):
            turn, parts = "user", [_function_response(message, names, order)]
        elif role == "assistant":
            turn, parts = "model", _parts(message.get("content") or message.get("refusal"), order)
            for call in message.get("tool_calls") or ():
                parts.append(_function_call(call, order))
                names[str(call.get("id"))] = str((call.get("function") or {}).get("name"))
        else:
            turn, parts = "user", _parts(message.get("content"), order)
        if not parts:
            continue
        if turns and turns[-1]["role"] == turn:
            turns[-1]["parts"] += parts
        else:
            turns.append({"role": turn, "parts": parts})
    if not turns:
        raise BadRequest("This target needs at least one message by the user.", param="messages")
    return system, turns


def _function_call(call: Mapping[str, Any], order: int) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        where = f"messages[{order}].tool_calls"
        raise BadRequest("The arguments of a tool call should be a JSON object.", param=where)
    part: dict[str, Any] = {"functionCall": {"name": function.get("name"), "args": arguments}}
    signature = ((call.get("extra_content") or {}).get("google") or {}).get("thought_signature")
    if signature:
        part["thoughtSignature"] = signature
    return part


def _function_response(message: Mapping[str, Any], names: Mapping[str, str], order: int) -> dict[str, Any]:
    name = names.get(str(message.get("tool_call_id"))) or message.get("name")
    if not name:
        raise BadRequest("No tool call before this message has its id.", param=f"messages[{order}].tool_call_id")
    content = message.get("content")
    text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())
    try:
        told = json.loads(text)
    except ValueError:
        told = text
    return {"functionResponse": {"name": name, "response": told if isinstance(told, dict) else {"result": told}}}


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
        return _media(str((part.get("file") or {}).get("file_data", "")), where)
    if kind == "input_audio":
        audio = part.get("input_audio") or {}
        return {"inlineData": {"mimeType": f"audio/{audio.get('format')}", "data": audio.get("data")}}
    raise BadRequest(f"This target takes no content of type '{kind}'.", param=where, code="unsupported_parameter")


def _media(url: str, where: str) -> dict[str, Any]:
    if url.startswith("data:"):
        head, comma, data = url[5:].partition(",")
        media, _, encoding = head.partition(";")
        if not comma or encoding != "base64" or not media:
            raise BadRequest("A data URL should be like data:image/png;base64,…", param=where)
        return {"inlineData": {"mimeType": media, "data": data}}
    if url.startswith(("https://", "gs://")):
        return {"fileData": {"fileUri": url}}
    raise BadRequest("An image or file is a data URL, an https URL or a gs:// one.", param=where)


def _generation(asked: Asked) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for ours, theirs in (
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
    ):
        if asked.get(ours) is not None:
            told[theirs] = asked[ours]
    if stop := asked.get("stop"):
        told["stopSequences"] = [stop] if isinstance(stop, str) else stop
    form = asked.get("response_format") or {}
    if form.get("type") in ("json_object", "json_schema"):
        told["responseMimeType"] = "application/json"
        if schema := (form.get("json_schema") or {}).get("schema"):
            told["responseJsonSchema"] = schema
    effort = asked.get("reasoning_effort")
    if effort in _BUDGETS:
        told["thinkingConfig"] = {"thinkingBudget": _BUDGETS[effort], "includeThoughts": effort != "none"}
    return told


def _tools(asked: Asked, body: dict[str, Any]) -> None:
    declared = []
    for tool in asked.get("tools") or ():
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, dict):
            raise BadRequest("This target takes tools of type 'function'.", param="tools", code="unsupported_parameter")
        one = {"name": function.get("name"), "description": function.get("description") or ""}
        if function.get("parameters"):
            one["parametersJsonSchema"] = function["parameters"]
        declared.append(one)
    if not declared:
        return
    body["tools"] = [{"functionDeclarations": declared}]
    choice = asked.get("tool_choice")
    if isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
        body["toolConfig"] = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}}
    elif choice in ("required", "none", "auto"):
        mode = {"required": "ANY", "none": "NONE", "auto": "AUTO"}[choice]
        body["toolConfig"] = {"functionCallingConfig": {"mode": mode}}


# -- what comes back --------------------------------------------------------------------------------------
def _choice(order: int, candidate: Mapping[str, Any]) -> dict[str, Any]:
    text, thoughts = [], []
    calls = []
    for part in (candidate.get("content") or {}).get("parts") or ():
        if "functionCall" in part:
            calls.append(_tool_call(part))
        elif part.get("thought"):
            thoughts.append(part.get("text", ""))
        elif "text" in part:
            text.append(part["text"])
    return shapes.choice(
        candidate.get("index", order),
        _finish(candidate.get("finishReason"), calls=bool(calls)),
        content="".join(text) if text else None,
        tool_calls=calls,
        logprobs=_logprobs(candidate),
        reasoning_content="".join(thoughts) or None,
    )


def _tool_call(part: Mapping[str, Any]) -> dict[str, Any]:
    """Their calls may have no id; OpenAI's clients need one to answer by."""
    call = part["functionCall"]
    function = {"name": call["name"], "arguments": json.dumps(call.get("args") or {}, ensure_ascii=False)}
    told: dict[str, Any] = {
        "id": call.get("id") or f"call_{secrets.token_hex(12)}",
        "type": "function",
        "function": function,
    }
    if part.get("thoughtSignature"):
        told["extra_content"] = {"google": {"thought_signature": part["thoughtSignature"]}}
    return told


def _finish(reason: str | None, *, calls: bool) -> str:
    finish = _FINISH.get(reason or "STOP", "stop")
    return "tool_calls" if calls and finish == "stop" else finish


def _blocked(told: Mapping[str, Any]) -> str:
    reason = (told.get("promptFeedback") or {}).get("blockReason") or "OTHER"
    return f"The provider blocked the prompt ({reason})."


def _logprobs(candidate: Mapping[str, Any]) -> dict[str, Any] | None:
    told = candidate.get("logprobsResult")
    if not told:
        return None
    tops = told.get("topCandidates") or []
    content = []
    for order, chosen in enumerate(told.get("chosenCandidates") or ()):
        top = tops[order].get("candidates", []) if order < len(tops) else []
        content.append({**_logprob(chosen), "top_logprobs": [_logprob(one) for one in top]})
    return {"content": content, "refusal": None}


def _logprob(one: Mapping[str, Any]) -> dict[str, Any]:
    token = one.get("token", "")
    return {"token": token, "logprob": one.get("logProbability", 0.0), "bytes": list(token.encode())}


def _usage(used: Mapping[str, Any]) -> dict[str, Any]:
    """Their candidates' tokens leave the thoughts out; OpenAI's completion tokens hold them."""
    thoughts = used.get("thoughtsTokenCount") or 0
    prompt = (used.get("promptTokenCount") or 0) + (used.get("toolUsePromptTokenCount") or 0)
    completion = (used.get("candidatesTokenCount") or 0) + thoughts
    return shapes.usage(prompt, completion, cached=used.get("cachedContentTokenCount") or 0, reasoning=thoughts)


def _said(error: Mapping[str, Any]) -> Said:
    status = str(error.get("status") or "")
    code = status.lower() or None
    message = str(error.get("message") or "")
    # They answer a wrong key with 400; it is the gateway's own, so no caller's matter.
    if status == "INVALID_ARGUMENT" and "API key not valid" in message:
        return Said(status=401)
    return Said(message, _STATUSES.get(status), None, code)
