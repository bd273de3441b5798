"""What a search finds, and the seam to whatever searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from retrieval.questions import PLAIN, SearchSettings


@dataclass(frozen=True, slots=True)
class Passage:
    """A section of a document, found for a question.

    `version` begins with the first 16 hexadecimal digits of the document's SHA-256; `heading` the titles above the
    section, outermost first; `score` the cosine similarity to the question, -1 to 1 (BM25, above 0, where the search
    was by keywords alone); `sensitivity` the label of its document, which says where it may be sent.
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


@dataclass(frozen=True, slots=True)
class Dropped:
    """A passage that was found and is not shown.

    `why`: `min_score` (below it), `near_duplicate` (nearly the same as a better one), `diversity` or `top_k` (others
    were chosen); whoever takes one out later says its own. `score` is as a passage's.
    """

    document_id: str
    version: str
    section_id: str
    score: float
    why: str


def dropped(passage: Passage, why: str) -> Dropped:
    """A passage that was found and is left out later."""
    return Dropped(passage.document_id, passage.version, passage.section_id, round(passage.score, 4), why)


class OfDocument(Protocol):
    """A part of a document in one of its versions: a passage, or what is remembered of one."""

    @property
    def collection(self) -> str: ...

    @property
    def document_id(self) -> str: ...

    @property
    def version(self) -> str: ...


class RetrievalUnavailable(Exception):
    """Milvus or the embedder is away or too slow. The message may be shown to a caller."""


class Retriever(Protocol):
    async def find(
        self,
        query: str,
        *,
        collection: str,
        tenant: str,
        top_k: int,
        min_score: float | None = None,
        user: str | None = None,
        groups: frozenset[str] = frozenset(),
        filters: Mapping[str, Any] | None = None,
        settings: SearchSettings = PLAIN,
        also: Sequence[str] = (),
        within: str | None = None,
        dropped: list[Dropped] | None = None,
    ) -> list[Passage]:
        """The best passages for `query` that this user of the tenant may read, best first.

        `also` are other ways to say the same; `within` is one part of the collection.
        `dropped` is given the best of those that were found and are not shown. Raises RetrievalUnavailable, and BadFilter for `filters`.
        """
