"""What an operator does to a lake from the command line: rotate its keys, take it in after a restore."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from lake_calls import exchange_of, say, store

from gateway.cli import main
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.rows import place_of
from gateway.records.sealing import Seal

from .conftest import Filled

OLD, NEW = (base64.b64encode(byte * 32).decode() for byte in (b"o", b"n"))


@pytest.fixture
def filled(database: Database, tmp_path: Path) -> Filled:
    """Of sealed contents, one of them under a key that nobody has any more."""
    made = Filled(database, (tmp_path / "lake").as_uri(), keep_contents=True)
    for key in (b"o" * 32, b"x" * 32):
        made.contents = Contents(Seal([key]))
        store(database, exchange_of("a", **say("Canary?", "Yes.")), contents=made.contents)
        made.fill()
    return made


def run(folder: Path, *arguments: str, records: str = "records.db", **more: Any) -> Result:
    configuration = {
        "records": {"url": f"sqlite:///{folder / records}", **more},
        "lake": {"url": (folder / "lake").as_uri()},
        "providers": {"house": {"kind": "extractive"}},
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(configuration), "utf-8")
    return CliRunner().invoke(main, ["db", *arguments, "--config", str(folder / "gateway.yaml")])


def test_a_rotation_reaches_the_lake(database: Database, filled: Filled, tmp_path: Path) -> None:
    told = run(tmp_path, "rewrap", encryption_keys=[NEW, OLD])
    assert (told.exit_code, told.stdout) == (1, "1 were brought under the first key\n1 in the lake's files\n")
    assert told.stderr == "2 can't be opened by any of the configured keys and stay as they are\n"
    rows = filled.rows("SELECT * FROM contents")
    after = Contents(Seal([b"n" * 32]))
    assert sorted(after.read(row["content"], place_of(row["call_id"])) is not None for row in rows) == [False, True]
    again = run(tmp_path, "rewrap", encryption_keys=[NEW])
    assert again.stdout == "0 were brought under the first key\n0 in the lake's files\n"
    assert filled.lake.open(), "whoever fills the lake goes on"


def test_a_lake_is_taken_in(filled: Filled, tmp_path: Path) -> None:
    files = len(filled.manifest.live())
    told = run(tmp_path, "adopt-lake", records="anew.db")
    assert (told.exit_code, told.stdout) == (0, f"{files} files with 4 rows were taken in; 0 records are to come\n")
    (tmp_path / "lake" / "_lake.json").write_text("[]")
    told = run(tmp_path, "adopt-lake", records="anew.db")
    assert (told.exit_code, told.stderr) == (1, told.stderr)
    assert "can't be read: remove it" in told.stderr
