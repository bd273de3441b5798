"""The section `quality` of a model: how good its answers are, judged beside some of its calls."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.guardrails import Judged

MeasureName = Literal["groundedness", "relevance"]


class Quality(Judged):
    """A `sample` of the model's new answers (a share, 0 to 1) is judged by `embeddings`, or by a `judge`, a chat model."""

    sample: Annotated[float, Field(gt=0, le=1)] = 0.05
    measures: Annotated[list[MeasureName], Field(min_length=1)] = ["groundedness", "relevance"]
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = 0.6
    language: str = "en"
