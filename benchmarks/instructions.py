"""How many instructions a call takes the server, in user space, counted by valgrind: by its event loop and by its other threads.

    .venv/bin/python benchmarks/instructions.py [--calls 1600] [--only plain,cached,limited]

CPU time moves with whatever else a machine does; a count of instructions hardly does. The event loop's shows a change of two in
a hundred, the threads' of ten: it depends on how many records go together.
It is no time: it knows neither the kernel nor caches. With PYTHONPATH it counts the gateway that is found there, else the
compiled one where `make compiled` has made it.
Needs valgrind (Debian: apt-get install valgrind).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from processes import choose_cores
from run import Bench, BenchError, compile_own, compile_tools, free_port, running, until_ready
from subjects import ROOT, Row, Subject, gateway, gateway_limited

START_LIMIT = 300.0
IDLE = 5.0  # seconds without a call: what the server does by itself is taken off
SETTLE = 10.0  # seconds in which the records of a window come to the store
# Under valgrind all is some fifty times slower: records gather for as much longer, so that groups are as large as else.
LAUNCHER = (
    "import sys, gateway.records.journal as journal; journal._GATHER, journal._PACE = 1.0, 2.0; "
    "from gateway.__main__ import main; sys.argv[0] = 'rag-gateway'; main()"
)


@dataclass(frozen=True, slots=True)
class Counted:
    """Instructions by thread; the first one is the event loop's."""

    threads: dict[int, int]
    seconds: float

    def without(self, idle: Counted) -> dict[int, float]:
        return {
            thread: max(0.0, count - idle.threads.get(thread, 0) / idle.seconds * self.seconds)
            for thread, count in self.threads.items()
        }


class Watched:
    """A server under callgrind; `window` gives what it has done since the last one."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid = pid
        self._folder = folder
        self._control("-i", "on")
        self._began = time.monotonic()
        self.window()

    def window(self) -> Counted:
        for old in self._folder.glob("counts*"):
            old.unlink()
        self._control("-d")
        now = time.monotonic()
        threads: dict[int, int] = {}
        for part in self._folder.glob("counts*"):
            text = part.read_text(errors="replace")
            thread, total = re.search(r"^thread: (\d+)", text, re.M), re.search(r"^totals: (\d+)", text, re.M)
            if thread and total:
                threads[int(thread[1])] = threads.get(int(thread[1]), 0) + int(total[1])
        counted, self._began = Counted(threads, now - self._began), now
        return counted

    def _control(self, *arguments: str) -> None:
        done = subprocess.run(["callgrind_control", *arguments, str(self._pid)], capture_output=True, text=True)
        if done.returncode:
            raise BenchError(f"callgrind_control: {done.stderr.strip()}")


def count(subject: Subject, row: Row, bench: Bench, port: int, calls: int) -> tuple[float, float]:
    """Instructions of a call: the event loop's, and all other threads'."""
    folder = Path(tempfile.mkdtemp(dir=bench.work))
    command = [
        "valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes",
        f"--callgrind-out-file={folder}/counts", str(ROOT / ".venv/bin/python"), "-P", "-c", LAUNCHER, *subject.command[1:],
    ]  # fmt: skip
    with (
        open(folder / "log", "wb") as log,
        running(command, bench.server_core, {**subject.env, "PYTHONHASHSEED": "0"}, log) as process,
    ):
        until_ready(port, process, folder / "log", START_LIMIT)
        bench.load(row, port, folder, ["--requests", "400"])
        time.sleep(SETTLE)
        watched = Watched(process.pid, folder)
        time.sleep(IDLE)
        idle = watched.window()
        bench.load(row, port, folder, ["--requests", str(calls)])
        time.sleep(SETTLE)
        threads = watched.window().without(idle)
    loop = threads.pop(1)
    return loop / calls, sum(threads.values()) / calls


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=1600)
    parser.add_argument("--only", default="plain,cached,limited")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is not installed (Debian: apt-get install valgrind)", file=sys.stderr)
        return 1
    compile_own()
    compile_tools()
    server_core, load_core = choose_cores()
    print("| a call | instructions | of the event loop | of other threads |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as work:
        for wanted in options.only.split(","):
            folder = Path(tempfile.mkdtemp(dir=work))
            bench = Bench(server_core, load_core, 0.0, folder)
            port = free_port()
            subject = (gateway_limited if wanted == "limited" else gateway)(bench.mock_port, port, folder)
            if isinstance(subject, str):
                raise BenchError(subject)
            row = next(row for row in subject.rows if row.model == ("cached" if wanted == "cached" else "plain"))
            with bench.upstream():
                loop, others = count(subject, row, bench, port, options.calls)
            print(f"| {wanted} | {loop + others:,.0f} | {loop:,.0f} | {others:,.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as failure:
        print(failure, file=sys.stderr)
        sys.exit(1)
