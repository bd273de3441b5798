"""A paraphrase through a real gateway, with Milvus Lite and the real embedder: who gets whose answer, and who never."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from embedding_process import EmbeddingProcess
from gateway_process import GatewayProcess, until
from sample_gateway import key_entry
from upstream.vendor import Vendor

ROOT = Path(__file__).parents[2]
NAMES = ("plain", "other", "ada", "board", "front", "stranger", "admin")
KEYS = {name: f"sk-gw-canary-semantic-{name}-31cc" for name in NAMES}
# As long as the machine needs: what is tested here is not how fast it is.
PATIENT = {"budget": "20s", "threshold": 0.85}


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    for name, text in {
        "leave/leave.md": "# Parental leave\n\nParental leave for employees is fourteen weeks.\n",
        "board/board.md": "# Parental leave of the board\n\nParental leave for board members is one year.\n",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def office(
    shared_vendor: Vendor, embeddings: EmbeddingProcess, tmp_path_factory: pytest.TempPathFactory, docs: Path
) -> Iterator[GatewayProcess]:
    mock = {"kind": "openai_compatible", "base_url": shared_vendor.url, "api_key": shared_vendor.api_key}
    knowing = {"prompt": "handbook@1", "targets": ["mock/gpt-cited"]}
    models: dict[str, Any] = {
        "alike": {"targets": ["mock/gpt-mock"], "cache": {"semantic": PATIENT}},
        "memory": {"targets": ["mock/gpt-mock"], "cache": {"semantic": {**PATIENT, "store": "memory"}}},
        "shadow": {"targets": ["mock/gpt-shadow"], "cache": {"semantic": {**PATIENT, "shadow": True}}},
        "quick": {"targets": ["mock/gpt-mock"], "cache": {"semantic": {**PATIENT, "budget": "300ms"}}},
        "late": {"targets": ["mock/gpt-mock"], "cache": {"semantic": {**PATIENT, "budget": "1ms"}}},
        "leave": {**knowing, "retrieval": {"collection": "leave", "top_k": 3}, "cache": {"semantic": PATIENT}},
        "board": {**knowing, "retrieval": {"collection": "board", "top_k": 3}, "cache": {"semantic": PATIENT}},
    }
    collections = {
        "leave": {"load": [str(docs / "leave")]},
        "board": {"load": [str(docs / "board")], "tenant": "a", "readers": ["group:board", "user:ada"]},
    }
    configuration = {
        "access": {
            "open_on_loopback": False,
            "keys": [
                key_entry("plain", KEYS["plain"], tenant="a"),
                key_entry("other", KEYS["other"], tenant="a"),
                key_entry("ada", KEYS["ada"], tenant="a", user="ada"),
                key_entry("board", KEYS["board"], tenant="a", user="bob", groups=["board"]),
                key_entry("front", KEYS["front"], tenant="a", speaks_for_users=True),
                key_entry("stranger", KEYS["stranger"], tenant="b", user="ada", groups=["board"]),
                key_entry("admin", KEYS["admin"], admin=True),
            ],
        },
        "prompts": {"folder": str(ROOT / "configs" / "prompts")},
        "providers": {"mock": mock},
        "retrieval": {"embeddings": embeddings.settings, "collections": collections},
        "models": models,
    }
    with GatewayProcess(configuration, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def vendor(vendor: Vendor) -> Vendor:
    vendor.behaviours["gpt-cited"] = {"text": "It is fourteen weeks [1]."}
    return vendor


@pytest.fixture
def ask(office: GatewayProcess) -> Iterator[Callable[..., tuple[str, str]]]:
    """The answer's text and its `x-gateway-cache`."""
    clients = {
        name: openai.OpenAI(base_url=office.url + "/v1", api_key=key, max_retries=0, timeout=60)
        for name, key in KEYS.items()
    }

    def ask(
        question: Any, *, model: str = "alike", key: str = "plain", before: Any = (), **more: Any
    ) -> tuple[str, str]:
        messages = [*before, {"role": "user", "content": question}]
        raw = clients[key].chat.completions.with_raw_response.create(model=model, messages=messages, **more)
        if more.get("stream"):
            text = "".join(c.choices[0].delta.content or "" for c in raw.parse() if c.choices)
        else:
            text = raw.parse().choices[0].message.content
        ask.call = raw.headers["x-request-id"]  # type: ignore[attr-defined]  # for the tests that look it up
        return text, raw.headers["x-gateway-cache"]

    yield ask
    for client in clients.values():
        client.close()


@pytest.fixture
def kept(office: GatewayProcess) -> Callable[..., None]:
    """Waits until the store has so many answers more than before."""

    def sizes() -> dict[str, int]:
        told = httpx.get(office.url + "/admin/cache", headers={"authorization": f"Bearer {KEYS['admin']}"}, timeout=30)
        assert told.status_code == 200, told.text
        return dict(told.json()["semantic"]["answers"])

    before: dict[str, int] = {}

    def wait(more: int = 1) -> None:
        until(lambda: sum(sizes().values()) >= sum(before.values()) + more, what="the answer's being kept")
        before.update(sizes())

    before.update(sizes())
    return wait


@pytest.mark.parametrize("model", ["alike", "memory"])
def test_another_wording_gets_the_same_answer_in_the_form_that_it_asks_for(
    ask: Any, kept: Any, vendor: Vendor, model: str
) -> None:
    first = f"How do I reset the password of my {model} account?"
    assert ask(first, model=model) == (f"echo: {first}", "miss")
    kept()
    again = f"How can I reset the password of my {model} account?"
    assert ask(again, model=model) == (f"echo: {first}", "semantic")
    assert ask(again + " ", model=model, key="other", stream=True) == (f"echo: {first}", "semantic")
    assert ask(f"What is the best way to reset the password of my {model} account?", model=model)[1] == "semantic"
    assert len(vendor.requests) == 1


def test_what_says_something_else_is_asked_anew(ask: Any, kept: Any, vendor: Vendor) -> None:
    ask("How do I get from Rome to Oslo with 2 children in 2024?")
    kept()
    for other in (
        "How do I get from Oslo to Rome with 2 children in 2024?",
        "How do I get from Rome to Oslo with 3 children in 2024?",
        "How do I get from Rome to Oslo with 2 children in 2025?",
        "How do I get from Rome to Oslo without 2 children in 2024?",
        "How do I get from Rome to Bergen with 2 children in 2024?",
        "When do I get from Rome to Oslo with 2 children in 2024?",
    ):
        assert ask(other) == (f"echo: {other}", "miss")


def test_the_conversation_before_and_every_parameter_must_be_the_same(ask: Any, kept: Any, vendor: Vendor) -> None:
    question, other = "How do I close the account for good?", "How can I close the account for good?"
    before = [{"role": "user", "content": "I use the app."}, {"role": "assistant", "content": "Good."}]
    ask(question, before=before, temperature=0.5)
    kept()
    assert ask(other, before=before, temperature=0.5)[1] == "semantic"
    assert ask(other, before=before, temperature=0.6)[1] == "miss"
    assert ask(other, before=before[:1], temperature=0.5)[1] == "miss"
    assert ask(other, temperature=0.5)[1] == "miss"
    assert ask(other, before=[{"role": "system", "content": "Be rude."}, *before], temperature=0.5)[1] == "miss"


def test_a_caller_can_only_narrow(ask: Any, kept: Any, vendor: Vendor) -> None:
    ask("How do I change the address of my invoice?")
    kept()
    other = "How can I change the address of my invoice?"
    assert ask(other, extra_headers={"x-gateway-cache": "threshold=0.1"})[1] == "semantic"
    assert (
        ask("When was the address of my invoice changed?", extra_headers={"x-gateway-cache": "threshold=0"})[1]
        == "miss"
    )
    assert ask(other, extra_headers={"x-gateway-cache": "threshold=1"})[1] == "miss"


def test_what_has_tools_or_pictures_is_never_given_another_answer(ask: Any, kept: Any, vendor: Vendor) -> None:
    ask("How do I read the display of the heater?")
    kept()
    other = "How can I read the display of the heater?"
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    assert ask([{"type": "text", "text": other}, picture])[1] == "miss"
    assert ask(other, tools=[tool])[1] == "miss"
    assert ask([{"type": "text", "text": other}])[1] in ("semantic", "miss")


def test_one_of_another_tenant_is_asked_anew_at_similarity_one(ask: Any, kept: Any, vendor: Vendor) -> None:
    """F2. The same words but for a blank, so that the exact cache is out of it."""
    ask("How do I order a new badge?", key="ada")
    kept()
    assert ask("How do I  order a new badge?", key="stranger")[1] == "miss"
    assert ask("How do I   order a new badge?", key="plain")[1] == "semantic"


def test_a_paraphrase_finds_the_passages_that_the_answer_cites(ask: Any, kept: Any, vendor: Vendor) -> None:
    ask("How many weeks is the parental leave for employees?", model="leave")
    kept()
    asked = len(vendor.requests)
    assert ask("How many weeks is parental leave for the employees?", model="leave") == (
        "It is fourteen weeks [1].", "semantic",
    )  # fmt: skip
    assert len(vendor.requests) == asked


def test_an_answer_of_restricted_passages_is_for_those_who_asked(ask: Any, kept: Any, vendor: Vendor) -> None:
    ask("How long is parental leave for members of the board?", model="board", key="ada")
    kept()
    paraphrase = "How long is the parental leave for members of the board?"
    assert ask(paraphrase, model="board", key="ada")[1] == "semantic"
    vendor.behaviours["gpt-cited"] = {"text": "I can't say."}
    for key in ("plain", "stranger", "front", "board"):  # Bob may read the passage too; the answer was made for Ada
        assert ask(paraphrase, model="board", key=key)[0] == "I can't say."
    assert ask("How long is parental leave for the members of the board?", model="board", key="ada") == (
        "It is fourteen weeks [1].", "semantic",
    )  # fmt: skip


def test_a_changed_document_takes_its_answers_with_it(
    office: GatewayProcess, ask: Any, kept: Any, vendor: Vendor, docs: Path
) -> None:
    ask("Is parental leave for employees paid?", model="leave")
    kept()
    assert ask("Is the parental leave for employees paid?", model="leave")[1] == "semantic"
    (docs / "leave/leave.md").write_text("# Parental leave\n\nParental leave for employees is twenty weeks.\n")
    load = ["ingest", str(docs / "leave"), "--collection", "leave", "--config", str(office.file)]
    subprocess.run(
        [sys.executable, "-c", "from gateway.cli import main; main()", *load], check=True, capture_output=True
    )
    assert ask("Is the parental leave for the employees paid?", model="leave")[1] == "miss"


def test_shadow_gives_nothing_and_tells_how_often_it_would_have_been_wrong(
    office: GatewayProcess, ask: Any, kept: Any, vendor: Vendor
) -> None:
    vendor.behaviours["gpt-shadow"] = {"text": "Press the red button for 5 seconds."}
    ask("How do I restart the router?", model="shadow")
    kept()
    assert ask("How can I restart the router?", model="shadow") == ("Press the red button for 5 seconds.", "miss")
    agreed = ask.call
    kept()
    vendor.behaviours["gpt-shadow"] = {"text": "Press the red button for 9 seconds."}
    assert ask("How can you restart the router?", model="shadow")[1] == "miss"
    wrong = ask.call

    headers = {"authorization": f"Bearer {KEYS['admin']}"}
    told = httpx.get(office.url + "/admin/cache", headers=headers).json()["semantic"]["models"]["shadow"]
    assert (told["agreed"], told["false_hit"], told["false_hit_rate"]) == (1, 1, 0.5)
    metrics = httpx.get(office.url + "/metrics", headers=headers).text
    assert 'rag_gateway_semantic_cache_total{model="shadow",outcome="false_hit"} 1.0' in metrics

    def outcome(call: str) -> Any:
        answer = httpx.get(f"{office.url}/v1/calls/{call}", headers={"authorization": f"Bearer {KEYS['plain']}"})
        return answer.json()["cache_decision"]["semantic"]["outcome"] if answer.status_code == 200 else None

    until(lambda: (outcome(agreed), outcome(wrong)) == ("agreed", "false_hit"), what="the records")


def test_a_look_up_that_takes_too_long_costs_its_budget_alone(ask: Any, vendor: Vendor, office: GatewayProcess) -> None:
    assert ask("How long does it take?", model="late") == ("echo: How long does it take?", "miss")
    headers = {"authorization": f"Bearer {KEYS['admin']}"}
    told = httpx.get(office.url + "/admin/cache", headers=headers).json()["semantic"]["models"]["late"]
    assert told["late"] >= 1


def test_a_purge_reaches_it(office: GatewayProcess, ask: Any, kept: Any, vendor: Vendor) -> None:
    ask("How do I book a room?")
    kept()
    assert ask("How can I book a room?")[1] == "semantic"
    headers = {"authorization": f"Bearer {KEYS['admin']}"}
    gone = httpx.post(office.url + "/admin/cache/purge", headers=headers, json={"model": "alike"}, timeout=30)
    assert gone.status_code == 200, gone.text
    assert ask("How can you book a room?")[1] == "miss"


def test_a_milvus_that_hangs_costs_the_budget_and_answers_go_on(
    office: GatewayProcess, ask: Any, kept: Any, vendor: Vendor
) -> None:
    """D4."""
    ask("How do I fill in the form?")
    kept()
    below = psutil.Process(office.process.pid).children(recursive=True)
    stopped = [process for process in below if "milvus-lite" in " ".join(process.cmdline())]
    assert stopped
    for process in stopped:
        process.suspend()
    try:
        for number in range(6):
            question = f"How do I fill in form number {number}?"
            assert ask(question, model="quick") == (f"echo: {question}", "miss")
    finally:
        for process in stopped:
            process.resume()
    headers = {"authorization": f"Bearer {KEYS['admin']}"}
    told = httpx.get(office.url + "/admin/cache", headers=headers, timeout=30).json()["semantic"]["models"]["quick"]
    assert told.get("late", 0) + told.get("unavailable", 0) == 6
    blanks = itertools.count(1)
    until(lambda: ask("How can I fill in the form?" + " " * next(blanks))[1] == "semantic", what="what was kept")
