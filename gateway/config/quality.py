"""The section `quality` of a model: how good its answers are, judged beside some of its calls."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.config.guardrails import Embedder, TargetName
from gateway.config.section import Section

MeasureName = Literal["groundedness", "relevance"]


class Quality(Section):
    """A `sample` of the model's new answers (a share, 0 to 1) is judged by `embeddings`, or by a `judge`, a chat model."""

    sample: Annotated[float, Field(gt=0, le=1)] = 0.05
    measures: Annotated[list[MeasureName], Field(min_length=1)] = ["groundedness", "relevance"]
    embeddings: Embedder | None = None
    judge: TargetName | None = None
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = 0.6
    language: str = "en"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.embeddings is None) == (self.judge is None):
            raise ValueError(
                "say who decides: `embeddings: local`, `embeddings: provider/model`, or `judge: provider/model`"
            )
        return self
