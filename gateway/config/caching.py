"""What may be written of a public model's caches: docs/caching.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.quantities import Duration, Size
from gateway.config.section import Section
from gateway.config.semantic_caching import SemanticCaching


class ExactCache(Section):
    """Answers to the same request. `store` is redis where `state.url` is one, memory otherwise.

    `max_bytes` bounds what this model keeps in one process's memory, `max_entry` a single answer anywhere.
    `stale_while_revalidate`: how long after `ttl` the old answer is still given while a new one is made.
    `wait`: how long a call waits for the same answer that another worker makes, before it makes its own.
    `recheck`: whether a kept answer goes through the output guardrails again before it is given.
    """

    ttl: Duration = 600.0
    store: Literal["memory", "redis"] | None = None
    max_bytes: Size = 64_000_000
    max_entry: Size = 1_000_000
    stale_while_revalidate: Duration | Literal["off"] = "off"
    wait: Duration = 10.0
    recheck: bool = True

    @property
    def stale(self) -> float:
        """Seconds; 0 where nothing stale is given."""
        return 0.0 if self.stale_while_revalidate == "off" else self.stale_while_revalidate


class ModelCache(Section):
    """`charge` is the share of its price that an answer out of a cache is charged with: 0 is free, 1 as if made anew."""

    exact: ExactCache = ExactCache()
    semantic: SemanticCaching | None = None
    charge: Annotated[float, Field(ge=0, le=1)] = 0.0
