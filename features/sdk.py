"""An online store through Feast's own library: on the loop where the store is natively async, else in threads.

Feast's async path on SQLite is not async; Redis' is. What Feast raises is mapped here, once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

from feast import FeatureStore, RepoConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.value_type import ValueType

from features.definitions import Definitions
from features.describing import describe_store
from features.erasing import erase
from features.online import Cell, EntityRow, Erased, PushedRow, Reading, TransformFailed, plain
from features.repository import Repository
from features.vector import FeaturesUnavailable

T = TypeVar("T")

log = logging.getLogger(__name__)

_THREADS = 4
_CONNECTIONS = 32  # to Redis: its client opens one for each read that runs
_FAULTS = (TypeError, ArithmeticError, LookupError, AttributeError, ValueError, AssertionError)
_WARMING = "\N{SNOWMAN}"  # an entity that nobody is


def open_store(repository: Repository, *, deadline: float) -> tuple[Definitions, SdkStore]:
    """What the registry defines, and its online store, warm. Blocking. Raises FeaturesUnavailable."""
    os.environ["FEAST_USAGE"] = "False"  # Feast never calls home
    try:
        store = FeatureStore(config=RepoConfig(repo_path=str(repository.folder.resolve()), **repository.settings()))
        definitions = describe_store(store)
        opened = SdkStore(store, definitions, deadline=deadline)
    except Exception as error:
        raise FeaturesUnavailable(f"the Feast repository can't be opened: {error}") from error
    opened.warm()
    return definitions, opened


class SdkStore:
    """Of one opened FeatureStore, whose registry is in memory and is not read again."""

    def __init__(self, store: FeatureStore, definitions: Definitions, *, deadline: float) -> None:
        """`deadline`: seconds that a read may take."""
        self._store = store
        self._definitions = definitions
        self._deadline = deadline
        # As if another thread refreshed it: Feast would otherwise look at the registry's file with each read.
        store.registry.cache_mode = "thread"
        online = store.provider.online_store
        if type(online).__name__ in ("SqliteOnlineStore", "RedisOnlineStore"):
            # To find out whether a store knows versions, Feast would load the clients of all that do.
            online._versioned_read_supported = True
        supported = store.provider.async_supported.online
        self._reads_async, self._writes_async = supported.read, supported.write
        self._connections = asyncio.Semaphore(_CONNECTIONS)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="features")
        self._stuck = 0
        self._writing = threading.Lock()  # SQLite's one connection can't hold two transactions
        self._services = {service.name: service for service in store.list_feature_services()}
        self._views = {view.name: view for view in [*store.list_feature_views(), *store.list_stream_feature_views()]}
        self._on_demand = {view.name for view in store.list_on_demand_feature_views()}

    def warm(self) -> None:
        """Blocking. The first read of a store takes 200 ms; no caller should be the one who pays it."""
        for service in self._definitions.services.values():
            row: dict[str, Any] = {
                key: 0 if self._definitions.entity_types.get(key, "").startswith("INT") else _WARMING
                for key in service.join_keys
            }
            if not self._reads_async and not service.inputs and not any(f.on_demand for f in service.features):
                try:
                    self._read_here(Reading(service.name, full_names=service.full_names), [row])
                except Exception as error:  # a table that is not there yet; reads will tell
                    log.warning("the feature service %s can't be read yet: %s", service.name, error)

    async def read(self, what: Reading, rows: Sequence[EntityRow]) -> list[dict[str, Cell]]:
        transforms = self._transforms(what)
        if self._reads_async and not transforms:  # Python that somebody wrote does not run on the loop
            try:
                async with self._connections, asyncio.timeout(self._deadline):
                    answer = await self._store.get_online_features_async(
                        self._asked(what), _columns(rows), full_feature_names=what.full_names
                    )
            except Exception as error:
                raise _unavailable(error) from error
            return _cells(answer, len(rows))
        try:
            return await self._in_thread(lambda: self._read_here(what, rows))
        except FeaturesUnavailable:
            raise
        except _FAULTS as error:
            if transforms:
                raise TransformFailed(f"{type(error).__name__}: {error}") from error
            raise _unavailable(error) from error
        except Exception as error:
            raise _unavailable(error) from error

    async def write(self, view: str, rows: Sequence[PushedRow]) -> None:
        table = self._views[view]
        types = {field.name: field.dtype.to_value_type() for field in table.features}
        batch = [
            (self._key(row.entity), _protos(row.values, types), datetime.fromtimestamp(row.event_time, UTC), None)
            for row in rows
        ]
        provider, config = self._store.provider, self._store.config

        def write() -> None:
            with self._writing:
                provider.online_write_batch(config, table, batch, None)

        try:
            if self._writes_async:
                async with self._connections, asyncio.timeout(self._deadline):
                    await provider.online_write_batch_async(config, table, batch, None)
            else:
                await self._in_thread(write)
        except FeaturesUnavailable:
            raise
        except Exception as error:
            raise _unavailable(error) from error

    async def erase(self, entity: Mapping[str, str | int]) -> Erased:
        views = [view for view in self._views.values() if view.online and set(entity) <= set(view.join_keys)]

        def run() -> Erased:
            with self._writing:
                return erase(self._store, views, entity)

        try:
            return await asyncio.to_thread(run)
        except Exception as error:
            raise _unavailable(error) from error

    async def aclose(self) -> None:
        online = self._store.provider.online_store
        # Feast keeps its clients to itself and never closes them.
        if (client := getattr(online, "_client_async", None)) is not None:
            await client.aclose()
        if self._stuck:  # a connection that a thread waits in must not be taken from under it
            threading.Thread(target=self._close, daemon=True).start()
        else:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        """Blocking: when no thread reads any more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        online = self._store.provider.online_store
        for name in ("_client", "_conn"):
            if (held := getattr(online, name, None)) is not None:
                setattr(online, name, None)
                held.close()

    def _asked(self, what: Reading) -> Any:
        return list(what.features) if what.features is not None else self._services[what.service]

    def _transforms(self, what: Reading) -> bool:
        if not self._on_demand:
            return False
        if what.features is not None:
            return any(name.partition(":")[0] in self._on_demand for name in what.features)
        return any(feature.on_demand for feature in self._definitions.services[what.service].features)

    def _read_here(self, what: Reading, rows: Sequence[EntityRow]) -> list[dict[str, Cell]]:
        answer = self._store.get_online_features(self._asked(what), _columns(rows), full_feature_names=what.full_names)
        return _cells(answer, len(rows))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """In one of few threads. A thread whose store hangs is lost until that wakes up: nobody waits for it twice."""
        if self._stuck >= _THREADS:
            raise FeaturesUnavailable("it did not answer the calls before this one")
        running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.shield(running)
        except TimeoutError:
            if not running.done():
                self._stuck += 1
                running.add_done_callback(self._woke_up)
            raise FeaturesUnavailable("it took too long") from None

    def _woke_up(self, ended: asyncio.Future[Any]) -> None:
        self._stuck -= 1
        if not ended.cancelled():
            ended.exception()

    def _key(self, entity: Mapping[str, str | int]) -> EntityKey:
        return EntityKey(
            join_keys=list(entity),
            entity_values=[
                python_values_to_proto_values([value], ValueType[self._definitions.entity_types.get(key, "STRING")])[0]
                for key, value in entity.items()
            ],
        )


def _columns(rows: Sequence[EntityRow]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]}


def _cells(answer: Any, count: int) -> list[dict[str, Cell]]:
    """By rows. Feast has a TTL checked by nobody online: what is too old is for the reader to tell."""
    told: list[dict[str, Cell]] = [{} for _ in range(count)]
    types = answer._feature_types  # what a value's own form does not say, such as that a list is a set
    for name, vector in zip(answer.proto.metadata.feature_names.val, answer.proto.results, strict=True):
        times = vector.event_timestamps
        for row, value in enumerate(vector.values):
            time = times[row].seconds + times[row].nanos / 1e9 if row < len(times) else 0.0
            told[row][name] = plain(feast_value_type_to_python_type(value, types.get(name))), time or None
    return told


def _protos(values: Mapping[str, Any], types: Mapping[str, ValueType]) -> dict[str, Value]:
    return {
        name: Value() if value is None else python_values_to_proto_values([_native(value, types[name])], types[name])[0]
        for name, value in values.items()
    }


def _native(value: Any, kind: ValueType) -> Any:
    """Times are text in between."""
    if kind is ValueType.UNIX_TIMESTAMP:
        return datetime.fromisoformat(value)
    if kind.name.startswith("UNIX_TIMESTAMP"):
        return [datetime.fromisoformat(item) for item in value]
    return value


def _unavailable(error: Exception) -> FeaturesUnavailable:
    if isinstance(error, TimeoutError):
        return FeaturesUnavailable("it took too long")
    log.debug("the online store failed", exc_info=error)
    return FeaturesUnavailable(f"the online store did not answer ({type(error).__name__})")
