"""A check of the operator's own, behind HTTP.

It gets `{"texts": ["…"], "context": {"road", "part", "tool", "question"}}` and answers with
`{"findings": [[{"kind": "…", "start": 0, "end": 5, "score": 0.9}], …]}`: a list for each text, in order, empty where
nothing was found. `start`, `end` (characters of the text) and `score` may be left out: then the whole text is meant,
and meant surely.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from guardrails.outside import Post
from guardrails.text_checks import CheckUnavailable, Context, Cost
from guardrails.verdicts import Action, Finding

_KIND = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


class Webhook:
    default_action: Action = "block"
    cost: Cost = "remote"

    def __init__(self, post: Post, name: str = "webhook", version: str = "1") -> None:
        """`version` is the operator's: another one when the service judges otherwise than before."""
        self.name = name
        self.version = version
        self._post = post

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        told = {"road": context.road, "part": context.part, "tool": context.tool, "question": context.question}
        answer = await self._post({"texts": list(texts), "context": told})
        found = answer.get("findings") if isinstance(answer, dict) else None
        if not isinstance(found, list) or len(found) != len(texts):
            raise CheckUnavailable("its answer has no list `findings` with a list for each text")
        return [_findings(one, len(text)) for one, text in zip(found, texts, strict=True)]


def _findings(found: Any, length: int) -> tuple[Finding, ...]:
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise CheckUnavailable("its findings are not lists of objects")
    return tuple(_finding(one, length) for one in found)


def _finding(told: dict[str, Any], length: int) -> Finding:
    kind = told.get("kind")
    start, end, score = told.get("start", 0), told.get("end", length), told.get("score", 1.0)
    # The kind is shown to callers: it must not be a way for the text itself to get there.
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise CheckUnavailable("a finding's `kind` is 1 to 64 letters, digits or `_.:/-`")
    if type(start) is not int or type(end) is not int or not 0 <= start <= end <= length:
        raise CheckUnavailable("a finding's `start` and `end` are not within its text")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
        raise CheckUnavailable("a finding's `score` is not a number")
    return Finding(kind, start, end, min(1.0, max(0.0, float(score))))
