"""What a Feast repository defines, as plain values: no Feast is needed to read them, or to keep them as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Feature:
    """`type` is Feast's own name: String, Int64, Float64, Bool, UnixTimestamp, Array(String) …

    `unit` is the tag `unit`; `ttl`, its view's, in seconds, None where values never grow too old. `sensitivity` is the label that the feature, or else its view, is tagged with;
    `sensitive`, whether either is tagged `sensitive`. `sources` are the views that an on-demand feature is made of.
    """

    name: str
    type: str
    view: str
    description: str = ""
    unit: str = ""
    sensitivity: str | None = None
    sensitive: bool = False
    ttl: float | None = None
    on_demand: bool = False
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """A feature view that is read online. `ttl` is in seconds; None where values never grow too old."""

    name: str
    join_keys: tuple[str, ...]
    ttl: float | None
    features: tuple[Feature, ...]
    push_source: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A feature service. `needs` are the join keys of each view that it reads, as a call names them.

    `inputs` are what its on-demand views are given with a call, by name, with their types. `full_names`: features are
    called VIEW__FEATURE, since two views have one of the same name.
    """

    name: str
    features: tuple[Feature, ...]
    needs: Mapping[str, tuple[str, ...]]
    inputs: Mapping[str, str]
    full_names: bool = False
    description: str = ""

    @property
    def join_keys(self) -> tuple[str, ...]:
        """Of all its views, each once."""
        return tuple(dict.fromkeys(key for keys in self.needs.values() for key in keys))

    def called(self, feature: Feature) -> str:
        """How answers name a feature."""
        return f"{feature.view}__{feature.name}" if self.full_names else feature.name


@dataclass(frozen=True, slots=True)
class Definitions:
    """`entity_types`: Feast's name of each join key's type, STRING or INT64 …"""

    project: str
    services: Mapping[str, Service]
    views: Mapping[str, View]
    entity_types: Mapping[str, str]

    def pushed_to(self, source: str) -> tuple[View, ...]:
        """The views that a push source feeds."""
        return tuple(view for view in self.views.values() if view.push_source == source)

    @property
    def push_sources(self) -> tuple[str, ...]:
        return tuple(sorted({view.push_source for view in self.views.values() if view.push_source is not None}))


def to_json(definitions: Definitions) -> bytes:
    return msgspec.json.encode(definitions)


def from_json(text: bytes) -> Definitions:
    """Raises ValueError for what another version has kept."""
    return msgspec.json.decode(text, type=Definitions)
