"""E6: gateways killed under load. What a client has seen answered is in the ledger, once, and charged once."""

from __future__ import annotations

import contextlib
import math
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psutil
import pytest
from gateway_process import GatewayProcess, free_port, until
from load import Load, Seen
from sample_gateway import KEY_A, plain_configuration
from sqlalchemy import text
from upstream.vendor import Vendor

from gateway.records.database import Database

ROUNDS = {"strict": 8, "fast": 2}  # with two gateways each: twenty kills
CLIENTS = 3
MAY_BE_LOST = 0.1  # seconds, with `fast`
PRICES = {"input": 1.0, "output": 10.0}


class Lateness:
    """How late this machine wakes a thread that wants to run, in seconds: what a busy one adds to every promise."""

    def __enter__(self) -> Lateness:
        self.most = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()

    def _look(self) -> None:
        before = time.monotonic()
        while not self._ending.wait(0.005):
            now = time.monotonic()
            self.most, before = max(self.most, now - before - 0.005), now


def configuration(vendor: Vendor, durability: str) -> dict[str, Any]:
    made = plain_configuration(vendor)
    for provider in made["providers"].values():
        provider["prices"] = {"*": PRICES}
    return {**made, "records": {"durability": durability}, "limits": [{"per": ["key"], "budget": 1000}]}


NURSERY = """
import os, signal, sys
import gateway.server, gateway.records.migrations.running, gateway.records.ledger
from gateway.cli import main
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    configuration, port, log = line.split()
    born = os.fork()
    if born == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1), os.dup2(output, 2)
        main(["serve", "--config", configuration, "--port", port])
    print(born, flush=True)
"""


class Nursery:
    """Has imported what a gateway imports, which is most of its start, and forks one after the other of them."""

    def __init__(self, configuration: dict[str, Any], folder: Path) -> None:
        self.data, self.log = folder / "data", folder / "log"
        self._file = GatewayProcess(configuration, folder).file

    def __enter__(self) -> Nursery:
        command = [sys.executable, "-c", NURSERY]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate(timeout=20)

    def born(self) -> Born:
        """A gateway that is ready."""
        port = free_port()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(self._file, port, self.log, file=self._process.stdin, flush=True)
        made = Born(psutil.Process(int(self._process.stdout.readline())), f"http://127.0.0.1:{port}")
        until(made.ready, what="readiness")
        return made


@dataclass(frozen=True, slots=True)
class Born:
    process: psutil.Process
    url: str

    def ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(self.url + "/readyz", timeout=10, trust_env=False).status_code == 200
        return False

    def end(self, number: int) -> None:
        self.process.send_signal(number)
        self.process.wait(60)


@dataclass(frozen=True, slots=True)
class Killed:
    answers: list[Seen]
    at: float
    late: float

    def due(self, durability: str) -> set[str]:
        """The calls that must be in the ledger, whatever happened."""
        last = math.inf if durability == "strict" else self.at - MAY_BE_LOST - self.late
        return {seen.call_id for seen in self.answers if seen.at <= last}


def killed_under_load(gateway: Born) -> Killed:
    with Lateness() as lateness, Load(gateway.url, KEY_A, clients=CLIENTS) as load:

        def enough() -> bool:
            answers = load.answered
            return len(answers) > 60 and answers[-1].at - answers[0].at > 2 * MAY_BE_LOST + lateness.most

        until(enough, what="answers")
        killed, late = time.monotonic(), lateness.most
        gateway.end(signal.SIGKILL)
    assert load.statuses == {200}
    return Killed(load.answered, killed, late)


@pytest.mark.parametrize("durability", ["strict", "fast"])
def test_e6_twenty_kills_under_load_lose_and_double_nothing(vendor: Vendor, tmp_path: Path, durability: str) -> None:
    killed: list[Killed] = []
    with Nursery(configuration(vendor, durability), tmp_path) as nursery, ThreadPoolExecutor(2) as pool:
        for _ in range(ROUNDS[durability]):
            # Two at a time share the store and adopt the spools of those that were killed.
            killed += pool.map(killed_under_load, [nursery.born(), nursery.born()])
        last = nursery.born()
        spool = nursery.data / "spool"
        until(lambda: not list(spool.glob("*/*.log")), what="an empty spool")
        last.end(signal.SIGTERM)
    assert list(spool.iterdir()) == []
    assert "Traceback" not in nursery.log.read_text()
    database = Database(f"sqlite:///{nursery.data / 'gateway.db'}")
    database.prepare()
    with database.reading() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        kept = {row[0] for row in connection.execute(text("SELECT call_id FROM calls"))}
        totals = "count(*), sum(cost), sum(prompt_tokens + completion_tokens)"
        calls, cost, tokens = connection.execute(text(f"SELECT {totals} FROM calls")).one()
        query = text("SELECT sum(calls), sum(usd), sum(tokens) FROM spend WHERE subject LIKE 'key=%'")
        charged, usd, charged_tokens = connection.execute(query).one()
    database.close()

    due = set[str]().union(*[one.due(durability) for one in killed])
    assert due
    assert due - kept == set()
    # No call is charged twice, or recorded without being charged.
    assert (charged, charged_tokens) == (calls, tokens)
    assert usd == pytest.approx(cost, rel=1e-9)
    # The vendor's own count: what it has answered is here, but for what was in flight when each was killed.
    answered = sum(len(one.answers) for one in killed)
    upstream = len(vendor.requests)
    if durability == "strict":
        assert upstream - len(killed) * CLIENTS <= calls <= upstream
    assert answered <= upstream
