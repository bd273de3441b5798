"""A1-A9 on every road: each API that answers with text, over OpenAI's format and over Anthropic's.

B8 and B9 are here for `/v1/messages`; for the others they are with the API's own tests.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from claude_gateway import claude_configuration
from gateway_process import GatewayProcess, events_of, http_post, read_all, text_of, until
from sample_gateway import KEY_A, KEY_NARROW
from upstream.anthropic import AnthropicVendor
from upstream.vendor import Vendor

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
HELLO: list[Any] = [{"role": "user", "content": "one two three four five six seven eight nine ten"}]
JSON_TYPE = {"content-type": "application/json"}


@dataclass(frozen=True)
class Road:
    """One way through the gateway: the client's API, the public model, and what it is called upstream.

    This one is OpenAI's chat; each other API says in what it differs.
    """

    model: str
    upstream: str
    path: ClassVar[str] = CHAT
    last: ClassVar[bytes] = b"data: [DONE]"  # what only a whole stream has

    def body(self, messages: list[Any] = HELLO, **more: Any) -> dict[str, Any]:
        return {"model": self.model, "messages": messages, **more}

    def events(self, content: bytes) -> list[Any]:
        return list(events_of(content))

    def text(self, events: list[Any]) -> str:
        return text_of(events)

    def error(self, document: Any) -> Any:
        """What an error's body, or the event that ends a broken stream, says of it; None where it is no error."""
        return document.get("error") if isinstance(document, dict) else None

    def code(self, error: Any) -> str | None:
        """The gateway's own word for it, where this API has a place for one."""
        return str(error["code"])


class Messages(Road):
    path = MESSAGES
    last = b"event: message_stop"

    def body(self, messages: list[Any] = HELLO, **more: Any) -> dict[str, Any]:
        return {**super().body(messages, **more), "max_tokens": 100}

    def events(self, content: bytes) -> list[Any]:
        return [json.loads(event.partition(b"\ndata: ")[2]) for event in content.split(b"\n\n") if event]

    def text(self, events: list[Any]) -> str:
        deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
        return "".join(delta["text"] for delta in deltas if delta["type"] == "text_delta")

    def code(self, error: Any) -> str | None:
        return str(error["details"]["error_code"])


class Completions(Road):
    path = "/v1/completions"

    def body(self, messages: list[Any] = HELLO, **more: Any) -> dict[str, Any]:
        return {"model": self.model, "prompt": messages[0]["content"], **more}

    def text(self, events: list[Any]) -> str:
        return "".join(choice["text"] for event in events if "choices" in event for choice in event["choices"])


class Responses(Messages):
    path = "/v1/responses"
    last = b"event: response.completed"

    def body(self, messages: list[Any] = HELLO, **more: Any) -> dict[str, Any]:
        return {"model": self.model, "input": messages, **more}

    def text(self, events: list[Any]) -> str:
        return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")

    def error(self, document: Any) -> Any:
        return document.get("error") or document.get("response", {}).get("error")

    def code(self, error: Any) -> str | None:
        return None if error["code"] == "server_error" else str(error["code"])


PLAIN = [
    Road("claude", "claude-sonnet-5"),
    Messages("claude", "claude-sonnet-5"),
    Messages("plain", "gpt-mock"),
    Completions("claude", "claude-sonnet-5"),
    Completions("plain", "gpt-mock"),
    Responses("claude", "claude-sonnet-5"),
    Responses("plain", "gpt-mock"),
]
GUARDED = [
    Road("claude-masked", "claude-guarded"),
    Messages("claude-masked", "claude-guarded"),
    Messages("masked", "guarded"),
    Responses("masked", "guarded"),
]
CACHED = [
    Road("claude-cached", "claude-cached"),
    Messages("claude-cached", "claude-cached"),
    Messages("cached", "cached"),
    Responses("cached", "cached"),
]


def patient(road: Road) -> Road:
    provider = "claude_patient" if road.upstream.startswith("claude") else "patient"
    return replace(road, model=f"{provider}/{road.upstream}")


def on(roads: list[Road]) -> Any:
    return pytest.mark.parametrize("road", roads, ids=lambda road: f"{road.path[4:]}-{road.model}")


@pytest.fixture(scope="module")
def claude_vendor() -> Iterator[AnthropicVendor]:
    with AnthropicVendor() as running:
        yield running


@pytest.fixture(scope="module")
def running(
    shared_vendor: Vendor, claude_vendor: AnthropicVendor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    configuration = claude_configuration(shared_vendor, claude_vendor)
    with GatewayProcess(configuration, tmp_path_factory.mktemp("anthropic")) as gateway:
        yield gateway
    assert "Traceback" not in gateway.output, gateway.output


@pytest.fixture
def claude(claude_vendor: AnthropicVendor) -> Iterator[AnthropicVendor]:
    claude_vendor.clear()
    yield claude_vendor
    until(lambda: not claude_vendor.unsettled, what="the end of every upstream call")


@pytest.fixture
def http(running: GatewayProcess, vendor: Vendor, claude: AnthropicVendor) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, headers={"x-api-key": KEY_A}, timeout=20, trust_env=False) as made:
        yield made
    assert httpx.get(running.url + "/healthz", timeout=5).json() == {"status": "ok"}


@pytest.fixture
def judge(road: Road, vendor: Vendor, claude: AnthropicVendor) -> Vendor:
    """The vendor at the end of this road; its own log says what the gateway really did."""
    return claude if road.upstream.startswith("claude") else vendor


# -- A1 to A4 ----------------------------------------------------------------------------------------------
@on(PLAIN + GUARDED + CACHED)
def test_a1_leaving_in_the_middle_of_a_stream_ends_the_upstream_call(
    running: GatewayProcess, judge: Vendor, http: httpx.Client, road: Road
) -> None:
    judge.behaviours[road.upstream] = {"gap": 0.1, "text": "word " * 100}
    unique = f"a1-{time.time()}"
    body = road.body([{"role": "user", "content": unique}], stream=True)
    with running.connect() as client:
        client.sendall(http_post(road.path, body, KEY_A, (f"x-request-id: {unique}",)))
        received = b""
        while received.count(b"word") < 3:
            received += client.recv(65536)
    until(lambda: judge.requests[0].closed_at is not None)
    assert not judge.requests[0].answered
    call = until(lambda: (told := http.get("/v1/calls/" + unique)).status_code == 200 and told.json())
    assert call["outcome"] == "cancelled"
    assert call["usage"]["estimated"]
    assert 3 <= call["usage"]["completion_tokens"] <= 40


@on(PLAIN)
@pytest.mark.parametrize(
    ("when", "stream"), [("delay", True), ("delay_after", True), ("delay", False)], ids=["head", "body", "plain"]
)
def test_a2_a3_a4_leaving_before_the_first_token_ends_the_upstream_call(
    running: GatewayProcess, judge: Vendor, http: httpx.Client, road: Road, when: str, stream: bool
) -> None:
    judge.behaviours[road.upstream] = {when: 20}
    with running.connect() as client:
        client.sendall(http_post(road.path, patient(road).body(stream=stream), KEY_A))
        until(lambda: judge.requests)
    until(lambda: judge.requests[0].closed_at is not None)
    assert not judge.requests[0].answered
    assert len(judge.requests) == 1


# -- A5 and A6 ---------------------------------------------------------------------------------------------
@on(PLAIN + GUARDED + CACHED)
@pytest.mark.parametrize("how", ["reset", "end", "truncated", "fin"])
def test_a5_a_stream_that_dies_ends_with_an_error_event(
    http: httpx.Client, judge: Vendor, road: Road, how: str
) -> None:
    judge.behaviours[road.upstream] = {"die_after": 8, "how": how}
    messages = [{"role": "user", "content": f"{HELLO[0]['content']} {time.time()}"}]
    answer = http.post(road.path, json=road.body(messages, stream=True))
    events = road.events(answer.content)
    assert [event for event in events if road.error(event)] == [events[-1]]
    assert road.error(events[-1])["message"]
    assert road.code(road.error(events[-1])) in (None, "upstream_disconnected")
    assert road.last not in answer.content
    assert b"end_turn" not in answer.content
    assert b'"finish_reason":"stop"' not in answer.content
    assert ("echo: " + messages[0]["content"]).startswith(road.text(events))
    assert len(judge.requests) == 1, "an answer is never begun again behind the caller's back"
    call = http.get("/v1/calls/" + answer.headers["x-gateway-call-id"]).json()
    assert call["outcome"] == "error"
    assert call["usage"]["completion_tokens"] > 0
    judge.behaviours.clear()
    again = http.post(road.path, json=road.body(messages, stream=True))
    assert again.headers["x-gateway-cache"] != "hit"
    assert road.last in again.content


@on(PLAIN + GUARDED)
@pytest.mark.parametrize("ping", [False, True])
def test_a6_a_stream_that_stalls_is_cut_at_the_idle_timeout(
    running: GatewayProcess, judge: Vendor, http: httpx.Client, road: Road, ping: bool
) -> None:
    """`between_tokens` is 1 s here; neither comments nor `ping` events are tokens."""
    judge.behaviours[road.upstream] = {"stall_after": 5, "ping": ping, "gap": 0.05}
    with running.connect() as client:
        client.sendall(http_post(road.path, road.body(stream=True), KEY_A))
        until(lambda: judge.requests)
        answer = read_all(client)
    ended = time.monotonic() - judge.requests[0].at
    assert b"upstream_timeout_between_tokens" in answer or road.path == Responses.path
    assert road.last not in answer
    assert ended - 0.25 >= 0.8
    until(lambda: judge.requests[0].closed_at is not None)


# -- A7 ----------------------------------------------------------------------------------------------------
HARD_TEXT = '日本語のテキスト 👩‍👩‍👧‍👦🏔️ é\u0301 \r\n\r\ndata: not an event\n\n\u2028\u2029\ufeff end\t"\\ ]}'


@on(PLAIN + GUARDED)
@pytest.mark.parametrize("style", [
    {}, {"crlf": True}, {"bom": True}, {"multiline": True}, {"comments": True},
    {"bom": True, "crlf": True, "multiline": True, "comments": True},
])  # fmt: skip
@pytest.mark.parametrize("segment", [1, 7])
def test_a7_a_dribbled_stream_is_the_same_to_the_byte(
    http: httpx.Client, judge: Vendor, road: Road, style: dict[str, bool], segment: int
) -> None:
    judge.behaviours[road.upstream] = {"text": HARD_TEXT, "segment": segment, "piece": 3, **style}
    answer = http.post(road.path, json=road.body(stream=True))
    assert "\ufffd" not in answer.text
    assert road.text(road.events(answer.content)) == HARD_TEXT
    assert road.last in answer.content


# -- A8 ----------------------------------------------------------------------------------------------------
@on(PLAIN)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["bad_json", "bad_utf8", "huge_line", "html", "short", "gzip", "not_object", "empty"])
def test_a8_garbage_from_upstream_is_a_502(
    running: GatewayProcess, http: httpx.Client, judge: Vendor, road: Road, kind: str, stream: bool
) -> None:
    before = running.rss
    judge.behaviours[road.upstream] = {"body": kind}
    answer = http.post(road.path, json=road.body(stream=stream))
    if stream and kind == "short" and answer.status_code == 200:
        # All that is missing may be the end of the body: what is there was told, and its end never invented.
        assert b"error" in answer.content or road.last in answer.content
    else:
        assert answer.status_code == 502
        assert road.error(answer.json())["message"]
    assert running.rss - before < 100_000_000


@on(PLAIN)
def test_a8_garbage_in_the_middle_of_a_stream_is_an_error_event(http: httpx.Client, judge: Vendor, road: Road) -> None:
    judge.behaviours[road.upstream] = {"bad_event": 6, "gap": 0.05}
    answer = http.post(road.path, json=road.body(stream=True))
    assert road.code(road.error(road.events(answer.content)[-1])) in (None, "upstream_bad_answer")
    assert road.last not in answer.content


# -- A9 ----------------------------------------------------------------------------------------------------
@on(PLAIN + CACHED[1:2])
def test_a9_a_slow_reader_holds_up_the_vendor_and_not_the_memory(
    running: GatewayProcess, http: httpx.Client, judge: Vendor, road: Road
) -> None:
    judge.behaviours[road.upstream] = {"text": "tell me more " * 5_000, "repeat": 770, "piece": 65_000}  # 50 MB
    asked = road if road in CACHED else patient(road)
    other = {"model": "mock/another", "messages": HELLO}
    http.post(CHAT, json=other)
    before = running.rss
    # Not smaller: below a loopback packet's size, the kernel's own probing of a closed window takes up to minutes.
    with running.connect(receive_buffer=131_072) as slow:
        slow.sendall(http_post(road.path, asked.body(stream=True), KEY_A))
        told = until(lambda: next((s for s in judge.requests if s.body["model"] == road.upstream and s.sent), None))
        received = b""
        sent = still = 0
        end = time.monotonic() + 60
        while still < 15 or len(received) <= 1024:  # calls of others during which the vendor could not send any more
            assert time.monotonic() < end, "the vendor goes on sending"
            received += slow.recv(1024)
            still, sent = (still + 1, sent) if told.sent == sent else (0, told.sent)
            assert http.post(CHAT, json=other).status_code == 200
            time.sleep(0.02)
        assert running.rss - before < 50_000_000
        assert not told.answered, "the vendor has not been able to send all of it"


# -- B8 ----------------------------------------------------------------------------------------------------
def naughty() -> list[str]:
    found = json.loads((Path(__file__).parent / "data/naughty_strings.json").read_text("ascii"))
    strings = [base64.b64decode(text).decode() for text in found]
    return [*strings, "\0", "a\0b", "\x7f", "\u0085", "\u202e", "\ufeff", "\U0010ffff", "\ufffe", "é" * 1000]


def is_anthropic_error(answer: httpx.Response) -> bool:
    document = answer.json()
    return document["type"] == "error" and {"type", "message"} <= set(document["error"])


def test_b8_naughty_strings_go_up_and_come_back_as_they_are(
    http: httpx.Client, vendor: Vendor, claude: AnthropicVendor
) -> None:
    for text in naughty():
        if not text:
            continue
        body = {
            "model": "plain",
            "max_tokens": 10,
            "system": text,
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": text}]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "x", "input": {text: text}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": text}]},
            ],
            "metadata": {"user_id": text},
            "tools": [{"name": "x", "description": text, "input_schema": {"type": "object", "description": text}}],
            "tool_choice": {"type": "none"},
        }
        vendor.behaviours["gpt-mock"] = claude.behaviours["claude-sonnet-5"] = {"text": text}
        answer = http.post(MESSAGES, json=body)
        assert answer.status_code == 200, (text, answer.text)
        sent = vendor.requests[-1].body
        assert [sent["messages"][0]["content"], sent["messages"][1]["content"]] == [text, text]
        assert json.loads(sent["messages"][2]["tool_calls"][0]["function"]["arguments"]) == {text: text}
        assert (sent["messages"][3]["content"], sent["user"]) == (text, text)
        assert sent["tools"][0]["function"]["parameters"]["description"] == text
        answer = http.post(MESSAGES, json={**body, "model": "claude"})
        assert answer.status_code == 200, (text, answer.text)
        told = claude.requests[-1].body
        assert told["system"] == [{"type": "text", "text": text}]
        assert told["messages"] == body["messages"]
        assert answer.json()["content"] == [{"type": "text", "text": text, "citations": None}]


def test_b8_naughty_strings_as_a_model_are_client_errors(http: httpx.Client, vendor: Vendor) -> None:
    for text in naughty():
        answer = http.post(MESSAGES, json={"model": text, "max_tokens": 1, "messages": HELLO})
        assert answer.status_code in (400, 404), text
        assert is_anthropic_error(answer)
    assert vendor.requests == []


@pytest.mark.parametrize(("model", "stream"), [("claude-masked", True), ("claude-cached", False)])
def test_b8_naughty_strings_through_the_guards_and_the_cache(
    http: httpx.Client, claude: AnthropicVendor, model: str, stream: bool
) -> None:
    for number, text in enumerate(naughty()):
        messages = [{"role": "user", "content": f"{number} {text}"}]
        answer = http.post(MESSAGES, json={"model": model, "max_tokens": 9, "messages": messages, "stream": stream})
        assert answer.status_code in (200, 400), (model, text)
        assert answer.status_code == 400 or b"event: error" not in answer.content


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "01", "0x1", "1e", ".5"])
def test_b8_numbers_that_json_does_not_have_are_a_400(http: httpx.Client, vendor: Vendor, literal: str) -> None:
    for field in ("temperature", "max_tokens", "top_k"):
        content = f'{{"model":"plain","messages":[{{"role":"user","content":"x"}}],"{field}":{literal}}}'
        answer = http.post(MESSAGES, content=content, headers=JSON_TYPE)
        assert answer.status_code == 400
        assert is_anthropic_error(answer)
    assert vendor.requests == []


@pytest.mark.parametrize("text", [r"\ud800", r"\udfff", r"a\ud83d b", r"\ud800\ud800"])
@pytest.mark.parametrize("model", ["plain", "claude", "claude-masked", "claude-cached", "mock/@@"])
def test_b8_half_a_surrogate_pair_is_no_fault_of_ours(http: httpx.Client, model: str, text: str) -> None:
    body = f'{{"model":"{model}","max_tokens":9,"messages":[{{"role":"user","content":"@@"}}]}}'
    answer = http.post(MESSAGES, content=body.replace("@@", text), headers=JSON_TYPE)
    assert answer.status_code in (200, 400)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe{}",
        b'{"model": "\xff"}',
        '{"model": "plain"}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"tools":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b"",
        b"null",
        b"[]",
        b'"x"',
    ],
)
def test_b8_a_body_that_is_no_request_is_a_400(http: httpx.Client, vendor: Vendor, body: bytes) -> None:
    for path in (MESSAGES, MESSAGES + "/count_tokens"):
        answer = http.post(path, content=body, headers=JSON_TYPE)
        assert answer.status_code == 400
        assert is_anthropic_error(answer)
    assert vendor.requests == []


def test_b8_the_model_that_is_allowed_is_the_model_that_is_called(running: GatewayProcess, vendor: Vendor) -> None:
    """This key may use `plain` alone."""
    headers = {**JSON_TYPE, "x-api-key": KEY_NARROW}
    for one, two in (("plain", "cached"), ("cached", "plain")):
        body = f'{{"model":"{one}","max_tokens":9,"messages":[{{"role":"user","content":"x"}}],"mod\\u0065l":"{two}"}}'
        answer = httpx.post(running.url + MESSAGES, content=body, headers=headers)
        assert answer.status_code in (200, 400, 404)
    assert {seen.body["model"] for seen in vendor.requests} <= {"gpt-mock"}


# -- B9 ----------------------------------------------------------------------------------------------------
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": -1}, "max_tokens"), ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": 2**63}, "max_tokens"),
    ({"max_tokens": 10**400}, "max_tokens"), ({"max_tokens": "9"}, "max_tokens"), ({"max_tokens": None}, "max_tokens"),
    ({"temperature": -0.1}, "temperature"), ({"temperature": 1.1}, "temperature"), ({"top_p": 2}, "top_p"),
    ({"top_k": -1}, "top_k"), ({"top_k": 2**63}, "top_k"), ({"stream": "yes"}, "stream"),
    ({"stop_sequences": "x"}, "stop_sequences"), ({"stop_sequences": [1]}, "stop_sequences.0"),
    ({"n": 1_000_000}, "n"), ({"api_base": "http://x"}, "api_base"), ({"api_key": "x"}, "api_key"),
    ({"container": "x"}, "container"), ({"mcp_servers": []}, "mcp_servers"), ({"inference_geo": "eu"}, "inference_geo"),
    ({"messages": []}, "messages"), ({"messages": "hi"}, "messages"), ({"messages": [1]}, "messages.0"),
    ({"messages": None}, "messages"), ({"messages": [{}]}, "messages.0.role"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": [1]}]}, "messages.0.content.0"),
    ({"messages": [{"role": "user", "content": [{}]}]}, "messages.0.content.0.type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages.0.content.0.text"),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0.source"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]},
     "messages.0.content.0.source.type"),
    ({"messages": [{"role": "user", "content": [{"type": "server_tool_use"}]}]}, "messages.0.content.0.type"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]},
     "messages.0.content.0.tool_use_id"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [7]}]}]},
     "messages.0.content.0.content.0.type"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": {"a": 1}}]}]},
     "messages.0.content.0.content"),
    ({"messages": [{"role": "assistant", "content": [IMAGE]}]}, "messages.0.content.0.type"),
    ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "x", "input": "x"}]}]},
     "messages.0.content.0.input"),
    ({"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]}]},
     "messages.0.content.0.signature"),
    ({"system": 5}, "system"), ({"system": [IMAGE]}, "system"), ({"system": [5]}, "system.0"),
    ({"tools": {}}, "tools"), ({"tools": ["x"]}, "tools.0"), ({"tools": [{}]}, "tools.0.name"),
    ({"tools": [{"name": ""}]}, "tools.0.name"), ({"tools": [{"name": "x"}]}, "tools.0.input_schema"),
    ({"tools": [{"name": "x", "type": "web_search_20260318"}]}, "tools.0.type"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"), ({"tool_choice": "any"}, "tool_choice"),
    ({"tools": [{"name": "x", "input_schema": {}}], "tool_choice": {"type": "tool", "name": "y"}}, "tool_choice.name"),
    ({"thinking": {"type": "enabled"}}, "thinking.enabled.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "max_tokens"), ({"thinking": "yes"}, "thinking"),
    ({"output_config": {"effort": "endless"}}, "output_config.effort"), ({"output_config": {"x": 1}}, "output_config.x"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ({"metadata": "x"}, "metadata"), ({"metadata": {"user_id": 7}}, "metadata.user_id"),
    ({"rag": {"nothing": 1}}, "rag.nothing"), ({"rag": {"top_k": 10**9}}, "rag.top_k"), ({"model": ""}, "model"),
]  # fmt: skip


@pytest.mark.parametrize(("hostile", "field"), HOSTILE, ids=[f"{n}-{field}" for n, (_, field) in enumerate(HOSTILE)])
def test_b9_a_hostile_parameter_is_a_400_that_names_it(
    http: httpx.Client, vendor: Vendor, hostile: dict[str, Any], field: str
) -> None:
    answer = http.post(MESSAGES, json={"model": "plain", "max_tokens": 9, "messages": HELLO, **hostile})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert field in answer.json()["error"]["message"]
    assert vendor.requests == []


@pytest.mark.parametrize("missing", ["model", "messages", "max_tokens"])
def test_b9_a_missing_field_is_named(http: httpx.Client, missing: str) -> None:
    body: dict[str, Any] = {"model": "plain", "max_tokens": 9, "messages": HELLO}
    del body[missing]
    answer = http.post(MESSAGES, json=body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, f"{missing}: Field required")
