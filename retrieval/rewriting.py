"""Follow-up questions to questions that stand alone: "And for contractors?" finds nothing, with what it follows it does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence

Turn = tuple[str, str]
"""A message of a conversation: its role, and its words."""

Rewrite = Callable[[Sequence[Turn]], Awaitable[str]]
"""The last user message of a conversation as a question that stands alone."""

_LONGEST = 1_000  # characters
_FEW_WORDS = 4
_WORD = re.compile(r"\w[\w'-]*")
_POINTING = re.compile(
    r"\b(it|its|that|this|they|them|their|those|these|he|him|his|she|her|there|then|one|ones|same|former|latter|above"
    r"|other|another|else|too|also|instead)\b",
    re.IGNORECASE,
)
_LEANING = re.compile(
    r"^\W*(and|or|but|so|also|what about|how about|what if|why|how come|then|ok|okay)\b", re.IGNORECASE
)


async def heuristic(turns: Sequence[Turn]) -> str:
    return standalone(turns)


def standalone(turns: Sequence[Turn]) -> str:
    """The last user message, with the one before it in front where it leans on that; "" where there is none.

    It leans when it is short, begins like an afterthought, or points at something with a pronoun. What is prepended is
    a question that stands alone by the same rule, so a chain of follow-ups leads back to what it began with.
    """
    asked = [words.strip() for role, words in turns if role == "user" and words.strip()]
    if not asked:
        return ""
    question = asked[-1]
    parts = [question]
    for earlier in reversed(asked[:-1]):
        if not _leans(parts[0]):
            break
        parts.insert(0, earlier)
    return "\n".join([*(part[:_LONGEST] for part in parts[:-1][-3:]), question])


def _leans(question: str) -> bool:
    words = _WORD.findall(question)
    if len(words) > 30:
        return False
    # "What is open mode?" is short and stands alone: it names what it asks for, at the end.
    short = len(words) < _FEW_WORDS
    return short or _LEANING.match(question) is not None or _POINTING.search(question) is not None


_PROMPT = (
    "Rewrite the user's last message as one question that can be understood without the conversation. Keep its "
    "language, its names and its numbers. Answer with the question alone.\n\n"
)


class ModelRewriter:
    """A model asked to rewrite; `complete` is a prompt in, its answer out. In doubt, the heuristic's question."""

    def __init__(self, complete: Callable[[str], Awaitable[str]], *, budget: float = 2.0) -> None:
        """`budget` in seconds."""
        self._complete = complete
        self._budget = budget

    async def __call__(self, turns: Sequence[Turn]) -> str:
        plain = standalone(turns)
        said = [f"{role}: {words[:_LONGEST]}" for role, words in turns if role in ("user", "assistant")][-6:]
        if len(said) < 2:
            return plain
        try:
            async with asyncio.timeout(self._budget):
                rewritten = (await self._complete(_PROMPT + "\n".join(said))).strip()
        except Exception:
            # Whatever fails here is the model's: a search with the plain question is better than none.
            return plain
        return rewritten if 0 < len(rewritten) <= _LONGEST else plain
