"""`--workers N`: what is refused, how a start fails, what exists once only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from gateway_process import GatewayProcess, free_port, until
from redis_process import RedisProcess
from sample_gateway import plain_configuration
from steady_load import ready, whole
from upstream.vendor import Vendor

STAND_IN = Path(__file__).parents[1] / "upstream" / "vllm_stand_in.py"


def start(folder: Path, settings: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`rag-gateway serve` where it ends by itself."""
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(settings), "utf-8")
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "serve", "--config", str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_workers_without_a_state_that_they_share_are_refused_with_what_to_do(vendor: Vendor, tmp_path: Path) -> None:
    settings = plain_configuration(vendor)
    for done in (
        start(tmp_path, settings, "--workers", "2"),
        start(tmp_path, {**settings, "server": {"workers": 2}}),
    ):
        assert done.returncode == 1
        assert done.stderr == (
            "gateway.yaml:1:1: state.url: 2 workers need a state that they share: with memory:// each of them would count "
            "limits and budgets for itself, and keep answers of its own (models.cached.cache of this configuration, and "
            "the limits that a key is given at any time). Start a Redis and set `state: {url: redis://HOST:6379/0}`, or "
            "run one worker\n"
        )


def test_what_only_a_worker_finds_wrong_stops_the_start(
    vendor: Vendor, redis_server: RedisProcess, tmp_path: Path
) -> None:
    settings = {**plain_configuration(vendor), "state": {"url": redis_server.url, "prefix": "wrong"}}
    settings["providers"]["cloud"] = {
        "kind": "vertex", "project": "p", "location": "us-east1", "credentials": "nowhere.json"
    }  # fmt: skip
    done = start(tmp_path, settings, "--workers", "2", "--port", str(free_port()))
    assert done.returncode == 1
    assert "nowhere.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_another_gateway_has_is_refused(
    vendor: Vendor, redis_server: RedisProcess, two: GatewayProcess, tmp_path: Path
) -> None:
    """Its sockets could be joined, as workers' are: then it would get half of this one's calls."""
    settings = {**plain_configuration(vendor), "state": {"url": redis_server.url, "prefix": "other"}}
    done = start(tmp_path, settings, "--workers", "2", "--port", str(two.port))
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


# -- a vLLM server of the gateway's own --------------------------------------------------------------------
class Machine:
    """Where the stand-in for vLLM leaves its notes."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.notes.mkdir()
        self.executable = folder / "vllm"
        self.executable.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
        self.executable.chmod(0o755)

    def provider(self) -> dict[str, Any]:
        args = ["--notes", str(self.notes)]
        serve = {"model": "tiny", "executable": str(self.executable), "args": args}
        return {"kind": "vllm", "serve": serve, "retries": {"attempts": 0}}

    def pids(self) -> list[int]:
        """Of the servers that were started, oldest first."""
        notes = sorted(self.notes.glob("*.start"))
        return [int(note.read_text().split()[0]) for note in notes if note.stat().st_size]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def started(
    machine: Machine, redis_server: RedisProcess, shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    mock = {"kind": "openai_compatible", "base_url": shared_vendor.url, "api_key": shared_vendor.api_key}
    settings = {
        "state": {"url": redis_server.url, "prefix": "e2e-workers", "deadline": "2s"},
        "server": {"workers": 2},
        "providers": {"gpu": machine.provider(), "mock": mock},
    }
    with GatewayProcess(settings, tmp_path_factory.mktemp("two")) as running:
        yield running
    assert not [pid for pid in machine.pids() if psutil.pid_exists(pid)]
    assert "Traceback" not in running.output, running.output


@pytest.fixture
def two(started: GatewayProcess, vendor: Vendor) -> GatewayProcess:
    until(lambda: whole(started), 60, "two workers")
    return started


def served_by(gateway: GatewayProcess) -> set[str]:
    """What the model says of itself, asked over many connections: both workers answer."""
    body = {"model": "gpu/tiny", "messages": [{"role": "user", "content": "hello"}]}
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=gateway.url, limits=limits, timeout=30) as client:
        answers = [client.post("/v1/chat/completions", json=body) for _ in range(12)]
    return {
        answer.json()["choices"][0]["message"]["content"] if answer.status_code == 200 else answer.text
        for answer in answers
    }


def test_two_workers_share_one_vllm_server_which_outlives_either(
    two: GatewayProcess, machine: Machine, vendor: Vendor
) -> None:
    def ok() -> bool:
        return all(ready(two)["components"]["providers.gpu"] == "ok" for _ in range(8))

    until(ok, 60, "the server in both workers")
    (pid,) = machine.pids()
    assert served_by(two) == {f"I am {pid}, with tiny"}
    for number in (1, 2):
        victim = psutil.Process(two.workers()[number])
        victim.kill()
        psutil.wait_procs([victim], 60)
        until(lambda: whole(two), 60, "another worker")
    assert served_by(two) == {f"I am {pid}, with tiny"}
    assert machine.pids() == [pid]
    without = yaml.safe_load(two.file.read_text("utf-8"))
    del without["providers"]["gpu"]
    two.configure(without)
    two.reload()
    until(lambda: not psutil.pid_exists(pid), 60, "the end of a server that nobody uses")
    without["providers"]["gpu"] = machine.provider()
    two.configure(without)
    two.reload()
    until(lambda: len(machine.pids()) == 2, 60, "a server again")
