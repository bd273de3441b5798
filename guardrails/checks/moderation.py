"""Categories of harmful content, told by a moderation endpoint: OpenAI's, or any other of its shape.

https://platform.openai.com/docs/api-reference/moderations/create: a request with `model` and `input`, a list of texts,
is answered with `results`, each with `flagged`, `categories` and `category_scores`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from guardrails.folding import encodable
from guardrails.outside import Post
from guardrails.text_checks import CheckUnavailable, Context, Cost
from guardrails.verdicts import Action, Finding

_RULES = 1  # counts up when the same text may be judged otherwise
_BATCH = 32  # texts of one request: OpenAI takes as many
_CATEGORY = re.compile(r"[A-Za-z0-9_./ -]{1,64}")


class Moderation:
    name = "moderation"
    default_action: Action = "block"
    cost: Cost = "remote"

    def __init__(
        self,
        post: Post,
        model: str = "omni-moderation-latest",
        thresholds: Mapping[str, float] | None = None,
        others: bool = True,
    ) -> None:
        """`post` leads to the endpoint. A category in `thresholds` is found from that score on, 0 to 1, whatever the
        endpoint holds of it; the `others` where the endpoint does. Raises ValueError for a threshold out of range."""
        for category, threshold in (thresholds or {}).items():
            if not 0 <= threshold <= 1:
                raise ValueError(f"the threshold of `{category}` must be from 0 to 1")
        if not thresholds and not others:
            raise ValueError("`moderation` without thresholds and without others would find nothing")
        self._post = post
        self._model = model
        self._thresholds = dict(thresholds or {})
        self._others = others
        self.version = f"{_RULES} {model} {int(others)} {sorted(self._thresholds.items())}"

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        """The kinds are the endpoint's categories. Raises CheckUnavailable."""
        found: list[tuple[Finding, ...]] = [()] * len(texts)
        asked = [order for order, text in enumerate(texts) if text.strip()]
        for at in range(0, len(asked), _BATCH):
            batch = asked[at : at + _BATCH]
            answer = await self._post({"model": self._model, "input": [encodable(texts[order]) for order in batch]})
            for order, result in zip(batch, _results(answer, len(batch)), strict=True):
                found[order] = self._found(result, len(texts[order]))
        return found

    def _found(self, result: Mapping[str, Any], length: int) -> tuple[Finding, ...]:
        scores, held = result.get("category_scores"), result.get("categories")
        if not isinstance(scores, dict) or not isinstance(held, dict) or not isinstance(result.get("flagged"), bool):
            raise CheckUnavailable("the moderation endpoint's results have no categories and scores")
        found = []
        for category, score in scores.items():
            if not _CATEGORY.fullmatch(category) or isinstance(score, bool) or not isinstance(score, int | float):
                raise CheckUnavailable("the moderation endpoint's scores are not numbers by category")
            if not math.isfinite(score):
                raise CheckUnavailable("the moderation endpoint's scores are not numbers by category")
            threshold = self._thresholds.get(category)
            if score >= threshold if threshold is not None else self._others and held.get(category) is True:
                found.append(Finding(category, 0, length, min(1.0, max(0.0, float(score)))))
        if missing := sorted(set(self._thresholds) - set(scores)):
            raise CheckUnavailable(f"the moderation endpoint knows no category `{missing[0]}`")
        return tuple(found)


def _results(answer: Any, count: int) -> list[dict[str, Any]]:
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or len(results) != count or not all(isinstance(one, dict) for one in results):
        raise CheckUnavailable("the moderation endpoint did not give a result for each text")
    return results
