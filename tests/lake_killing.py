"""python lake_killing.py FOLDER [FIRST STRIDE]: fill a lake with a process that is killed at its Nth step, for every N
there is; or for each STRIDEth, and for the first beyond the last, which kills nobody.

A step is the beginning or the end of whatever leaves a mark: a file's writing, a file's removal, a transaction. After
each death another process takes over, and what the lake holds then is told, one line of JSON for each N.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from lake_calls import DAY, exchange_of, store

from gateway.lake.catching_up import CatchingUp
from gateway.lake.filling import Filling
from gateway.lake.lake import Lake
from gateway.lake.manifest import Manifest
from gateway.lake.signals import Signals
from gateway.lake.storage import Storage
from gateway.lake.upkeep import Compaction, Erasures
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.users import UserRecords


def work(folder: Path, killing: Callable[[], None]) -> None:
    """Fill, merge, erase: all that the lake's process does to files."""
    pa.set_cpu_count(1)
    database = Database(f"sqlite:///{folder / 'records.db'}")
    database.prepare()
    storage, manifest = Storage((folder / "lake").as_uri()), Manifest(database, "the one")
    _instrument(storage, manifest, killing)
    lake = Lake(storage, manifest)
    assert lake.open()
    CatchingUp(database, lake).run()
    filling = Filling(database, lake, Contents(), Signals())
    while filling.step() is not None:
        pass
    Erasures(database, lake).run()
    Compaction(lake, 1_000_000).run()
    database.close()


def _instrument(storage: Storage, manifest: Manifest, step: Callable[[], None]) -> None:
    def around(method: Callable[..., Any]) -> Callable[..., Any]:
        @contextlib.contextmanager
        def stepped(*arguments: Any) -> Iterator[Any]:
            step()
            with method(*arguments) as inner:
                yield inner
                step()
            step()

        return stepped

    def removing(path: str, remove: Callable[[str], None] = storage.remove) -> None:
        step()
        remove(path)
        step()

    storage.writing = around(storage.writing)  # type: ignore[method-assign]  # a test's instrument
    storage.remove = removing  # type: ignore[method-assign]  # the same
    manifest.holding = around(manifest.holding)  # type: ignore[method-assign]  # the same


def prepare(folder: Path) -> None:
    """A store with calls, some of them in the lake, some queued, one user erased: everything is about to happen."""
    folder.mkdir(parents=True)
    database = Database(f"sqlite:///{folder / 'records.db'}")
    database.upgrade()
    for _ in range(3):
        store(database, exchange_of("a", "jo", age=3 * DAY), exchange_of("a", "max", age=3 * DAY))
        lake = Lake(Storage((folder / "lake").as_uri()), Manifest(database, "the one"))
        assert lake.open()
        Filling(database, lake, Contents(), Signals()).step()
    store(database, exchange_of("a", "max"), exchange_of("b", "jo", age=DAY))
    store(database, exchange_of("a", "max", age=3 * DAY), lake=False)
    UserRecords(database).erase("a", "jo")
    database.close()


def held(folder: Path) -> dict[str, Any]:
    database = Database(f"sqlite:///{folder / 'records.db'}")
    database.prepare()
    manifest = Manifest(database)
    root = folder / "lake"
    live = [root / file.path for file in manifest.live("calls")]
    with database.reading() as connection:
        stored = sorted(connection.exec_driver_sql("SELECT call_id FROM calls").scalars())
        waiting = connection.exec_driver_sql("SELECT count(*) FROM lake_queue").scalar_one()
    found = {
        "stored": stored,
        "live": sorted(name for path in live for name in _ids(path)),
        "there": sorted(name for path in root.rglob("*.parquet") for name in _ids(path)),
        "pending": len(list(root.rglob("*.pending"))),
        "waiting": waiting,
        "files": len(live),
    }
    database.close()
    return found


def _ids(path: Path) -> list[str]:
    return list(pq.ParquetFile(path).read(["call_id"]).column("call_id").to_pylist())


def apart(work: Callable[[], None]) -> int:
    """Do it in a process of its own; how that one ended."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def kill_at(number: int) -> Callable[[], None]:
    left = number

    def step() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return step


def main(parent: Path, first: int = 1, stride: int = 1) -> None:
    template = parent / "template"
    assert apart(lambda: prepare(template)) == 0
    number, killed = first, -1
    while killed:
        folder = parent / str(number)
        shutil.copytree(template, folder)
        killed = apart(partial(work, folder, kill_at(number)))
        assert killed in (0, signal.SIGKILL), killed
        assert apart(partial(recover, folder, number, killed)) == 0
        shutil.rmtree(folder)
        number += stride


def recover(folder: Path, number: int, killed: int) -> None:
    if killed:
        work(folder, lambda: None)
    print(json.dumps({"step": number, "killed": killed, **held(folder)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
