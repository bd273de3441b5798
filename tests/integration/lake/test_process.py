"""The process that fills the lake ends with whoever started it, and says what it can't do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
from lake_calls import exchange_of, store

from gateway.analyst.settings import Settings, Told
from gateway.records.database import Database

from .conftest import Filled


def started(database_file: Path, url: str) -> subprocess.Popen[bytes]:
    settings = Settings(
        holder="test", store=f"sqlite:///{database_file}", url=url, options={}, every=0.1, file_size=1_000_000,
        content=False, refusals=[], calls_kept=None, content_kept=None, keys=[],
    )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.analyst"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(settings) + b"\n")
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
