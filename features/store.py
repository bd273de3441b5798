"""Feast, opened for online reads: a local registry, SQLite or Redis behind it.

SQLite reads run in a small pool of threads; Redis ones on the event loop, natively. Feast's own async path on
SQLite is not async, and its registry refresh would block a loop, so the registry is read once, at the start.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from feast import FeatureStore
from feast.data_source import PushMode
from feast.errors import FeastError
from feast.feature_service import FeatureService
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig

from features.vector import FeaturesUnavailable, FeatureValue, FeatureVector

_THREADS = 4
_CONNECTIONS = 32  # to Redis: its client opens one for each read that runs


class FeastStore:
    """A FeatureReader over a Feast repository. Make one with `open`."""

    def __init__(self, store: FeatureStore, data_dir: Path, *, native_async: bool) -> None:
        self._store = store
        self._data_dir = data_dir
        self._native_async = native_async
        self._connections = asyncio.Semaphore(_CONNECTIONS)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="features")
        tags = {view.name: view.tags for view in store.list_all_feature_views()}
        self._services = {service.name: _Service.of(service, tags) for service in store.list_feature_services()}
        self._all_joined = {key for entity in store.list_entities() for key in (entity.join_key,)}

    @classmethod
    def open(cls, repo: Path, *, data_dir: Path, online_store: str = "sqlite") -> FeastStore:
        """Open the repository in `repo`; apply its definitions where they are new or have changed.

        `online_store`: "sqlite", in `data_dir`, or a redis:// URL. Blocking, some seconds. Raises
        FeaturesUnavailable.
        """
        repo, data_dir = repo.resolve(), data_dir.resolve()
        data_dir.mkdir(parents=True, exist_ok=True)
        try:
            settings = _settings(repo, data_dir, online_store)
            fingerprint = _fingerprint(repo, online_store)
            marker = data_dir / "applied"
            if not marker.is_file() or marker.read_text() != fingerprint:
                _apply(repo, data_dir, settings)
                marker.write_text(fingerprint)
            store = FeatureStore(config=RepoConfig(repo_path=str(repo), **settings))
            opened = cls(store, data_dir, native_async=online_store != "sqlite")
        except (FeastError, OSError, ValueError, ImportError) as error:
            raise FeaturesUnavailable(f"the Feast repository can't be opened: {error}") from error
        opened._warm()
        return opened

    async def read(self, service: str, entity: Mapping[str, str]) -> FeatureVector:
        known = self._services.get(service)
        if known is None:
            raise FeaturesUnavailable(f"there is no feature service `{service}`; there are {sorted(self._services)}")
        feature_service, names = known.definition, known.features
        rows = [dict(entity)]
        try:
            if self._native_async:
                async with self._connections:
                    response = await self._store.get_online_features_async(feature_service, rows)
            else:
                loop = asyncio.get_running_loop()
                response = await loop.run_in_executor(
                    self._pool, lambda: self._store.get_online_features(feature_service, rows)
                )
        except (FeastError, OSError, KeyError, ValueError) as error:
            raise FeaturesUnavailable(f"the online store did not answer ({type(error).__name__})") from error
        told: dict[str, list[Any]] = response.to_dict()
        values: dict[str, FeatureValue] = {name: told[name][0] for name in names if name in told}
        missing = tuple(name for name in names if values.get(name) is None)
        return FeatureVector(service, dict(entity), values, missing, known.sensitivity)

    def load_samples(self, file: Path) -> int:
        """Push the users of a CSV file into the online store, once for each content of it; how many were pushed.

        Its columns are the join key and the view's features. Blocking. Raises FeaturesUnavailable.
        """
        try:
            content = file.read_bytes()
            marker = self._data_dir / f"samples-{hashlib.sha256(content).hexdigest()[:16]}"
            if marker.exists():
                return 0
            frame = pd.read_csv(file, dtype=str)
            self.push(self._only_push_source(), frame)
        except (OSError, ValueError, FeastError) as error:
            raise FeaturesUnavailable(f"the sample users in {file.name} can't be loaded: {error}") from error
        marker.touch()
        return len(frame)

    def push(self, source: str, frame: pd.DataFrame) -> None:
        """Write rows into the online store as of now. Blocking."""
        stamped = frame.assign(event_timestamp=datetime.now(UTC))
        self._store.push(source, stamped, to=PushMode.ONLINE)

    def known_of(self, entity: Mapping[str, str]) -> dict[str, FeatureValue]:
        """All that is in the online store of an entity, as VIEW:FEATURE. Blocking. Raises FeaturesUnavailable."""
        names = [f"{view.name}:{feature.name}" for view in self._views_of(entity) for feature in view.features]
        if not names:
            return {}
        try:
            told = self._store.get_online_features(names, [dict(entity)], full_feature_names=True).to_dict()
        except (FeastError, OSError, KeyError, ValueError) as error:
            raise FeaturesUnavailable(f"the online store did not answer ({type(error).__name__})") from error
        values = {name: told[name.replace(":", "__")][0] for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def erase(self, entity: Mapping[str, str]) -> int:
        """Have the online store forget an entity's values; how many there were. Blocking. Raises FeaturesUnavailable.

        Feast has no deletion by entity for all of its stores: a newer row without values takes the place of the old.
        """
        known = self.known_of(entity)
        key = EntityKey(join_keys=list(entity), entity_values=[Value(string_val=value) for value in entity.values()])
        try:
            for view in self._views_of(entity):
                empty = {feature.name: Value() for feature in view.features}
                if any(f"{view.name}:{name}" in known for name in empty):
                    row = (key, empty, datetime.now(UTC), None)
                    self._store._get_provider().online_write_batch(self._store.config, view, [row], None)
        except (FeastError, OSError, KeyError, ValueError) as error:
            raise FeaturesUnavailable(f"the online store did not take it ({type(error).__name__})") from error
        return len(known)

    async def aclose(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        # Feast keeps its Redis client to itself and never closes it.
        client = getattr(self._store._get_provider().online_store, "_client_async", None)
        if client is not None:
            await client.aclose()

    def _views_of(self, entity: Mapping[str, str]) -> list[Any]:
        """The feature views that are about this entity alone."""
        views = self._store.list_feature_views()
        return [view for view in views if view.online and set(view.join_keys) == set(entity)]

    def _only_push_source(self) -> str:
        sources: list[str] = [s.name for s in self._store.list_data_sources() if type(s).__name__ == "PushSource"]
        if len(sources) != 1:
            raise ValueError(f"the repository has {len(sources)} push sources; samples need exactly one")
        return sources[0]

    def _warm(self) -> None:
        """The first read of a store takes 200 ms; no caller should be the one who pays it."""
        for service in self._services.values():
            if not self._native_async:
                self._store.get_online_features(service.definition, [dict.fromkeys(self._all_joined, "")])


@dataclass(frozen=True, slots=True)
class _Service:
    """A feature service, and what of its definition each read needs.

    `sensitivity`: the labels of the feature views, and of the features themselves, that it reads.
    """

    definition: FeatureService
    features: tuple[str, ...]
    sensitivity: tuple[str, ...]

    @classmethod
    def of(cls, definition: FeatureService, tags: Mapping[str, Mapping[str, str]]) -> _Service:
        """`tags`: of the feature views, by name."""
        views = definition.feature_view_projections
        features = [feature for view in views for feature in view.features]
        tagged = [tags.get(view.name, {}) for view in views] + [feature.tags for feature in features]
        labels = {label for each in tagged if (label := each.get("sensitivity"))}
        return cls(definition, tuple(feature.name for feature in features), tuple(sorted(labels)))


def _settings(repo: Path, data_dir: Path, online_store: str) -> dict[str, Any]:
    """The repository's `feature_store.yaml`, with its data where the gateway's is."""
    os.environ["FEAST_USAGE"] = "False"  # Feast never calls home
    text = (repo / "feature_store.yaml").read_text().replace("${FEATURES_DATA_DIR}", str(data_dir))
    settings: dict[str, Any] = yaml.safe_load(text)
    if online_store != "sqlite":
        address, _, database = online_store.split("://", 1)[1].partition("/")
        ssl = ",ssl=true" if online_store.startswith("rediss://") else ""
        settings["online_store"] = {"type": "redis", "connection_string": f"{address},db={database or 0}{ssl}"}
    return settings


def _apply(repo: Path, data_dir: Path, settings: dict[str, Any]) -> None:
    """Feast's own `apply`, in a process of its own: it imports the definitions relative to the working directory."""
    resolved = data_dir / "feature_store.yaml"
    resolved.write_text(yaml.safe_dump(settings))
    resolved.chmod(0o600)  # a Redis address may hold a password
    command = [sys.executable, "-c", "from feast.cli.cli import cli; cli()"]
    done = subprocess.run(
        [*command, "-c", str(repo), "-f", str(resolved), "apply", "--skip-source-validation"],
        cwd=repo,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ValueError(f"its definitions can't be applied: {(done.stderr or done.stdout).strip().splitlines()[-1]}")


def _fingerprint(repo: Path, online_store: str) -> str:
    digest = hashlib.sha256(online_store.split("@")[-1].encode())
    for file in sorted(repo.glob("*")):
        if file.suffix in (".py", ".yaml"):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
