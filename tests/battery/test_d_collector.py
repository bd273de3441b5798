"""D7: a collector that hangs or refuses costs calls nothing, memory little, and lost spans are counted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gateway_process import GatewayProcess, free_port, until
from upstream.vendor import Vendor

COLLECTOR = """
import sys, time
from otlp_sink import Sink
with Sink() as sink:
    print(sink.url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", COLLECTOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.send_signal(signal.SIGCONT)
        process.kill()


def gateway(vendor: Vendor, collector: str, folder: Path) -> GatewayProcess:
    otlp = {"endpoint": collector, "timeout": "2s"}
    mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    configuration = {
        "access": {"open_on_loopback": True},
        "providers": {"mock": mock},
        "models": {"plain": {"targets": ["mock/gpt-mock"]}},
        "telemetry": {"traces": {"otlp": otlp, "sample": 1, "every": "10ms", "queue": "20kB"}},
    }
    return GatewayProcess(configuration, folder)


def count(running: GatewayProcess, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", httpx.get(running.url + "/metrics", timeout=30).text, re.M)
    return float(found[1]) if found else 0.0


def asked(running: GatewayProcess, times: int, name: str) -> float:
    """The count of that name after so many calls more."""
    ask(running, times)
    return count(running, name)


def ask(running: GatewayProcess, times: int) -> None:
    body = {"model": "plain", "messages": [{"role": "user", "content": "hi"}]}
    with httpx.Client(base_url=running.url, timeout=30) as client:
        for _ in range(times):
            assert client.post("/v1/chat/completions", json=body).status_code == 200


def test_a_collector_that_hangs_is_not_waited_for(
    vendor: Vendor, collector: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    process, url = collector
    with gateway(vendor, url, tmp_path) as running:
        ask(running, 1)
        until(lambda: count(running, "rag_gateway_spans_exported_total") >= 3)
        process.send_signal(signal.SIGSTOP)
        until(lambda: asked(running, 20, "rag_gateway_spans_dropped_total") > 0, what="a full queue")
        before = count(running, "rag_gateway_spans_exported_total")
        process.send_signal(signal.SIGCONT)
        until(lambda: asked(running, 1, "rag_gateway_spans_exported_total") > before, what="spans again")
        process.send_signal(signal.SIGSTOP)
        ask(running, 1)  # and the gateway ends all the same
    process.send_signal(signal.SIGCONT)
    assert "Traceback" not in running.output


def test_a_collector_that_is_away_is_told_once_and_not_waited_for(vendor: Vendor, tmp_path: Path) -> None:
    with gateway(vendor, f"http://127.0.0.1:{free_port()}", tmp_path) as running:
        until(lambda: asked(running, 20, "rag_gateway_spans_dropped_total") > 0, what="a full queue")
    assert running.output.count("the collector does not take spans: 127.0.0.1") == 1
    assert "Traceback" not in running.output
