"""A provider that needs no model: it answers with the best sentences of the passages, each cited.

Sentences are scored by the question's words they hold, weighted by rarity among the passages' sentences
(inverse document frequency, Spärck Jones 1972), and by how well their passage was ranked.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.chat import JSON, ChatRequest, Request, last_question
from gateway.chunks import Chunk
from gateway.errors import BadRequest

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.values import Target
    from retrieval.passages import Passage

_WORD = re.compile(r"[^\W_]+(?:[-_'][^\W_]+)*")
_SENTENCE = re.compile(r"(?<=[.!?:])\s+(?=[A-Z`*\[(])")
_FENCE = re.compile(r"```.*?```", re.DOTALL)
_STOP = frozenset([
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from", "how", "i", "if", "in",
    "into", "is", "it", "its", "my", "of", "on", "or", "our", "should", "that", "the", "their", "there", "this",
    "to", "use", "was", "we", "what", "when", "where", "which", "who", "why", "will", "with", "would", "you", "your"
])  # fmt: skip


class Extractive:
    endpoints = frozenset({"chat.completions"})

    def __init__(self, sentences: int) -> None:
        """`sentences`: how many an answer holds at most."""
        self._sentences = sentences

    def unfit(self, request: Request) -> BadRequest | None:
        return None

    async def open(self, request: Request, target: Target, exchange: Exchange, deadline: float) -> _Told:
        assert isinstance(request, ChatRequest)
        question = last_question(request.messages)
        if not question:
            raise BadRequest("The conversation holds no question by the user.", param="messages")
        text = extract(question, exchange.passages, self._sentences)
        return _Told(text, question, stream=request.stream)

    async def aclose(self) -> None:
        pass


def extract(question: str, passages: Sequence[Passage], count: int) -> str:
    """The answer as markdown with `[n]` marks, n counting `passages` from 1."""
    wanted = {_stem(word) for word in _WORD.findall(question.lower())} - _STOP
    units = [
        (n, order, unit) for n, passage in enumerate(passages, 1) for order, unit in enumerate(_units(passage.text))
    ]
    words = [Counter(_stem(word) for word in _WORD.findall(unit.lower())) for _, _, unit in units]
    spread = Counter(word for counts in words for word in counts)
    scored = []
    headings = [{_stem(word) for word in _WORD.findall(" ".join(p.heading).lower())} & wanted for p in passages]
    for (n, order, unit), counts in zip(units, words, strict=True):
        found = wanted & counts.keys()
        about = headings[n - 1] - found  # said by the headings above, so by every sentence beneath them
        if found or about:
            rarity = sum(math.log(1 + len(units) / spread[word]) for word in found)
            rarity += 0.6 * sum(math.log(1 + len(units) / (1 + spread[word])) for word in about)
            length = 1 + max(0, sum(counts.values()) - 40) / 80
            scored.append((rarity / length / (1 + 0.15 * (n - 1)), n, order, unit))
    if not scored:
        return "I found nothing about this in the knowledge that I have."
    best = sorted(scored, key=lambda entry: -entry[0])[:count]
    best = [entry for entry in best if entry[0] >= 0.5 * best[0][0]]
    best.sort(key=lambda entry: (entry[1], entry[2]))
    return "\n\n".join(_cited(unit, n) for _, n, _, unit in best)


def _cited(unit: str, n: int) -> str:
    """A fence ends with nothing behind it, so its mark stands below."""
    return f"{unit}\n\n[{n}]" if unit.endswith("```") else f"{unit} [{n}]"


def _units(text: str) -> list[str]:
    """Sentences, list items and whole code blocks: the pieces that can stand alone in an answer."""
    units: list[str] = []
    position = 0
    for fence in [*_FENCE.finditer(text), None]:
        prose = text[position : fence.start() if fence else len(text)]
        for line in re.split(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.)\s)|(?<=\|)\n", prose):
            line = " ".join(line.split())
            if not line or line.startswith(("#", "|")):
                continue
            units += [part for part in _SENTENCE.split(line) if len(part) > 15]
        if fence:
            block = fence.group()
            # A code block means little without the sentence that introduces it.
            lead = units.pop() + "\n\n" if units and units[-1].endswith(":") else ""
            units.append(lead + block)
            position = fence.end()
    return units


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


class _Told:
    """The answer in OpenAI's shape: whole, or word by word."""

    def __init__(self, text: str, question: str, *, stream: bool) -> None:
        frame = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": "extractive"}
        usage = _usage(question, text)
        if not stream:
            message = {"role": "assistant", "content": text, "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            whole = {**frame, "object": "chat.completion", "choices": [choice], "usage": usage}
            self._chunks = [Chunk(JSON.encode(whole))]
            return
        frame["object"] = "chat.completion.chunk"
        deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in re.findall(r"\S+\s*|\s+", text)]
        chunks = [{**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        chunks.append({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        chunks.append({**frame, "choices": [], "usage": usage})
        self._chunks = [Chunk(JSON.encode(chunk)) for chunk in chunks]

    async def next(self) -> list[Chunk]:
        chunks, self._chunks = self._chunks, []
        return chunks

    def close(self) -> None:
        self._chunks = []


def _usage(question: str, text: str) -> dict[str, int]:
    """Words, since no tokenizer took part."""
    asked, told = len(question.split()), len(text.split())
    return {"prompt_tokens": asked, "completion_tokens": told, "total_tokens": asked + told}
