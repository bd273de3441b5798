"""What the watch for drift finds where something is known to have changed, and where nothing has.

    python benchmarks/drift.py [--windows 100]

Made-up traffic (tests/drift_traffic.py): a reference of 2,800 calls, a window of 400. For each known shift: which kinds
are flagged. Without any: in how many of the windows something is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from drift_traffic import NOW, REFERENCE, SHIFTS, WINDOW, Shift, traffic

from gateway.config.lake import Drift
from gateway.drift.settings import watching
from gateway.drift.watch import look

SETTINGS = watching(Drift.model_validate({"window": "1d", "reference": "7d"}))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=100, help="without any change")
    count = parser.parse_args().windows
    assert (SETTINGS.window, SETTINGS.reference) == (WINDOW, REFERENCE)
    missed = 0
    print(f"alpha {SETTINGS.alpha}, thresholds {SETTINGS.thresholds}\n\nwith a known change, ten windows each:")
    for kind, shifts in SHIFTS.items():
        for what, shift in shifts.items():
            flagged: Counter[str] = Counter()
            for seed in range(10):
                found = look(traffic(1_000 + seed, shift), SETTINGS, NOW)
                flagged.update({one.kind for one in found if one.drifted})
            missed += 10 - flagged[kind]
            others = ", ".join(f"{name} {times}" for name, times in flagged.items() if name != kind)
            print(f"  {kind:<10} {what:<40} flagged {flagged[kind]:>2} of 10" + (f"; also {others}" if others else ""))
    began, alarms = time.perf_counter(), 0
    for seed in range(count):
        false = [one for one in look(traffic(seed, Shift()), SETTINGS, NOW) if one.drifted]
        alarms += bool(false)
        for one in false:
            print(f"  false alarm in window {seed}: {one.kind} of {one.name}, {one.what}, p {one.p:.2g}")
    took = (time.perf_counter() - began) / count
    print(f"\nwithout any change: {alarms} false alarms in {count} windows ({took:.2f} s each, traffic made included)")
    return int(missed > 0 or alarms > 5 * count / 100)


if __name__ == "__main__":
    raise SystemExit(main())
