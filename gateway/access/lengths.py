"""How long each model's answers have been: what a call that does not bound its answer is likely to use."""

from __future__ import annotations

import math
from typing import Final

_MOST_MODELS: Final = 10_000
_SHRINKS: Final = 0.02  # of the way down to a shorter answer; a longer one counts whole


class AnswerLengths:
    """In tokens. Belongs to one event loop; outlives reloads."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def expected(self, model: str, otherwise: int) -> int:
        """Rather too much than too little; `otherwise` where no answer was seen yet."""
        seen = self._seen.get(model)
        return otherwise if seen is None else math.ceil(seen)

    def saw(self, model: str, tokens: int) -> None:
        before = self._seen.get(model)
        if before is None and len(self._seen) >= _MOST_MODELS:
            return
        self._seen[model] = tokens if before is None or tokens > before else before + (tokens - before) * _SHRINKS
