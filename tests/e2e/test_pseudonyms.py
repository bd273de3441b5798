"""Pseudonyms of conversations at a running gateway: the same from call to call, put back, nobody else's, encrypted."""

from __future__ import annotations

import base64
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import openai
import pytest
from gateway_process import GatewayProcess, events_of, text_of
from sample_gateway import key_entry
from upstream.vendor import Vendor

JANE, JOHN, MARY = "jane.doe@example.org", "john.roe@example.com", "mary.major@example.net"
ANNA, BEN, APP, OTHER = (f"sk-gw-canary-{name}-51aa0{n}" for n, name in enumerate(("anna", "ben", "app", "other")))
PLACEHOLDER = re.compile(r"<EMAIL_ADDRESS_[0-9a-f_]+>")


@pytest.fixture(scope="module")
def running(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    rules = {"input": [{"check": "pii", "action": "pseudonymise"}]}
    configuration = {
        "access": {
            "open_on_loopback": False,
            "keys": [
                key_entry("anna", ANNA, tenant="a", user="anna"),
                key_entry("ben", BEN, tenant="a", user="ben"),
                key_entry("app", APP, tenant="a", speaks_for_users=True),
                key_entry("other", OTHER, tenant="b", user="anna"),
            ],
        },
        "records": {"encryption_keys": ["${PSEUDONYM_KEY}"], "pseudonyms": "1h"},
        "providers": {
            "mock": {"kind": "openai_compatible", "base_url": shared_vendor.url, "api_key": shared_vendor.api_key}
        },
        "models": {
            "veiled": {"targets": ["mock/veiled"], "guardrails": {**rules, "pseudonyms": "conversation"}},
            "alone": {"targets": ["mock/veiled"], "guardrails": {**rules, "pseudonyms": "call"}},
        },
    }
    key = base64.b64encode(os.urandom(32)).decode()
    folder = tmp_path_factory.mktemp("pseudonyms")
    with GatewayProcess(configuration, folder, {"PSEUDONYM_KEY": key}) as gateway:
        yield gateway
        stored = gateway.stored()
    assert b"veiled" in stored
    for secret in (JANE, JOHN, key):
        assert secret.encode() not in stored
        assert secret not in gateway.output
    assert "Traceback" not in gateway.output, gateway.output


@pytest.fixture(scope="module")
def door(running: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=20, trust_env=False) as made:
        yield made


def post(door: httpx.Client, key: str, text: str, **more: Any) -> httpx.Response:
    asked = {"model": "veiled", "messages": [{"role": "user", "content": text}], **more}
    told = door.post("/v1/chat/completions", json=asked, headers={"authorization": f"Bearer {key}"})
    assert told.status_code == 200, told.text
    return told


def words(told: httpx.Response) -> str:
    return str(told.json()["choices"][0]["message"]["content"])


class Talk:
    """One caller's calls of one conversation."""

    def __init__(self, door: httpx.Client, vendor: Vendor, name: str, key: str = ANNA, *, stream: bool) -> None:
        self._door, self._vendor, self._key = door, vendor, key
        self._more: dict[str, Any] = {"metadata": {"conversation_id": name}, "stream": stream}

    def says(self, text: str, answer: str | None = None, **more: Any) -> str:
        """The answer: what the vendor's echo, or `answer`, has become on its way back."""
        self._vendor.behaviours["veiled"] = {"piece": 3} | ({"text": answer} if answer is not None else {})
        told = post(self._door, self._key, text, **self._more, **more)
        return text_of(list(events_of(told.content))) if self._more["stream"] else words(told)

    @property
    def seen(self) -> str:
        """What the vendor has read of the last call."""
        return str(self._vendor.requests[-1].body["messages"][-1]["content"])


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@both
def test_a_later_answer_has_the_value_that_only_an_earlier_call_held(
    door: httpx.Client, vendor: Vendor, stream: bool
) -> None:
    anna = Talk(door, vendor, f"later {stream}", stream=stream)
    assert anna.says(f"Write to {JANE}.") == f"echo: Write to {JANE}."
    placeholder = PLACEHOLDER.findall(anna.seen)[0]
    assert JANE.encode() not in vendor.requests[-1].raw
    assert anna.says("To whom?", answer=f"To {placeholder}!") == f"To {JANE}!"
    assert anna.says(f"{JOHN}, then {JANE}.") == f"echo: {JOHN}, then {JANE}."
    john, again = PLACEHOLDER.findall(anna.seen)
    assert again == placeholder != john, "the same value, the same placeholder"
    assert anna.says("To whom?", answer=f"{john} {placeholder}") == f"{JOHN} {JANE}"


@both
def test_nobody_else_gets_anything_by_naming_the_conversation(door: httpx.Client, vendor: Vendor, stream: bool) -> None:
    name = f"mine {stream}"
    anna = Talk(door, vendor, name, stream=stream)
    anna.says(f"Write to {JANE}.")
    placeholder = PLACEHOLDER.findall(anna.seen)[0]
    for key, more in (
        (BEN, {}), (OTHER, {}), (APP, {}), (APP, {"user": "ben"}), (ANNA, {"model": "alone"}),
    ):  # fmt: skip
        somebody = Talk(door, vendor, name, key, stream=stream)
        assert somebody.says("To whom?", answer=f"To {placeholder}!", **more) == f"To {placeholder}!"
        somebody.says(f"Write to {JANE}.", **more)
        assert placeholder not in somebody.seen
    as_anna = Talk(door, vendor, name, APP, stream=stream)
    assert as_anna.says("To whom?", answer=f"To {placeholder}!", user="anna") == f"To {JANE}!", (
        "whom the app speaks for"
    )
    elsewhere = Talk(door, vendor, "another", stream=stream)
    assert elsewhere.says("To whom?", answer=f"To {placeholder}!") == f"To {placeholder}!"


def test_a_prompt_cache_key_names_a_conversation_too(door: httpx.Client, vendor: Vendor) -> None:
    post(door, ANNA, JANE, prompt_cache_key="by key")
    placeholder = vendor.requests[-1].body["messages"][0]["content"]
    told = post(door, ANNA, f"And {JOHN}, {placeholder}?", prompt_cache_key="by key")
    assert words(told) == f"echo: And {JOHN}, {JANE}?"


def test_responses_that_continue_each_other_are_one_conversation(running: GatewayProcess, vendor: Vendor) -> None:
    with openai.OpenAI(base_url=running.url + "/v1", api_key=ANNA, max_retries=0, timeout=20) as sdk:
        first = sdk.responses.create(model="veiled", input=f"Write to {MARY}.")
        placeholder = PLACEHOLDER.findall(vendor.requests[-1].body["messages"][0]["content"])[0]
        second = sdk.responses.create(model="veiled", input="Yes.", previous_response_id=first.id)
        third = sdk.responses.create(model="veiled", input=f"Yes, {MARY}.", previous_response_id=second.id, store=False)
        seen = str(vendor.requests[-1].body["messages"])
        assert PLACEHOLDER.findall(seen) == [placeholder] * 3, "what was said before, and what is said now"
        assert MARY not in seen
        assert third.output_text == f"echo: Yes, {MARY}."
        sdk.responses.create(model="veiled", input=f"Write to {MARY}.")
        assert placeholder not in str(vendor.requests[-1].body), "another chain is another conversation"


def test_a_call_goes_on_while_the_store_is_away(running: GatewayProcess, door: httpx.Client, vendor: Vendor) -> None:
    def rename(before: str, after: str) -> None:
        with closing(sqlite3.connect(running.folder / "data" / "gateway.db", timeout=20)) as connection, connection:
            connection.execute(f"ALTER TABLE {before} RENAME TO {after}")

    def ask() -> httpx.Response:
        return post(door, ANNA, f"Write to {JANE}.", metadata={"conversation_id": "away"})

    rename("pseudonyms", "elsewhere")
    try:
        told = ask()
    finally:
        rename("elsewhere", "pseudonyms")
    assert words(told) == f"echo: Write to {JANE}."
    assert told.headers["x-gateway-degraded"] == "pseudonyms"
    assert JANE.encode() not in vendor.requests[-1].raw
    assert "x-gateway-degraded" not in ask().headers
    first, second = (request.body["messages"] for request in vendor.requests)
    assert first == second
