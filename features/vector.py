"""A user's features, and the seam to whatever reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

FeatureValue = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class FeatureVector:
    """The values of one feature service for one entity; `missing` names those that the store does not have.

    `sensitivity` holds the labels that its feature views are tagged with in Feast (`tags={"sensitivity": "…"}`).
    """

    service: str
    entity: Mapping[str, str]
    values: Mapping[str, FeatureValue]
    missing: tuple[str, ...] = ()
    sensitivity: tuple[str, ...] = ()


class FeaturesUnavailable(Exception):
    """The feature store is away or too slow. The message may be shown to a caller."""


class FeatureReader(Protocol):
    async def read(self, service: str, entity: Mapping[str, str]) -> FeatureVector:
        """The online values; an entity that is not known has all of them missing. Raises FeaturesUnavailable."""
