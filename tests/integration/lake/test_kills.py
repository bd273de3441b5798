"""Wherever the process that fills the lake is killed, no row is lost and none is there twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[2]


_STRIDE = 20  # of some ninety steps, so that the test stays quick; `lake_killing.py` without it takes every one


def test_killed_at_any_step_no_row_is_lost_or_doubled(tmp_path: Path) -> None:
    first = random.randint(1, _STRIDE)
    command = [sys.executable, str(TESTS / "lake_killing.py"), str(tmp_path), str(first), str(_STRIDE)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=TESTS.parent)
    assert told.returncode == 0, told.stderr
    runs = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(runs) >= 4
    assert [run["killed"] for run in runs] == [9] * (len(runs) - 1) + [0]
    for run in runs:
        assert len(run["stored"]) == 6
        assert run["live"] == run["stored"], f"killed at step {run['step']}"
        assert run["there"] == run["stored"], f"killed at step {run['step']}: what the folder holds"
        assert (run["pending"], run["waiting"]) == (0, 0), f"killed at step {run['step']}"
