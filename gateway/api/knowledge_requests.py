"""What `/v1/files` and `/v1/vector_stores` are asked: OpenAI's bodies; unknown fields are refused.

https://platform.openai.com/docs/api-reference/files and https://platform.openai.com/docs/api-reference/vector-stores
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrieval.questions import SearchSettings

_Metadata = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]
_MOST_FILES = 2_000  # of one batch


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ExpiresAfter(_Body):
    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


class Chunking(BaseModel):
    """Accepted as OpenAI's; how documents are cut is the gateway's own, see docs/documents.md."""

    model_config = ConfigDict(extra="allow")

    type: Literal["auto", "static"]


class NewStore(_Body):
    name: Annotated[str, Field(max_length=256)] | None = None
    description: str | None = None
    file_ids: Annotated[list[str], Field(max_length=_MOST_FILES)] = []
    metadata: Annotated[_Metadata, Field(max_length=16)] | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: Chunking | None = None


class StoreChange(_Body):
    name: Annotated[str, Field(max_length=256)] | None = None
    metadata: Annotated[_Metadata, Field(max_length=16)] | None = None
    expires_after: ExpiresAfter | None = None


class NewStoreFile(_Body):
    file_id: str
    attributes: dict[str, str | bool | float] | None = None
    chunking_strategy: Chunking | None = None


class AttributesChange(_Body):
    attributes: dict[str, str | bool | float] | None


class NewBatch(_Body):
    file_ids: Annotated[list[str], Field(max_length=_MOST_FILES)] | None = None
    files: Annotated[list[NewStoreFile], Field(max_length=_MOST_FILES)] | None = None
    attributes: dict[str, str | bool | float] | None = None
    chunking_strategy: Chunking | None = None


class HybridWeights(_Body):
    embedding_weight: Annotated[float, Field(ge=0)] = 1.0
    text_weight: Annotated[float, Field(ge=0)] = 1.0


class RankingOptions(_Body):
    ranker: str | None = None
    score_threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    hybrid_search: HybridWeights | None = None

    def settings(self) -> SearchSettings:
        weights = self.hybrid_search
        if weights is None or not weights.embedding_weight + weights.text_weight:
            return SearchSettings(mode="hybrid")
        share = weights.embedding_weight / (weights.embedding_weight + weights.text_weight)
        return SearchSettings(mode="hybrid", fusion="weighted", dense_weight=share)


class Search(_Body):
    query: Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1, max_length=8)]
    filters: dict[str, Any] | None = None
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    ranking_options: RankingOptions | None = None
    rewrite_query: bool = False
