"""H1–H3: what the guards find never reaches the client, wherever a stream is cut and whatever field it is in."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from gateway_process import events_of, text_of
from upstream.vendor import Vendor

CHAT = "/v1/chat/completions"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
SECRETS = {
    "github": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"[:36],
    "aws": "AKIA" + "Z7QX3M5N8P2R4T6V",
    "slack": "xoxb-" + "263594206564-2343594206574-FGqddMF8t08v8N7Oq4i57vs1",
    "email": "jane.doe@example.org",
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
}


def pieces(secret: str) -> set[str]:
    """Every 8 characters in a row of it: none of them may be seen."""
    return {secret[i : i + 8] for i in range(len(secret) - 7)}


def plain(http: httpx.Client, model: str) -> dict[str, Any]:
    choice: dict[str, Any] = http.post(CHAT, json={"model": model, "messages": HELLO}).json()["choices"][0]
    return choice


def streamed(http: httpx.Client, model: str) -> tuple[str, list[Any], bytes]:
    answer = http.post(CHAT, json={"model": model, "messages": HELLO, "stream": True})
    assert answer.status_code == 200
    events = list(events_of(answer.content))
    return text_of(events), events, answer.content


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("frame", ["Before {} after.", "{}", "«{}»", "日本語 {}\nnext"])
def test_h1_masked_text_is_the_same_cut_anywhere_and_whole(
    http: httpx.Client, vendor: Vendor, kind: str, frame: str
) -> None:
    secret = SECRETS[kind]
    text = frame.format(secret)
    vendor.behaviours["guarded"] = {"text": text}
    whole = plain(http, "masked")["message"]["content"]
    assert whole != text, "the check knows this secret"
    assert not any(piece in whole for piece in pieces(secret))
    for how in [{"cut": cut} for cut in range(1, len(text))] + [{"piece": size} for size in (1, 2, 3, 5)]:
        vendor.behaviours["guarded"] = {"text": text, **how}
        told, events, body = streamed(http, "masked")
        assert told == whole, how
        assert not any(piece.encode() in body for piece in pieces(secret)), how
        assert events[-1] == "[DONE]"


@pytest.mark.parametrize("kind", SECRETS)
def test_h1_blocked_text_never_begins_to_leave(http: httpx.Client, vendor: Vendor, kind: str) -> None:
    secret = SECRETS[kind]
    text = f"Before it {secret} after it."
    vendor.behaviours["guarded"] = {"text": text}
    choice = plain(http, "blocked")
    assert choice["finish_reason"] == "content_filter"
    assert not choice["message"]["content"]
    for how in [{"cut": cut} for cut in range(1, len(text))] + [{"piece": size} for size in (1, 2, 3, 5)]:
        vendor.behaviours["guarded"] = {"text": text, **how}
        told, events, _ = streamed(http, "blocked")
        assert "Before it ".startswith(told), how
        assert [c["finish_reason"] for e in events[:-1] for c in e["choices"]][-1] == "content_filter"
        assert events[-1] == "[DONE]"


def test_h1_a_blocked_stream_ends_its_upstream_call_at_once(http: httpx.Client, vendor: Vendor) -> None:
    vendor.behaviours["guarded"] = {"text": f"It is {SECRETS['github']} " + "and so on " * 500, "gap": 0.02}
    streamed(http, "blocked")
    assert not vendor.requests[-1].answered


@pytest.mark.parametrize("field", ["reasoning_content", "refusal", "reasoning", "a_field_of_tomorrow"])
@pytest.mark.parametrize("model", ["masked", "blocked"])
def test_h3_no_field_is_a_way_around(http: httpx.Client, vendor: Vendor, field: str, model: str) -> None:
    secret = SECRETS["github"]
    text = f"It is {secret} so."
    vendor.behaviours["guarded"] = {"message_extra": {field: text}}
    assert secret not in json.dumps(plain(http, model))
    for how in ({"piece": 1}, {"piece": 7}, {"cut": 20}):
        vendor.behaviours["guarded"] = {"text": text, "field": field, **how}
        _, events, body = streamed(http, model)
        told = "".join(c["delta"].get(field) or "" for e in events[:-1] for c in e["choices"])
        assert not any(piece in told or piece.encode() in body for piece in pieces(secret))


@pytest.mark.parametrize("model", ["masked", "blocked"])
def test_h3_tool_arguments_and_names_are_screened_too(http: httpx.Client, vendor: Vendor, model: str) -> None:
    """The mock vendor calls each tool that it is offered, by its name, in fragments."""
    secret = SECRETS["github"]
    tools = [{"type": "function", "function": {"name": secret, "parameters": {}}}]
    for stream in (False, True):
        answer = http.post(CHAT, json={"model": model, "messages": HELLO, "tools": tools, "stream": stream})
        assert not any(piece in answer.text for piece in pieces(secret))


@pytest.mark.parametrize("model", ["masked", "blocked"])
def test_h3_every_choice_is_screened_by_itself(http: httpx.Client, vendor: Vendor, model: str) -> None:
    secret = SECRETS["email"]
    vendor.behaviours["guarded"] = {"text": f"Write to {secret} today", "piece": 3}
    for stream in (False, True):
        answer = http.post(CHAT, json={"model": model, "messages": HELLO, "n": 3, "stream": stream})
        assert not any(piece in answer.text for piece in pieces(secret))


def test_h3_logprobs_are_no_second_copy_of_the_text(http: httpx.Client, vendor: Vendor) -> None:
    answer = http.post(CHAT, json={"model": "masked", "messages": HELLO, "logprobs": True})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "logprobs")


@pytest.mark.parametrize("stream", [False, True])
def test_a_secret_in_the_question_is_refused_before_it_leaves(http: httpx.Client, vendor: Vendor, stream: bool) -> None:
    messages = [{"role": "user", "content": f"My token is {SECRETS['github']}, keep it."}]
    answer = http.post(CHAT, json={"model": "screened", "messages": messages, "stream": stream})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "content_filter")
    assert SECRETS["github"] not in answer.text
    assert vendor.requests == []


def test_personal_data_in_the_question_is_masked_before_it_leaves(http: httpx.Client, vendor: Vendor) -> None:
    parts = [{"type": "text", "text": f"Write to {SECRETS['email']} please"}]
    http.post(CHAT, json={"model": "screened", "messages": [{"role": "user", "content": parts}]})
    assert SECRETS["email"].encode() not in vendor.requests[-1].raw
    assert b"please" in vendor.requests[-1].raw


def test_what_a_guard_found_is_told_in_the_record_without_the_words(http: httpx.Client, vendor: Vendor) -> None:
    vendor.behaviours["guarded"] = {"text": f"Write to {SECRETS['email']} today"}
    answer = http.post(CHAT, json={"model": "masked", "messages": HELLO})
    told = http.get("/v1/calls/" + answer.headers["x-gateway-call-id"])
    assert [(verdict["stage"], verdict["check"], verdict["action"]) for verdict in told.json()["guardrails"]] == [
        ("output", "pii", "mask")
    ]
    assert SECRETS["email"] not in told.text
