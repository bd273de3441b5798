"""A live gateway in front of a real vLLM server on this machine's CPU, each ended with all its children."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai import OpenAI

ROOT = Path(__file__).resolve().parents[2]
VLLM_BIN = ROOT / ".venv-vllm" / "bin"
VLLM_READY_WITHIN = 300.0
GATEWAY_READY_WITHIN = 60.0
CONTEXT = 32_768  # tokens: long enough that a test's long answer outlasts every wait by far
FOR_THIS_MACHINE = (*("--dtype", "float32", "--enforce-eager", "--distributed-executor-backend", "uni"),)
SLOTS = 2  # requests that the engine runs at once; the next one waits in its queue


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `url` ends with /v1."""

    port: int

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"


@dataclass(frozen=True, slots=True)
class Engine:
    """What vLLM itself says of its load: https://docs.vllm.ai/en/latest/usage/metrics/."""

    root: str

    def load(self) -> tuple[int, int]:
        """(requests that run, requests that wait for a slot)"""
        with urllib.request.urlopen(f"{self.root}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return _gauge(text, "num_requests_running"), _gauge(text, "num_requests_waiting")

    def wait_for(self, running: int, waiting: int, within: float = 10.0) -> None:
        """Return when the engine's load is as given; fail the test when it is not so `within` seconds."""
        seen = (-1, -1)
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            seen = self.load()
            if seen == (running, waiting):
                return
            time.sleep(0.02)
        wanted = (running, waiting)
        pytest.fail(f"(running, waiting) should become {wanted} within {within} s; last seen {seen}")


def _gauge(metrics: str, name: str) -> int:
    found = re.search(rf"^vllm:{name}\{{[^}}]*\}} (\S+)$", metrics, re.MULTILINE)
    if found is None:
        pytest.fail(f"vLLM's /metrics has no vllm:{name}")
    return int(float(found[1]))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model in `tiny`, and an adapter of it in `adapter`."""
    if not (VLLM_BIN / "vllm").exists():
        pytest.fail("There is no vLLM environment: tests/vllm/setup.sh makes it.", pytrace=False)
    folder = tmp_path_factory.mktemp("models")
    maker = Path(__file__).with_name("tiny_model.py")
    subprocess.run([VLLM_BIN / "python", maker, folder / "tiny", folder / "adapter"], check=True)
    return folder


@pytest.fixture(scope="session")
def vllm(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A vLLM server with the tiny model as `tiny`."""
    folder = tmp_path_factory.mktemp("vllm")
    server = Server(free_port())
    command = [
        *(str(VLLM_BIN / "vllm"), "serve", str(models / "tiny"), "--served-model-name", "tiny"),
        *("--host", "127.0.0.1", "--port", str(server.port)),
        *FOR_THIS_MACHINE,
        *("--max-model-len", str(CONTEXT), "--max-num-seqs", str(SLOTS)),
        # Random weights like whitespace, and JSON allows any amount of it between its tokens.
        *("--structured-outputs-config.disable_any_whitespace", "true"),
        *("--structured-outputs-config.backend", "xgrammar"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--scheduling-policy", "priority"),
    ]
    health = f"{server.root}/health"
    with running(command, environment(), folder / "vllm.log", health, VLLM_READY_WITHIN):
        yield server


def environment() -> dict[str, str]:
    """What vLLM needs on two cores without a GPU and without a network."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_HOST_IP": "127.0.0.1",
        # Compiled kernels cost 13 s when first used, in the middle of some test, and need a C++ compiler.
        "TORCHDYNAMO_DISABLE": "1",
        # The model runs in the engine's own process, on one core. A worker process of its own, vLLM's default
        # on CPU, polls shared memory by sched_yield; on 2 cores and Linux 6.18 that kept other processes, this
        # one among them, off the CPU for up to a minute (the second number of /proc/self/schedstat).
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def gateway(vllm: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway whose provider `gpu` is that server, and whose public model `tiny` is its model."""
    folder = tmp_path_factory.mktemp("gateway")
    configuration = folder / "gateway.yaml"
    configuration.write_text(
        f"""
providers:
  gpu: {{kind: vllm, base_url: "{vllm.url}"}}
models:
  tiny: {{targets: [{{provider: gpu, model: tiny}}]}}
""",
        "utf-8",
    )
    server = Server(free_port())
    command = [str(program()), "serve", "--config", str(configuration), "--port", str(server.port)]
    log = folder / "gateway.log"
    with running(command, dict(os.environ), log, f"{server.root}/readyz", GATEWAY_READY_WITHIN):
        yield server


@pytest.fixture
def engine(vllm: Server) -> Engine:
    """The engine, idle: nothing of an earlier test runs in it any more."""
    engine = Engine(vllm.root)
    engine.wait_for(running=0, waiting=0, within=60)
    return engine


@pytest.fixture
def client(gateway: Server, engine: Engine) -> Iterator[OpenAI]:
    """OpenAI's own SDK against the gateway. It does not retry, so that the first answer is the one seen."""
    with OpenAI(base_url=gateway.url, api_key="any", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def direct(vllm: Server) -> Iterator[OpenAI]:
    """The same SDK against vLLM itself: what the gateway's answers are compared with."""
    with OpenAI(base_url=vllm.url, api_key="any", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def leave_behind(gateway: Server) -> Iterator[Callable[[bytes], http.client.HTTPConnection]]:
    """Send a chat request to the gateway and read no answer; `.close()` is the client's disconnect."""
    with contextlib.ExitStack() as stack:

        def send(body: bytes) -> http.client.HTTPConnection:
            connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
            stack.callback(connection.close)
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            return connection

        yield send


def program() -> Path:
    return Path(sys.executable).with_name("rag-gateway")


@contextlib.contextmanager
def managed(model: Path, args: list[str], public: dict[str, Any], folder: Path) -> Iterator[Server]:
    """A gateway whose provider `gpu` is a vLLM server that it has started itself, ready; `public` are its models."""
    serve = {"model": str(model), "executable": str(VLLM_BIN / "vllm"), "args": [*args, *FOR_THIS_MACHINE]}
    configuration = folder / "gateway.yaml"
    configuration.write_text(
        yaml.safe_dump({"providers": {"gpu": {"kind": "vllm", "serve": serve}}, "models": public}), "utf-8"
    )
    server = Server(free_port())
    command = [str(program()), "serve", "--config", str(configuration), "--port", str(server.port)]
    log = folder / "gateway.log"
    with running(command, environment(), log, f"{server.root}/healthz", GATEWAY_READY_WITHIN):
        deadline = time.monotonic() + VLLM_READY_WITHIN
        while (state := _state(server)) != "ok":
            assert time.monotonic() < deadline, (state, log.read_text("utf-8"))
            time.sleep(0.2)
        yield server


def _state(server: Server) -> str:
    with urllib.request.urlopen(f"{server.root}/readyz", timeout=5) as answer:
        return str(json.load(answer)["components"]["providers.gpu"])


# --- processes ----------------------------------------------------------------------------------------
@contextlib.contextmanager
def running(command: list[str], env: dict[str, str], log: Path, url: str, within: float) -> Iterator[None]:
    """Run `command` until the block ends, or until pytest does, whichever way."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.providers.until_stdin_ends", *command],
            env=env,
            cwd=log.parent,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for pytest, which then ends the block
        )
    try:
        with process:  # closes the pipe and waits
            _wait_until_healthy(process, url, within, log)
            yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what a command that ended by itself has left


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, within: float, log: Path) -> None:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline and process.poll() is None:
        refused = contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError)
        with refused, urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    state = "did not get ready" if process.poll() is None else f"ended with status {process.returncode}"
    tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-40:])
    pytest.fail(f"{process.args!r} {state} within {within:.0f} s; the end of its log:\n{tail}", pytrace=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
