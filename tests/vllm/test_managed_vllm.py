"""A real vLLM that the gateway starts itself, with an adapter as a model of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from openai import OpenAI

from .conftest import (
    CONTEXT,
    FOR_THIS_MACHINE,
    VLLM_BIN,
    VLLM_READY_WITHIN,
    Server,
    environment,
    free_port,
    program,
    running,
)

QUESTION: list[Any] = [{"role": "user", "content": "Which way to the station?"}]


@pytest.fixture(scope="module")
def managed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway whose provider `gpu` is a vLLM server of its own; both are gone afterwards."""
    folder = tmp_path_factory.mktemp("managed")
    args = [
        *("--served-model-name", "tiny", *FOR_THIS_MACHINE, "--max-model-len", str(CONTEXT)),
        *("--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"adapted={models / 'adapter'}"),
    ]
    serve = {"model": str(models / "tiny"), "executable": str(VLLM_BIN / "vllm"), "args": args}
    configuration = {
        "providers": {"gpu": {"kind": "vllm", "serve": serve}},
        "models": {"free": {"targets": ["gpu/tiny"], "strategy": "least_busy"}},
    }
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(configuration))
    server = Server(free_port())
    command = [str(program()), "serve", "--config", str(file), "--port", str(server.port)]
    with running(command, environment(), folder / "gateway.log", f"{server.root}/healthz", 60):
        deadline = time.monotonic() + VLLM_READY_WITHIN
        while (state := _state(server)) != "ok":
            assert time.monotonic() < deadline, (state, (folder / "gateway.log").read_text())
            time.sleep(0.2)
        yield server
    left = [process.info for process in psutil.process_iter(["cmdline"]) if str(models / "adapter") in _line(process)]
    assert left == [], "vLLM goes with its gateway"


def _state(server: Server) -> str:
    return str(httpx.get(f"{server.root}/readyz", timeout=5).json()["components"]["providers.gpu"])


def _line(process: psutil.Process) -> str:
    return " ".join(process.info["cmdline"] or ())


@pytest.fixture
def client(managed: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=managed.url, api_key="any", max_retries=0, timeout=60) as client:
        yield client


def answer(client: OpenAI, model: str) -> str:
    told = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=24)
    return told.choices[0].message.content or ""


def test_it_answers_under_a_key_that_nobody_else_knows(client: OpenAI, managed: Server) -> None:
    assert answer(client, "gpu/tiny")
    assert answer(client, "gpu/tiny") == answer(client, "free")


def test_an_adapter_is_a_model_of_its_own(client: OpenAI) -> None:
    assert answer(client, "gpu/adapted")
    assert answer(client, "gpu/adapted") != answer(client, "gpu/tiny")


def test_a_stream_is_the_plain_answer(client: OpenAI) -> None:
    told = client.chat.completions.create(
        model="gpu/adapted", messages=QUESTION, temperature=0, max_tokens=24, stream=True
    )
    assert "".join(c.delta.content or "" for chunk in told for c in chunk.choices) == answer(client, "gpu/adapted")
