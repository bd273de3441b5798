"""How long a text may be, and how short."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

from guardrails.text_checks import Context, Cost
from guardrails.verdicts import Action, Finding

_RULES = 1  # counts up when the same text may be judged otherwise
_WORD = re.compile(r"\w+(?:[-'’]\w+)*")

Unit = Literal["characters", "words", "tokens"]


class Length:
    name = "length"
    default_action: Action = "block"
    cost: Cost = "cheap"

    def __init__(
        self,
        most: int | None = None,
        least: int | None = None,
        unit: Unit = "characters",
        count_tokens: Callable[[str], int] | None = None,
        tokenizer: str = "",
    ) -> None:
        """At most and at least so many of `unit`. `tokenizer` names `count_tokens`, for the version.

        Raises ValueError when no bound is given, when they exclude each other, or tokens have no counter.
        """
        if most is None and least is None:
            raise ValueError("`length` needs `most` or `least`")
        if (least or 0) < 0 or (most is not None and most < (least or 0)):
            raise ValueError("`most` must not be less than `least`, nor `least` less than 0")
        if unit == "tokens" and count_tokens is None:
            raise ValueError("a length in tokens needs a tokenizer")
        self._most = most
        self._least = least or 0
        self._unit = unit
        self._count_tokens = count_tokens
        self.version = f"{_RULES} {most} {least} {unit} {tokenizer}"

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        """Kinds: `too_long`, from where it is too much where that is known; `too_short`."""
        return [self._find(text) for text in texts]

    def _find(self, text: str) -> tuple[Finding, ...]:
        count, beyond = self._counted(text)
        if self._most is not None and count > self._most:
            return (Finding("too_long", beyond, len(text), 1.0),)
        return (Finding("too_short", 0, len(text), 1.0),) if count < self._least else ()

    def _counted(self, text: str) -> tuple[int, int]:
        """How many there are, and where those begin that are too many."""
        if self._unit == "characters":
            return len(text), self._most or 0
        if self._unit == "words":
            count, beyond = 0, 0
            for word in _WORD.finditer(text):
                if count == self._most:
                    beyond = word.start()
                count += 1
            return count, beyond
        assert self._count_tokens is not None  # the constructor has seen to it
        return self._count_tokens(text), 0
