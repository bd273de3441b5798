"""What a call saw, given to it again: its passages and features stand where a search and a feature store would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from features.definitions import Feature
from features.vector import MASKED, FeatureVector
from gateway.chat import Request
from gateway.exchange import Exchange
from gateway.replay.changes import ReplayFault
from gateway.replay.stored import StoredCall
from gateway.stages.preparation import RetrievalStage
from retrieval.passages import Passage

_BUDGET = 5.0  # seconds; nothing is waited for


class _Passages:
    """A Retriever that has found already."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages

    async def find(self, query: str, **how: Any) -> list[Passage]:
        return list(self._passages)


class GivenFeatures:
    """The stage that has read already; see gateway.stages.preparation.FeatureStage."""

    def __init__(self, vector: FeatureVector | None) -> None:
        self._vector = vector

    async def fetch(self, *call: Any) -> None:
        """`call`: whatever the stage is told of it, its exchange last."""
        call[-1].features = self._vector


class _Given(RetrievalStage):
    """The stage that adds them, and has searched for nothing."""

    __slots__ = ()

    async def find(self, request: Request, exchange: Exchange) -> None:
        await super().find(request, exchange)
        exchange.searched = None


def retrieval_of(call: StoredCall) -> RetrievalStage | None:
    """None where the call had no passages. Raises ReplayFault where their text was not kept."""
    if not call.passages:
        return None
    passages = [_passage(told) for told in call.passages]
    return _Given(_Passages(passages), passages[0].collection, len(passages), None, _BUDGET, "refuse")


def _passage(told: Mapping[str, Any]) -> Passage:
    if told.get("text") is None:
        raise ReplayFault("the text of its passages was not kept, or has passed its time: only today's can be used")
    return Passage(
        document_id=told["document_id"],
        version=told["version"],
        section_id=told["section_id"],
        collection=told["collection"],
        score=told["score"],
        title=told["title"],
        url=told["url"],
        text=told["text"],
        heading=tuple(told.get("heading") or ()),
        sensitivity=told.get("sensitivity") or "public",
    )


def features_of(call: StoredCall, named: Sequence[tuple[str, Feature]] = ()) -> GivenFeatures | None:
    """None where the call had none. What is sensitive was not kept: the template's defaults stand in for it.

    `named` are the definitions of the service's features.
    """
    told = call.features
    if told is None:
        return None
    masked = masked_features(call)
    return GivenFeatures(
        FeatureVector(
            service=told["service"],
            entity=told["entity"],
            values={name: value for name, value in told["values"].items() if name not in masked},
            missing=(*(told.get("missing") or ()), *masked),
            sensitivity=tuple(told.get("sensitivity") or ()),
            event_times=told.get("event_times") or {},
            named=tuple((name, feature) for name, feature in named if name in told["values"]),
        )
    )


def masked_features(call: StoredCall) -> tuple[str, ...]:
    """Those whose values the record does not have."""
    values = (call.features or {}).get("values") or {}
    return tuple(name for name, value in values.items() if value == MASKED)
