"""`/v1/rerank`, in front of a server that speaks it as vLLM does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_process import GatewayProcess, until
from sample_gateway import key_entry, plain_configuration
from upstream.vendor import Vendor

PATH = "/v1/rerank"
DOCUMENTS = ["a", "three", "bc"]


def test_documents_come_back_by_their_relevance(http: httpx.Client, vendor: Vendor) -> None:
    answer = http.post(PATH, json={"model": "embedder", "query": "Grüezi 🏔", "documents": DOCUMENTS, "top_n": 2})
    assert [result["index"] for result in answer.json()["results"]] == [1, 2]
    (seen,) = vendor.requests
    assert seen.path == PATH
    assert seen.body == {"model": "mock-embed", "query": "Grüezi 🏔", "documents": DOCUMENTS, "top_n": 2}


def test_the_call_is_on_record(http: httpx.Client) -> None:
    answer = http.post(PATH, json={"model": "plain", "query": "x", "documents": DOCUMENTS})
    call = f"/v1/calls/{answer.headers['x-gateway-call-id']}"
    until(lambda: http.get(call).status_code == 200, what="the record")
    assert http.get(call).json()["endpoint"] == "rerank"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": "x", "documents": ["a"]}, "model"),
        ({"model": "plain", "documents": ["a"]}, "query"),
        ({"model": "plain", "query": "x"}, "documents"),
        ({"model": "plain", "query": "x", "documents": []}, "documents"),
        ({"model": "plain", "query": "x", "documents": ["a", 7]}, "documents[1]"),
        ({"model": "plain", "query": "x", "documents": [{"title": "a"}]}, "documents[0].text"),
        ({"model": "plain", "query": "x", "documents": ["a"], "top_n": 0}, "top_n"),
    ],
)
def test_a_wrong_field_is_named(http: httpx.Client, vendor: Vendor, body: dict[str, Any], param: str) -> None:
    answer = http.post(PATH, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert vendor.requests == []


def test_guardrails_screen_the_query_and_every_document(vendor: Vendor, tmp_path: Path) -> None:
    key = "sk-gw-rerank"
    configuration = plain_configuration(vendor)
    configuration["access"]["keys"].append(key_entry("r", key, tenant="a"))
    guardrails = {"input": [{"check": "pii", "action": "mask"}]}
    configuration["models"]["screened"] = {"targets": ["mock/gpt-mock"], "guardrails": guardrails}
    body = {
        "model": "screened",
        "query": "Who is anna.keller@example.org?",
        "documents": ["harmless", {"text": "Write to anna.keller@example.org"}],
    }
    with GatewayProcess(configuration, tmp_path) as gateway:
        headers = {"authorization": f"Bearer {key}"}
        vendor.behaviours["gpt-mock"] = {"status": 404}
        httpx.post(gateway.url + PATH, json=body, headers=headers, timeout=20)
    (seen,) = vendor.requests
    assert b"anna.keller" not in seen.raw
    assert seen.body["documents"][0] == "harmless"
