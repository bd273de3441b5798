"""A1-A9 on every kind of provider that has a wire format, paths or credentials of its own; each vendor's log judges.

OpenAI's and Anthropic's formats are in test_ab_routes.py, on every route.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from functools import partial
from typing import Any

import httpx
import pytest
from gateway_process import GatewayProcess, events_of, http_post, read_all, text_of, until
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from sample_gateway import KEY_A, KEY_ADMIN, key_entry
from upstream import azure, bedrock, cohere, gemini, mistral
from upstream.anthropic import AnthropicVendor
from upstream.vendor import Seen, Vendor

CHAT = "/v1/chat/completions"
HELLO: list[Any] = [{"role": "user", "content": "one two three four five six seven eight nine ten"}]
MOCKS: dict[str, Callable[[], Vendor]] = {
    "gemini": gemini.GeminiVendor,
    "bedrock": partial(Vendor, answers=bedrock.BedrockAnswer),
    "cohere": partial(Vendor, answers=cohere.CohereAnswer),
    "mistral": partial(Vendor, answers=mistral.MistralAnswer),
    "azure_openai": partial(Vendor, answers=azure.AzureAnswer),
}
KINDS = [*MOCKS, "vertex"]  # Vertex AI is Gemini's format with other paths and tokens
SSE = [kind for kind in KINDS if kind != "bedrock"]  # Bedrock streams in AWS's binary framing
FORMATS = [*MOCKS, "anthropic"]
TRANSLATED = ["gemini", "bedrock", "cohere", "anthropic"]  # nothing of what they send is relayed as it is
CALL_EACH = ["bedrock", "cohere"]  # a call has one choice: the gateway makes several
EMBEDDING_MODELS = {"bedrock": "amazon.titan-embed-text-v2:0"}


@pytest.fixture(scope="module")
def vendors() -> Iterator[dict[str, Vendor]]:
    with ExitStack() as stack:
        running = {kind: stack.enter_context(vendor()) for kind, vendor in MOCKS.items()}
        claude = stack.enter_context(AnthropicVendor())
        yield {**running, "vertex": running["gemini"], "anthropic": claude}


@pytest.fixture(scope="module")
def running(vendors: dict[str, Vendor], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    at = {kind: f"http://127.0.0.1:{vendor.port}" for kind, vendor in vendors.items()}
    google = vendors["vertex"]
    assert isinstance(google, gemini.GeminiVendor)
    account = google.account()
    key = {"api_key": google.api_key}
    own: dict[str, dict[str, Any]] = {
        "gemini": {"base_url": at["gemini"], **key},
        "bedrock": {
            "base_url": at["bedrock"], "region": bedrock.REGION,
            "access_key_id": bedrock.ACCESS_KEY, "secret_access_key": bedrock.SECRET_KEY,
        },
        "cohere": {"base_url": at["cohere"], **key},
        "mistral": {"base_url": at["mistral"], **key},
        "azure_openai": {"endpoint": at["azure_openai"], **key},
        "vertex": {"base_url": at["vertex"], "project": "a-project", "credentials_json": json.dumps(account)},
        "anthropic": {"base_url": vendors["anthropic"].url, "api_key": vendors["anthropic"].api_key},
    }  # fmt: skip
    short = {
        "timeouts": {"connect": "1s", "first_token": "2s", "between_tokens": "1s", "total": "30s"},
        "retries": {"attempts": 0},
        "circuit": {"failures": 1_000_000, "within": "1h", "pause": "1ms", "longest": "1ms"},
    }
    long = {**short, "timeouts": {"first_token": "30s", "between_tokens": "30s", "total": "60s"}}
    providers: dict[str, Any] = {}
    models: dict[str, Any] = {}
    for kind, settings in own.items():
        providers[kind] = {"kind": kind, **settings, **short}
        providers[f"{kind}_patient"] = {"kind": kind, **settings, **long}
        providers[f"{kind}_narrow"] = {"kind": kind, **settings, **long, "max_connections": 1}
        providers[f"{kind}_retrying"] = {"kind": kind, **settings, **short, "retries": {"attempts": 2}}
        models[f"{kind}-cached"] = {
            "targets": [f"{kind}_retrying/gpt"],
            "fallbacks": [f"{kind}/second"],
            "cache": {"exact": {"ttl": "1h"}},
        }
    access = {"open_on_loopback": False, "keys": [key_entry("a", KEY_A), key_entry("admin", KEY_ADMIN, admin=True)]}
    configuration = {"access": access, "providers": providers, "models": models}
    with GatewayProcess(configuration, tmp_path_factory.mktemp("kinds")) as gateway:
        yield gateway
        metrics = httpx.get(gateway.url + "/metrics", headers={"authorization": f"Bearer {KEY_ADMIN}"}).text
    assert "Traceback" not in gateway.output, gateway.output
    canaries = KEY_A, KEY_ADMIN, google.api_key, account["private_key"].splitlines()[1], bedrock.SECRET_KEY
    for secret in canaries:
        assert secret not in gateway.output
        assert secret not in metrics
        assert secret.encode() not in gateway.stored()


@pytest.fixture
def judge(kind: str, vendors: dict[str, Vendor]) -> Vendor:
    """The vendor of this kind; its own log says what the gateway really did."""
    vendors[kind].clear()
    return vendors[kind]


@pytest.fixture(scope="module")
def session(running: GatewayProcess) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY_A}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=30, trust_env=False) as made:
        yield made
        until(lambda: metric(made, "rag_gateway_calls_in_progress") == 0, what="the end of every call")


@pytest.fixture
def http(session: httpx.Client, judge: Vendor) -> Iterator[httpx.Client]:
    """A client of the gateway; every test also proves that it leaves it alive and with nothing under way."""
    yield session
    until(lambda: not judge.unsettled, what="the end of every upstream call")
    assert session.get("/healthz").json() == {"status": "ok"}


def metric(http: httpx.Client, name: str, *labels: str) -> float:
    """The sum of a metric's series that have these labels."""
    told = http.get("/metrics", headers={"authorization": f"Bearer {KEY_ADMIN}"}).text
    series = re.findall(rf"^{name}({{[^}}]*}})? (\S+)$", told, re.MULTILINE)
    return sum(float(value) for labelled, value in series if all(label in labelled for label in labels))


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": HELLO, **more}


def calls(vendor: Vendor) -> list[Seen]:
    """What it was asked, without what its token service was."""
    return [seen for seen in vendor.requests if seen.path != "/token"]


def ended_unanswered(seen: Seen) -> None:
    until(lambda: seen.closed_at is not None)
    assert not seen.answered


# -- A1 to A4 ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_a1_leaving_in_the_middle_of_a_stream_ends_the_upstream_call(
    running: GatewayProcess, judge: Vendor, http: httpx.Client, kind: str
) -> None:
    judge.behaviours["gpt"] = {"gap": 0.05, "text": "word " * 200, "piece": 5}
    output = "gen_ai_client_token_usage_sum", 'gen_ai_token_type="output"', f"{kind}_narrow/*"
    billed = metric(http, *output)
    unique = f"a1-{kind}-{time.time()}"
    with running.connect() as client:
        client.sendall(http_post(CHAT, body(f"{kind}_narrow/gpt", stream=True), KEY_A, (f"x-request-id: {unique}",)))
        received = b""
        while received.count(b"word") < 3:
            received += client.recv(65536)
    (seen,) = calls(judge)
    ended_unanswered(seen)
    call = until(lambda: (told := http.get("/v1/calls/" + unique)).status_code == 200 and told.json())
    assert call["outcome"] == "cancelled"
    assert call["usage"]["estimated"]
    assert 3 <= call["usage"]["completion_tokens"] <= 60
    assert metric(http, *output) - billed == call["usage"]["completion_tokens"], "once"
    judge.behaviours.clear()
    again = http.post(CHAT, json=body(f"{kind}_narrow/gpt"))
    assert again.status_code == 200, "the one connection that this provider may have is free again"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("when", "stream"), [("delay", True), ("delay_after", True), ("delay", False)], ids=["head", "body", "plain"]
)
def test_a2_a3_leaving_before_the_first_token_ends_the_upstream_call(
    running: GatewayProcess, judge: Vendor, http: httpx.Client, kind: str, when: str, stream: bool
) -> None:
    judge.behaviours["gpt"] = {when: 20}
    leave(running, judge, CHAT, body(f"{kind}_patient/gpt", stream=stream))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"])
def test_a4_leaving_ends_the_upstream_call_on_every_route(
    running: GatewayProcess, judge: Vendor, http: httpx.Client, kind: str, path: str
) -> None:
    embedding = EMBEDDING_MODELS.get(kind, "gpt")
    judge.behaviours |= {"gpt": {"delay": 20}, embedding: {"delay": 20}}
    of_route: dict[str, dict[str, Any]] = {
        "/v1/completions": {"prompt": "x", "stream": True},
        "/v1/responses": {"input": "x", "stream": True},
        "/v1/messages": {"messages": HELLO, "max_tokens": 9, "stream": True},
        "/v1/embeddings": {"model": f"{kind}_patient/{embedding}", "input": "x"},
    }
    leave(running, judge, path, {"model": f"{kind}_patient/gpt", **of_route[path]})


def test_a4_leaving_a_rerank_call_ends_it(running: GatewayProcess, vendors: dict[str, Vendor]) -> None:
    judge = vendors["cohere"]
    judge.clear()
    judge.behaviours["gpt"] = {"delay": 20}
    leave(running, judge, "/v1/rerank", {"model": "cohere_patient/gpt", "query": "x", "documents": ["y", "z"]})


@pytest.mark.parametrize("kind", CALL_EACH)
@pytest.mark.parametrize("when", ["delay", "delay_after"])
def test_a2_leaving_before_the_first_token_ends_every_call_of_several_choices(
    running: GatewayProcess, judge: Vendor, http: httpx.Client, kind: str, when: str
) -> None:
    judge.behaviours["gpt"] = {when: 20}
    leave(running, judge, CHAT, body(f"{kind}_patient/gpt", stream=True, n=3), count=3)


@pytest.mark.parametrize("kind", CALL_EACH)
def test_a1_leaving_in_the_middle_of_a_stream_ends_every_call_of_several_choices(
    running: GatewayProcess, judge: Vendor, http: httpx.Client, kind: str
) -> None:
    judge.behaviours["gpt"] = {"gap": 0.05, "text": "word " * 200, "piece": 5}
    with running.connect() as client:
        client.sendall(http_post(CHAT, body(f"{kind}_patient/gpt", stream=True, n=3), KEY_A))
        received = b""
        while received.count(b"word") < 9:
            received += client.recv(65536)
    assert len(judge.requests) == 3
    for seen in judge.requests:
        ended_unanswered(seen)


def leave(gateway: GatewayProcess, vendor: Vendor, path: str, asked: dict[str, Any], count: int = 1) -> None:
    """Ask, wait for the upstream calls, leave; they must end within a second."""
    with gateway.connect() as client:
        client.sendall(http_post(path, asked, KEY_A))
        until(lambda: len(calls(vendor)) == count)
    for seen in calls(vendor):
        ended_unanswered(seen)
    assert len(calls(vendor)) == count


# -- A5 and A6 ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["reset", "end", "truncated", "fin"])
def test_a5_a_stream_that_dies_ends_with_an_error_event(http: httpx.Client, judge: Vendor, kind: str, how: str) -> None:
    """The model may be asked again, has a fallback, and a cache: none of them may have a part in this."""
    judge.behaviours["gpt"] = {"die_after": 6, "how": how}
    messages = [{"role": "user", "content": f"{HELLO[0]['content']} {time.time()}"}]
    asked = {"model": f"{kind}-cached", "messages": messages, "stream": True}
    answer = http.post(CHAT, json=asked)
    events = list(events_of(answer.content))
    assert [event for event in events if "error" in event] == [events[-1]]
    assert (events[-1]["error"]["type"], events[-1]["error"]["code"]) == ("server_error", "upstream_disconnected")
    assert all(choice["finish_reason"] is None for event in events[:-1] for choice in event["choices"])
    assert ("echo: " + messages[0]["content"]).startswith(text_of(events))
    assert len(text_of(events)) > 8
    assert len(calls(judge)) == 1, "an answer is never begun again behind the caller's back"
    call = http.get("/v1/calls/" + answer.headers["x-gateway-call-id"]).json()
    assert call["outcome"] == "error"
    assert call["usage"]["completion_tokens"] > 0
    judge.behaviours.clear()
    again = http.post(CHAT, json=asked)
    assert again.headers["x-gateway-cache"] != "hit"
    assert list(events_of(again.content))[-1] == "[DONE]"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["reset", "end", "truncated", "fin"])
def test_a5_a_stream_that_dies_before_any_content_is_a_502(
    http: httpx.Client, judge: Vendor, kind: str, how: str
) -> None:
    judge.behaviours["gpt"] = {"die_after": 0, "how": how}
    answer = http.post(CHAT, json=body(f"{kind}/gpt", stream=True))
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_disconnected")


@pytest.mark.parametrize("kind", CALL_EACH)
def test_a5_when_one_of_several_choices_dies_the_others_are_cut_off(
    http: httpx.Client, judge: Vendor, kind: str
) -> None:
    judge.behaviours["gpt"] = {"die_after": 6, "fail_times": 1, "gap": 0.05, "text": "word " * 200}
    events = list(events_of(http.post(CHAT, json=body(f"{kind}/gpt", stream=True, n=3)).content))
    assert events[-1]["error"]["code"] == "upstream_disconnected"
    assert "[DONE]" not in events
    assert len(judge.requests) == 3
    for seen in judge.requests:
        until(lambda seen=seen: seen.closed_at is not None)
    assert sum(seen.answered for seen in judge.requests) <= 1, "the one that died"


def test_a6_a_stream_that_stalls_is_cut_at_the_idle_timeout(
    running: GatewayProcess, vendors: dict[str, Vendor]
) -> None:
    """`between_tokens` is 1 s here. Of each kind's two streams one falls silent, and one sends what is no token for ever.

    All at once, since each takes more than a second.
    """
    for vendor in vendors.values():
        vendor.clear()
    clients = []
    asked: list[tuple[str, Seen]] = []
    for kind in KINDS:
        for model, ping in (("silent", False), ("pinging", True)):
            vendors[kind].behaviours[model] = {"stall_after": 5, "gap": 0.05, "ping": ping}
            before = len(calls(vendors[kind]))
            client = running.connect()
            clients.append(client)
            client.sendall(http_post(CHAT, body(f"{kind}/{model}", stream=True), KEY_A))
            until(lambda kind=kind, before=before: len(calls(vendors[kind])) > before)
            asked.append((f"{kind}/{model}", calls(vendors[kind])[-1]))
    for client, (label, seen) in zip(clients, asked, strict=True):
        with client:
            answer = read_all(client)
        assert b"upstream_timeout_between_tokens" in answer, label
        assert b"[DONE]" not in answer, label
        until(lambda seen=seen: seen.closed_at is not None)
        assert seen.closed_at is not None
        assert seen.closed_at - seen.at - 0.25 >= 0.8, label


# -- A7 ----------------------------------------------------------------------------------------------------
HARD_TEXT = '日本語のテキスト 👩‍👩‍👧‍👦🏔️ é\u0301 \r\n\r\ndata: not an event\n\n\u2028\u2029\ufeff end\t"\\ ]}'
STYLES: list[dict[str, bool]] = [
    {}, {"crlf": True}, {"bom": True}, {"multiline": True}, {"comments": True},
    {"bom": True, "crlf": True, "multiline": True, "comments": True},
]  # fmt: skip


@pytest.mark.parametrize(("kind", "style"), [("bedrock", {}), *((kind, style) for kind in SSE for style in STYLES)])
def test_a7_a_dribbled_answer_is_the_same_to_the_byte(
    http: httpx.Client, judge: Vendor, kind: str, style: dict[str, bool]
) -> None:
    for segment in (1, 7):
        judge.behaviours["gpt"] = {"text": HARD_TEXT, "segment": segment, "piece": 12, **style}
        answer = http.post(CHAT, json=body(f"{kind}/gpt", stream=True))
        events = list(events_of(answer.content))
        assert text_of(events) == HARD_TEXT
        assert events[-1] == "[DONE]"
    whole = http.post(CHAT, json=body(f"{kind}/gpt"))
    assert whole.json()["choices"][0]["message"]["content"] == HARD_TEXT


# -- A8 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "garbage", ["bad_json", "bad_utf8", "huge_line", "html", "short", "gzip", "not_object", "empty"]
)
def test_a8_garbage_from_upstream_is_a_502(
    running: GatewayProcess, http: httpx.Client, judge: Vendor, kind: str, garbage: str, stream: bool
) -> None:
    before = running.rss
    judge.behaviours["gpt"] = {"body": garbage}
    answer = http.post(CHAT, json=body(f"{kind}/gpt", stream=stream))
    if stream and garbage == "short" and answer.status_code == 200:
        # All that is missing may be the end of the body: what is there was told, and its end never invented.
        assert b"error" in answer.content or b"[DONE]" in answer.content
    else:
        assert answer.status_code == 502, answer.text
        assert answer.json()["error"]["type"] == "server_error"
    assert running.rss - before < 100_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_a8_garbage_in_the_middle_of_a_stream_is_an_error_event(http: httpx.Client, judge: Vendor, kind: str) -> None:
    judge.behaviours["gpt"] = {"bad_event": 6, "gap": 0.02}
    events = list(events_of(http.post(CHAT, json=body(f"{kind}/gpt", stream=True)).content))
    assert events[-1]["error"]["code"] == "upstream_bad_answer"
    assert "[DONE]" not in events
    assert "echo: one".startswith(text_of(events)[:9])


@pytest.mark.parametrize("kind", KINDS)
def test_a8_bytes_beyond_an_answers_length_do_not_reach_the_next_call(
    http: httpx.Client, judge: Vendor, kind: str
) -> None:
    judge.behaviours["long"] = {"body": "long"}
    for _ in range(3):
        http.post(CHAT, json=body(f"{kind}/long"))
        answer = http.post(CHAT, json=body(f"{kind}/gpt"))
        assert answer.json()["choices"][0]["message"]["content"] == "echo: " + HELLO[0]["content"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
def test_a8_the_memory_of_bad_answers_is_given_back(
    running: GatewayProcess, http: httpx.Client, judge: Vendor, kind: str, stream: bool
) -> None:
    """10 MB each; what one call leaves behind must not wait for the garbage collector."""
    judge.behaviours["gpt"] = {"body": "huge_line"}
    asked = body(f"{kind}/gpt", stream=stream)
    assert http.post(CHAT, json=asked).status_code == 502
    before = running.rss
    for _ in range(8):
        assert http.post(CHAT, json=asked).status_code == 502
    assert running.rss - before < 48_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_a8_after_an_error_under_a_good_status_each_call_gets_its_own_answer(
    running: GatewayProcess, http: httpx.Client, judge: Vendor, kind: str
) -> None:
    """A connection that was given back twice would serve two of the calls."""
    judge.behaviours["bad"] = {"spoil": lambda document: {**document, "error": {"message": "overloaded"}}}
    for _ in range(3):
        answer = http.post(CHAT, json=body(f"{kind}/bad"))
        assert answer.status_code == 502 or "error" not in answer.json()

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        messages = [{"role": "user", "content": f"number {number}"}]
        answer = await client.post(CHAT, json={"model": f"{kind}/gpt", "messages": messages})
        assert answer.json()["choices"][0]["message"]["content"] == f"echo: number {number}"

    async def all_at_once() -> None:
        async with httpx.AsyncClient(base_url=running.url, headers=http.headers, trust_env=False) as client:
            await asyncio.gather(*[ask(client, number) for number in range(12)])

    judge.behaviours["gpt"] = {"delay": 0.02}
    asyncio.run(all_at_once())


# What such an answer may be called, besides an answer; an event that no longer says that it is the last is none.
WRONG = ("upstream_bad_answer", "upstream_disconnected", "upstream_error")


class Spoiler:
    """Puts `value` in the place of one of the values in an answer's JSON, the `number`th of all its documents."""

    def __init__(self, number: int, value: Any) -> None:
        self._left = number
        self._value = value
        self.replaced: str | None = None

    def __call__(self, document: dict[str, Any]) -> dict[str, Any]:
        document = deepcopy(document)
        for holder, place in list(places(document)):
            if self._left == 0:
                self.replaced = f"{place!r} of {holder!r}"
                holder[place] = self._value
            self._left -= 1
        return document


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    inner = document.items() if isinstance(document, dict) else enumerate(document)
    for place, value in inner:
        yield document, place
        if isinstance(value, dict | list):
            yield from places(value)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {"messages": HELLO}),
    "stream": (CHAT, {"messages": HELLO, "stream": True}),
    "tools": (CHAT, {"messages": HELLO, "tools": [TOOL]}),
    "tools-stream": (CHAT, {"messages": HELLO, "tools": [TOOL], "stream": True}),
    "embeddings": ("/v1/embeddings", {"input": "x"}),
    "base64": ("/v1/embeddings", {"input": "x", "encoding_format": "base64"}),
    "rerank": ("/v1/rerank", {"query": "x", "documents": ["y", "z"], "return_documents": True}),
}
MOST = [asked for asked in ASKED if asked != "rerank"]
SERVED = {"cohere": list(ASKED), "anthropic": [asked for asked in MOST if ASKED[asked][0] == CHAT]}


@pytest.mark.parametrize(
    ("kind", "asked"), [(kind, asked) for kind in FORMATS for asked in ASKED if asked in SERVED.get(kind, MOST)]
)
@pytest.mark.parametrize("value", [None, 7, "seven", [None], {"seven": 7}], ids=["null", "7", "text", "list", "object"])
def test_a8_a_value_of_the_wrong_type_is_the_vendors_fault(
    http: httpx.Client, judge: Vendor, kind: str, asked: str, value: Any
) -> None:
    """Each value of the answer's JSON in its turn. What is translated at all is of OpenAI's types."""
    path, fields = ASKED[asked]
    model = EMBEDDING_MODELS.get(kind, "gpt") if "input" in fields else "gpt"
    number = 0
    while True:
        spoiler = Spoiler(number, value)
        judge.behaviours[model] = {"text": "yes", "spoil": spoiler}
        answer = http.post(path, json={"model": f"{kind}/{model}", **fields})
        if spoiler.replaced is None:
            assert answer.status_code == 200
            break
        number += 1
        assert answer.status_code in (200, 502), spoiler.replaced
        streamed = "stream" in fields and answer.status_code == 200
        events = list(events_of(answer.content)) if streamed else [answer.json()]
        if "error" in events[-1]:
            assert events.pop()["error"]["code"] in WRONG, spoiler.replaced
        elif streamed:
            assert events.pop() == "[DONE]", spoiler.replaced
        if kind in TRANSLATED and path == CHAT:
            for event in events:
                (ChatCompletionChunk if streamed else ChatCompletion).model_validate(event)
    assert number > 1


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("value", [None, 7, "seven", [None], {"seven": 7}], ids=["null", "7", "text", "list", "object"])
def test_a8_a_refusal_of_odd_types_is_still_a_refusal(http: httpx.Client, judge: Vendor, kind: str, value: Any) -> None:
    for status in (400, 422, 429):
        number = 0
        while True:
            spoiler = Spoiler(number, value)
            judge.behaviours["gpt"] = {"status": status, "spoil": spoiler}
            answer = http.post(CHAT, json=body(f"{kind}/gpt"))
            assert answer.status_code in (status, 400), spoiler.replaced
            assert isinstance(answer.json()["error"]["message"], str)
            if spoiler.replaced is None:
                break
            number += 1


# -- A9 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_a9_a_slow_reader_holds_up_the_vendor_and_not_the_memory(
    running: GatewayProcess, http: httpx.Client, judge: Vendor, kind: str
) -> None:
    judge.behaviours["gpt"] = {"text": "tell me more " * 5_000, "repeat": 770, "piece": 65_000}  # 50 MB
    other = body(f"{kind}_patient/another")
    http.post(CHAT, json=other)
    before = running.rss
    # Not smaller: below a loopback packet's size, the kernel's own probing of a closed window takes up to minutes.
    with running.connect(receive_buffer=131_072) as slow:
        slow.sendall(http_post(CHAT, body(f"{kind}_patient/gpt", stream=True), KEY_A))
        told = until(lambda: next((seen for seen in judge.requests if seen.sent), None))
        received = b""
        sent = still = 0
        end = time.monotonic() + 30
        while still < 15:  # calls of others during which the vendor could not send any more
            assert time.monotonic() < end, "the vendor goes on sending"
            received += slow.recv(1024)
            still, sent = (still + 1, sent) if told.sent == sent else (0, told.sent)
            assert http.post(CHAT, json=other).status_code == 200
            time.sleep(0.02)
        assert running.rss - before < 50_000_000
        assert sent < 30_000_000
        assert not told.answered
        while told.sent < sent + 2_000_000:  # as soon as it reads, it goes on
            piece = slow.recv(65_536)
            assert piece
            received += piece
        assert b"error" not in received
    ended_unanswered(told)
