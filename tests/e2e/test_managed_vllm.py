"""A vLLM server that the gateway runs: by a program that takes vLLM's command line and misbehaves on command.

The real one is started so in tests/vllm.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from gateway_process import GatewayProcess, until
from upstream.vendor import Vendor

STAND_IN = Path(__file__).parents[1] / "upstream" / "vllm_stand_in.py"


class Machine:
    """Where the stand-in leaves its notes, and the configuration that runs it."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.notes.mkdir()
        self.executable = folder / "vllm"
        self.executable.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
        self.executable.chmod(0o755)

    def provider(self, model: str = "tiny", *more: str, **settings: Any) -> dict[str, Any]:
        args = ["--notes", str(self.notes), *more]
        serve = {"model": model, "executable": str(self.executable), "args": args, **settings}
        return {"kind": "vllm", "serve": serve, "retries": {"attempts": 0}}

    def starts(self) -> list[list[int]]:
        """(server's pid, its child's) of each start, oldest first."""
        notes = sorted(self.notes.glob("*.start"))
        return [[int(pid) for pid in note.read_text().split()] for note in notes if note.stat().st_size]

    def all_gone(self) -> bool:
        return not any(psutil.pid_exists(pid) and _alive(pid) for start in self.starts() for pid in start)


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def ask(gateway: GatewayProcess, model: str = "gpu/tiny", content: str = "hello") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    return httpx.post(gateway.url + "/v1/chat/completions", json=body, timeout=30)


def state(gateway: GatewayProcess, name: str = "gpu") -> str:
    ready = httpx.get(gateway.url + "/readyz", timeout=5)
    assert ready.status_code == 200, ready.text
    return str(ready.json()["components"].get(f"providers.{name}"))


def test_it_is_started_asked_and_ended_with_all_that_it_started(machine: Machine, tmp_path: Path) -> None:
    with GatewayProcess({"providers": {"gpu": machine.provider()}}, tmp_path) as gateway:
        until(lambda: state(gateway) == "ok", what="the server")
        answer = ask(gateway)
        assert answer.status_code == 200, answer.text
        ((pid, _),) = machine.starts()
        assert answer.json()["choices"][0]["message"]["content"] == f"I am {pid}, with tiny"
    assert machine.all_gone()
    assert "the key is" not in gateway.output


def test_calls_while_it_loads_go_elsewhere_or_are_told_when_to_come_back(
    machine: Machine, vendor: Vendor, tmp_path: Path
) -> None:
    mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    configuration = {
        "providers": {"gpu": machine.provider("tiny", "--loading", "600"), "mock": mock},
        "models": {"safe": {"targets": ["gpu/tiny"], "fallbacks": ["mock/gpt-mock"]}},
    }
    with GatewayProcess(configuration, tmp_path) as gateway:
        until(machine.starts, what="the start")
        assert state(gateway) == "loading"
        alone = ask(gateway)
        assert (alone.status_code, alone.headers["retry-after"]) == (503, "15")
        assert "loaded" in alone.json()["error"]["message"]
        assert ask(gateway, "safe").headers["x-gateway-target"] == "mock/gpt-mock"
    assert machine.all_gone()


def test_one_that_dies_is_started_again(machine: Machine, tmp_path: Path) -> None:
    with GatewayProcess({"providers": {"gpu": machine.provider()}}, tmp_path) as gateway:
        until(lambda: state(gateway) == "ok", what="the server")
        os.kill(machine.starts()[0][0], signal.SIGKILL)
        until(lambda: len(machine.starts()) == 2 and state(gateway) == "ok", 60, "another one")
        assert f"I am {machine.starts()[1][0]}" in ask(gateway).text
    assert machine.all_gone()


def test_one_that_can_not_start_says_why_and_is_tried_with_patience(machine: Machine, tmp_path: Path) -> None:
    (machine.notes / "crash").touch()
    with GatewayProcess({"providers": {"gpu": machine.provider()}}, tmp_path) as gateway:
        until(lambda: "there is no GPU" in gateway.output, 40, "the reason in the log")
        assert ask(gateway).status_code == 503
        (machine.notes / "crash").unlink()
        until(lambda: state(gateway) == "ok", 120, "a start that succeeds")
        assert "the key is ***" in gateway.output
    assert machine.all_gone()


def test_an_executable_that_is_not_there_costs_only_its_own_calls(machine: Machine, tmp_path: Path) -> None:
    provider = machine.provider(executable=str(tmp_path / "nothing"))
    with GatewayProcess({"providers": {"gpu": provider}}, tmp_path) as gateway:
        until(lambda: "No such file" in gateway.output, what="the reason in the log")
        assert ask(gateway).status_code == 503
        assert httpx.get(gateway.url + "/healthz").status_code == 200


def test_nothing_stays_when_the_gateway_is_killed(machine: Machine, tmp_path: Path) -> None:
    gateway = GatewayProcess({"providers": {"gpu": machine.provider()}}, tmp_path)
    with pytest.raises(AssertionError, match="status -9"), gateway:
        until(lambda: state(gateway) == "ok", what="the server")
        gateway.process.kill()
        gateway.process.wait()
        until(machine.all_gone, 40, "the end of the server and its child")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_one_whose_supervisor_is_killed_leaves_nothing_behind(
    machine: Machine, tmp_path: Path, how: signal.Signals
) -> None:
    """A supervisor that went without its server would leave its port and its GPU taken for the next one."""
    with GatewayProcess({"providers": {"gpu": machine.provider()}}, tmp_path) as gateway:
        until(lambda: state(gateway) == "ok", what="the server")
        first = machine.starts()[0]
        supervisor = psutil.Process(first[0]).ppid()
        os.kill(supervisor, how)
        until(lambda: not any(map(_alive, first)), 40, "the end of the server and its child")
        until(lambda: len(machine.starts()) == 2 and state(gateway) == "ok", 60, "another one")
    assert machine.all_gone()


def test_a_reload_that_is_refused_leaves_the_server_that_runs(machine: Machine, tmp_path: Path) -> None:
    before: dict[str, Any] = {"providers": {"gpu": machine.provider()}}
    with GatewayProcess(before, tmp_path) as gateway:
        until(lambda: state(gateway) == "ok", what="the server")
        kept = ask(gateway).text
        absent = {"kind": "any_llm", "vendor": "openai", "api_key": "k"}  # its package is not installed here
        gateway.configure({"providers": {"gpu": machine.provider("large"), "other": absent}})
        gateway.reload()
        until(lambda: "reload refused" in gateway.output, what="the refusal")
        assert state(gateway) == "ok"
        assert ask(gateway).text == kept
        gateway.configure(before)
        gateway.reload()
        until(lambda: "is in force" in gateway.output, what="the reload")
        assert state(gateway) == "ok"
        assert ask(gateway).text == kept
        assert len(machine.starts()) == 1
    assert machine.all_gone()


def test_a_reload_keeps_what_is_unchanged_and_replaces_the_rest(machine: Machine, tmp_path: Path) -> None:
    before: dict[str, Any] = {"providers": {"gpu": machine.provider(), "old": machine.provider("small")}}
    with GatewayProcess(before, tmp_path) as gateway:
        until(lambda: state(gateway) == state(gateway, "old") == "ok", what="both servers")
        kept = ask(gateway).text
        replaced = ask(gateway, "old/small").text
        gateway.configure({"providers": {"gpu": machine.provider(), "old": machine.provider("large")}})
        gateway.reload()
        until(lambda: len(machine.starts()) == 3 and state(gateway, "old") == "ok", 40, "the new server")
        assert ask(gateway).text == kept
        assert "with large" in ask(gateway, "old/large").text
        gone = int(replaced.split("I am ")[1].split(",")[0])
        until(lambda: not _alive(gone), 40, "the end of the server that was replaced")
    assert machine.all_gone()


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ({"kind": "vllm", "serve": {"model": "m"}, "base_url": "http://127.0.0.1:1/v1"}, "`base_url` is for a server"),
        ({"kind": "vllm", "serve": {"model": "m"}, "api_key": "k"}, "`api_key` is for a server"),
        ({"kind": "vllm", "serve": {"model": "m", "args": ["--port=1"]}}, "--port is the gateway's to choose"),
        ({"kind": "vllm", "serve": {}}, "model"),
    ],
)
def test_a_wrong_configuration_is_a_fault_at_the_start(provider: dict[str, Any], said: str, tmp_path: Path) -> None:
    gateway = GatewayProcess({"providers": {"gpu": provider}}, tmp_path)
    with pytest.raises(AssertionError), gateway:
        pass
    assert said in gateway.output
    assert "providers.gpu" in gateway.output


def test_the_least_busy_replica_is_the_one_whose_server_says_so(tmp_path: Path) -> None:
    """Another gateway's calls are seen in the servers' own metrics; without those our own are what is known."""
    machines = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        machines.append(Machine(tmp_path / name))
    configuration = {
        "providers": {
            name: one.provider() | {"load_every": "50ms"} for name, one in zip(("one", "two"), machines, strict=True)
        },
        "models": {"free": {"targets": ["one/tiny", "two/tiny"], "strategy": "least_busy"}},
    }

    def targets() -> set[str]:
        return {ask(gateway, "free").headers["x-gateway-target"] for _ in range(10)}

    with GatewayProcess(configuration, tmp_path) as gateway:
        until(lambda: state(gateway, "one") == state(gateway, "two") == "ok", what="both servers")
        for busy, free in ((0, "two/tiny"), (1, "one/tiny")):
            (machines[busy].notes / "load").write_text("7")
            (machines[1 - busy].notes / "load").write_text("0")

            def all_go_to_the_free_one(free: str = free) -> bool:
                return targets() == {free}

            until(all_go_to_the_free_one, what=f"calls to {free}")
        (machines[1].notes / "load").write_text("away")
        until(lambda: targets() == {"one/tiny", "two/tiny"}, what="calls to both")
