"""What a search finds, and the seam to whatever searches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Passage:
    """A section of a document, found for a question.

    `version` is the first 16 hexadecimal digits of the document's SHA-256; `heading` the titles above the
    section, outermost first; `score` the cosine similarity to the question, -1 to 1.
    """

    document_id: str
    version: str
    section_id: str
    collection: str
    score: float
    title: str
    url: str
    text: str
    heading: tuple[str, ...] = ()
    sensitivity: str = "public"


class RetrievalUnavailable(Exception):
    """Milvus or the embedder is away or too slow. The message may be shown to a caller."""


class Retriever(Protocol):
    async def find(
        self, query: str, *, collection: str, tenant: str, top_k: int, min_score: float | None = None
    ) -> list[Passage]:
        """The tenant's best passages for `query`, best first. Raises RetrievalUnavailable."""
