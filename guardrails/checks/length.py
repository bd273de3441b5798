"""How long a text may be, and how short."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

from guardrails.text_checks import Context, Cost, Flow, Horizon
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

    def horizon(self, action: Action) -> Horizon:
        """A stream can be ended where it becomes too long; tokens can't be counted before all are there."""
        return "whole" if action == "mask" or self._unit == "tokens" else "start" if self._least else 0

    def flow(self, context: Context) -> Flow:
        return _Flow(self._most, self._least, words=self._unit == "words")

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


class _Flow:
    """`too_long` is at the first character, or word, that is too much."""

    def __init__(self, most: int | None, least: int, *, words: bool) -> None:
        self._most = most
        self._least = least
        self._words = words
        self._count = 0
        self._told = 0
        self._last = ""  # the end of a word that may go on
        self._found = False

    def feed(self, text: str) -> tuple[int, list[Finding]]:
        before, self._told = self._told, self._told + len(text)
        beyond = self._beyond_words(text, before) if self._words else self._beyond_characters(len(text), before)
        certain = self._told if self._count >= self._least else 0
        if beyond is None or self._found:
            return certain, []
        self._found = True
        return certain, [Finding("too_long", beyond, beyond + 1, 1.0)]

    def finish(self) -> list[Finding]:
        return [Finding("too_short", 0, self._told, 1.0)] if self._count < self._least else []

    def _beyond_characters(self, more: int, before: int) -> int | None:
        self._count += more
        return max(self._most, before) if self._most is not None and self._count > self._most else None

    def _beyond_words(self, text: str, before: int) -> int | None:
        beyond = None
        begun, text = len(self._last), self._last + text
        end = 0
        for word in _WORD.finditer(text):
            end = word.end()
            if word.start() == 0 and begun:
                continue  # it is counted
            if self._count == self._most and beyond is None:
                beyond = before + word.start() - begun
            self._count += 1
        # A word that ends here, or but for one mark that may join two parts of it, may go on.
        self._last = text[end - 1 :] if end and len(text) - end < 2 else ""
        return beyond
