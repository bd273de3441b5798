"""Who may do what, and what is told of a call afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from gateway_process import GatewayProcess, until
from sample_gateway import KEY_ADMIN, KEY_B, KEY_NARROW, key_entry
from upstream.vendor import Vendor

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


# -- keys --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/plain", "/v1/calls/x", "/metrics"])
def test_every_route_but_health_wants_a_key(gateway: GatewayProcess, path: str) -> None:
    told = httpx.get(gateway.url + path)
    assert (told.status_code, told.json()["error"]["code"]) == (401, "missing_api_key")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize(
    "credential",
    [None, "Bearer", "Bearer nope", "Basic " + KEY_NARROW, KEY_NARROW, "Bearer " + KEY_NARROW[:-1],
     "Bearer " + KEY_NARROW + "x", "Bearer " + key_entry("x", KEY_NARROW)["hash"],
     "Bearer " + key_entry("x", KEY_NARROW)["hash"].removeprefix("sha256:")],
)  # fmt: skip
def test_no_other_credential_opens(gateway: GatewayProcess, vendor: Vendor, path: str, credential: str | None) -> None:
    """F7: neither a prefix of a key nor its stored hash is a key."""
    headers = {"authorization": credential} if credential is not None else {}
    told = httpx.post(gateway.url + path, json={"model": "plain", "messages": HELLO}, headers=headers)
    assert told.status_code == 401
    assert vendor.requests == []


def test_a_key_sees_and_uses_its_models_only(gateway: GatewayProcess, vendor: Vendor) -> None:
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=KEY_NARROW, max_retries=0) as narrow:
        assert [model.id for model in narrow.models.list()] == ["plain"]
        assert narrow.chat.completions.create(model="plain", messages=HELLO).choices
        for model in ("cached", "mock/gpt-mock", "absent"):
            with pytest.raises(openai.NotFoundError) as told:
                narrow.chat.completions.create(model=model, messages=HELLO)
            assert told.value.code == "model_not_found"
            with pytest.raises(openai.NotFoundError):
                narrow.models.retrieve(model)
    assert len(vendor.requests) == 1


def test_metrics_are_for_an_admin_key(gateway: GatewayProcess, http: httpx.Client) -> None:
    http.post("/v1/chat/completions", json={"model": "plain", "messages": HELLO})
    assert http.get("/metrics").status_code == 403
    text = httpx.get(gateway.url + "/metrics", headers=bearer(KEY_ADMIN)).text
    assert 'model="plain"' in text


def test_health_is_open_and_tells_each_component(gateway: GatewayProcess) -> None:
    assert httpx.get(gateway.url + "/healthz").json() == {"status": "ok"}
    ready = httpx.get(gateway.url + "/readyz").json()
    assert (ready["status"], ready["components"]) == ("ready", {"records": "ok"})


def test_the_api_documents_itself(gateway: GatewayProcess) -> None:
    assert "swagger" in httpx.get(gateway.url + "/docs").text.lower()
    paths = httpx.get(gateway.url + "/openapi.json").json()["paths"]
    assert {"/v1/models", "/v1/calls/{call_id}", "/v1/chat/completions", "/v1/embeddings"} <= set(paths)


# -- what is told afterwards -------------------------------------------------------------------------------
def test_a_call_is_told_right_after_its_answer(http: httpx.Client) -> None:
    answer = http.post(
        "/v1/chat/completions", json={"model": "plain", "messages": HELLO}, headers={"x-request-id": "told-1"}
    )
    call = http.get("/v1/calls/" + answer.headers["x-gateway-call-id"]).json()
    assert call["model"] == "plain"
    assert call["target"] == "mock/gpt-mock"
    assert call["outcome"] == "ok"
    for other in ("told-1", answer.json()["id"]):
        assert http.get("/v1/calls/" + other).json()["id"] == call["id"]


def test_a_call_shows_its_tokens_and_not_its_words(http: httpx.Client) -> None:
    secret = "the words of a private conversation"
    answer = http.post(
        "/v1/chat/completions", json={"model": "plain", "messages": [{"role": "user", "content": secret}]}
    )
    told = http.get("/v1/calls/" + answer.headers["x-gateway-call-id"])
    assert told.json()["usage"]["prompt_tokens"] == 11
    assert secret not in told.text


def test_a_call_is_told_to_its_own_tenant_only(http: httpx.Client, gateway: GatewayProcess) -> None:
    answer = http.post("/v1/chat/completions", json={"model": "plain", "messages": HELLO})
    call_id = answer.headers["x-gateway-call-id"]
    for key in (KEY_B, KEY_ADMIN):
        assert httpx.get(f"{gateway.url}/v1/calls/{call_id}", headers=bearer(key)).status_code == 404
    assert httpx.get(f"{gateway.url}/v1/calls/{call_id}", headers=bearer(KEY_NARROW)).status_code == 200


def test_a_call_that_was_left_is_recorded_as_such(client: openai.OpenAI, http: httpx.Client) -> None:
    model = 'mock/behave:{"gap":0.05,"text":"a b c d e f g h i j k l m n o p"}'
    with client.chat.completions.with_streaming_response.create(model=model, messages=HELLO, stream=True) as answer:
        call_id = answer.headers["x-gateway-call-id"]
        next(answer.iter_lines())
    call = until(lambda: (c := http.get("/v1/calls/" + call_id)).status_code == 200 and c.json())
    assert call["outcome"] == "cancelled"
    assert call["usage"]["completion_tokens"] >= 1


# -- open mode ---------------------------------------------------------------------------------------------
@pytest.fixture
def open_gateway(vendor: Vendor, tmp_path: Path) -> Iterator[GatewayProcess]:
    mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    keys = [key_entry("known", KEY_NARROW, models=["only"])]
    models = {"only": {"targets": ["mock/x"]}, "other": {"targets": ["mock/x"]}}
    with GatewayProcess({"providers": {"mock": mock}, "models": models}, tmp_path / "open") as running:
        yield running
    with GatewayProcess(
        {"providers": {"mock": mock}, "models": models, "access": {"open_on_loopback": False, "keys": keys}},
        tmp_path / "shut",
    ) as running:
        assert httpx.get(running.url + "/v1/models").status_code == 401


def test_open_mode_lets_any_bearer_in_until_it_is_shut(open_gateway: GatewayProcess, vendor: Vendor) -> None:
    for headers in ({}, bearer("anything")):
        assert len(httpx.get(open_gateway.url + "/v1/models", headers=headers).json()["data"]) == 2
        told = httpx.post(
            open_gateway.url + "/v1/chat/completions", json={"model": "mock/any", "messages": HELLO}, headers=headers
        )
        assert told.json()["choices"][0]["message"]["content"] == "echo: hello"
    assert httpx.get(open_gateway.url + "/metrics").status_code == 200
