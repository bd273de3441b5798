"""D4, D5 and A4 for retrieval: Milvus hangs, dies or comes back; time budgets hold, and nothing needs a restart."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from gateway_process import GatewayProcess, http_post, until
from sample_gateway import key_entry
from upstream.vendor import Vendor

ROOT = Path(__file__).parents[2]
KEY, OTHER = "sk-gw-canary-milvus-2b7e", "sk-gw-canary-milvus-88ad"
QUESTION = "Where does the night train leave?"
BUDGET = 1.0


def configuration(vendor: Vendor, docs: Path) -> dict[str, Any]:
    mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    retrieval = {"collection": "trains", "budget": f"{BUDGET:.0f}s"}
    model = {"targets": ["mock/gpt-mock"], "prompt": "handbook@1"}
    keys = [key_entry("k", KEY, tenant="rail"), key_entry("o", OTHER, tenant="other"), key_entry("z", "x", admin=True)]
    return {
        "access": {"open_on_loopback": False, "keys": keys},
        "prompts": {"folder": str(ROOT / "configs" / "prompts")},
        "providers": {"mock": mock},
        "retrieval": {"collections": {"trains": {"load": [str(docs)], "tenant": "rail"}}},
        "models": {
            "strict": {**model, "retrieval": {**retrieval, "on_failure": "refuse"}},
            "lenient": {**model, "retrieval": {**retrieval, "on_failure": "continue"}},
            "patient": {**model, "retrieval": {**retrieval, "budget": "60s"}},
        },
    }


@pytest.fixture(scope="module")
def trains(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    docs = tmp_path_factory.mktemp("docs")
    (docs / "trains.md").write_text("# Trains\n\nThe night train leaves from platform nine.\n")
    with GatewayProcess(configuration(shared_vendor, docs), tmp_path_factory.mktemp("trains")) as running:
        yield running
        assert "Traceback" not in running.output, running.output


def milvus(gateway: GatewayProcess) -> list[psutil.Process]:
    """The server and what holds it: whatever of it runs below the gateway."""
    found = []
    for child in psutil.Process(gateway.process.pid).children(recursive=True):
        try:
            if "milvus-lite" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def ask(gateway: GatewayProcess, model: str, key: str = KEY) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
    return httpx.post(
        gateway.url + "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}, timeout=90
    )


def documents(answer: httpx.Response) -> list[str]:
    return [source["document_id"].partition("/")[2] for source in answer.json().get("rag", {}).get("sources", ())]


def found(gateway: GatewayProcess) -> bool:
    answer = ask(gateway, "strict")
    return answer.status_code == 200 and documents(answer) == ["trains.md"]


def check_degraded(gateway: GatewayProcess, vendor: Vendor) -> None:
    """What both policies promise, while nothing can be found."""
    refused = ask(gateway, "strict")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stage_unavailable"), refused.text
    assert "retry-after" in refused.headers
    assert "127.0.0.1" not in refused.text
    asked = len(vendor.requests)
    told = ask(gateway, "lenient")
    assert told.status_code == 200
    assert told.headers["x-gateway-degraded"] == "retrieval"
    assert "rag" not in told.json()
    assert "platform nine" not in json.dumps(vendor.requests[asked].body)


def test_a_hanging_milvus_costs_the_budget_and_no_more(trains: GatewayProcess, vendor: Vendor) -> None:
    """D4: it is stopped, not dead: its port is open and says nothing."""
    until(lambda: found(trains), 60)
    assert documents(ask(trains, "strict", OTHER)) == [], "another tenant's documents are not found"
    stopped = milvus(trains)
    assert stopped
    for process in stopped:
        process.suspend()
    try:
        check_degraded(trains, vendor)
        durations = []
        for _ in range(8):
            started = time.monotonic()
            assert ask(trains, "strict").status_code == 503
            durations.append(time.monotonic() - started)
        # Calls after the third failure do not even wait: the fastest of them is far below the budget.
        assert min(durations) < BUDGET / 2
        assert documents(ask(trains, "lenient", OTHER)) == []
        assert httpx.get(trains.url + "/healthz", timeout=5).status_code == 200
    finally:
        for process in stopped:
            process.resume()
    until(lambda: found(trains), 60, "recovery after the pause")
    # A busy machine may let one more call wait in vain.
    until(lambda: ask(trains, "lenient").headers.get("x-gateway-degraded") is None, what="an answer with passages")


def test_a_killed_milvus_comes_back_by_itself(trains: GatewayProcess, vendor: Vendor) -> None:
    """D5."""
    until(lambda: found(trains), 60)
    for process in milvus(trains):
        process.kill()
    until(lambda: ask(trains, "strict").status_code == 503, what="the failure's being told")
    assert documents(ask(trains, "lenient", OTHER)) == []

    until(lambda: found(trains), 90, "recovery after the kill")
    assert documents(ask(trains, "strict", OTHER)) == []


def test_a_client_that_leaves_while_milvus_hangs_ends_its_call(trains: GatewayProcess, vendor: Vendor) -> None:
    """A4: the search is given up at once, and the model is not asked."""
    until(lambda: found(trains), 60)
    stopped = milvus(trains)
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        asked = len(vendor.requests)
        body = {"model": "patient", "messages": [{"role": "user", "content": "a question of its own"}]}
        started = time.monotonic()
        with trains.connect() as client:
            client.sendall(http_post("/v1/chat/completions", body, KEY))
            until(lambda: trains.clients() == 1, what="the call's arrival")
        until(lambda: trains.clients() == 0, what="the call's end")
        assert time.monotonic() - started < 30  # its budget is a minute
        assert len(vendor.requests) == asked
    finally:
        for process in stopped:
            process.send_signal(signal.SIGCONT)
    until(lambda: found(trains), 60, "recovery after the pause")

    def recorded() -> bool:
        metrics = httpx.get(trains.url + "/metrics", headers={"authorization": "Bearer x"}).text
        return any("cancelled" in line and 'model="patient"' in line for line in metrics.splitlines())

    until(recorded, what="the cancelled call in the metrics")
