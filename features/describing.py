"""Feast's objects as plain definitions; `main` is the program that `features.program` runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from feast import FeatureStore, RepoConfig
from feast.feature_view import DUMMY_ENTITY_ID
from feast.repo_operations import apply_total, parse_repo

from features.definitions import Definitions, Feature, Service, View, to_json

_TRUE = ("1", "on", "true", "yes")


def describe(project: str, views: Sequence[Any], on_demand: Sequence[Any], services: Sequence[Any],
             entities: Sequence[Any]) -> Definitions:  # fmt: skip
    """Feast's objects, as its registry or its definitions have them, as plain values."""
    by_name = {view.name: view for view in views}
    keys = {entity.name: entity.join_key for entity in entities}
    types = {entity.join_key: entity.value_type.name for entity in entities}
    for view in views:
        types |= {column.name: column.dtype.to_value_type().name for column in view.entity_columns}
    types.pop(DUMMY_ENTITY_ID, None)
    odfvs = {view.name: view for view in on_demand}
    return Definitions(
        project=project,
        services={service.name: _service(service, by_name, odfvs, keys) for service in services},
        views={view.name: _view(view, keys) for view in views if view.online},
        entity_types=types,
    )


def describe_store(store: FeatureStore) -> Definitions:
    """What the registry of an opened store has."""
    return describe(
        store.project,
        [*store.list_feature_views(), *store.list_stream_feature_views()],
        store.list_on_demand_feature_views(),
        store.list_feature_services(),
        store.list_entities(),
    )


def _view(view: Any, keys: Mapping[str, str]) -> View:
    source = view.stream_source
    return View(
        view.name,
        _join_keys(view, keys),
        _ttl(view),
        tuple(_feature(field, view.name, view.tags, _ttl(view)) for field in view.features),
        source.name if type(source).__name__ == "PushSource" else None,
        view.description,
    )


def _ttl(view: Any) -> float | None:
    """In seconds; Feast writes "for ever" as zero."""
    return (view.ttl.total_seconds() or None) if view is not None and view.ttl is not None else None


def _join_keys(view: Any, keys: Mapping[str, str], renamed: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """`keys` are entities' join keys by their names: a view's own are inferred only when it is applied."""
    own = view.join_keys or [keys[name] for name in view.entities if name in keys]
    return tuple((renamed or {}).get(key, key) for key in own if key != DUMMY_ENTITY_ID)


def _service(service: Any, views: Mapping[str, Any], on_demand: Mapping[str, Any], keys: Mapping[str, str]) -> Service:
    features: list[Feature] = []
    needs: dict[str, tuple[str, ...]] = {}
    inputs: dict[str, str] = {}
    for projection in service.feature_view_projections:
        name = projection.name_to_use()
        if (odfv := on_demand.get(projection.name)) is not None:
            sources = [source.name for source in odfv.source_feature_view_projections.values()]
            own = [key for source in sources if source in views for key in _join_keys(views[source], keys)]
            needs[name] = tuple(dict.fromkeys(own))
            inputs |= {key: kind.name for key, kind in odfv.get_request_data_schema().items()}
            tags = _merged([odfv.tags, *(views[source].tags for source in sources if source in views)])
            hidden = [f for s in sources if s in views for f in views[s].features if _sensitive(f.tags)]
            if hidden:  # whatever is made of something sensitive is sensitive
                tags["sensitive"] = "true"
            limits = [ttl for source in sources if (ttl := _ttl(views.get(source))) is not None]
            features += [
                _feature(field, name, tags, min(limits, default=None), tuple(sources)) for field in projection.features
            ]
            continue
        view = views.get(projection.name)
        needs[name] = _join_keys(view, keys, projection.join_key_map) if view is not None else ()
        tags = view.tags if view is not None else {}
        features += [_feature(field, name, tags, _ttl(view)) for field in projection.features]
    names = [feature.name for feature in features]
    return Service(
        service.name, tuple(features), needs, inputs, len(set(names)) < len(names), service.description or ""
    )


def _merged(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    made: dict[str, str] = {}
    for each in tags:
        made |= each
    return made


def _feature(
    field: Any, view: str, view_tags: Mapping[str, str], ttl: float | None, sources: tuple[str, ...] | None = None
) -> Feature:
    """`sources` are an on-demand feature's."""
    tags = field.tags or {}
    return Feature(
        field.name,
        str(field.dtype),
        view,
        field.description or "",
        tags.get("unit", ""),
        tags.get("sensitivity") or view_tags.get("sensitivity"),
        _sensitive(tags) or _sensitive(view_tags),
        ttl,
        sources is not None,
        sources or (),
    )


def _sensitive(tags: Mapping[str, str] | None) -> bool:
    return (tags or {}).get("sensitive", "").lower() in _TRUE


def main() -> int:
    """Print a repository's definitions as JSON.

    Status 3: the definitions are wrong, standard error says what; 4: Feast can't say now.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("repo", type=Path)
    parser.add_argument("settings", type=Path)
    parser.add_argument("--apply", action="store_true", help="apply the definitions to the registry too")
    parser.add_argument("--registry", action="store_true", help="describe what the registry has, not the definitions")
    asked = parser.parse_args()
    repo = asked.repo.resolve()
    settings = yaml.safe_load(asked.settings.read_text())
    os.chdir(repo)  # Feast imports definitions relative to the working directory
    sys.path.insert(0, str(repo))
    sys.dont_write_bytecode = True
    with contextlib.redirect_stdout(sys.stderr):  # Feast prints what it does, and so may definitions
        try:
            config = RepoConfig(repo_path=str(repo), **settings)
            found = None if asked.registry else parse_repo(repo)
            if found is not None:
                described = describe(
                    config.project,
                    [*found.feature_views, *found.stream_feature_views],
                    found.on_demand_feature_views,
                    found.feature_services,
                    found.entities,
                )
        except Exception as fault:  # definitions are a program: whatever they raise is their author's to mend
            print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
            return 3
        try:
            if found is not None and asked.apply:
                apply_total(config, repo, skip_source_validation=True)
            if found is None or asked.apply:  # what applying has inferred is in the registry
                described = describe_store(FeatureStore(config=config))
        except Exception as failure:
            print(f"{type(failure).__name__}: {failure}", file=sys.stderr)
            return 4
    sys.stdout.buffer.write(to_json(described))
    return 0
