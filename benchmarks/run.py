"""Compare this gateway with its references, side by side in one run: CPU per call, latency added, memory, start.

    python benchmarks/run.py [--only NAME,NAME] [--rounds 3] [--seconds 2] [--json FILE]

The server under test has one core to itself; the mock upstream and the load driver (C, compiled on first use into
build/bench/) have another. docs/performance.md says how each figure is taken and how it can mislead.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from processes import busy, calibrate, choose_cores, memory, read_cpu
from subjects import CHUNKS, ROOT, SUBJECTS, Row, Subject

BUILD = ROOT / "build" / "bench"
SOURCES = Path(__file__).resolve().parent
MARK = "benchword"
_OURS, _THEIRS = "this gateway, plain proxy", "TensorZero gateway"
# Rows that are compared by round, kind of window, and what that is.
PAIRS = (
    (_OURS, _THEIRS, "calls", "a call"),
    ("this gateway, exact cache hit", _THEIRS, "calls", "an exact hit beside its plain call"),
    ("this gateway, with limits", "TensorZero, with limits", "calls", "a call with limits"),
    (_OURS, _THEIRS, "streams8", "a stream, 8 at a time"),
    (_OURS, _THEIRS, "streams32", "a stream, 32 at a time"),
)
INTERVAL_US = 5000
SETTLE = 0.3  # seconds after a window in which deferred work (records, spans) is still counted to it
START_LIMIT = 120.0
MESSAGES = [
    {"role": "system", "content": "You answer questions about the staff handbook. Be short, and name your source."},
    {"role": "user", "content": "How many days of leave does a new colleague have in the first year?"},
    {
        "role": "assistant",
        "content": "Twenty-five days, counted from the first day of work, and two more at Christmas.",
    },
    {"role": "user", "content": "And may they be taken over into the next year, or must they be used until December?"},
]


class BenchError(Exception):
    """What keeps a run, or one subject of it, from being measured; the text says why."""


@dataclass(slots=True)
class Sample:
    """One window: what the load driver saw, and what the server's process tree spent meanwhile."""

    load: dict[str, Any]
    cpu_us: float
    server_share: float  # of the server's core, 0..1
    others_share: float  # what ran beside, on the busier of the two cores, 0..1


@dataclass(slots=True)
class Results:
    """Everything measured of one subject, over all rounds."""

    windows: dict[tuple[str, str], list[Sample]] = field(default_factory=lambda: defaultdict(list))
    start_ms: list[float] = field(default_factory=list)
    ready_mb: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    spans_per_call: list[float] = field(default_factory=list)
    records_per_call: list[float] = field(default_factory=list)
    version: str = ""


def compile_own() -> None:
    """The gateway's bytecode, as pip leaves it with what it installs: a checkout may be told to write none."""
    for package in ("gateway", "retrieval", "guardrails", "features"):
        compileall.compile_dir(ROOT / package, quiet=1)


def compile_tools() -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux":
        raise BenchError("the benchmarks read /proc and use epoll: they run on Linux only")
    for name in ("mock", "load"):
        source, program = SOURCES / f"{name}.c", BUILD / name
        if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
            continue
        if compiler is None:
            raise BenchError(
                "no C compiler found: the mock upstream and the load driver are C (Debian: apt-get install gcc)"
            )
        BUILD.mkdir(parents=True, exist_ok=True)
        subprocess.run([compiler, "-O2", "-o", program, source], check=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], core: int, env: dict[str, str], log: IO[bytes]) -> Iterator[Any]:
    """A child in a process group of its own on that core, ended with all its children afterwards."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until_ready(port: int, process: Any, log: Path, limit: float) -> None:
    """Wait until a gateway says that it is ready. Raises BenchError with the end of its log where it ends, or `limit` seconds
    have passed."""
    deadline = time.monotonic() + limit
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30).close()
            return
        except (OSError, urllib.error.URLError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(log.read_text(errors="replace")[-1500:]) from None
            time.sleep(0.05)


class Bench:
    """One run: the mock, the cores, and the windows measured on each subject."""

    def __init__(self, server_core: int, load_core: int, seconds: float, work: Path) -> None:
        self.server_core, self.load_core, self.seconds, self.work = server_core, load_core, seconds, work
        self.mock_port = free_port()
        self.mock: Any = None
        self.calibrations: list[float] = []

    @contextlib.contextmanager
    def upstream(self) -> Iterator[None]:
        command = [str(BUILD / "mock"), "--port", str(self.mock_port), "--interval-us", str(INTERVAL_US)]
        with (
            open(self.work / "mock.log", "wb") as log,
            running([*command, "--chunks", str(CHUNKS)], self.load_core, {}, log) as self.mock,
        ):
            deadline = time.monotonic() + 10
            while True:
                try:
                    self.stats()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise BenchError("the mock upstream did not start") from None
                    time.sleep(0.02)
            yield

    def stats(self) -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.mock_port}/stats", timeout=5) as answer:
            return dict(json.load(answer))

    def round(self, name: str, results: Results) -> None:
        """Start the subject, warm it up, measure all its rows, end it."""
        self.calibrations.append(calibrate(self.server_core))
        with tempfile.TemporaryDirectory(dir=self.work, prefix=f"{name}-") as folder:
            place = Path(folder)
            place.chmod(0o755)
            port = free_port()
            subject = SUBJECTS[name](self.mock_port, port, place)
            if isinstance(subject, str):
                raise BenchError(subject)
            results.version = subject.version
            if not subject.command:
                self._rows(subject, self.mock_port, self.mock.pid, place, results, own=False)
                return
            before = self.stats()
            with open(place / "server.log", "wb") as log:
                begun = time.monotonic()
                with running(list(subject.command), self.server_core, subject.env, log) as process:
                    port = self._await(subject, port, process, place)
                    results.start_ms.append((time.monotonic() - begun) * 1000)
                    results.ready_mb.append(memory(process.pid)[0])
                    calls = self._rows(subject, port, process.pid, place, results, own=True)
                    results.peak_mb.append(memory(process.pid)[1])
            if subject.traced is not None:
                spans = self.stats()["server_spans"] - before["server_spans"]
                results.spans_per_call.append(spans / calls)
                results.records_per_call.append(_recorded(place / "calls.db") / calls)

    def _await(self, subject: Subject, port: int, process: Any, place: Path) -> int:
        """The first 200 to a call, with its key. The port, which some servers choose by themselves."""
        row = subject.rows[0]
        headers = dict(header.split(": ", 1) for header in (*row.headers, "content-type: application/json"))
        body = json.dumps({"model": row.model, "messages": MESSAGES, "max_tokens": 256}).encode()
        deadline, last = time.monotonic() + START_LIMIT, "nothing listens"
        while time.monotonic() < deadline:
            if process.poll() is not None:
                log = (place / "server.log").read_text(errors="replace")[-1500:]
                raise BenchError(f"{subject.name} ended with status {process.returncode} while starting:\n{log}")
            if subject.announces:
                address = subject.announces.read_text() if subject.announces.exists() else ""
                if not address.endswith("\n"):
                    time.sleep(0.01)
                    continue
                port = urlsplit(address.strip()).port or 0
            try:
                request = urllib.request.Request(f"http://127.0.0.1:{port}{row.path}", body, headers)
                with urllib.request.urlopen(request, timeout=10) as answer:
                    if answer.status == 200 and MARK.encode() in answer.read():
                        return port
            except urllib.error.HTTPError as error:
                last = f"status {error.code}: {error.read()[:300]!r}"
            except OSError as error:
                last = str(error)
            time.sleep(0.01)
        raise BenchError(f"{subject.name} was not ready after {START_LIMIT:.0f} s: {last}")

    def _rows(self, subject: Subject, port: int, pid: int, place: Path, results: Results, own: bool) -> int:
        """All windows of all rows; the number of calls made, warm-up and all."""
        calls = 1  # the one that found it ready
        for row in subject.rows:
            slow = row.paced_per_second < 500
            calls += self.load(row, port, place, ["--requests", str(subject.warm_up)])["requests"]
            if any(kind.startswith("streams") for kind in row.kinds):
                warm = ["--requests", "8" if slow else "64", *_streams(8)]
                calls += self.load(row, port, place, warm)["requests"]
            for kind in row.kinds:
                arguments = {
                    "calls": ["--seconds", str(self.seconds)],
                    "paced": ["--seconds", str(self.seconds), "--rate", str(row.paced_per_second)],
                    "streams8": ["--seconds", str(self.seconds), *_streams(8)],
                    "streams32": ["--seconds", str(self.seconds), *_streams(32)],
                }[kind]
                sample = self._window(row, port, pid, place, arguments, own)
                calls += sample.load["requests"]
                results.windows[row.title, kind].append(sample)
        return calls

    def _window(self, row: Row, port: int, pid: int, place: Path, arguments: list[str], own: bool) -> Sample:
        time.sleep(SETTLE)  # what the warm-up or the last window deferred is not this one's
        mock, spent, children = read_cpu(self.mock.pid), read_cpu(pid), _children_seconds()
        core, other = busy(self.server_core), busy(self.load_core)
        begun = time.monotonic()
        load = self.load(row, port, place, arguments)
        time.sleep(SETTLE)
        wall = time.monotonic() - begun
        cpu = read_cpu(pid).since(spent)
        load_cpu = read_cpu(self.mock.pid).since(mock) + _children_seconds() - children
        beside_server = (busy(self.server_core) - core) - (cpu if own else 0)
        beside_load = (busy(self.load_core) - other) - load_cpu
        return Sample(
            load, cpu * 1e6 / load["requests"], cpu / load["wall_s"], max(0.0, beside_server, beside_load) / wall
        )

    def load(self, row: Row, port: int, place: Path, arguments: list[str]) -> dict[str, Any]:
        stream = "--stream" in arguments
        body: dict[str, Any] = {"model": row.model, "messages": MESSAGES, "temperature": 0.2, "max_tokens": 256}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        path = place / ("stream.json" if stream else "plain.json")
        path.write_text(json.dumps(body, separators=(",", ":")))
        command = [str(BUILD / "load"), "--port", str(port), "--path", row.path, "--body", str(path)]
        command += ["--expect", MARK, "--count", str(row.stream_marks if stream else 1)]
        for header in row.headers:
            command += ["--header", header]
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {self.load_core}),
        )
        if done.returncode:
            raise BenchError(f"{row.title}: {done.stderr.strip()}")
        seen: dict[str, Any] = json.loads(done.stdout)
        if seen["errors"] or not seen["requests"]:
            raise BenchError(
                f"{row.title}: {seen['errors']} of {seen['requests']} answers were wrong ({' '.join(arguments)}); "
                f"the first: {seen['first_error']}"
            )
        return seen


def _streams(at_once: int) -> list[str]:
    """Streams begin spread over one interval, so that their chunks do not come all at one moment by accident."""
    return ["--stream", "--connections", str(at_once), "--stagger-us", str(INTERVAL_US // at_once)]


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _recorded(database: Path) -> int:
    """Rows of the gateway's call log, after its end."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM calls").fetchone()[0])


# --- the table -----------------------------------------------------------------------------------------
def spread(values: list[float], digits: int = 0) -> str:
    """The median, and the least and the most beside it where there are several."""
    if not values:
        return "–"
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def table(results: dict[str, Results], rows: dict[str, tuple[Row, ...]]) -> str:
    base = {
        q: [s.load[f"{q}_us"] for s in results["direct"].windows["direct: load to mock", "paced"]]
        for q in ("p50", "p99")
        if "direct" in results
    }
    lines = [
        "| server | µs CPU / call | calls/s, one core | p50 added, ms | p99 added, ms | µs CPU / stream, 8 at a time "
        "| 32 at a time | ready / peak MB | start, s | beside |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, result in results.items():
        for row in rows[name]:

            def of(kind: str, title: str = row.title, windows: Any = result.windows) -> list[Sample]:
                return list(windows.get((title, kind), ()))

            own = name != "direct"
            calls = of("calls")
            rate = spread([s.load["per_second"] for s in calls])
            if own and calls and statistics.median(s.server_share for s in calls) < 0.9:
                rate += " ¹"
            added = []
            for q in ("p50", "p99"):
                seen = [s.load[f"{q}_us"] / 1000 for s in of("paced")]
                if own and seen and base:
                    floor = statistics.median(base[q]) / 1000
                    seen = [value - floor for value in seen]
                cell = spread(seen, 2)
                if seen and not own:
                    cell += " ²"
                elif seen and row.paced_per_second != 500:
                    cell += f" at {row.paced_per_second}/s"
                added.append(cell)
            beside = max(
                (s.others_share for k, ws in result.windows.items() if k[0] == row.title for s in ws), default=0
            )
            cells = [
                f"{row.title} {result.version}".strip(),
                spread([s.cpu_us for s in calls], 1) if own else "–",
                rate,
                *added,
                *(
                    spread([s.cpu_us for s in of(kind)]) + (" ³" if row.stream_marks != CHUNKS and of(kind) else "")
                    for kind in ("streams8", "streams32")
                ),
                f"{statistics.median(result.ready_mb):.0f} / {max(result.peak_mb):.0f}" if result.ready_mb else "–",
                spread([v / 1000 for v in result.start_ms], 2),
                f"{beside:.0%}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def notes(results: dict[str, Results], bench: Bench, rounds: int, wall: float) -> str:
    lines = [
        f"Median (least–most) of {rounds} rounds, {bench.seconds:g} s a window, subjects in turn; server on core "
        f"{bench.server_core}, mock and load on core {bench.load_core}; {wall:.0f} s in all.",
        f"Calibration (SHA-256 of 8 MiB on the server's core, before each subject): {spread(bench.calibrations)} µs.",
        "`beside`: the most that anything else took of either core in one of the row's windows. Above 5 % take the row "
        "as a trial.",
        "¹ the server's core was not full: load and mock were the limit, not the server.  "
        "² whole latency, not added; the others have its median taken off.  "
        "³ a stored answer replayed at once as a stream of a few chunks, not 64 chunks 5 ms apart.",
    ]
    for name, result in results.items():
        if result.spans_per_call:
            lines.append(
                f"{name}: {1000 * statistics.median(result.spans_per_call):.0f} traces exported and "
                f"{1000 * statistics.median(result.records_per_call):.0f} calls logged, of 1,000 calls."
            )
    windows = {key: samples for result in results.values() for key, samples in result.windows.items()}
    for ours, theirs, kind, what in PAIRS:
        both = zip(windows.get((ours, kind), ()), windows.get((theirs, kind), ()), strict=False)
        pairs = [a.cpu_us / b.cpu_us for a, b in both]
        if pairs:
            lines.append(f"This gateway / TensorZero, CPU {what}: {spread(pairs, 2)}, round by round.")
    return "\n".join(f"- {line}" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", help=f"subjects, separated by commas: {', '.join(SUBJECTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each window")
    parser.add_argument("--server-core", type=int)
    parser.add_argument("--load-core", type=int)
    parser.add_argument("--json", type=Path, default=BUILD / "last.json", help="all windows, for later reading")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else list(SUBJECTS)
    if unknown := [name for name in wanted if name not in SUBJECTS]:
        parser.error(f"no such subject: {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    if options.rounds < 1 or options.seconds < 0.5:
        parser.error("--rounds is 1 or more, --seconds 0.5 or more")
    try:
        return run(options, wanted)
    except (BenchError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace, wanted: list[str]) -> int:
    compile_tools()
    compile_own()
    server, load = choose_cores()
    server = server if options.server_core is None else options.server_core
    load = load if options.load_core is None else options.load_core
    if server == load:
        raise BenchError("--server-core and --load-core must differ")
    os.sched_setaffinity(0, {load})
    begun = time.monotonic()
    results: dict[str, Results] = {}
    rows: dict[str, tuple[Row, ...]] = {}
    left_out: dict[str, str] = {}
    failed = False
    with tempfile.TemporaryDirectory(prefix="rag-gateway-bench-") as folder:
        work = Path(folder)
        work.chmod(0o755)
        bench = Bench(server, load, options.seconds, work)
        for name in wanted:
            subject = SUBJECTS[name](bench.mock_port, 0, work)
            if isinstance(subject, str):
                left_out[name] = subject
            else:
                results[name], rows[name] = Results(), subject.rows
        with bench.upstream():
            for turn in range(options.rounds):
                for name in list(results):
                    print(f"round {turn + 1} of {options.rounds}: {name}", file=sys.stderr, flush=True)
                    try:
                        bench.round(name, results[name])
                    except BenchError as error:
                        left_out[name] = f"not reported: {error}"
                        failed = True
                        del results[name]
    print(table(results, rows))
    print()
    print(notes(results, bench, options.rounds, time.monotonic() - begun))
    for name, reason in left_out.items():
        print(f"- {name}: {reason}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(_as_json(results, bench), indent=1) + "\n")
    return 1 if failed else 0


def _as_json(results: dict[str, Results], bench: Bench) -> dict[str, Any]:
    return {
        "calibration_us": bench.calibrations,
        "subjects": {
            name: {
                "version": result.version,
                "start_ms": result.start_ms,
                "ready_mb": result.ready_mb,
                "peak_mb": result.peak_mb,
                "spans_per_call": result.spans_per_call,
                "records_per_call": result.records_per_call,
                "windows": [
                    {
                        "row": title,
                        "kind": kind,
                        "cpu_us": sample.cpu_us,
                        "server_share": sample.server_share,
                        "others_share": sample.others_share,
                        **sample.load,
                    }
                    for (title, kind), samples in result.windows.items()
                    for sample in samples
                ],
            }
            for name, result in results.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
