"""The process that fills the lake ends with whoever started it, and says what it can't do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from lake_calls import exchange_of, store

from gateway.analyst import attendant
from gateway.analyst.settings import Settings, Told
from gateway.drift.settings import Level
from gateway.records.database import Database

from .conftest import Filled


def settings(database_file: Path, url: str, **options: str) -> Settings:
    return Settings(
        holder="test", store=f"sqlite:///{database_file}", url=url, options=options, every=0.1, file_size=1_000_000,
        content=False, refusals=[], calls_kept=None, content_kept=None, keys=[],
    )  # fmt: skip


def started(database_file: Path, url: str, **options: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.analyst"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(settings(database_file, url, **options)) + b"\n")
    process.stdin.flush()
    return process


def test_it_fills_the_lake_and_ends_with_the_pipe(database: Database, tmp_path: Path) -> None:
    ids = store(database, exchange_of("a"), exchange_of("b"))
    url = (tmp_path / "lake").as_uri()
    process = started(tmp_path / "records.db", url)
    assert process.stdout is not None
    told = msgspec.json.decode(process.stdout.readline(), type=Told)
    assert (told.holds, told.rows, told.lag, told.failed) == (True, 2, 0.0, 0)
    _, errors = process.communicate(timeout=120)  # which closes the pipe, as the kernel does where a gateway is killed
    assert process.returncode == 0, errors
    assert Filled(database, url).ids() == sorted(ids), "it has given the lake up"


def test_an_address_that_nothing_knows_is_one_line(database: Database, tmp_path: Path) -> None:
    process = started(tmp_path / "records.db", "gopher://x/y")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"nothing knows the scheme gopher" in errors
    assert b"Traceback" not in errors


def test_credentials_of_the_storage_are_cut_out_of_what_it_says(database: Database, tmp_path: Path) -> None:
    process = started(tmp_path / "records.db", "canary-0815://x/y", secret_key="canary-0815")
    _, errors = process.communicate(timeout=120)
    assert b"nothing knows the scheme ***" in errors
    assert b"canary-0815" not in errors


def test_a_folder_that_is_not_this_stores_is_told_once_and_looked_at_again(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    folder.mkdir()
    mark = folder / "_lake.json"
    mark.write_text('{"lake": "somebody", "position": 7}')
    (ids,) = [store(database, exchange_of("a"))]
    process = started(tmp_path / "records.db", folder.as_uri())
    assert process.stdout is not None
    for _ in range(3):
        assert msgspec.json.decode(process.stdout.readline(), type=Told).failed == 1
    mark.unlink()  # somebody has tidied up
    while not (told := msgspec.json.decode(process.stdout.readline(), type=Told)).holds:
        assert told.failed == 1
    _, errors = process.communicate(timeout=120)
    assert told.rows == len(ids)
    assert errors.count(b"belongs to another record store") == 1, errors
    assert b"filled by another" not in errors


async def test_one_that_says_something_endless_is_started_again(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendant, "_LINE", 16)
    monkeypatch.setattr(attendant, "_FIRST_PAUSE", 0.001)
    analyst = attendant.Analyst(settings(tmp_path / "records.db", (tmp_path / "lake").as_uri()))
    running = asyncio.ensure_future(analyst.run())
    try:
        async with asyncio.timeout(120):
            while not analyst._failed and not running.done():
                await asyncio.sleep(0.02)
        assert not running.done(), running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_the_lag_grows_where_a_process_hangs_that_had_nothing_left_to_do(tmp_path: Path) -> None:
    """Or the alert that the lake is away would wait for a process to say that it hangs."""
    analyst = attendant.Analyst(settings(tmp_path / "records.db", "file:///nowhere"))
    analyst._take(msgspec.json.encode(Told(True, lag=0.0)))
    assert analyst._lag() == 0.0
    analyst._at -= 1_000
    assert analyst._lag() >= 1_000


def test_whoever_wants_to_is_told_of_what_was_looked_at(tmp_path: Path) -> None:
    analyst = attendant.Analyst(settings(tmp_path / "records.db", "file:///nowhere"))
    told: list[Level] = []
    level = Level("input", "handbook", 0.4, 0.3, True)
    analyst._take(msgspec.json.encode(Told(True, levels=[level])))
    analyst.drifted = told.append
    analyst._take(msgspec.json.encode(Told(True, levels=[level])))
    analyst._take(msgspec.json.encode(Told(True)))  # it was not time to look
    assert told == [level]
