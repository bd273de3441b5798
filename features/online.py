"""The seam to an online store: Feast's own library in this process, or a Feast feature server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol

from features.vector import FeatureScalar, FeatureValue

EntityRow = Mapping[str, str | int | float | bool]
Cell = tuple[FeatureValue, float | None]
"""A feature's value, and when it was true, in seconds since the epoch; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read together: all of a feature service, or only `features` (VIEW:FEATURE) where they are named."""

    service: str
    features: tuple[str, ...] | None = None
    full_names: bool = False


@dataclass(frozen=True, slots=True)
class PushedRow:
    """One row for one view: an entity, its values, and when they were true."""

    entity: Mapping[str, str | int]
    values: Mapping[str, FeatureValue]
    event_time: float


@dataclass(frozen=True, slots=True)
class Erased:
    """How many values went; and `left`, what could not go, for whoever asked."""

    values: int
    left: str = ""


class TransformFailed(Exception):
    """An on-demand view could not be made of what there is."""


class OnlineStore(Protocol):
    async def read(self, what: Reading, rows: Sequence[EntityRow]) -> list[dict[str, Cell]]:
        """One mapping of features for each row. Raises FeaturesUnavailable, and TransformFailed."""

    async def write(self, view: str, rows: Sequence[PushedRow]) -> None:
        """Values that are not named stay as they are. Raises FeaturesUnavailable."""

    async def erase(self, entity: Mapping[str, str | int]) -> Erased:
        """Delete all rows whose entity has these join keys, and maybe more. Raises FeaturesUnavailable."""

    async def aclose(self) -> None: ...


def plain(value: Any) -> FeatureValue:
    """A feature's value as prompts and records have it: times as ISO 8601, bytes and structures as text."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [scalar for item in items if (scalar := _scalar(item)) is not None]
    return str(value)


def _scalar(value: Any) -> FeatureScalar | None:
    made = plain(value)
    return str(made) if isinstance(made, list) else made
