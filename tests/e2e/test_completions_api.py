"""OpenAI's older text completions: the official SDK, and what hostile clients and broken vendors do to it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from gateway_process import GatewayProcess, http_post, until
from sample_gateway import KEY_A, KEY_NARROW
from upstream.vendor import Vendor

PATH = "/v1/completions"
SUITE = Path(__file__).parents[1] / "battery" / "data" / "json_test_suite.json"


def test_a_plain_completion(client: openai.OpenAI, vendor: Vendor) -> None:
    told = client.completions.create(model="plain", prompt="Grüezi 🏔", max_tokens=50, temperature=0.5, stop=["END"])
    assert (told.object, told.choices[0].text, told.choices[0].finish_reason) == (
        "text_completion", "echo: Grüezi 🏔", "stop",
    )  # fmt: skip
    assert told.id.startswith("cmpl-")
    assert told.usage is not None
    assert told.usage.total_tokens > 0
    (seen,) = vendor.requests
    assert seen.body == {
        "model": "gpt-mock", "messages": [{"role": "user", "content": "Grüezi 🏔"}], "max_tokens": 50,
        "temperature": 0.5, "stop": ["END"],
    }  # fmt: skip


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream(client: openai.OpenAI, usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}
    pieces = list(client.completions.create(model="plain", prompt="Grüezi 🏔", stream=True, **options))
    assert "".join(choice.text for piece in pieces for choice in piece.choices) == "echo: Grüezi 🏔"
    assert [choice.finish_reason for piece in pieces for choice in piece.choices][-1] == "stop"
    assert any(piece.usage is not None for piece in pieces) == usage


async def test_the_async_sdk(aclient: openai.AsyncOpenAI) -> None:
    told = await aclient.completions.create(model="plain", prompt=["hello"], echo=True)  # type: ignore[arg-type]  # one of a list
    assert told.choices[0].text == "helloecho: hello"


def test_an_echo_and_several_choices_in_a_stream(client: openai.OpenAI) -> None:
    texts = ["", ""]
    for piece in client.completions.create(model="plain", prompt="hi", n=2, echo=True, stream=True):
        for choice in piece.choices:
            texts[choice.index] += choice.text
    assert all(text.startswith("hiecho: hi") for text in texts)


def test_a_guardrail_and_the_cache_serve_it_too(client: openai.OpenAI, vendor: Vendor) -> None:
    vendor.behaviours["guarded"] = {"text": "Ask anna.keller@example.org now.", "piece": 3}
    plain = client.completions.create(model="masked", prompt="who?").choices[0].text
    stream = client.completions.create(model="masked", prompt="who?", stream=True)
    assert "anna.keller" not in plain
    assert "".join(choice.text for piece in stream for choice in piece.choices) == plain
    first = client.completions.create(model="cached", prompt="once")
    again = client.completions.create(model="cached", prompt="once", stream=True)
    assert "".join(choice.text for piece in again for choice in piece.choices) == first.choices[0].text
    assert len([seen for seen in vendor.requests if seen.body["model"] == "cached"]) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        ({"model": "plain"}, "prompt"),
        ({"model": "plain", "prompt": 7}, "prompt"),
        ({"model": "plain", "prompt": []}, "prompt"),
        ({"model": "plain", "prompt": [1, 2, 3]}, "prompt"),
        ({"model": "plain", "prompt": ["two", "of them"]}, "prompt"),
        ({"model": "plain", "prompt": "x", "suffix": "y"}, "suffix"),
        ({"model": "plain", "prompt": "x", "logprobs": 2}, "logprobs"),
        ({"model": "plain", "prompt": "x", "best_of": 3}, "best_of"),
        ({"model": "plain", "prompt": "x", "tools": []}, "tools"),
        ({"model": "plain", "prompt": "x", "messages": []}, "messages"),
        ({"model": "plain", "prompt": "x", "stream": "yes"}, "stream"),
        ({"model": "plain", "prompt": "x", "temperature": "hot"}, "temperature"),
    ],
)
def test_what_it_does_not_serve_is_refused_by_name(
    http: httpx.Client, vendor: Vendor, body: dict[str, Any], param: str
) -> None:
    answer = http.post(PATH, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert vendor.requests == []


def test_what_is_not_json_is_a_400(http: httpx.Client, vendor: Vendor) -> None:
    files = {name: base64.b64decode(data) for name, data in json.loads(SUITE.read_text("ascii")).items()}
    bodies = [data for name, data in files.items() if name.startswith("n_")]
    bodies += [b"[" * 100_000, b'{"model":"plain","prompt":' + b"[" * 50_000]
    for body in bodies:
        answer = http.post(PATH, content=body)
        assert answer.status_code == 400, body[:80]
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert vendor.requests == []


@pytest.mark.parametrize(
    "text", ["\ud800".encode("utf-16", "surrogatepass").decode("utf-16-le", "ignore"), "\x00", "ﷺ" * 9, "💥‍"]
)
def test_odd_strings_come_back_as_they_are(http: httpx.Client, text: str) -> None:
    assert http.post(PATH, json={"model": "plain", "prompt": text}).json()["choices"][0]["text"] == f"echo: {text}"


def test_access_is_that_of_every_api(gateway: GatewayProcess, http: httpx.Client, vendor: Vendor) -> None:
    body = {"model": "cached", "prompt": "x"}
    assert httpx.post(gateway.url + PATH, json=body).status_code == 401
    narrow = {"authorization": f"Bearer {KEY_NARROW}"}
    assert httpx.post(gateway.url + PATH, json=body, headers=narrow).status_code in (403, 404)
    assert http.post(PATH, json={**body, "model": "no-such-model"}).status_code == 404
    assert http.post(PATH, content=b" " * 3_000_000).status_code == 413
    assert vendor.requests == []


def test_a_stream_that_dies_ends_with_an_error_event(http: httpx.Client, vendor: Vendor) -> None:
    vendor.behaviours["gpt-mock"] = {"text": "some words that will not come whole", "piece": 4, "die_after": 4}
    body = http.post(PATH, json={"model": "plain", "prompt": "x", "stream": True}).text
    events = [line[6:] for line in body.splitlines() if line.startswith("data: ")]
    assert "[DONE]" not in events
    assert json.loads(events[-1])["error"]["type"]


def test_a_client_that_leaves_ends_the_upstream_call(gateway: GatewayProcess, vendor: Vendor) -> None:
    vendor.behaviours["gpt-mock"] = {"text": "words " * 50, "stall_after": 3}
    body = json.dumps({"model": "plain", "prompt": "x", "stream": True}).encode()
    with gateway.connect() as socket:
        socket.sendall(http_post(PATH, body, KEY_A))
        until(lambda: b'"text"' in socket.recv(65536), what="the first words")
    until(lambda: vendor.requests[-1].closed_at is not None, what="the end of the upstream call")


def test_the_record_says_which_api_it_was(http: httpx.Client) -> None:
    answer = http.post(PATH, json={"model": "plain", "prompt": "hello"})
    call = f"/v1/calls/{answer.headers['x-request-id']}"
    until(lambda: http.get(call).status_code == 200, what="the record")
    assert http.get(call).json()["endpoint"] == "completions"
