"""What the client sends: OpenAI's own request, and what its options add to it."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import httpx2
import openai
import pytest

from gateway.client import AsyncClient, Cache, Client, RagOptions
from gateway.client.asking import api_url
from gateway.envelopes import RagOptions as KnownRagOptions

COMPLETION = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
}  # fmt: skip
LISTED = {"object": "list", "data": [], "has_more": False}


class Sent:
    """What came to the other side."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return httpx2.Response(200, json=LISTED if request.method == "GET" else COMPLETION)

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.requests[-1].content))

    @property
    def headers(self) -> httpx2.Headers:
        return self.requests[-1].headers


@pytest.fixture
def sent() -> Sent:
    return Sent()


def client(sent: Sent, **options: Any) -> Client:
    return Client(
        "http://gateway", api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(sent.answer)), **options
    )


def test_a_question_is_a_users_message(sent: Sent) -> None:
    with client(sent) as made:
        answer = made.ask("Hi?", model="m", temperature=0.5)

    assert answer.text == "Hello."
    assert str(sent.requests[0].url) == "http://gateway/v1/chat/completions"
    assert sent.headers["authorization"] == "Bearer k"
    assert sent.body == {"model": "m", "messages": [{"role": "user", "content": "Hi?"}], "temperature": 0.5}
    assert "x-gateway-cache" not in sent.headers


def test_what_the_client_says_holds_for_the_sdks_own_methods_too(sent: Sent) -> None:
    with client(sent, user="ada", cache="off", rag={"top_k": 2}, prompt={"id": "p", "variables": {"a": 1}}) as made:
        made.chat.completions.create(model="m", messages=[])
        assert sent.body["user"] == "ada"
        assert sent.body["rag"] == {"top_k": 2}
        assert sent.body["prompt"] == {"id": "p", "variables": {"a": 1}}
        assert sent.headers["x-gateway-cache"] == "off"

        made.completions.create(model="m", prompt="Once")
        assert sent.body == {"model": "m", "prompt": "Once", "user": "ada", "rag": {"top_k": 2}}

        made.embeddings.create(model="m", input="x", encoding_format="float")
        assert sent.body == {"model": "m", "input": "x", "encoding_format": "float", "user": "ada"}
        assert "x-gateway-cache" not in sent.headers

        made.vector_stores.create(name="s")  # takes no field that OpenAI does not know
        assert sent.body == {"name": "s"}


def test_a_call_says_it_better_than_the_client_and_the_request_best(sent: Sent) -> None:
    with client(sent, user="ada", cache="off") as made:
        made.ask("Hi?", model="m", user="ben", cache="refresh")
        assert (sent.body["user"], sent.headers["x-gateway-cache"]) == ("ben", "refresh")

        called = made.with_call(user="ben").with_options(timeout=3, max_retries=0)
        assert isinstance(called, Client)
        called.chat.completions.create(model="m", messages=[])
        assert (sent.body["user"], sent.headers["x-gateway-cache"]) == ("ben", "off")

        called.chat.completions.create(
            model="m", messages=[], user="eve", extra_headers={"X-Gateway-Cache": "exact"}, extra_body={"rag": {}}
        )
        assert (sent.body["user"], sent.headers["x-gateway-cache"], sent.body["rag"]) == ("eve", "exact", {})

        made.ask("Hi?", model="m")
        assert sent.body["user"] == "ada"


def test_a_user_in_a_header_goes_into_every_request_and_not_into_the_body(sent: Sent) -> None:
    with client(sent, user="ada", user_header="x-user") as made:
        made.ask("Hi?", model="m")
        assert sent.headers["x-user"] == "ada"
        assert "user" not in sent.body

        made.files.list()
        assert sent.headers["x-user"] == "ada"


@pytest.mark.parametrize(
    ("said", "own", "standard"),
    [
        ("off", "off", None),
        ("refresh", "refresh", None),
        ("exact", "exact", None),
        ("only", None, "only-if-cached"),
        (Cache(max_age=60), None, "max-age=60"),
        (Cache("only", max_age=5), None, "only-if-cached, max-age=5"),
        (Cache("refresh", ttl="60s", threshold=0.97), "refresh, ttl=60s, threshold=0.97", None),
    ],
)
def test_the_caches_words(sent: Sent, said: Any, own: str | None, standard: str | None) -> None:
    with client(sent) as made:
        made.ask("Hi?", model="m", cache=said)

    assert sent.headers.get("x-gateway-cache") == own
    assert sent.headers.get("cache-control") == standard


def test_rag_options_are_those_that_the_gateway_knows() -> None:
    assert set(get_type_hints(RagOptions)) == set(KnownRagOptions.__struct_fields__)


async def test_the_asynchronous_client_sends_the_same(sent: Sent) -> None:
    transport = httpx2.MockTransport(sent.answer)
    async with AsyncClient(
        "http://gateway/v1", api_key="k", user="ada", http_client=httpx2.AsyncClient(transport=transport)
    ) as made:
        answer = await made.ask("Hi?", model="m", cache="off", rag={"mode": "dense"})
        await made.with_options(timeout=3).responses.with_raw_response.create(model="m", input="x")

    assert answer.text == "Hello."
    told = json.loads(sent.requests[0].content)
    assert (told["user"], told["rag"], sent.requests[0].headers["x-gateway-cache"]) == ("ada", {"mode": "dense"}, "off")
    assert sent.body == {"model": "m", "input": "x", "user": "ada"}


def test_where_the_gateway_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAG_GATEWAY_URL", raising=False)
    monkeypatch.delenv("RAG_GATEWAY_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-somebody-elses")
    with Client() as made:
        assert (str(made.base_url), made.api_key) == ("http://127.0.0.1:8080/v1/", "none")
    monkeypatch.setenv("RAG_GATEWAY_URL", "https://ai.example/")
    monkeypatch.setenv("RAG_GATEWAY_API_KEY", "sk-gw-1")
    with Client() as made:
        assert (str(made.base_url), made.api_key) == ("https://ai.example/v1/", "sk-gw-1")
    assert api_url("https://ai.example/team/v1") == "https://ai.example/team/v1"
    with pytest.raises(ValueError, match=r"ai\.example is not a gateway's URL"):
        Client("ai.example")


# -- retries are the SDK's; these hold it to what the gateway's headers ask for ---------------------------
def failing(status: int, headers: dict[str, str], sent: Sent) -> Client:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if sent.requests:
            return sent.answer(request)
        sent.requests.append(request)
        error = {"message": "No.", "type": "server_error", "param": None, "code": None}
        return httpx2.Response(status, json={"error": error}, headers=headers)

    return Client("http://gateway", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)), max_retries=2)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_the_gateway_has_tried_enough_is_not_tried_again(sent: Sent, status: int) -> None:
    with failing(status, {"x-should-retry": "false"}, sent) as made, pytest.raises(openai.APIStatusError):
        made.ask("Hi?", model="m")
    assert len(sent.requests) == 1


def test_another_try_waits_as_long_as_the_gateway_asks(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("openai._base_client.time.sleep", slept.append)
    with failing(429, {"retry-after": "7"}, sent) as made:
        assert made.ask("Hi?", model="m", user="ada", cache="off").text == "Hello."
    assert slept == [7.0]
    assert [json.loads(request.content)["user"] for request in sent.requests] == ["ada", "ada"]
    assert [request.headers["x-gateway-cache"] for request in sent.requests] == ["off", "off"]
