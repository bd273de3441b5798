"""An entity's rows, deleted from an online store: Feast itself has no deletion by entity.

SQLite and Redis are Feast's own formats, read as it writes them
(https://github.com/feast-dev/feast/blob/master/docs/specs/online_store_format.md). In others a newer row without
values takes the place of the old, where a view is about this entity alone.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from feast import FeatureStore
from feast.infra.key_encoding_utils import (
    deserialize_entity_key,
    serialize_entity_key,
    serialize_entity_key_prefix,
)
from feast.infra.online_stores.helpers import compute_table_id
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.value_type import ValueType

from features.online import Erased

Entity = Mapping[str, str | int]
_GLOB = re.compile(rb"([\\*?\[\]^-])")


def erase(store: FeatureStore, views: Sequence[Any], entity: Entity) -> Erased:
    """Delete every row of `views` whose entity has these join keys. Blocking. Raises what the store raises."""
    version = store.config.entity_key_serialization_version
    if version < 3:
        return Erased(0, "entity keys of before Feast's version 3 can't be read back")
    kind = type(store.provider.online_store).__name__
    ways: dict[str, Callable[[FeatureStore, Sequence[Any], Entity], Erased]] = {
        "SqliteOnlineStore": _from_sqlite,
        "RedisOnlineStore": _from_redis,
    }
    return ways.get(kind, _overwritten)(store, views, entity)


def _from_sqlite(store: FeatureStore, views: Sequence[Any], entity: Entity) -> Erased:
    config = store.config
    connection: sqlite3.Connection = store.provider.online_store._get_conn(config)
    gone = 0
    connection.execute("PRAGMA secure_delete = ON")  # the words go from the file too
    with connection:
        for view in views:
            table = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
            quoted = '"' + table.replace('"', '""') + '"'
            if set(view.join_keys) == set(entity):
                keys: Iterable[bytes] = [serialize_entity_key(_key(entity))]
            else:
                rows = connection.execute(f"SELECT DISTINCT entity_key FROM {quoted}")
                keys = [key for (key,) in rows if _is_about(key, entity)]
            for key in keys:
                gone += connection.execute(f"DELETE FROM {quoted} WHERE entity_key = ?", (key,)).rowcount
    return Erased(gone)


def _from_redis(store: FeatureStore, views: Sequence[Any], entity: Entity) -> Erased:
    config = store.config
    client = store.provider.online_store._get_client(config.online_store)
    project = config.project.encode()
    gone = 0
    for joined in {tuple(sorted(view.join_keys)) for view in views}:
        if set(joined) == set(entity):
            keys = [serialize_entity_key(_key(entity)) + project]
        else:
            pattern = _GLOB.sub(rb"\\\1", serialize_entity_key_prefix(list(joined))) + b"*" + project
            found = client.scan_iter(pattern, count=1000)
            keys = [key for key in found if _is_about(key.removesuffix(project), entity)]
        for key in keys:
            fields = client.hkeys(key)
            gone += sum(not field.startswith(b"_ts:") for field in fields)
            client.delete(key)
    return Erased(gone)


def _overwritten(store: FeatureStore, views: Sequence[Any], entity: Entity) -> Erased:
    gone = 0
    for view in views:
        if set(view.join_keys) == set(entity):
            empty = {feature.name: Value() for feature in view.features}
            row = (_key(entity), empty, datetime.now(UTC), None)
            store.provider.online_write_batch(store.config, view, [row], None)
            gone += len(empty)
    others = [view.name for view in views if set(view.join_keys) != set(entity)]
    return Erased(gone, f"this online store can't be searched: {', '.join(others)} stay" if others else "")


def _key(entity: Entity) -> EntityKey:
    kinds = [ValueType.INT64 if isinstance(value, int) else ValueType.STRING for value in entity.values()]
    values = [
        python_values_to_proto_values([value], kind)[0] for value, kind in zip(entity.values(), kinds, strict=True)
    ]
    return EntityKey(join_keys=list(entity), entity_values=values)


def _is_about(key: bytes, entity: Entity) -> bool:
    found = deserialize_entity_key(key)
    held = {
        name: feast_value_type_to_python_type(value)
        for name, value in zip(found.join_keys, found.entity_values, strict=True)
    }
    return all(held.get(name) == value for name, value in entity.items())
