"""What a text is about: near to examples of what is denied, or near to none of what is allowed.

Nearness is the cosine of sentence embeddings, so the examples should read like the texts: questions for questions.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from guardrails.nearness import Vectors, unit
from guardrails.outside import Embed
from guardrails.statements import sentences
from guardrails.text_checks import Context, Cost
from guardrails.verdicts import Action, Finding

_RULES = 1  # counts up when the same text may be judged otherwise
_READ = 2_000  # characters that are taken as a whole; embedders read no more than about as many
_MOST_PIECES = 60  # pieces of one text that are compared with what is denied
_SENTENCES = 3  # of a piece
_FEWEST_WORDS = 3


@dataclass(frozen=True, slots=True)
class Topic:
    """`examples` are texts of it; a text with a cosine of `min_similarity` to one of them is on it."""

    name: str
    examples: Sequence[str]
    min_similarity: float = 0.35  # what parts topics with all-MiniLM-L6-v2; other embedders are nearer or farther


class Topics:
    name = "topics"
    default_action: Action = "block"
    cost: Cost = "local"

    def __init__(
        self, embed: Embed, *, denied: Sequence[Topic] = (), allowed: Sequence[Topic] = (), model: str = ""
    ) -> None:
        """`model` names the embedder, for the version. Raises ValueError without topics, or for one without examples."""
        if not denied and not allowed:
            raise ValueError("`topics` needs `denied` or `allowed`")
        for topic in (*denied, *allowed):
            if not any(example.strip() for example in topic.examples):
                raise ValueError(f"the topic `{topic.name}` has no examples")
        self._embed = embed
        self._denied = tuple(denied)
        self._allowed = tuple(allowed)
        self._examples: dict[str, Vectors] | None = None
        self._first = asyncio.Lock()
        told = repr([[(t.name, *t.examples, t.min_similarity) for t in topics] for topics in (denied, allowed)])
        self.version = f"{_RULES} {model} {hashlib.sha256(told.encode()).hexdigest()[:16]}"

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        """Kinds: a denied topic's name with the cosine as score; `off_topic`. Raises CheckUnavailable."""
        pieces = [_pieces(text) if self._denied else [_whole(text)] for text in texts]
        wanted = list(dict.fromkeys(piece for each in pieces for _, _, piece in each if piece))
        if not wanted:
            return [() for _ in texts]
        examples = await self._known()
        vectors = dict(zip(wanted, unit(await self._embed(wanted), len(wanted)), strict=True))
        return [
            (*self._denials(each, vectors, examples), *self._off_topic(text, each[0][2], vectors, examples))
            for text, each in zip(texts, pieces, strict=True)
        ]

    async def _known(self) -> dict[str, Vectors]:
        """The examples' vectors, asked for once; again when that failed."""
        async with self._first:
            if self._examples is None:
                topics = (*self._denied, *self._allowed)
                texts = list(dict.fromkeys(example for topic in topics for example in topic.examples))
                vectors = dict(zip(texts, unit(await self._embed(texts), len(texts)), strict=True))
                self._examples = {
                    self._key(topic): np.stack([vectors[example] for example in topic.examples]) for topic in topics
                }
            return self._examples

    def _key(self, topic: Topic) -> str:
        return f"{'denied' if topic in self._denied else 'allowed'} {topic.name}"

    def _denials(
        self, pieces: Sequence[tuple[int, int, str]], vectors: dict[str, Vectors], examples: dict[str, Vectors]
    ) -> list[Finding]:
        """For each denied topic the piece that is nearest to it, if it is near enough."""
        found = []
        for topic in self._denied:
            near = [
                (float((examples[self._key(topic)] @ vectors[piece]).max()), start, end)
                for start, end, piece in pieces
                if piece
            ]
            best = max(near, key=lambda each: each[0], default=None)
            if best is not None and best[0] >= topic.min_similarity:
                found.append(Finding(topic.name, best[1], best[2], min(1.0, max(0.0, best[0]))))
        return found

    def _off_topic(
        self, text: str, whole: str, vectors: dict[str, Vectors], examples: dict[str, Vectors]
    ) -> list[Finding]:
        if not self._allowed or not whole:
            return []
        near = [(float((examples[self._key(each)] @ vectors[whole]).max()), each) for each in self._allowed]
        if any(similarity >= topic.min_similarity for similarity, topic in near):
            return []
        best = max(similarity for similarity, _ in near)
        return [Finding("off_topic", 0, len(text), min(1.0, max(0.0, 1 - best)))]


def _whole(text: str) -> tuple[int, int, str]:
    """The beginning of a text; "" for one of too few words to be about anything."""
    words = text[:_READ].split()
    return 0, len(text), " ".join(words) if len(words) >= _FEWEST_WORDS or len(text) > 20 else ""


def _pieces(text: str) -> list[tuple[int, int, str]]:
    """The whole, and its sentences in groups, as (from, to, words); at most _MOST_PIECES evenly chosen."""
    told = list(islice(sentences(text), 2_000))
    groups = [told[at : at + _SENTENCES] for at in range(0, len(told), _SENTENCES)]
    step = max(1, -(-len(groups) // _MOST_PIECES))
    pieces = [(g[0].start, g[-1].end, " ".join(each.words for each in g)[:_READ]) for g in groups[::step]]
    return [_whole(text), *(pieces if len(groups) > 1 else ())]
