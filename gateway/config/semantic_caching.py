"""What may be written of a public model's semantic cache: docs/semantic-caching.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.quantities import Duration
from gateway.config.section import Section


class SemanticCaching(Section):
    """Answers to questions that mean the same. Needs the `retrieval` section, which has the embedder and Milvus.

    `threshold` is the least cosine similarity of two questions; a caller may only ask for more. `max_entries` bounds
    the store, of all models that use it together: the largest of them counts. `budget` is how long a call waits for
    the whole look-up. `shadow`: a hit is not given, but compared with the new answer; `agreement` is the cosine of two
    answers from which they count as saying the same.
    """

    ttl: Duration = 3600.0
    threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.9
    store: Literal["milvus", "memory"] = "milvus"
    max_entries: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    budget: Duration = 0.1
    shadow: bool = False
    agreement: Annotated[float, Field(ge=0, le=1)] = 0.85
