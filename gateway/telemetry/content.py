"""What was said, on the spans of the models that the configuration names: masked here, in the spans' own thread.

As JSON, since few collectors take structured attributes on spans yet; in the conventions' shapes:
https://github.com/open-telemetry/semantic-conventions/tree/v1.41.0/docs/gen-ai (gen-ai-input-messages.json and others).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.telemetry import names

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.telemetry.spans import Span, Tree

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_INSTRUCTIONS = frozenset({"system", "developer"})
# Their APIs take instructions beside the conversation; elsewhere they are a part of it.
_APART = frozenset({"anthropic", "aws.bedrock", "gcp.gemini", "gcp.vertex_ai", "gcp.gen_ai"})
_SAID = frozenset({"chat", "text_completion"})
_CUT = " […]"
_BUDGET = 8  # times the bytes of an attribute: so many characters of one call are looked at
_LONGEST_SECRET = 4_096  # characters; a private key's, about

Mask = Callable[[str, bool], str]
"""A text, and whether it is JSON that should stay so, to what may be told of it."""


class Contents:
    """Adds what was said to the spans of a call, where that may be told."""

    def __init__(
        self,
        models: frozenset[str],
        mask: Callable[[frozenset[str]], Mask],
        masked: Iterable[str],
        most_bytes: int,
        may_leave: Callable[[str | None], bool],
        shapes: names.Names,
    ) -> None:
        """`mask` gives what cuts out the findings of these checks; `masked` are those that always look.

        `may_leave`: whether a call of this sensitivity may be told to the collector. `most_bytes` of each attribute.
        """
        self._models = models
        self._mask = mask
        self._masked = frozenset(masked)
        self._most = most_bytes
        self._may_leave = may_leave
        self._shapes = shapes

    def size(self, exchange: Exchange) -> int:
        """About how many characters a call holds until they are told; masking them may take a while."""
        if not exchange.keep_content or exchange.model not in self._models:
            return 0
        said = sum(_length(message) for message in exchange.messages or ())
        return said + len(exchange.answer_text or "") + sum(_length(call) for call in exchange.answer_calls)

    def add(self, exchange: Exchange, tree: Tree) -> None:
        if exchange.model not in self._models:
            return
        spans = [span for span in tree.spans if span.attributes.get(names.OPERATION) in _SAID]
        found = [span for span in tree.spans if span.attributes.get(names.OPERATION) == "retrieval"]
        if not self._may_leave(exchange.sensitivity):
            for span in (*spans, *found):
                span.attributes[names.CONTENT] = "withheld: may not leave the premises"
            return
        mask = _Bounded(self._mask(self._masked | _masked_before(exchange)), self._most)
        if spans:
            self._conversation(exchange, spans[-1], mask)
        for span in found:
            self._search(exchange, span, mask)

    def _conversation(self, exchange: Exchange, span: Span, mask: Mask) -> None:
        said = {"role": "assistant", "content": exchange.answer_text or None, "tool_calls": exchange.answer_calls}
        answer = _message(said, mask)
        # The newest first, since what is said is looked at up to a bound.
        messages = [_message(message, mask) for message in reversed(exchange.messages or ())][::-1]
        apart = span.attributes.get(names.PROVIDER) in _APART
        if apart:
            instructions = [part for m in messages if m["role"] in _INSTRUCTIONS for part in m["parts"]]
            messages = [message for message in messages if message["role"] not in _INSTRUCTIONS]
            if instructions:
                span.attributes[names.SYSTEM_INSTRUCTIONS] = self._json(instructions)
        stops = stop_sequences(exchange.parameters or {})
        if stops:
            span.attributes[names.STOP_SEQUENCES] = [mask(stop, False) for stop in stops]
        if messages:
            span.attributes[names.INPUT_MESSAGES] = self._json(messages)
        if answer["parts"]:
            if self._shapes.finish_reason_in_messages:
                answer["finish_reason"] = exchange.finish_reason or "error"
            span.attributes[names.OUTPUT_MESSAGES] = self._json([answer])

    def _search(self, exchange: Exchange, span: Span, mask: Mask) -> None:
        # Before there are messages, the input guardrails have not let the question pass.
        if exchange.searched is not None and exchange.searched.queries and exchange.messages is not None:
            span.attributes[names.RETRIEVAL_QUERY] = mask(exchange.searched.queries[0], False)[: self._most]
        if exchange.passages:
            found = [{"id": passage.section_id, "score": round(passage.score, 4)} for passage in exchange.passages]
            span.attributes[names.RETRIEVAL_DOCUMENTS] = self._json(found)

    def _json(self, value: list[dict[str, Any]]) -> str:
        """Within its bytes: the longest texts are cut first, as far as it takes."""
        try:
            encoded = _encode(value)
            longest = self._most
            while len(encoded) > self._most and longest > 32:
                longest //= 2
                value = [_cut(item, longest) for item in value]
                encoded = _encode(value)
        except RecursionError:  # a tool's arguments, which may be nested as deeply as anybody likes
            return "[]"
        return encoded.decode() if len(encoded) <= self._most else "[]"


class _Bounded:
    """A mask for one call, which looks at a bounded part of it: of megabytes, it would hold up the calls' own thread.

    A secret that a cut goes through would not be known for one, so as much as one is long is not told before a cut.
    """

    def __init__(self, mask: Mask, most: int) -> None:
        self._mask = mask
        self._longest = most + _LONGEST_SECRET
        self._left = _BUDGET * self._longest

    def __call__(self, text: str, in_json: bool) -> str:
        looked_at = min(self._longest, self._left)
        self._left -= min(len(text), looked_at)
        if len(text) <= looked_at:
            return self._mask(text, in_json)
        masked = self._mask(text[:looked_at], False) if looked_at > _LONGEST_SECRET else ""
        return masked[: max(0, len(masked) - _LONGEST_SECRET)] + _CUT


def stop_sequences(given: Mapping[str, bytes]) -> list[str]:
    """Those of the request: a caller's own words, and told as such."""
    try:
        asked = _decode(given.get("stop", b"[]"))
    except (msgspec.DecodeError, RecursionError):  # cut short, since it was long
        return []
    texts = [asked] if isinstance(asked, str) else asked
    return [one for one in texts if isinstance(one, str)] if isinstance(texts, list) else []


def _masked_before(exchange: Exchange) -> frozenset[str]:
    """The checks that have masked something of this call: an answer may hold it again, put back for its caller."""
    found = {verdict.check for _, verdict in exchange.verdicts if verdict.action in ("mask", "pseudonymise", "block")}
    return frozenset(found & {"secrets", "pii"}) | (frozenset({"pii"}) if exchange.pseudonyms else frozenset())


def _message(message: Mapping[str, Any], mask: Mask) -> dict[str, Any]:
    role = str(message.get("role", "user"))
    content = message.get("content")
    if role == "tool":
        told = mask(content if isinstance(content, str) else _encode(content).decode(), False)
        return {
            "role": role,
            "parts": [{"type": "tool_call_response", "id": _id(message.get("tool_call_id"), mask), "response": told}],
        }
    parts: list[dict[str, Any]] = []
    if isinstance(content, str):
        parts.append({"type": "text", "content": mask(content, False)})
    for part in content if isinstance(content, list) else ():
        parts.append(_part(part, mask))
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        arguments = mask(str(function.get("arguments") or "{}"), True)
        try:
            read: Any = _decode(arguments)
        except (msgspec.DecodeError, RecursionError):  # a model may write anything there, and a caller too
            read = arguments
        name = mask(str(function.get("name", "")), False)
        parts.append({"type": "tool_call", "id": _id(call.get("id"), mask), "name": name, "arguments": read})
    return {"role": role, "parts": parts}


def _id(value: Any, mask: Mask) -> str | None:
    """A tool call's: a caller may write anything there."""
    return mask(value, False) if isinstance(value, str) else None


def _part(part: Any, mask: Mask) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "content": mask(part, False)}
    kind = str(part.get("type", "")) if isinstance(part, dict) else ""
    if kind == "text":
        return {"type": "text", "content": mask(str(part.get("text", "")), False)}
    if kind == "image_url":
        image = part.get("image_url")
        url = str(image.get("url", "")) if isinstance(image, dict) else ""
        if url and not url.startswith("data:"):
            return {"type": "uri", "modality": "image", "uri": mask(url, False)}
    return {"type": mask(kind, False) or "unknown"}  # its bytes are no text, and not told


def _length(content: Any) -> int:
    if isinstance(content, str):
        return len(content)
    if isinstance(content, dict):
        return sum(_length(part) for part in content.values())
    return sum(_length(part) for part in content) if isinstance(content, list) else 0


def _cut(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= longest else value[:longest] + _CUT
    if isinstance(value, dict):
        return {name: _cut(item, longest) for name, item in value.items()}
    if isinstance(value, list):
        return [_cut(item, longest) for item in value]
    return value
