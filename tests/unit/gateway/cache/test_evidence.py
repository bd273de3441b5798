"""When an answer that was made of some passages may serve a search that found others."""

from __future__ import annotations

import pytest

from gateway.cache.evidence import evidence
from gateway.cache.questions import Source
from retrieval.passages import Passage


def source(name: str, *, cited: bool = False, version: str = "v1", collection: str = "docs") -> Source:
    return Source(collection, name, f"{name}#0", version, cited)


def found(*names: str, version: str = "v1") -> list[Passage]:
    return [Passage(name, version, f"{name}#0", "docs", 0.5, name, name, "text") for name in names]


@pytest.mark.parametrize(
    ("sources", "names", "holds", "unseen"),
    [
        ((), (), True, ()),
        ((), ("a",), False, ()),
        ((source("a", cited=True),), (), False, ()),
        ((source("a", cited=True), source("b")), ("a", "b"), True, ()),
        ((source("a", cited=True), source("b")), ("b", "a"), True, ()),
        ((source("a", cited=True), source("b")), ("a",), True, ("b",)),
        ((source("a"), source("b", cited=True)), ("b", "c"), True, ("a",)),
        ((source("a", cited=True), source("b", cited=True)), ("a",), False, ()),
        # Something that the answer did not know is found before what it cites.
        ((source("a", cited=True), source("b")), ("new", "a", "b"), False, ()),
        ((source("a", cited=True), source("b")), ("a", "new", "b"), True, ()),
        ((source("a", cited=True), source("b", cited=True)), ("a", "new", "b"), False, ()),
        # One that cites nothing was made of all.
        ((source("a"), source("b")), ("b", "a"), True, ()),
        ((source("a"), source("b")), ("a",), False, ()),
        ((source("a"), source("b")), ("a", "b", "c"), False, ()),
        # Another version is another passage, and so is the same name in another collection.
        ((source("a", cited=True, version="v2"),), ("a",), False, ()),
        ((source("a", cited=True, collection="other"),), ("a",), False, ()),
    ],
)
def test_the_callers_search_has_to_find_what_the_answer_cites(
    sources: tuple[Source, ...], names: tuple[str, ...], holds: bool, unseen: tuple[str, ...]
) -> None:
    told = evidence(sources, found(*names))
    assert (told.holds, tuple(each.document_id for each in told.unseen)) == (holds, unseen)
