"""What a search asks of others, noted for whoever wants to know: a model of the question's words, a store, a reranker."""

from __future__ import annotations

import time
from contextvars import ContextVar

Asked = tuple[str, int, int, int]
"""embed | search | full_text_search | rerank, from when to when (`time.perf_counter_ns()`), and how many came back."""

ASKED: ContextVar[list[Asked] | None] = ContextVar("asked", default=None)
"""Where the searches of this context note it; None where nobody wants to know."""


def note(what: str, began: int, count: int) -> None:
    """`what` was asked from `began` until now."""
    asked = ASKED.get()
    if asked is not None:
        asked.append((what, began, time.perf_counter_ns(), count))
