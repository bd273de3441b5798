"""Imitations of what judges texts over HTTP: OpenAI's moderation endpoint, and guard models behind vLLM.

Strict in what they take, as vLLM 0.20 and OpenAI are; which texts they find bad is by a word in them. `says` gives the
answer's text, `spoil` rewrites the answer.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

from upstream.vendor import Seen, Vendor

CATEGORIES = ("harassment", "violence", "self-harm/intent")
_CHAT = {"model", "messages", "temperature", "max_tokens", "logprobs", "top_logprobs", "chat_template_kwargs"}


class GuardServer(Vendor):
    """Answers at `/v1/moderations`, `/v1/chat/completions`, `/v1/completions` and `/classify`."""

    says: Callable[[Seen], tuple[str, float]] | None = None
    spoil: Callable[[Any], Any] | None = None
    status: int = 200
    stalls: bool = False

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        if self.stalls:
            await asyncio.Event().wait()
        document = self._document(seen)
        status = self.status if document is not None else 400
        document = self.spoil(document) if self.spoil is not None else document
        data = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await writer.drain()
        return True

    def _document(self, seen: Seen) -> Any:
        """None for a request that is not as the real servers take it."""
        body = seen.body
        if seen.headers.get("content-type") != "application/json" or not isinstance(body.get("model"), str):
            return None
        match seen.path:
            case "/v1/moderations" if set(body) == {"model", "input"}:
                texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
                return {"id": "modr-1", "model": body["model"], "results": [_moderated(text) for text in texts]}
            case "/v1/chat/completions" if set(body) <= _CHAT:
                return self._chat(seen)
            case "/v1/completions" if set(body) == {"model", "prompt", "temperature", "max_tokens", "logprobs"}:
                return self._completion(seen)
            case "/classify" if set(body) == {"model", "input"} and isinstance(body["input"], list):
                return {
                    "object": "list",
                    "model": body["model"],
                    "data": list(map(_classified, *_numbered(body["input"]))),
                }
        return None

    def _chat(self, seen: Seen) -> dict[str, Any]:
        assert self.says is not None
        text, chance = self.says(seen)
        first = text.split()[0] if text.split() else ""
        opposite = {"safe": "unsafe", "unsafe": "safe", "Yes": "No", "No": "Yes", "yes": "no", "no": "yes"}.get(
            first, "x"
        )
        token = {
            "token": first, "logprob": math.log(chance),
            "top_logprobs": [
                {"token": first, "logprob": math.log(chance)},
                {"token": opposite, "logprob": math.log(1 - chance) if chance < 1 else -9999.0},
            ],
        }  # fmt: skip
        logprobs = {"content": [{"token": "\n\n", "logprob": 0.0, "top_logprobs": []}, token]}
        message = {"role": "assistant", "content": f"\n\n{text}"}
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
        return {"id": "chatcmpl-1", "object": "chat.completion", "model": seen.body["model"], "choices": [choice]}

    def _completion(self, seen: Seen) -> dict[str, Any]:
        assert self.says is not None
        text, chance = self.says(seen)
        top = {"Yes": math.log(chance), "No": math.log(1 - chance), "The": -8.0}
        logprobs = {"tokens": [text], "token_logprobs": [math.log(chance)], "top_logprobs": [top], "text_offset": [0]}
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": "length"}
        return {"id": "cmpl-1", "object": "text_completion", "model": seen.body["model"], "choices": [choice]}


def _moderated(text: str) -> dict[str, Any]:
    scores = {category: 0.9 if category.split("/")[0] in text else 0.01 for category in CATEGORIES}
    held = {category: score > 0.5 for category, score in scores.items()}
    return {"flagged": any(held.values()), "categories": held, "category_scores": scores}


def _numbered(texts: list[str]) -> tuple[range, list[str]]:
    return range(len(texts)), texts


def _classified(index: int, text: str) -> dict[str, Any]:
    bad = "ignore" in text.lower()
    probs = [0.04, 0.96] if bad else [0.97, 0.03]
    return {"index": index, "label": "MALICIOUS" if bad else "BENIGN", "probs": probs, "num_classes": 2}
