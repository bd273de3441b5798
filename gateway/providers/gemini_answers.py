"""Google's GenerateContentResponse to OpenAI's completion and chunks: https://ai.google.dev/api/generate-content"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from gateway.chunks import Chunk
from gateway.errors import UpstreamFailed, UpstreamRefused
from gateway.providers import shapes
from gateway.providers.refusals import Said, as_error
from gateway.providers.sse import SseReader

# https://ai.google.dev/api/generate-content#FinishReason
_FINISH = {
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "LANGUAGE": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
# The model has not kept to its own format: there is no answer that a caller could use.
_BROKEN = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"})
_STATUSES = {
    "INVALID_ARGUMENT": "invalid_request_error",
    "FAILED_PRECONDITION": "invalid_request_error",
    "NOT_FOUND": "not_found_error",
    "RESOURCE_EXHAUSTED": "rate_limit_error",
}


def completion(told: Mapping[str, Any]) -> dict[str, Any]:
    """A whole answer. Raises UpstreamError for one that is none; KeyError and its like for an unknown shape."""
    choices = [_choice(order, candidate) for order, candidate in enumerate(told.get("candidates") or ())]
    if not choices:
        choices = [shapes.choice(0, "content_filter", refusal=_blocked(told))]
    used = usage(told.get("usageMetadata") or {})
    return shapes.completion(told.get("modelVersion") or "", choices, used, told.get("responseId"))


def _choice(order: int, candidate: Mapping[str, Any]) -> dict[str, Any]:
    text, thoughts = [], []
    calls: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    signature = None
    for part in _parts(candidate):
        if "functionCall" in part:
            calls.append(_tool_call(part))
            continue
        signature = part.get("thoughtSignature") or signature
        if "inlineData" in part:
            images.append(_image(part))
        elif part.get("thought"):
            thoughts.append(part.get("text", ""))
        else:
            text.append(part.get("text", ""))
    finish = _finish(candidate, calls=bool(calls))
    return shapes.choice(
        candidate.get("index", order),
        finish,
        content="".join(text) if text or not calls else None,
        tool_calls=calls,
        logprobs=_logprobs(candidate),
        reasoning_content="".join(thoughts) or None,
        images=images or None,
        extra_content=_signed(signature),
    )


class StreamDecoder:
    """Each event is a whole GenerateContentResponse with the parts that are new; the stream just ends."""

    __slots__ = ("_calls", "_choices", "_ended", "_reader", "_writer", "done")

    def __init__(self, choices: int = 1) -> None:
        """`choices`: how many were asked for."""
        self._reader = SseReader()
        self._writer: shapes.ChunkWriter | None = None
        self._calls: dict[int, int] = {}  # tool calls of each choice
        self._choices = choices
        self._ended: set[int] = set()
        self.done = False

    @property
    def may_end(self) -> bool:
        return len(self._ended) >= self._choices and not self._reader.inside_event

    def feed(self, segment: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        for payload in self._reader.feed(segment):
            try:
                chunks += self._event(shapes.json_object(payload))
            except (KeyError, TypeError, AttributeError, ValueError):
                raise UpstreamFailed(
                    "The provider sent an event that can't be read.", code="upstream_bad_answer"
                ) from None
        return chunks

    def _event(self, told: dict[str, Any]) -> list[Chunk]:
        if "error" in told:
            told_error = said(told["error"])
            # Its words are left out: what of them is secret is not known here.
            raise as_error(
                told_error.status or int(told["error"].get("code") or 500),
                {},
                Said("", told_error.type, None, told_error.code),
                (),
            )
        if self._writer is None:
            self._writer = shapes.ChunkWriter(told.get("modelVersion") or "", told.get("responseId"))
        chunks: list[Chunk] = []
        candidates = told.get("candidates") or ()
        for order, candidate in enumerate(candidates):
            chunks += self._candidate(self._writer, candidate.get("index", order), candidate)
        if not candidates and (told.get("promptFeedback") or {}).get("blockReason"):
            self._ended.update(range(self._choices))
            chunks += [self._writer.delta({"refusal": _blocked(told)}), self._writer.finish("content_filter")]
        # Usage comes with every event and grows; what counts is the one of the event that ends the last choice.
        if told.get("usageMetadata") and len(self._ended) >= self._choices:
            chunks.append(self._writer.usage(usage(told["usageMetadata"])))
        return chunks

    def _candidate(self, writer: shapes.ChunkWriter, index: int, candidate: Mapping[str, Any]) -> list[Chunk]:
        chunks = []
        logprobs = _logprobs(candidate)
        for part in _parts(candidate):
            if "functionCall" in part:
                order = self._calls.get(index, 0)
                self._calls[index] = order + 1
                chunks.append(writer.delta({"tool_calls": [{"index": order, **_tool_call(part)}]}, index))
                continue
            delta: dict[str, Any] = {}
            if "inlineData" in part:
                delta["images"] = [_image(part)]
            elif part.get("text"):
                delta["reasoning_content" if part.get("thought") else "content"] = part["text"]
            if part.get("thoughtSignature"):
                delta["extra_content"] = _signed(part["thoughtSignature"])
            if delta:
                chunks.append(writer.delta(delta, index, logprobs if "content" in delta else None))
                if "content" in delta:
                    logprobs = None
        if candidate.get("finishReason"):
            self._ended.add(index)
            chunks.append(writer.finish(_finish(candidate, calls=index in self._calls), index))
        return chunks


def _parts(candidate: Mapping[str, Any]) -> list[dict[str, Any]]:
    return (candidate.get("content") or {}).get("parts") or []


def _tool_call(part: Mapping[str, Any]) -> dict[str, Any]:
    """Their calls may have no id; OpenAI's clients need one to answer by."""
    call = part["functionCall"]
    arguments = json.dumps(call.get("args") or {}, ensure_ascii=False)
    told = shapes.tool_call(call.get("id") or f"call_{secrets.token_hex(12)}", call["name"], arguments)
    if signed := _signed(part.get("thoughtSignature")):
        told["extra_content"] = signed
    return told


def _signed(signature: str | None) -> dict[str, Any] | None:
    return {"google": {"thought_signature": signature}} if signature else None


def _image(part: Mapping[str, Any]) -> dict[str, Any]:
    """An image that the model has made, in the shape that other gateways have for it."""
    data = part["inlineData"]
    return {"type": "image_url", "image_url": {"url": f"data:{data['mimeType']};base64,{data['data']}"}}


def _finish(candidate: Mapping[str, Any], *, calls: bool) -> str:
    reason = candidate.get("finishReason") or "STOP"
    if reason in _BROKEN:
        raise UpstreamFailed(f"The provider's model broke its answer off ({reason}).", code="upstream_bad_answer")
    if reason == "MISSING_THOUGHT_SIGNATURE":
        message = "A tool call among the messages lacks the extra_content.google.thought_signature that it came with."
        raise UpstreamRefused(
            message, status=400, type="invalid_request_error", param="messages", code="missing_thought_signature"
        )
    finish = _FINISH.get(reason, "stop")
    return "tool_calls" if calls and finish == "stop" else finish


def _blocked(told: Mapping[str, Any]) -> str:
    return f"The provider blocked the prompt ({told['promptFeedback']['blockReason']})."


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


def usage(used: Mapping[str, Any]) -> dict[str, Any]:
    """Their candidates' tokens leave the thoughts out; OpenAI's completion tokens hold them."""
    thoughts = used.get("thoughtsTokenCount") or 0
    prompt = (used.get("promptTokenCount") or 0) + (used.get("toolUsePromptTokenCount") or 0)
    completed = (used.get("candidatesTokenCount") or 0) + thoughts
    return shapes.usage(prompt, completed, cached=used.get("cachedContentTokenCount") or 0, reasoning=thoughts)


def said(error: Mapping[str, Any]) -> Said:
    """A google.rpc.Status: https://cloud.google.com/apis/design/errors"""
    status = str(error.get("status") or "")
    code = status.lower() or None
    message = str(error.get("message") or "")
    # They answer a wrong key with 400; it is the gateway's own, so no caller's matter.
    reasons = [str(detail.get("reason")) for detail in error.get("details") or () if isinstance(detail, dict)]
    if status == "INVALID_ARGUMENT" and ("API_KEY_INVALID" in reasons or "API key not valid" in message):
        return Said(status=401)
    return Said(message, _STATUSES.get(status), None, code)
