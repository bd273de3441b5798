"""Wherever the process that fills the lake is killed, no row is lost and none is there twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[2]


def test_killed_at_every_step_no_row_is_lost_or_doubled(tmp_path: Path) -> None:
    command = [sys.executable, str(TESTS / "lake_killing.py"), str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=TESTS.parent)
    assert told.returncode == 0, told.stderr
    runs = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(runs) > 30
    assert [run["killed"] for run in runs] == [9] * (len(runs) - 1) + [0]
    for number, run in enumerate(runs, 1):
        assert run["again"] == 0, (number, told.stderr)
        assert len(run["stored"]) == 6, number
        assert run["live"] == run["stored"], f"killed at step {number}"
        assert run["there"] == run["stored"], f"killed at step {number}: what the folder holds"
        assert (run["pending"], run["waiting"]) == (0, 0), number
