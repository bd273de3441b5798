"""What telling of calls costs the server: CPU per call with telemetry at its defaults, and without, in one run.

    .venv/bin/python benchmarks/telemetry.py [--rounds 12] [--seconds 2] [--sample 0.1]

Two gateways run side by side and are asked in turns, window by window, by the same load: one with spans to a collector
(default sampling), the other without. All threads of a server count, and what they do for some seconds after a
window belongs to it. The difference is taken of each pair of windows, since a machine's speed changes from minute to minute.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from processes import choose_cores, read_cpu
from run import BUILD, MARK, MESSAGES, BenchError, compile_tools, free_port, running, until_ready
from subjects import ROOT, delivered

SETTLE = 2.5  # seconds in which records and spans of a window are brought away; spans gather for one and a half
START_LIMIT = 120.0


@dataclass(slots=True)
class Server:
    pid: int
    port: int


def configuration(mock: int, folder: Path, sample: float | None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "data_dir": str(folder),
        "access": {"open_on_loopback": True},
        "providers": {"mock": {"kind": "openai_compatible", "base_url": f"http://127.0.0.1:{mock}/v1"}},
        "models": {"plain": {"targets": ["mock/bench"]}},
    }
    if sample is not None:
        made["telemetry"] = {"traces": {"otlp": {"endpoint": f"http://127.0.0.1:{mock}"}, "sample": sample}}
    return made


@contextlib.contextmanager
def gateway(mock: int, core: int, folder: Path, sample: float | None) -> Iterator[Server]:
    folder.mkdir()
    file, port = folder / "gateway.yaml", free_port()
    file.write_text(yaml.safe_dump(configuration(mock, folder, sample)))
    command = [str(ROOT / ".venv/bin/rag-gateway"), "serve", "--config", str(file), "--port", str(port)]
    with open(folder / "log", "wb") as log, running(command, core, delivered(), log) as process:
        until_ready(port, process, folder / "log", START_LIMIT)
        yield Server(process.pid, port)


def load(server: Server, core: int, body: Path, *arguments: str) -> dict[str, Any]:
    command = [str(BUILD / "load"), "--port", str(server.port), "--path", "/v1/chat/completions", "--body", str(body)]
    command += ["--expect", MARK, "--count", "1", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )
    seen: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"errors": 1, "requests": 0}
    if seen["errors"] or not seen["requests"]:
        raise BenchError(done.stderr.strip() or str(seen.get("first_error")))
    return seen


def window(server: Server, core: int, body: Path, seconds: float) -> float:
    """Microseconds of CPU that the server took for a call."""
    before = read_cpu(server.pid)
    seen = load(server, core, body, "--seconds", str(seconds))
    time.sleep(SETTLE)
    return read_cpu(server.pid).since(before) * 1e6 / float(seen["requests"])


def spans(mock: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{mock}/stats", timeout=5) as answer:
        return int(json.load(answer)["server_spans"])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each window")
    parser.add_argument("--sample", type=float, default=0.1)
    options = parser.parse_args()
    try:
        return measure(options.rounds, options.seconds, options.sample)
    except (BenchError, RuntimeError) as error:
        print(f"telemetry: {error}", file=sys.stderr)
        return 1


def measure(rounds: int, seconds: float, sample: float) -> int:
    compile_tools()
    server_core, load_core = choose_cores()
    mock_port = free_port()
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-telemetry-")))
        log = stack.enter_context(open(work / "mock.log", "wb"))
        mock = [str(BUILD / "mock"), "--port", str(mock_port), "--interval-us", "5000", "--chunks", "64"]
        stack.enter_context(running(mock, load_core, {}, log))
        time.sleep(0.2)
        body = work / "body.json"
        body.write_text(json.dumps({"model": "plain", "messages": MESSAGES, "temperature": 0.2, "max_tokens": 256}))
        off = stack.enter_context(gateway(mock_port, server_core, work / "off", None))
        on = stack.enter_context(gateway(mock_port, server_core, work / "on", sample))
        for server in (off, on):
            load(server, load_core, body, "--requests", "3000")
        time.sleep(SETTLE)
        pairs: list[tuple[float, float]] = []
        before = spans(mock_port)
        for order in range(rounds):
            first, second = (off, on) if order % 2 else (on, off)
            taken = {id(one): window(one, load_core, body, seconds) for one in (first, second)}
            pairs.append((taken[id(off)], taken[id(on)]))
            print(f"round {order + 1}: off {pairs[-1][0]:.1f}, on {pairs[-1][1]:.1f} µs a call", file=sys.stderr)
        exported = spans(mock_port) - before
    differences = sorted(on_ - off_ for off_, on_ in pairs)
    print(
        f"telemetry off {statistics.median(p[0] for p in pairs):.1f} µs of CPU a call, on "
        f"{statistics.median(p[1] for p in pairs):.1f}, sample {sample:g}: +{statistics.median(differences):.1f} µs "
        f"(median of {rounds} pairs, {differences[0]:.1f} to {differences[-1]:.1f}); {exported} calls became spans"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
