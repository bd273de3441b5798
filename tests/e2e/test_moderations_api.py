"""`/v1/moderations`: passed on to a provider that has it, or answered by named guardrails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from gateway_process import GatewayProcess, until
from sample_gateway import KEY_A, KEY_NARROW, plain_configuration
from upstream.vendor import Vendor

PATH = "/v1/moderations"
MAIL = "Write to anna.keller@example.org"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, Vendor]]:
    with Vendor() as vendor:
        configuration = plain_configuration(vendor)
        configuration["models"]["omni-moderation-latest"] = {"targets": ["mock/omni-moderation-latest"]}
        configuration["guardrails"] = {
            "strict": [
                {"check": "pii", "action": "mask"},
                {"check": "keywords", "lists": [{"kind": "projects", "words": ["Bluebird"]}], "action": "block"},
            ],
            "watched": [{"check": "keywords", "lists": [{"kind": "projects", "words": ["Bluebird"]}], "monitor": True}],
            "away": [{"check": "webhook", "name": "hook", "url": "http://127.0.0.1:1/", "on_failure": "refuse"}],
        }
        with GatewayProcess(configuration, tmp_path_factory.mktemp("moderations")) as process:
            yield process, vendor


def _post(gateway: tuple[GatewayProcess, Vendor], key: str = KEY_A, **body: Any) -> httpx.Response:
    process, vendor = gateway
    vendor.clear()
    return httpx.post(process.url + PATH, json=body, headers={"authorization": f"Bearer {key}"}, timeout=30)


def test_the_official_sdk_is_answered_by_the_provider(gateway: tuple[GatewayProcess, Vendor]) -> None:
    process, vendor = gateway
    vendor.clear()
    with openai.OpenAI(base_url=process.url + "/v1", api_key=KEY_A, max_retries=0) as client:
        told = client.moderations.create(input=["peace", "violence"])
    assert [result.flagged for result in told.results] == [False, True]
    assert told.results[1].category_scores.violence == 0.97
    (seen,) = vendor.requests
    assert seen.path == PATH
    assert seen.body == {"model": "omni-moderation-latest", "input": ["peace", "violence"]}


@pytest.mark.parametrize(
    "given",
    [
        "violence",
        [{"type": "text", "text": "violence"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}],
    ],
)
def test_one_input_of_any_form_is_passed_on(gateway: tuple[GatewayProcess, Vendor], given: Any) -> None:
    answer = _post(gateway, model="mock/any", input=given)
    assert [result["flagged"] for result in answer.json()["results"]] == [True]
    assert gateway[1].requests[0].body == {"model": "any", "input": given}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": 5}, 400, "input"),
        ({"input": ["a", 5]}, 400, "input[1]"),
        ({"input": ["a", {"type": "text", "text": "b"}]}, 400, "input"),
        ({"input": [{"type": "audio"}]}, 400, "input[0].type"),
        ({"input": "a", "model": "guardrails/unknown"}, 404, "model"),
        ({"input": "a", "model": "unknown"}, 404, "model"),
        (
            {"input": [{"type": "image_url", "image_url": {"url": "x"}}], "model": "guardrails/strict"}, 400, "input[0]",
        ),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(
    gateway: tuple[GatewayProcess, Vendor], body: dict[str, Any], status: int, param: str
) -> None:
    answer = _post(gateway, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert gateway[1].requests == []


def test_named_guardrails_answer_in_the_same_shape(gateway: tuple[GatewayProcess, Vendor]) -> None:
    texts = ["harmless", f"{MAIL} about Bluebird", MAIL]
    answer = _post(gateway, model="guardrails/strict", input=texts)
    told = answer.json()
    assert (answer.status_code, told["model"]) == (200, "guardrails/strict")
    assert [result["flagged"] for result in told["results"]] == [False, True, True]
    assert [
        sorted(category for category, held in result["categories"].items() if held) for result in told["results"]
    ] == [[], ["keywords", "keywords/projects", "pii", "pii/EMAIL_ADDRESS"], ["pii", "pii/EMAIL_ADDRESS"]]
    assert told["results"][0]["category_scores"] == {"pii": 0.0, "keywords": 0.0}
    assert "anna.keller" not in answer.text
    assert gateway[1].requests == []


def test_what_is_only_watched_is_told_but_not_flagged(gateway: tuple[GatewayProcess, Vendor]) -> None:
    (result,) = _post(gateway, model="guardrails/watched", input="Bluebird").json()["results"]
    assert (result["flagged"], result["categories"]["keywords/projects"]) == (False, True)


def test_a_check_that_is_away_and_may_not_be_missed_is_an_error(gateway: tuple[GatewayProcess, Vendor]) -> None:
    answer = _post(gateway, model="guardrails/away", input="anything")
    assert answer.status_code == 503
    assert "guardrail hook is unavailable" in answer.json()["error"]["message"]


def test_only_who_may_use_the_name_may_ask(gateway: tuple[GatewayProcess, Vendor]) -> None:
    assert _post(gateway, KEY_NARROW, model="guardrails/strict", input="a").status_code == 404
    assert _post(gateway, "sk-unknown", model="guardrails/strict", input="a").status_code == 401


def test_named_guardrails_serve_nothing_else(gateway: tuple[GatewayProcess, Vendor]) -> None:
    body = {"model": "guardrails/strict", "messages": [{"role": "user", "content": "x"}]}
    headers = {"authorization": f"Bearer {KEY_A}"}
    answer = httpx.post(gateway[0].url + "/v1/chat/completions", json=body, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


def test_the_call_is_on_record_without_what_was_found(gateway: tuple[GatewayProcess, Vendor]) -> None:
    answer = _post(gateway, model="guardrails/strict", input=MAIL)
    call = f"{gateway[0].url}/v1/calls/{answer.headers['x-gateway-call-id']}"
    headers = {"authorization": f"Bearer {KEY_A}"}
    until(lambda: httpx.get(call, headers=headers).status_code == 200, what="the record")
    told = httpx.get(call, headers=headers).json()
    assert (told["endpoint"], told["outcome"]) == ("moderations", "ok")
    assert [verdict["check"] for verdict in told["guardrails"]] == ["pii"]
    assert "anna.keller" not in str(told)
