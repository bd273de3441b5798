"""`POST /v1/completions`: OpenAI's older text completions, over the same journey as every chat.

https://platform.openai.com/docs/api-reference/completions. The prompt becomes one message by the user, so templates,
guardrails and every vendor serve it. What only a model without a chat template could give (a continuation to the
letter, `suffix`, tokens as prompt) is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from gateway.chat import JSON, ChatRequest
from gateway.chunks import Chunk
from gateway.envelopes import field_fault
from gateway.errors import BadRequest, GatewayError
from gateway.exchange import Exchange

_decode = msgspec.json.Decoder().decode
_ONLY_OF_CHAT = ("messages", "tools", "tool_choice", "functions", "response_format")
_REFUSED = ("suffix", "best_of", "logprobs")


class CompletionEnvelope(msgspec.Struct):
    """What is checked here of a completions request; the rest is checked as a chat's."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    prompt: str | list[str | int | list[int]]
    echo: bool | None = None


_decode_envelope = msgspec.json.Decoder(CompletionEnvelope).decode


class Completions:
    """The inbound API."""

    endpoint = "completions"

    def open(self, body: bytes) -> CompletionCall:
        return CompletionCall(body)

    def refusal(self, error: GatewayError) -> bytes:
        return JSON.encode(error.body())


class CompletionCall:
    """One call's answer."""

    def __init__(self, body: bytes) -> None:
        """Raises BadRequest."""
        try:
            envelope = _decode_envelope(body)
            fields: dict[str, Any] = _decode(body)
        except msgspec.ValidationError as fault:
            raise field_fault(str(fault)) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise BadRequest("The request body is not valid JSON.", code="invalid_json") from None
        prompt = envelope.prompt
        if isinstance(prompt, list):
            if len(prompt) != 1 or not isinstance(prompt[0], str):
                raise BadRequest("One prompt of text a call, please: a string, or a list of one.", param="prompt")
            prompt = prompt[0]
        for name in (*_ONLY_OF_CHAT, *_REFUSED):
            if fields.get(name) not in (None, 1 if name == "best_of" else None):
                raise BadRequest(
                    f"{name} is not served here: ask /v1/chat/completions.", param=name, code="unsupported_parameter"
                )
        self._before = prompt if envelope.echo else ""
        self._echoed: set[int] = set()
        for name in ("prompt", "echo", *_REFUSED):
            fields.pop(name, None)
        self.request = ChatRequest(JSON.encode({**fields, "messages": [{"role": "user", "content": prompt}]}))

    async def begin(self, exchange: Exchange) -> None:
        """Nothing is continued."""

    async def whole(self, chunk: Chunk, exchange: Exchange) -> bytes:
        document: dict[str, Any] = _decode(chunk.data)
        choices = [
            {
                "index": choice.get("index", 0),
                "text": self._before + ((choice.get("message") or {}).get("content") or ""),
                "logprobs": None,
                "finish_reason": choice.get("finish_reason"),
            }
            for choice in document.get("choices") or ()
        ]
        return JSON.encode({**_frame(document), "choices": choices, "usage": document.get("usage")})

    def events(self, chunks: Sequence[Chunk], exchange: Exchange) -> bytes:
        told: list[bytes] = []
        for chunk in chunks:
            document: dict[str, Any] = _decode(chunk.data)
            pieces = map(self._piece, document.get("choices") or ())
            choices = [piece for piece in pieces if piece is not None]
            event = {**_frame(document), "choices": choices}
            if document.get("usage") is not None and self.request.include_usage:
                event["usage"] = document["usage"]
            if choices or "usage" in event:
                told += (b"data: ", JSON.encode(event), b"\n\n")
        return b"".join(told)

    async def end(self, exchange: Exchange) -> bytes:
        return b"data: [DONE]\n\n"

    def broken(self, error: GatewayError) -> bytes:
        return b"data: " + JSON.encode(error.body()) + b"\n\n"

    def _piece(self, choice: dict[str, Any]) -> dict[str, Any] | None:
        index, text = choice.get("index", 0), (choice.get("delta") or {}).get("content") or ""
        if self._before and index not in self._echoed:
            self._echoed.add(index)
            text = self._before + text
        if not text and not choice.get("finish_reason"):
            return None
        return {"index": index, "text": text, "logprobs": None, "finish_reason": choice.get("finish_reason")}


def _frame(document: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        name: document[name] for name in ("id", "created", "model", "system_fingerprint") if name in document
    }
    if "id" in told:
        told["id"] = str(told["id"]).replace("chatcmpl-", "cmpl-", 1)
    return {**told, "object": "text_completion"}
