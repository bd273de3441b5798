"""Whether an answer that was made of passages may be given to a caller whose own search has found others.

A paraphrase finds about the same passages in about the same order. The rule, of docs/decisions/0010: the caller's own
search has found everything that the answer cites, in the same version, and ranks it before whatever the answer did
not know; and what else the answer was made of, this caller may read at this moment, in the same version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.cache.questions import Source
    from retrieval.passages import Passage


@dataclass(frozen=True, slots=True)
class Evidence:
    """`holds`: the caller's search supports the answer, if `unseen`, which it has not found, may be read by them."""

    holds: bool
    unseen: tuple[Source, ...] = ()


_NO = Evidence(False)


def evidence(sources: Sequence[Source], found: Sequence[Passage]) -> Evidence:
    """`found` in the order of their rank."""
    ranks = {(passage.collection, passage.section_id, passage.version): rank for rank, passage in enumerate(found)}
    known = {(source.collection, source.section_id, source.version) for source in sources}
    cited = {(source.collection, source.section_id, source.version) for source in sources if source.cited}
    if not cited:  # it was made of all of them, or of none
        return Evidence(ranks.keys() == known)
    if not cited <= ranks.keys():
        return _NO
    last = max(ranks[each] for each in cited)
    if any(rank < last and each not in known for each, rank in ranks.items()):
        return _NO
    return Evidence(True, tuple(s for s in sources if (s.collection, s.section_id, s.version) not in ranks))


def outdated(sources: Sequence[Source], found: Sequence[Passage]) -> bool:
    """Whether a document that the answer was made of is there in another version now: nobody is given it any more."""
    versions: dict[tuple[str, str], set[str]] = {}
    for passage in found:
        versions.setdefault((passage.collection, passage.document_id), set()).add(passage.version)
    return any(
        source.version not in versions.get((source.collection, source.document_id), (source.version,))
        for source in sources
    )
