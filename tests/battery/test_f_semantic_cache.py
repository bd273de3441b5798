"""F2 and F3: no tenant, user or reader ever gets another's answer by a paraphrase, and near misses are not hits.

A real gateway, real Milvus, the real embedder. The vendor answers each call with a canary of its own, so that an answer
tells which call it was made for.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_process import GatewayProcess, until
from sample_gateway import key_entry
from upstream.vendor import Vendor

PAIRS = Path(__file__).parents[1] / "samples" / "question_pairs.jsonl"
KEYS = {
    name: f"sk-gw-canary-alike-{name}-42ab" for name in ("ann", "tom", "front", "bert", "twin", "labelled", "admin")
}
QUESTION = "How do I reset the password of my account?"
PARAPHRASE = "How can I reset the password of my account?"
BLANKS = itertools.count(1)


@pytest.fixture(scope="module")
def alike(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    semantic = {"budget": "20s", "threshold": 0.5}
    mock = {"kind": "openai_compatible", "base_url": shared_vendor.url, "api_key": shared_vendor.api_key}
    configuration = {
        "access": {
            "open_on_loopback": False,
            "keys": [
                key_entry("ann", KEYS["ann"], tenant="a", user="ann"),
                key_entry("tom", KEYS["tom"], tenant="a", user="tom"),
                key_entry("front", KEYS["front"], tenant="a", speaks_for_users=True),
                key_entry("bert", KEYS["bert"], tenant="b", user="ann"),
                key_entry("twin", KEYS["twin"], tenant="a2", user="ann"),
                key_entry("labelled", KEYS["labelled"], tenant="a", sensitivity="internal"),
                key_entry("admin", KEYS["admin"], admin=True),
            ],
        },
        "residency": {"labels": ["public", "internal"], "default": "public", "stays": "internal"},
        "providers": {
            "mock": {**mock, "residency": "on_premises"},
            "local": {"kind": "local_embeddings"},
        },
        "retrieval": {"collections": {}},
        "models": {
            "milvus": {"targets": ["mock/gpt-mock"], "cache": {"semantic": semantic}},
            "memory": {"targets": ["mock/gpt-mock"], "cache": {"semantic": {**semantic, "store": "memory"}}},
            "other": {"targets": ["mock/gpt-mock"], "cache": {"semantic": semantic}},
            "all-MiniLM-L6-v2": {"targets": ["local/all-MiniLM-L6-v2"]},
        },
    }
    with GatewayProcess(configuration, tmp_path_factory.mktemp("gateway")) as running:
        yield running


def post(gateway: GatewayProcess, key: str, model: str, question: str, **more: Any) -> tuple[str, str]:
    """The answer's text and what the cache says of it."""
    headers = {"authorization": f"Bearer {KEYS[key]}", **more.pop("headers", {})}
    body = {"model": model, "messages": [{"role": "user", "content": question}], **more}
    answer = httpx.post(gateway.url + "/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"], answer.headers["x-gateway-cache"]


def answers(gateway: GatewayProcess) -> int:
    told = httpx.get(gateway.url + "/admin/cache", headers={"authorization": f"Bearer {KEYS['admin']}"}, timeout=30)
    return sum(told.json()["semantic"]["answers"].values())


def again(question: str) -> str:
    """The same words to every embedder and no other request: the exact cache does not know it."""
    return question + " " * next(BLANKS)


@pytest.mark.parametrize("model", ["milvus", "memory"])
@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("bert", {}),  # another tenant, the same user's name
        ("twin", {}),
        ("labelled", {}),
        ("bert", {"user": "ann"}),
        ("bert", {"headers": {"x-gateway-cache": "threshold=0"}}),
        ("bert", {"metadata": {"tenant": "a"}}),
        ("ann", {"temperature": 0.1}),
        ("ann", {"messages": [{"role": "system", "content": "Tenant a."}, {"role": "user", "content": QUESTION}]}),
    ],
)
def test_f2_nobody_elses_answer_at_similarity_one(
    alike: GatewayProcess, vendor: Vendor, model: str, key: str, more: dict[str, Any]
) -> None:
    before = answers(alike)
    canary = f"canary {next(BLANKS)} of ann"
    vendor.behaviours["gpt-mock"] = {"text": canary}
    question = f"{QUESTION} It is number {next(BLANKS)}."
    assert post(alike, "ann", model, question) == (canary, "miss")
    until(lambda: answers(alike) > before, what="the answer's being kept")

    vendor.behaviours["gpt-mock"] = {"text": "another"}
    text, cache = post(alike, key, model, again(question), **more)
    assert (text, cache) == ("another", "miss")
    # It is there, for whom it is for.
    assert post(alike, "tom", model, again(question)) == (canary, "semantic")


def test_f2_another_model_has_other_answers(alike: GatewayProcess, vendor: Vendor) -> None:
    before = answers(alike)
    vendor.behaviours["gpt-mock"] = {"text": "canary of milvus"}
    post(alike, "ann", "milvus", again(QUESTION))
    until(lambda: answers(alike) > before, what="the answer's being kept")
    vendor.behaviours["gpt-mock"] = {"text": "another"}
    assert post(alike, "ann", "other", again(PARAPHRASE)) == ("another", "miss")


def test_f2_a_purge_of_one_tenant_leaves_the_others(alike: GatewayProcess, vendor: Vendor) -> None:
    question = f"How do I purge number {next(BLANKS)}?"
    for key in ("ann", "bert"):
        before = answers(alike)
        vendor.behaviours["gpt-mock"] = {"text": f"canary of {key}"}
        post(alike, key, "milvus", question)
        until(lambda before=before: answers(alike) > before, what="the answer's being kept")  # type: ignore[misc]  # the default binds the loop's value
    admin = {"authorization": f"Bearer {KEYS['admin']}"}
    gone = httpx.post(alike.url + "/admin/cache/purge", json={"tenant": "a"}, headers=admin, timeout=30)
    assert gone.json()["purged"] >= 1
    vendor.behaviours["gpt-mock"] = {"text": "another"}
    assert post(alike, "tom", "milvus", again(question)) == ("another", "miss")
    assert post(alike, "bert", "milvus", again(question)) == ("canary of bert", "semantic")


def test_f3_near_misses_are_not_served_and_paraphrases_are(alike: GatewayProcess) -> None:
    """By the command that anybody can run on pairs of their own, at the default threshold."""
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "eval", "cache", "--json"]
    command += ["--data", str(PAIRS), "--url", alike.url, "--api-key", KEYS["admin"]]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rates = told["with_refusals"]
    assert rates["false_hit_rate"] <= 0.01
    assert rates["hit_rate"] >= 0.6
    assert told["vectors_alone"]["false_hit_rate"] > 0.3, "the sample holds pairs that vectors can't tell apart"


def test_f3_a_caller_cannot_lower_the_threshold(alike: GatewayProcess, vendor: Vendor) -> None:
    before = answers(alike)
    vendor.behaviours["gpt-mock"] = {"text": "canary of the invoice"}
    post(alike, "ann", "milvus", "How do I pay the invoice?")
    until(lambda: answers(alike) > before, what="the answer's being kept")
    vendor.behaviours["gpt-mock"] = {"text": "another"}
    for header in ("threshold=0", "threshold=0.0, threshold=0"):
        other = f"What is the weather like in city {next(BLANKS)}?"
        assert post(alike, "ann", "milvus", other, headers={"x-gateway-cache": header}) == ("another", "miss")
    assert post(alike, "ann", "milvus", "How can I pay the invoice?", headers={"x-gateway-cache": "threshold=1"}) == (
        "another", "miss",
    )  # fmt: skip
    refused = httpx.post(
        alike.url + "/v1/chat/completions",
        headers={"authorization": f"Bearer {KEYS['ann']}", "x-gateway-cache": "threshold=-1"},
        json={"model": "milvus", "messages": [{"role": "user", "content": QUESTION}]}, timeout=30,
    )  # fmt: skip
    assert refused.status_code == 400
