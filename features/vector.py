"""The features of a call's entities, and the seam to whatever reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from features.definitions import Feature

FeatureScalar = str | int | float | bool
FeatureValue = FeatureScalar | list[FeatureScalar] | None

MASKED = "[masked]"
_SHORTEST = 2  # characters


@dataclass(frozen=True, slots=True)
class FeatureFact:
    """One feature as a prompt may speak of it. `unit` and `description` are "" where Feast's metadata has none."""

    name: str
    value: FeatureValue
    type: str = ""
    unit: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class FeatureVector:
    """The values of one feature service for the entities of one call, by join key.

    `missing` names those that the store does not have, `stale` those that are older than their view's TTL or the
    limit that was asked for; both have the default that stands in for them, or None. `event_times` are in seconds
    since the epoch. `sensitivity` holds the labels that feature views and features are tagged with in Feast
    (`tags={"sensitivity": "…"}`); `sensitive` names the features that are tagged
    `sensitive`; `named` has the definition of each.
    """

    service: str
    entity: Mapping[str, str | int]
    values: Mapping[str, FeatureValue]
    missing: tuple[str, ...] = ()
    sensitivity: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    event_times: Mapping[str, float] = field(default_factory=dict)
    sensitive: tuple[str, ...] = ()
    named: tuple[tuple[str, Feature], ...] = field(default=(), compare=False)

    @property
    def described(self) -> tuple[FeatureFact, ...]:
        """Each feature with what Feast's metadata says of it."""
        return tuple(
            FeatureFact(name, self.values.get(name), feature.type, feature.unit, feature.description)
            for name, feature in self.named
        )

    def shown(self) -> dict[str, FeatureValue]:
        """The values as records and traces may show them: what is sensitive is masked."""
        hidden = frozenset(self.sensitive)
        return {name: MASKED if name in hidden and value is not None else value for name, value in self.values.items()}

    def masked(self, text: str) -> str:
        """A text that may repeat what is sensitive, as records and traces may show it.

        Values of one or two characters stay: they would be found everywhere.
        """
        for name in self.sensitive:
            value = self.values.get(name)
            for item in value if isinstance(value, list) else [value]:
                if item is not None and not isinstance(item, bool) and len(str(item)) > _SHORTEST:
                    text = text.replace(str(item), MASKED)
        return text


class FeaturesUnavailable(Exception):
    """The feature store is away or too slow. The message may be shown to a caller."""


class WrongEntity(Exception):
    """An entity's value that its type does not allow."""

    def __init__(self, join_key: str, expected: str) -> None:
        super().__init__(f"{join_key} should be {expected}")
        self.join_key = join_key
        self.expected = expected


class FeatureReader(Protocol):
    async def read(
        self, service: str, entity: Mapping[str, str], max_age: Mapping[str, float] | float | None = None
    ) -> FeatureVector:
        """The online values; those of an entity that is not known, or not given, are missing.

        `max_age` is in seconds, for all features or by name; a view's TTL holds beside it. Raises FeaturesUnavailable,
        and WrongEntity.
        """

    def unread(self, service: str) -> FeatureVector | None:
        """No values, and how sensitive they would be; None where nothing is known of the service."""
