"""`_lake.json`: what a lake's folder says of itself, beside its files.

`lake` is whose it is: the id that its record store has for it. `position` is how far that store had come when it last
announced files: it counts up with each announcement, and is written here before any of the files is. So a folder that
is further than its record store has files that this store knows nothing of, and must not take for left-overs: the store
was restored from a backup, or is a copy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from gateway.lake.schema import VERSION
from gateway.lake.storage import LakeUnavailable, Storage

_NAME = "_lake.json"


@dataclass(frozen=True, slots=True)
class Mark:
    lake: str
    position: int = 0


def read_mark(storage: Storage) -> Mark | None:
    """None where there is none. Raises LakeUnavailable, also for one that can't be read."""
    found = storage.read_small(_NAME)
    if found is None:
        return None
    try:
        told = json.loads(found)
        return Mark(str(told["lake"]), int(told.get("position", 0)))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise LakeUnavailable(
            f"the lake's {_NAME}, which says whose it is, can't be read: remove it, and take the files in with "
            "`rag-gateway db adopt-lake`"
        ) from None


def write_mark(storage: Storage, mark: Mark) -> None:
    """Raises LakeUnavailable."""
    told = {"lake": mark.lake, "version": VERSION, "position": mark.position}
    with storage.writing(_NAME) as file:
        file.write(json.dumps(told).encode())
