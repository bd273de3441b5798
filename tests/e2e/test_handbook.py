"""The newcomer's first hour: the shipped configuration, its sample knowledge and users, no key and no network."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import yaml
from gateway_process import GatewayProcess, until
from upstream.vendor import Vendor

ROOT = Path(__file__).parents[2]
QUESTION = "How do I add a provider?"


def shipped(vendor: Vendor, docs: Path) -> dict[str, Any]:
    """`configs/gateway.yaml`, its paths made absolute, and OpenAI's address that of the mock."""
    configuration: dict[str, Any] = yaml.safe_load((ROOT / "configs/gateway.yaml").read_text())
    del configuration["data_dir"], configuration["server"]
    configuration["providers"]["openai"]["base_url"] = vendor.url
    configuration["prompts"]["folder"] = str(ROOT / "configs/prompts")
    configuration["retrieval"]["collections"]["handbook"]["load"] = [str(docs)]
    configuration["features"] = {
        "repo": str(ROOT / "features/repo"),
        "sample_users": str(ROOT / "features/sample_users.csv"),
    }
    return configuration


@pytest.fixture(scope="module")
def handbook(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("handbook")
    docs = folder / "docs"
    docs.mkdir()
    for name in ("access", "configuration", "features", "retrieval"):  # all of them take a minute to embed
        shutil.copy(ROOT / "docs" / f"{name}.md", docs)
    configuration, users = shipped(shared_vendor, docs), folder / "users.csv"
    samples = Path(configuration["features"]["sample_users"]).read_text()
    users.write_text(samples.rstrip("\n") + "\ndora,enterprise,de,beginner\n")  # who will be erased
    configuration["features"]["sample_users"] = str(users)
    with GatewayProcess(configuration, folder) as running:
        yield running
        # It leaves no process behind: neither Milvus nor the embedder.
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert len(children) >= 2
        running.process.send_signal(signal.SIGINT)  # Ctrl-C
        assert running.process.wait(60) == 0
        _, left = psutil.wait_procs(children, timeout=60)
        assert left == []


@pytest.fixture
def asking(handbook: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=handbook.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": QUESTION}]
    return client.chat.completions.with_raw_response.create(model="handbook", messages=messages, **more)


def call_of(gateway: GatewayProcess, answer: Any) -> dict[str, Any]:
    return dict(httpx.get(f"{gateway.url}/v1/calls/{answer.headers['x-gateway-call-id']}").json())


def test_it_is_listed_first(handbook: GatewayProcess) -> None:
    assert httpx.get(handbook.url + "/v1/models").json()["data"][0]["id"] == "handbook"


def test_an_answer_from_the_right_passages_with_its_sources(handbook: GatewayProcess, asking: openai.OpenAI) -> None:
    raw = ask(asking, extra_headers={"cache-control": "no-store"})
    answer = raw.parse()
    text = answer.choices[0].message.content
    assert "providers" in text
    assert "[1]" in text or "[2]" in text
    annotations = answer.choices[0].message.annotations
    assert annotations
    for annotation in annotations:
        citation = annotation.url_citation
        assert text[citation.start_index : citation.end_index].startswith("[")
    sources = answer.rag["sources"]
    assert sources[0]["document_id"] == "docs/configuration.md"
    assert set(sources[0]) == {"document_id", "version", "section_id", "collection", "score", "title", "url", "quote"}
    assert raw.headers["x-gateway-target"] == "extractive"
    for stage in ("input_guardrails", "retrieval", "render", "call"):
        assert f"{stage};dur=" in raw.headers["server-timing"]


def test_a_stream_says_the_same(asking: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What is open mode?"}]
    plain = asking.chat.completions.create(
        model="handbook", messages=messages, extra_headers={"cache-control": "no-store"}
    )
    stream = asking.chat.completions.create(
        model="handbook", messages=messages, stream=True, extra_headers={"cache-control": "no-store"}
    )
    chunks = [chunk for chunk in stream if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain.choices[0].message.content
    last = chunks[-1]
    assert last.choices[0].finish_reason == "stop"
    assert last.rag == plain.rag  # type: ignore[attr-defined]  # ours, beside OpenAI's fields
    told = [annotation.to_dict() for annotation in plain.choices[0].message.annotations or ()]
    assert last.choices[0].delta.annotations == told  # type: ignore[attr-defined]  # as on a message


def test_two_people_get_differently_framed_prompts(handbook: GatewayProcess, asking: openai.OpenAI) -> None:
    calls = {user: call_of(handbook, ask(asking, user=user)) for user in ("ada", "ben", "carla", "stranger")}
    framed = {user: call["messages"][0]["content"] for user, call in calls.items()}
    assert len(set(framed.values())) == 4
    assert "an expert" in framed["ada"]
    assert "the tag de" in framed["carla"]
    assert calls["ada"]["features"]["values"] == {"plan": "enterprise", "language": "en", "expertise": "expert"}
    assert calls["stranger"]["features"]["missing"] == ["plan", "language", "expertise"]
    call = calls["ada"]
    assert call["template"]["reference"] == "handbook@1"
    assert call["passages"][0]["score"] > 0.3
    assert {stage["name"] for stage in call["stages"]} >= {
        "features",
        "retrieval",
        "input_guardrails",
        "render",
        "call",
    }


def test_what_is_read_of_users_is_in_the_metrics(handbook: GatewayProcess, asking: openai.OpenAI) -> None:
    ask(asking, user="ben")
    well = 'rag_gateway_component_up{component="features"} 1.0'
    told = until(lambda: well in (text := httpx.get(handbook.url + "/metrics").text) and text, 60, "that they are well")
    assert 'rag_gateway_stage_duration_seconds_count{stage="features"}' in told
    assert re.search(r'^rag_gateway_feature_age_seconds\{view="\w+"\} \d', told, re.MULTILINE)


def test_an_erased_user_is_a_stranger_again(handbook: GatewayProcess, asking: openai.OpenAI) -> None:
    before = call_of(handbook, ask(asking, user="dora"))
    assert before["features"]["values"]["plan"] == "enterprise"

    about = {"tenant": "default", "user": "dora"}
    held = httpx.post(handbook.url + "/admin/exports", json=about, timeout=30).text
    receipt = httpx.post(handbook.url + "/admin/erasures", json=about, timeout=30).json()

    assert '"staff_profile_view:plan": "enterprise"' in held
    assert receipt["erased"]["features"] == 3
    assert receipt["erased"]["cached_answers"] == 1
    assert httpx.get(f"{handbook.url}/v1/calls/{before['id']}").status_code == 404
    after = call_of(handbook, ask(asking, user="dora"))
    assert after["features"]["values"] == dict.fromkeys(("plan", "language", "expertise"))


def test_what_must_not_go_in_is_masked_or_refused(handbook: GatewayProcess, asking: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "I am jane@example.com. What is a guardrail?"}]
    raw = asking.chat.completions.with_raw_response.create(model="handbook", messages=messages)
    call = call_of(handbook, raw)
    assert call["messages"][-1]["content"] == "I am <EMAIL_ADDRESS>. What is a guardrail?"
    assert {"stage": "input", "check": "pii", "action": "mask"}.items() <= call["guardrails"][0].items()
    with pytest.raises(openai.BadRequestError) as refused:
        asking.chat.completions.create(
            model="handbook", messages=[{"role": "user", "content": "my key is AKIAIOSFODNN7EXAMPLE"}]
        )
    assert refused.value.code == "content_filter"
    assert refused.value.param == "messages[0]"
    assert "AKIA" not in str(refused.value)


def test_the_question_again_is_a_hit_for_the_same_person_only(asking: openai.OpenAI) -> None:
    outcomes = [ask(asking, user=user, seed=7).headers["x-gateway-cache"] for user in ("ben", "ben", "carla")]
    assert outcomes == ["miss", "hit", "miss"]


def test_a_caller_can_narrow_retrieval_and_no_more(asking: openai.OpenAI) -> None:
    assert len(ask(asking, extra_body={"rag": {"top_k": 2}}).parse().rag["sources"]) == 2
    nothing = ask(asking, extra_body={"rag": {"min_score": 0.999}}).parse()
    assert "rag" not in nothing.model_extra
    with pytest.raises(openai.BadRequestError) as refused:
        ask(asking, extra_body={"rag": {"tenant": "b"}})
    assert refused.value.param == "rag.tenant"


def test_embeddings_of_the_local_model(asking: openai.OpenAI) -> None:
    told = asking.embeddings.create(model="all-MiniLM-L6-v2", input=["a cat", "a kitten", "a bond market"])
    cat, kitten, market = (item.embedding for item in told.data)
    assert len(cat) == 384

    def likeness(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert likeness(cat, kitten) > likeness(cat, market) + 0.2


def test_the_command_line_asks_and_loads_beside_it(handbook: GatewayProcess, tmp_path: Path) -> None:
    main = [sys.executable, "-c", "from gateway.cli import main; main()"]
    asked = subprocess.run([*main, "ask", QUESTION, "--url", handbook.url], capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    assert "docs/configuration.md" in asked.stdout
    (tmp_path / "parrot.md").write_text("# Parrots\n\nThe office parrot is called Quetzalcoatl and eats walnuts.\n")
    ingest = [*main, "ingest", str(tmp_path / "parrot.md"), "--collection", "handbook", "--config", str(handbook.file)]
    loaded = subprocess.run(ingest, capture_output=True, text=True, timeout=60)
    assert loaded.returncode == 0, loaded.stderr
    asked = subprocess.run(
        [*main, "ask", "What does the office parrot eat?", "--url", handbook.url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "walnuts" in asked.stdout


def test_with_a_vendors_key_the_same_model_answers_through_it(
    shared_vendor: Vendor, tmp_path: Path, handbook: GatewayProcess
) -> None:
    """Its data folder is the first one's: knowledge is shared with the process that owns it."""
    configuration = shipped(shared_vendor, handbook.folder / "docs")
    configuration["data_dir"] = str(handbook.folder / "data")
    configuration["records"] = {"url": f"sqlite:///{tmp_path}/records.db"}
    with GatewayProcess(configuration, tmp_path, {"OPENAI_API_KEY": shared_vendor.api_key}) as second:
        assert "0 added, 0 updated" in second.output
        with openai.OpenAI(base_url=second.url + "/v1", api_key="none", max_retries=0) as client:
            raw = ask(client)
            assert raw.headers["x-gateway-target"] == "openai/gpt-4.1-mini"
            assert raw.parse().choices[0].message.content == f"echo: {QUESTION}"
            sent = shared_vendor.requests[-1].body
            assert sent["model"] == "gpt-4.1-mini"
            assert "<passage " in sent["messages"][0]["content"]
            plain = client.chat.completions.create(model="openai/any", messages=[{"role": "user", "content": "hi"}])
            assert plain.choices[0].message.content == "echo: hi"
    assert "sk-upstream" not in second.output
