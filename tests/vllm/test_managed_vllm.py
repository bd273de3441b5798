"""A real vLLM that the gateway starts itself, with an adapter as a model of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from openai import OpenAI

from .conftest import CONTEXT, Server
from .conftest import managed as started

QUESTION: list[Any] = [{"role": "user", "content": "Which way to the station?"}]


@pytest.fixture(scope="module")
def managed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway whose provider `gpu` is a vLLM server of its own; both are gone afterwards."""
    args = [
        *("--served-model-name", "tiny", "--max-model-len", str(CONTEXT)),
        *("--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"adapted={models / 'adapter'}"),
    ]
    free = {"free": {"targets": ["gpu/tiny"], "strategy": "least_busy"}}
    with started(models / "tiny", args, free, tmp_path_factory.mktemp("managed")) as server:
        yield server
    left = [process.info for process in psutil.process_iter(["cmdline"]) if str(models / "adapter") in _line(process)]
    assert left == [], "vLLM goes with its gateway"


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


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_tools_that_vllm_was_not_started_for_are_refused_in_its_own_words(client: OpenAI, stream: bool) -> None:
    tool: Any = {"type": "function", "function": {"name": "book", "parameters": {"type": "object"}}}

    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="gpu/tiny", messages=QUESTION, tools=[tool], tool_choice="auto", stream=stream
        )

    assert "--enable-auto-tool-choice and --tool-call-parser" in refused.value.message


def test_a_stream_is_the_plain_answer(client: OpenAI) -> None:
    told = client.chat.completions.create(
        model="gpu/adapted", messages=QUESTION, temperature=0, max_tokens=24, stream=True
    )
    assert "".join(c.delta.content or "" for chunk in told for c in chunk.choices) == answer(client, "gpu/adapted")
