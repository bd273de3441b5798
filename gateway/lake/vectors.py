"""A share of the questions as vectors: asked of the gateway's own embedder, long after the call, by the lake's process."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

_LONGEST = 8_000  # characters of a question that are embedded
_PAUSE = 300.0  # seconds for which an embedder that has failed is left alone: one that hangs would hold up every row

Embed = Callable[[Sequence[str]], list[list[float]]]


class Sampler:
    """Which calls are embedded is decided by their ids alone, so that a change that is begun again makes the same."""

    def __init__(self, share: float, model: str, embed: Embed) -> None:
        """`share` is from 0 to 1. `embed` may raise what it likes: then there are no vectors, and that is logged once."""
        self.model = model
        self._most = int(share * 2**32)
        self._embed = embed
        self._well = True
        self._again = 0.0

    def wants(self, call_id: str) -> bool:
        return int.from_bytes(hashlib.blake2b(call_id.encode(), digest_size=4).digest()) < self._most

    def vectors(self, questions: Sequence[str]) -> list[list[float]]:
        """One each; none at all where the embedder is away."""
        if time.monotonic() < self._again:
            return []
        try:
            found = self._embed([question[:_LONGEST] for question in questions])
        except Exception as failure:
            if self._well:
                log.warning("questions are not embedded for the lake: %s", type(failure).__name__)
            self._well = False
            self._again = time.monotonic() + _PAUSE
            return []
        self._well = True
        return found
