"""What a tree of processes costs, read from /proc; which cores there are; how fast one is just now."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
_CALIBRATION = bytes(8 << 20)


def tree(root: int) -> list[int]:
    """The process and all its descendants that live now."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := _stat(int(entry))):
            children.setdefault(int(stat[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; None where the process has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class CpuReading:
    """CPU seconds of a tree at one moment: by thread in nanoseconds, and the kernel's coarse sum with the dead."""

    threads: dict[tuple[int, int], int]
    coarse: float
    processes: int

    def since(self, before: CpuReading) -> float:
        """User and system seconds spent since `before`.

        Threads' own clocks are exact, but a thread that has ended takes its time with it; the coarse sum (ticks
        of 10 ms) keeps it, so that sum counts where it is larger by more than its own grain.
        """
        exact = sum(spent - before.threads.get(thread, 0) for thread, spent in self.threads.items()) / 1e9
        coarse = self.coarse - before.coarse
        return exact if coarse <= exact + 2 * TICK * max(self.processes, before.processes) else coarse


def read_cpu(root: int) -> CpuReading:
    threads: dict[tuple[int, int], int] = {}
    coarse = 0.0
    pids = tree(root)
    for pid in pids:
        stat = _stat(pid)
        if stat is None:
            continue
        coarse += sum(int(ticks) for ticks in stat[11:15]) * TICK  # own and waited-for children's, user and system
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                threads[pid, int(thread)] = int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
        except OSError:
            continue  # it ended as we looked; the coarse sum of its parent has it
    return CpuReading(threads, coarse, len(pids))


def memory(root: int) -> tuple[float, float]:
    """Resident megabytes (1e6) of the tree now, and the sum of its processes' peaks; shared pages count in each."""
    now = peak = 0.0
    for pid in tree(root):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
        now += int(values.get("VmRSS", 0)) * 1024 / 1e6
        peak += int(values.get("VmHWM", 0)) * 1024 / 1e6
    return now, peak


def busy(core: int) -> float:
    """Seconds for which the core has run anything at all, interrupts and stolen time included."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) * TICK
    raise RuntimeError(f"/proc/stat does not know core {core}")


def choose_cores() -> tuple[int, int]:
    """One core for the server and one for the load, not two threads of one core. Raises RuntimeError."""
    allowed = sorted(os.sched_getaffinity(0))
    server = allowed[-1]
    siblings = Path(f"/sys/devices/system/cpu/cpu{server}/topology/thread_siblings_list")
    shared = {server}
    if siblings.exists():
        for part in siblings.read_text().strip().split(","):
            first, _, last = part.partition("-")
            shared.update(range(int(first), int(last or first) + 1))
    others = [core for core in allowed if core not in shared]
    if not others:
        raise RuntimeError("the benchmarks need two cores: one for the server under test, one for load and mock")
    return server, others[0]


def calibrate(core: int) -> float:
    """Microseconds of CPU for a fixed piece of work on that core, the best of five: drift of the machine shows here."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        times = []
        for _ in range(5):
            start = time.process_time()
            hashlib.sha256(_CALIBRATION).digest()
            times.append(time.process_time() - start)
        return min(times) * 1e6
    finally:
        os.sched_setaffinity(0, before)
