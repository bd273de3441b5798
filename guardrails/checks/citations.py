"""Whether an answer that was given passages says, by `[n]`, which of them it rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from guardrails.statements import sentences
from guardrails.text_checks import Context, Cost
from guardrails.verdicts import Action, Finding

_RULES = 1  # counts up when the same text may be judged otherwise
_MOST = 2_000  # sentences and marks that are looked at
_MARK = re.compile(r"(?<![\w\]])\[(\d{1,3})\](?![(:])|(?<=[\w)\]])\[(\d{1,3})\](?![(:])")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)


class Citations:
    name = "citations"
    default_action: Action = "flag"
    cost: Cost = "cheap"

    def __init__(self, min_share: float = 0.0, language: str = "en") -> None:
        """`min_share`: of the sentences that state something, how many must carry a mark, 0 to 1. One mark must be
        there in any case, where anything is stated. Raises ValueError for a share that is none."""
        if not 0 <= min_share <= 1:
            raise ValueError("`min_share` must be from 0 to 1")
        self._share = min_share
        self._language = language
        self.version = f"{_RULES} {min_share} {language}"

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        """Kinds: `missing` (no mark in the whole text), `few`, `unknown` (a mark that points to no passage)."""
        count = sum(1 for passage in context.passages if passage.strip())
        return [self._find(text, count) for text in texts] if count else [() for _ in texts]

    def _find(self, text: str, count: int) -> tuple[Finding, ...]:
        code = [match.span() for match in _CODE.finditer(text)] if "`" in text else []
        found: list[Finding] = []
        right: list[int] = []
        at = 0
        for mark in islice(_MARK.finditer(text), _MOST):
            while at < len(code) and code[at][1] <= mark.start():
                at += 1
            if at < len(code) and code[at][0] <= mark.start():
                continue
            if 1 <= int(mark[1] or mark[2]) <= count:
                right.append(mark.start())
            else:
                found.append(Finding("unknown", *mark.span(), 1.0))
        claims = [each for each in islice(sentences(text, self._language), _MOST) if each.claims]
        if not claims:
            return tuple(found)
        if not right:
            return (Finding("missing", 0, len(text), 1.0), *found)
        # A mark may also stand behind the full stop: then it opens what the next sentence's span begins with.
        ends = [*(each.start for each in claims[1:]), len(text)]
        cited = 0
        at = 0
        for each, end in zip(claims, ends, strict=True):
            while at < len(right) and right[at] < each.start:
                at += 1
            cited += at < len(right) and right[at] < end
        if cited < self._share * len(claims):
            found.append(Finding("few", 0, len(text), 1 - cited / len(claims)))
        return tuple(found)
