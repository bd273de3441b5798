"""One search: candidates under the reader's clause, fused, in force, apart from each other, reranked, in context."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from retrieval.access import Reader, readable
from retrieval.asked import note
from retrieval.embedding import Embedder
from retrieval.filters import clause as filter_clause
from retrieval.filters import part_clause
from retrieval.fusion import Vectors, distinct, diverse, of_the_best, reciprocal_ranks, unit, weighted
from retrieval.passages import Dropped, Passage, RetrievalUnavailable
from retrieval.questions import Freshness, Mode, SearchSettings
from retrieval.schema import row_id
from retrieval.store import Found, MilvusStore

log = logging.getLogger(__name__)

_MOST_CANDIDATES = 200
_MOST_SEARCHES = 4
_MOST_DROPPED = 5  # that are told of, for each reason
_LONGEST_QUERY = 2_000  # characters that are searched for by words


class Reranker(Protocol):
    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text, higher is better. Raises RetrievalUnavailable."""


@dataclass(slots=True)
class _Candidate:
    row_id: str
    score: float  # what it is ranked by
    shown: float  # what the passage says: the cosine, or BM25 where no vector was made of the question
    relevance: float  # 0 to 1, as a share of the best one's
    vector: Sequence[float]
    fields: dict[str, Any]


class Searcher:
    def __init__(self, store: MilvusStore, embedder: Embedder, reranker: Reranker | None = None) -> None:
        self._store = store
        self._embedder = embedder
        self._reranker = reranker

    async def find(
        self,
        queries: Sequence[str],
        *,
        collection: str,
        reader: Reader,
        top_k: int,
        min_score: float | None,
        filters: Mapping[str, Any] | None,
        settings: SearchSettings,
        within: str | None = None,
        dropped: list[Dropped] | None = None,
    ) -> list[Passage]:
        """The best passages for the first of `queries`, which the others say in other words, best first.

        Raises RetrievalUnavailable, BadFilter.
        """
        clause = readable(reader)
        if clause is not None and within is not None:
            clause = f"{clause} and {part_clause(within)}"
        if clause is not None and filters is not None:
            clause = f"({clause}) and {filter_clause(filters)}"
        if clause is None or (not any(query.strip() for query in queries) and settings.mode == "keyword"):
            return []
        wanted = min(max(settings.candidates, 3 * top_k), _MOST_CANDIDATES)
        found = await self._in_force(queries, collection, clause, wanted, settings)
        if min_score is not None:
            kept = [candidate for candidate in found if candidate.shown >= min_score]
            found = _without(found, kept, "min_score", dropped)
        if not found:
            return []
        vectors = unit([candidate.vector for candidate in found])
        if settings.near_duplicates is not None:
            places = distinct(vectors, settings.near_duplicates)
            found = _without(found, [found[place] for place in places], "near_duplicate", dropped)
            vectors = vectors[places]
        if settings.rerank and self._reranker is not None:
            found, vectors = await self._reranked(queries[0], found, vectors, settings.rerank_budget)
        if settings.freshness is not None:
            found, vectors = _newer_first(found, vectors, settings.freshness)
        if settings.diversity and len(found) > top_k:
            chosen = diverse([candidate.score for candidate in found], vectors, top_k, settings.diversity)
            found = _without(found, [found[place] for place in chosen], "diversity", dropped)
        found = _without(found, found[:top_k], "top_k", dropped)
        around = await self._neighbours(collection, clause, found, settings.neighbours)
        return [_passage(collection, candidate, around) for candidate in found]

    async def _candidates(
        self, queries: Sequence[str], collection: str, clause: str, wanted: int, settings: SearchSettings
    ) -> list[_Candidate]:
        """Rows of all rankings, fused. Every sub-request has the same clause."""
        await self._store.ensure(collection)
        asked, dense, worded = await self._rankings(queries, collection, clause, wanted, settings.mode)
        rows = {hit.row_id: hit for ranking in (*dense, *worded) for hit in ranking}
        words: dict[str, float] = {}
        for ranking in worded:
            for hit in ranking:
                words[hit.row_id] = max(words.get(hit.row_id, 0.0), hit.score)
        if settings.mode == "keyword":
            shown, scores = words, words
        else:
            ids = list(rows)
            near = unit([rows[each].vector for each in ids]) @ unit(asked).T if ids else None
            shown = {each: float(near[place].max()) for place, each in enumerate(ids)} if near is not None else {}
            if settings.mode == "dense" and len(dense) == 1:
                scores = shown
            elif settings.fusion == "weighted":
                scores = weighted(shown, words, settings.dense_weight if settings.mode == "hybrid" else 1.0)
            else:
                scores = reciprocal_ranks([[hit.row_id for hit in ranking] for ranking in (*dense, *worded)])
        shares = of_the_best(scores)
        if settings.mode == "hybrid" and settings.fusion == "weighted":
            by_meaning, by_words, share = of_the_best(shown), of_the_best(words), settings.dense_weight
            shares = {each: share * by_meaning[each] + (1.0 - share) * by_words.get(each, 0.0) for each in rows}
        made = [
            _Candidate(each, scores[each], shown[each], shares[each], hit.vector, hit.fields)
            for each, hit in rows.items()
        ]
        return sorted(made, key=lambda candidate: candidate.score, reverse=True)

    async def _rankings(
        self, queries: Sequence[str], collection: str, clause: str, wanted: int, mode: Mode
    ) -> tuple[list[list[float]], list[list[Found]], list[list[Found]]]:
        """The questions' vectors, the rankings by them, and the rankings by words; side by side."""
        try:
            async with asyncio.TaskGroup() as group:
                dense = group.create_task(self._dense(queries if mode != "keyword" else (), collection, clause, wanted))
                words = group.create_task(self._worded(queries if mode != "dense" else (), collection, clause, wanted))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return *dense.result(), words.result()

    async def _dense(
        self, queries: Sequence[str], collection: str, clause: str, wanted: int
    ) -> tuple[list[list[float]], list[list[Found]]]:
        began = time.perf_counter_ns()
        vectors = await self._embedder.embed(queries, kind="query") if queries else []
        if queries:
            note("embed", began, len(vectors))
        return vectors, [await self._near(collection, clause, vector, wanted) for vector in vectors]

    async def _near(self, collection: str, clause: str, vector: list[float], wanted: int) -> list[Found]:
        began = time.perf_counter_ns()
        found = await self._store.dense(collection, clause, vector, wanted)
        note("search", began, len(found))
        return found

    async def _worded(self, queries: Sequence[str], collection: str, clause: str, wanted: int) -> list[list[Found]]:
        # Half of a surrogate pair is no text, and can't be sent.
        asked = [query[:_LONGEST_QUERY].encode("utf-8", "replace").decode() for query in queries if query.strip()]
        return [await self._with_words(collection, clause, query, wanted) for query in asked]

    async def _with_words(self, collection: str, clause: str, query: str, wanted: int) -> list[Found]:
        began = time.perf_counter_ns()
        found = await self._store.keywords(collection, clause, query, wanted)
        note("full_text_search", began, len(found))
        return found

    async def _in_force(
        self, queries: Sequence[str], collection: str, clause: str, wanted: int, settings: SearchSettings
    ) -> list[_Candidate]:
        """Candidates, without sections of versions that are not yet, or no longer, their document's.

        Where there were such, a document may have been replaced under the search, which then saw a part of it. All
        sections of a version are there for as long as it is in force: the search is whole where the version was the
        same before and after it.
        """
        before: dict[tuple[str, str], str | None] = {}
        for _ in range(_MOST_SEARCHES):
            found = await self._candidates(queries, collection, clause, wanted, settings)
            versions = await self._store.current(collection, {_document(each) for each in found})
            kept = [each for each in found if versions.get(_document(each)) == each.fields["version"]]
            moved = {_document(each) for each in found if versions.get(_document(each)) != each.fields["version"]}
            if all(document in before and before[document] == versions.get(document) for document in moved):
                break
            before = {document: versions.get(document) for document in moved}
        return kept

    async def _reranked(
        self, query: str, found: list[_Candidate], vectors: Vectors, budget: float
    ) -> tuple[list[_Candidate], Vectors]:
        assert self._reranker is not None
        began = time.perf_counter_ns()
        try:
            async with asyncio.timeout(budget):
                scores = await self._reranker.rerank(query, [each.fields["text"] for each in found])
        except (TimeoutError, RetrievalUnavailable) as failure:
            log.warning("passages are not reranked: %s", failure or "it took too long")
            return found, vectors
        finally:
            note("rerank", began, len(found))
        shares = of_the_best(dict(enumerate(scores)))
        for place, (candidate, score) in enumerate(zip(found, scores, strict=True)):
            candidate.score, candidate.relevance = score, shares[place]
        order = sorted(range(len(found)), key=lambda place: found[place].score, reverse=True)
        return [found[place] for place in order], vectors[order]

    async def _neighbours(
        self, collection: str, clause: str, found: list[_Candidate], reach: int
    ) -> dict[str, dict[str, Any]]:
        """The sections around the found ones, by row id; under the same clause as the search."""
        if not reach:
            return {}
        ids = {
            each: None
            for candidate in found
            for step in range(-reach, reach + 1)
            if step and (each := _beside(candidate.fields, step)) is not None
        }
        rows = await self._store.rows(collection, clause, list(ids))
        return {_beside(row, 0) or "": row for row in rows}


def _without(
    found: list[_Candidate], kept: list[_Candidate], why: str, dropped: list[Dropped] | None
) -> list[_Candidate]:
    """`kept`; the first few of the others are told of."""
    if dropped is not None and len(kept) < len(found):
        chosen = set(map(id, kept))
        for candidate in [each for each in found if id(each) not in chosen][:_MOST_DROPPED]:
            fields = candidate.fields
            score = round(float(candidate.shown), 4)
            dropped.append(Dropped(fields["document_id"], fields["version"], fields["section_id"], score, why))
    return kept


def _newer_first(found: list[_Candidate], vectors: Vectors, freshness: Freshness) -> tuple[list[_Candidate], Vectors]:
    now = time.time()
    for candidate in found:
        candidate.score = candidate.relevance * freshness.factor(candidate.fields["attributes"] or {}, now)
    order = sorted(range(len(found)), key=lambda place: found[place].score, reverse=True)
    return [found[place] for place in order], vectors[order]


def _document(candidate: _Candidate) -> tuple[str, str]:
    return candidate.fields["tenant"], candidate.fields["document_id"]


def _beside(fields: Mapping[str, Any], step: int) -> str | None:
    position = fields["position"] + step
    if position < 0:
        return None
    return row_id(fields["tenant"], fields["document_id"], fields["version"], position)


def _passage(collection: str, candidate: _Candidate, around: Mapping[str, Mapping[str, Any]]) -> Passage:
    fields = candidate.fields
    texts = [fields["text"][fields["body_at"] :]]
    for step in (-1, 1):
        at = step
        while (row := around.get(_beside(fields, at) or "")) is not None:
            body = row["text"][row["body_at"] :]
            texts = [body, *texts] if step < 0 else [*texts, body]
            at += step
    return Passage(
        document_id=fields["document_id"],
        version=fields["version"],
        section_id=fields["section_id"],
        collection=collection,
        score=candidate.shown,
        title=fields["title"],
        url=fields["url"],
        text="\n\n".join(texts),
        heading=tuple(json.loads(fields["heading"])),
        sensitivity=fields["sensitivity"],
    )
