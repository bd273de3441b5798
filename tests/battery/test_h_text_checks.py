"""H1-H3 and D9 for the checks of whole texts: on every API that answers with text, streamed and whole."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from battery.test_ab_routes import Completions, Messages, Responses, Road
from gateway_process import GatewayProcess, events_of, until
from sample_gateway import KEY_A, gateway_configuration, key_entry
from upstream.vendor import Vendor
from upstream.webhook import WORD, Webhook

KEY_TIGHT = "sk-gw-canary-tight-77aa01"
PHRASE = "Project Falcon"
WORDS = "That is not for this channel."
NAMES = [{"kind": "project", "words": [PHRASE]}]
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"
HOOK = {"check": "webhook", "name": "hook", "headers": {"x-secret": "hook-secret"}, "residency": "on_premises"}


def configuration(vendor: Vendor, webhook: Webhook) -> dict[str, Any]:
    made = gateway_configuration(vendor)
    hook = {**HOOK, "url": webhook.url}
    keywords = {"check": "keywords", "lists": NAMES}
    models: dict[str, tuple[list[Any], list[Any]]] = {
        "strict": ([], [{**keywords, "message": WORDS}]),
        "whole": ([], [{**keywords, "message": WORDS, "strict": "whole"}]),
        "safe-links": ([], ["exfiltration"]),
        "hidden": ([], [{**keywords, "action": "mask"}]),
        "sliding": ([], [{**keywords, "strict": False, "every": 20, "window": 60, "message": WORDS}]),
        "watched": ([{**keywords, "monitor": True}], [{**keywords, "monitor": True}]),
        "both": ([], ["secrets", {**keywords, "action": "mask"}]),
        "entry": (["names"], []),
        "masking-entry": ([{**keywords, "action": "mask"}], []),
        "hooked": ([hook], [hook]),
        "hook-open": ([{**hook, "on_failure": "continue"}], [{**hook, "on_failure": "continue"}]),
        "hook-dead": ([], [{**hook, "url": "http://127.0.0.1:1/judge"}]),
        "hook-slides": ([], [{**hook, "strict": False, "every": 20}]),
        "topical": (
            [{"check": "topics", "denied": [{"name": "any", "examples": ["x"]}], "embeddings": "mock/vectors"}],
            [],
        ),
        "cities": ([], [{"check": "keywords", "lists": [{"kind": "city", "words": ["Zürich"]}], "action": "mask"}]),
        "reads": (["injection"], []),
        "tools-in": ([{"check": "tools", "allow": ["read*"]}], []),
        "tools-out": ([], [{"check": "tools", "deny": ["delete*"]}]),
        "typed": ([], [{"check": "schema", "schema": {"type": "object", "required": ["n"]}, "repair": True}]),
    }
    made["residency"] = {"labels": ["open", "secret"], "stays": "secret", "default": "open"}
    made["guardrails"] = {"names": [{**keywords, "message": "We do not speak of it here"}]}
    for name, (first, last) in models.items():
        made["models"][name] = {"targets": ["mock/guarded"], "guardrails": {"input": first, "output": last}}
    made["models"]["sliding"]["cache"] = {"exact": {"ttl": "1h"}}
    made["models"]["kept"] = {"targets": ["mock/kept"], "cache": {"exact": {"ttl": "1h"}}}
    for endpoint in ("embedder", "reranker"):
        made["models"][f"{endpoint}-entry"] = {"targets": [f"mock/{endpoint}"], "guardrails": {"input": ["names"]}}
    made["access"]["keys"].append(
        key_entry(
            "tight", KEY_TIGHT, tenant="a", guardrails={"input": ["names"], "output": [{**keywords, "action": "mask"}]}
        )
    )
    return made


@pytest.fixture(scope="module")
def webhook_server() -> Iterator[Webhook]:
    with Webhook() as running:
        yield running


@pytest.fixture(scope="module")
def running(
    shared_vendor: Vendor, webhook_server: Webhook, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("text-checks")
    with GatewayProcess(configuration(shared_vendor, webhook_server), folder) as gateway:
        yield gateway
    assert "Traceback" not in gateway.output, gateway.output
    assert PHRASE not in gateway.output
    assert "hook-secret" not in gateway.output


@pytest.fixture
def webhook(webhook_server: Webhook) -> Webhook:
    webhook_server.how = "ok"
    webhook_server.asked.clear()
    return webhook_server


@pytest.fixture
def http(running: GatewayProcess, vendor: Vendor, webhook: Webhook) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, headers={"x-api-key": KEY_A}, timeout=20, trust_env=False) as made:
        yield made


def roads(model: str) -> list[Road]:
    return [road(model, "guarded") for road in (Road, Messages, Responses, Completions)]


def whole_text(road: Road, document: Any) -> str:
    match road:
        case Responses():
            parts = [part for item in document["output"] for part in item.get("content") or ()]
            return "".join(part.get("text") or "" for part in parts)
        case Messages():
            return "".join(block.get("text") or "" for block in document["content"])
        case Completions():
            return str(document["choices"][0]["text"])
        case _:
            return document["choices"][0]["message"]["content"] or ""


def told(http: httpx.Client, road: Road, *, stream: bool, question: str = "hello") -> tuple[str, bytes]:
    messages = [{"role": "user", "content": question}]
    answer = http.post(road.path, json=road.body(messages, **({"stream": True} if stream else {})))
    assert answer.status_code == 200, answer.text
    if stream:
        assert road.error(road.events(answer.content)[-1]) is None or road.path != CHAT
        return road.text(road.events(answer.content)), answer.content
    return whole_text(road, answer.json()), answer.content


def call_of(http: httpx.Client, answer: httpx.Response) -> Any:
    where = "/v1/calls/" + answer.headers["x-gateway-call-id"]
    return until(lambda: (found := http.get(where)).status_code == 200 and found.json())


def verdicts(call: Any) -> list[tuple[str, str, str]]:
    return [(one["stage"], one["check"], one["action"]) for one in call["guardrails"]]


CUTS: list[dict[str, Any]] = [{}, {"piece": 1}, {"piece": 7}, *({"cut": cut} for cut in range(15, 40, 4))]


@pytest.mark.parametrize("road", roads("whole"), ids=lambda road: road.path[4:])
def test_h1_h2_nothing_of_a_blocked_answer_leaves_on_any_road(http: httpx.Client, vendor: Vendor, road: Road) -> None:
    text = f"I may say that {PHRASE} begins in May, and more of it."
    vendor.behaviours["guarded"] = {"text": text}
    whole, body = told(http, road, stream=False)
    assert whole == WORDS
    assert b"I may say" not in body
    for how in CUTS:
        vendor.behaviours["guarded"] = {"text": text, **how}
        streamed, body = told(http, road, stream=True)
        assert streamed == WORDS, how
        assert b"I may say" not in body
        assert b"Falcon" not in body


@pytest.mark.parametrize("road", roads("strict"), ids=lambda road: road.path[4:])
def test_h1_h2_nothing_that_is_blocked_leaves_and_what_stands_before_does(
    http: httpx.Client, vendor: Vendor, road: Road
) -> None:
    text = f"I may say that {PHRASE} begins in May, and more of it."
    vendor.behaviours["guarded"] = {"text": text}
    assert told(http, road, stream=False)[0] == WORDS
    for how in CUTS:
        vendor.behaviours["guarded"] = {"text": text, **how}
        streamed, body = told(http, road, stream=True)
        assert streamed == f"I may say that {WORDS}", how
        assert b"Falcon" not in body


@pytest.mark.parametrize(("model", "first"), [("strict", "All is"), ("hidden", "All is"), ("safe-links", "All is")])
def test_h1_a_strict_rule_lets_text_flow_before_the_answer_has_ended(
    http: httpx.Client, vendor: Vendor, model: str, first: str
) -> None:
    vendor.behaviours["guarded"] = {"text": "All is well and goes on. " * 400, "piece": 5, "gap": 0.01}
    body = {"model": model, "messages": HELLO, "stream": True}
    said = ""
    with http.stream("POST", CHAT, json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                said += "".join(c["delta"].get("content") or "" for c in json.loads(line[6:])["choices"])
            if len(said) > 20:
                break
        assert said.startswith(first)
        assert not vendor.requests[-1].answered, "the vendor is still writing"


@pytest.mark.parametrize("road", roads("safe-links"), ids=lambda road: road.path[4:])
def test_h5_a_picture_is_masked_the_same_cut_anywhere_and_whole(http: httpx.Client, vendor: Vendor, road: Road) -> None:
    text = "Prose first.\n\n![a](https://evil.example/?q=1) and [b][1].\n\n[1]: https://evil.example/2\n\nThe end."
    vendor.behaviours["guarded"] = {"text": text}
    whole, _ = told(http, road, stream=False)
    assert "evil" not in whole
    for how in ({"piece": 1}, {"piece": 7}, {"piece": 40}, *({"cut": cut} for cut in range(14, len(text), 9))):
        vendor.behaviours["guarded"] = {"text": text, **how}
        streamed, body = told(http, road, stream=True)
        assert streamed == whole, how
        assert b"evil" not in body


@pytest.mark.parametrize("road", roads("hidden"), ids=lambda road: road.path[4:])
def test_h1_h2_a_masked_answer_is_the_same_cut_anywhere_and_whole(
    http: httpx.Client, vendor: Vendor, road: Road
) -> None:
    text = f"I may say that {PHRASE} begins in May."
    vendor.behaviours["guarded"] = {"text": text}
    whole, _ = told(http, road, stream=False)
    assert whole == "I may say that <keywords.project> begins in May."
    for how in CUTS:
        vendor.behaviours["guarded"] = {"text": text, **how}
        streamed, body = told(http, road, stream=True)
        assert streamed == whole, how
        assert b"Falcon" not in body


def test_h1_both_kinds_of_rules_stand_one_behind_the_other(http: httpx.Client, vendor: Vendor) -> None:
    road = Road("both", "guarded")
    vendor.behaviours["guarded"] = {"text": f"{PHRASE} is on.", "piece": 3}
    assert told(http, road, stream=True)[0] == told(http, road, stream=False)[0] == "<keywords.project> is on."
    vendor.behaviours["guarded"] = {"text": f"On {PHRASE}: ghp_{'a1B2c3D4e5F6' * 3}", "piece": 3}
    assert told(http, road, stream=False)[0] == ""
    assert "On <keywords.project>:".startswith(told(http, road, stream=True)[0])


@pytest.mark.parametrize("road", roads("sliding"), ids=lambda road: road.path[4:])
def test_h1_a_sliding_check_ends_the_stream_and_its_upstream_call(
    http: httpx.Client, vendor: Vendor, road: Road
) -> None:
    text = "All is well and goes on. " * 10 + f"But {PHRASE} is late. " + "It goes on and on. " * 400
    vendor.behaviours["guarded"] = {"text": text, "piece": 10, "gap": 0.005}
    streamed, body = told(http, road, stream=True, question=road.path)
    assert streamed.startswith("All is well")
    assert streamed.endswith(WORDS)
    assert len(streamed) < len(text) / 2
    until(lambda: vendor.requests[-1].closed_at is not None or vendor.requests[-1].answered)
    assert not vendor.requests[-1].answered
    assert road.last not in body or road.path == Messages.path or b"content_filter" in body
    vendor.behaviours["guarded"] = {"text": "All is well."}
    assert told(http, road, stream=True, question=road.path)[0] == "All is well.", "what was cut off is not kept"


@pytest.mark.parametrize("name", ["sliding", "hook-slides"])
def test_h1_the_end_of_a_sliding_answer_waits_for_its_last_verdict(
    http: httpx.Client, vendor: Vendor, name: str
) -> None:
    vendor.behaviours["guarded"] = {"text": f"{PHRASE} {WORD}", "piece": 4}
    answer = http.post(CHAT, json={"model": name, "messages": [{"role": "user", "content": name}], "stream": True})
    finishes = [c["finish_reason"] for e in events_of(answer.content) if e != "[DONE]" for c in e["choices"]]
    assert [reason for reason in finishes if reason] == ["content_filter"]
    assert call_of(http, answer)["outcome"] == "blocked"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("field", ["reasoning_content", "refusal"])
def test_h3_what_is_said_beside_the_answer_is_judged_too(
    http: httpx.Client, vendor: Vendor, field: str, stream: bool
) -> None:
    how = {"text": f"On {PHRASE}", "field": field} if stream else {"message_extra": {field: f"On {PHRASE}"}}
    for model in ("strict", "sliding"):
        vendor.behaviours["guarded"] = how
        answer = http.post(
            CHAT,
            json={"model": model, "messages": [{"role": "user", "content": field + str(stream)}], "stream": stream},
        )
        assert b"content_filter" in answer.content
        assert b"Falcon" not in answer.content or model == "sliding"


@pytest.mark.parametrize(
    "road", [road("cities", "guarded") for road in (Road, Messages, Responses)], ids=lambda r: r.path
)
@pytest.mark.parametrize("stream", [False, True])
def test_h3_arguments_are_judged_as_they_read_and_stay_json(
    http: httpx.Client, vendor: Vendor, road: Road, stream: bool
) -> None:
    """The mock vendor calls each tool with a city whose name is escaped, as JSON may: "Z\\u00fcrich"."""
    parameters = {"type": "object", "properties": {}}
    tool: dict[str, Any] = {"type": "function", "function": {"name": "where", "parameters": parameters}}
    if isinstance(road, Responses):
        tool = {"type": "function", "name": "where", "parameters": parameters}
    elif isinstance(road, Messages):
        tool = {"name": "where", "input_schema": parameters}
    answer = http.post(road.path, json=road.body(HELLO, tools=[tool], stream=stream))
    assert answer.status_code == 200, answer.text
    assert "rich" not in answer.text
    assert "<keywords.city> 🏔" in answer.text.encode().decode("utf-8")
    assert b"where" in answer.content


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_that_is_not_allowed_is_neither_offered_nor_called(
    http: httpx.Client, vendor: Vendor, stream: bool
) -> None:
    parameters = {"type": "object", "properties": {}}
    tools = [
        {"type": "function", "function": {"name": name, "parameters": parameters}} for name in ("read", "delete_all")
    ]
    body = {"messages": HELLO, "tools": tools, "stream": stream}
    offered = http.post(CHAT, json={"model": "tools-in", **body})
    assert (offered.status_code, offered.json()["error"]["param"]) == (400, "tools[1]")
    assert "(tools: " in offered.json()["error"]["message"]
    called = http.post(CHAT, json={"model": "tools-out", **body})
    assert b"content_filter" in called.content
    assert b"delete_all" not in called.content


@pytest.mark.parametrize("road", roads("typed"), ids=lambda road: road.path[4:])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_its_form_is_asked_for_once_more_and_then_refused(
    http: httpx.Client, vendor: Vendor, road: Road, stream: bool
) -> None:
    """The vendor gives the same wrong answer twice."""
    vendor.behaviours["guarded"] = {"text": "seven"}
    assert told(http, road, stream=stream)[0] == ""
    first, second = (request.body["messages"] for request in vendor.requests)
    assert second[: len(first)] == first
    assert second[-2] == {"role": "assistant", "content": "seven"}
    assert '{"type": "object", "required": ["n"]}' in second[-1]["content"]
    vendor.behaviours["guarded"] = {"text": '{"n": 7}'}
    assert told(http, road, stream=stream)[0] == '{"n": 7}'
    assert len(vendor.requests) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_each_choice_is_judged(http: httpx.Client, vendor: Vendor, stream: bool) -> None:
    vendor.behaviours["guarded"] = {"text": f"On {PHRASE}", "piece": 3}
    answer = http.post(CHAT, json={"model": "strict", "messages": HELLO, "n": 3, "stream": stream})
    assert b"Falcon" not in answer.content
    assert answer.content.count(b"content_filter") == 3


# -- what goes in ------------------------------------------------------------------------------------------
TOOL = {"type": "function", "function": {"name": "t", "description": f"About {PHRASE}", "parameters": {}}}
SAMPLES = Path(__file__).parents[1] / "samples" / "injection.jsonl"
CALLED = {"role": "assistant", "content": None,
          "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "t", "arguments": "{}"}}]}  # fmt: skip


def planted() -> tuple[list[str], list[str]]:
    """Each of our indirect attacks in a harmless document: before it, within it, behind it. And the documents alone."""
    samples = [json.loads(line) for line in SAMPLES.read_text("utf-8").splitlines()]
    attacks = [one["text"] for one in samples if one["kind"] == "indirect"]
    documents = [one["text"] for one in samples if one["kind"] == "passages"]
    made = []
    for order, attack in enumerate(attacks):
        document = documents[order % len(documents)]
        half = document.rindex(" ", 0, len(document) // 2 + 1)
        for at in (0, half, len(document)):
            made.append("\n\n".join(part for part in (document[:at], attack, document[at:].lstrip()) if part))
    return made, documents


def test_h4_most_documents_with_a_planted_instruction_do_not_come_to_the_model(
    http: httpx.Client, vendor: Vendor
) -> None:
    """A score, held where it was measured: 34 of 45, and none of the harmless ones refused."""

    def reaches(document: str) -> bool:
        result = {"role": "tool", "tool_call_id": "c1", "content": document}
        answer = http.post(CHAT, json={"model": "reads", "messages": [*HELLO, CALLED, result]})
        assert answer.status_code in (200, 400), answer.text
        assert answer.status_code == 200 or answer.json()["error"]["code"] == "content_filter"
        return answer.status_code == 200

    attacked, harmless = planted()
    assert sum(not reaches(document) for document in attacked) >= 31
    assert sum(reaches(document) for document in harmless) == len(harmless)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": [{"role": "user", "content": f"On {PHRASE}?"}]}, "messages[0]"),
        (CHAT, {"messages": [{"role": "system", "content": PHRASE}, *HELLO]}, "messages[0]"),
        (CHAT, {"messages": HELLO, "tools": [TOOL]}, "tools[0]"),
        (CHAT, {"messages": [*HELLO, CALLED, {"role": "tool", "tool_call_id": "c1", "content": PHRASE}]}, "messages[2]"),
        (CHAT, {"messages": HELLO, "prediction": {"type": "content", "content": PHRASE}}, "prediction"),
        (
            CHAT,
            {"messages": HELLO, "response_format": {
                "type": "json_schema", "json_schema": {"name": "x", "schema": {"description": PHRASE}}}},
            "response_format",
        ),
        ("/v1/embeddings", {"input": ["fine", PHRASE]}, "messages[1]"),
        ("/v1/rerank", {"query": "fine", "documents": ["fine", {"text": PHRASE}]}, "messages[2]"),
    ],
    ids=["user", "system", "tool", "result", "prediction", "schema", "embeddings", "rerank"],
)  # fmt: skip
def test_no_road_in_is_a_way_around(
    http: httpx.Client, vendor: Vendor, path: str, body: dict[str, Any], param: str
) -> None:
    model = {"/v1/embeddings": "embedder-entry", "/v1/rerank": "reranker-entry"}.get(path, "entry")
    answer = http.post(path, json={"model": model, **body})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("content_filter", param)
    assert error["message"] == "We do not speak of it here (keywords: project)."
    assert PHRASE not in answer.text
    assert vendor.requests == [], "what the input alone decides costs nothing upstream"
    assert verdicts(call_of(http, answer))[-1][1:] == ("keywords", "block")


def test_what_goes_in_is_masked_wherever_it_stands(http: httpx.Client, vendor: Vendor) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": f"On {PHRASE}?"}]}]
    answer = http.post(CHAT, json={"model": "masking-entry", "messages": messages, "tools": [TOOL]})
    assert answer.status_code == 200
    sent = vendor.requests[-1].body
    assert sent["messages"][0]["content"][0]["text"] == "On <keywords.project>?"
    assert sent["tools"][0]["function"]["description"] == "About <keywords.project>"


def test_a_rule_that_only_watches_changes_nothing_and_is_recorded(http: httpx.Client, vendor: Vendor) -> None:
    vendor.behaviours["guarded"] = {"text": f"On {PHRASE}", "piece": 3}
    for stream in (False, True):
        answer = http.post(
            CHAT, json={"model": "watched", "messages": [{"role": "user", "content": PHRASE}], "stream": stream}
        )
        assert PHRASE in (answer.text if not stream else "".join(
            c["delta"].get("content") or "" for e in events_of(answer.content) if e != "[DONE]" for c in e["choices"]
        ))  # fmt: skip
        call = call_of(http, answer)
        assert verdicts(call) == [("input", "keywords", "flag"), ("output", "keywords", "flag")]
        assert [one["would"] for one in call["guardrails"]] == ["block", "block"]


# -- a key's own rules -------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", ["kept", "mock/guarded", "strict"])
def test_a_key_tightens_every_model_and_loosens_none(http: httpx.Client, vendor: Vendor, model: str) -> None:
    headers = {"x-api-key": KEY_TIGHT}
    refused = http.post(CHAT, json={"model": model, "messages": [{"role": "user", "content": PHRASE}]}, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
    vendor.behaviours["guarded"] = vendor.behaviours["kept"] = {"text": f"On {PHRASE}"}
    masked = http.post(CHAT, json={"model": model, "messages": HELLO}, headers=headers).json()["choices"][0]
    assert masked["message"]["content"] == (WORDS if model == "strict" else "On <keywords.project>")


def test_a_kept_answer_of_another_key_is_not_told_unscreened(http: httpx.Client, vendor: Vendor) -> None:
    vendor.behaviours["kept"] = {"text": f"On {PHRASE}"}
    asked = {"model": "kept", "messages": [{"role": "user", "content": "a question of its own"}]}
    for key, said in ((KEY_A, f"On {PHRASE}"), (KEY_TIGHT, "On <keywords.project>"), (KEY_A, f"On {PHRASE}")):
        answer = http.post(CHAT, json=asked, headers={"x-api-key": key})
        assert answer.json()["choices"][0]["message"]["content"] == said
    assert answer.headers["x-gateway-cache"] == "hit"


# -- D9 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["http 500", "html", "short"])
@pytest.mark.parametrize("stream", [False, True])
def test_d9_a_guard_that_is_down_refuses_what_it_should_have_judged(
    http: httpx.Client, vendor: Vendor, webhook: Webhook, how: str, stream: bool
) -> None:
    webhook.how = how
    answer = http.post(CHAT, json={"model": "hooked", "messages": HELLO, "stream": stream})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "stage_unavailable"
    assert "hook" in answer.json()["error"]["message"]
    assert vendor.requests == []
    assert verdicts(call_of(http, answer)) == [("input", "hook", "unavailable")]


def test_d9_a_guard_that_goes_down_while_the_answer_comes_fails_closed(
    http: httpx.Client, vendor: Vendor, webhook: Webhook
) -> None:
    webhook.how = "http 500"
    vendor.behaviours["guarded"] = {"text": "Nothing to see here. " * 50, "piece": 10, "gap": 0.01}
    answer = http.post(CHAT, json={"model": "hook-slides", "messages": HELLO, "stream": True})
    events = list(events_of(answer.content))
    assert events[-1]["error"]["code"] == "stage_unavailable"
    until(lambda: vendor.requests[-1].closed_at is not None or vendor.requests[-1].answered)
    assert not vendor.requests[-1].answered


@pytest.mark.parametrize("stream", [False, True])
def test_d9_an_answer_that_nobody_can_judge_does_not_leave(http: httpx.Client, vendor: Vendor, stream: bool) -> None:
    vendor.behaviours["guarded"] = {"text": "Nothing to see here."}
    answer = http.post(CHAT, json={"model": "hook-dead", "messages": HELLO, "stream": stream})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stage_unavailable")
    assert "Nothing" not in answer.text


@pytest.mark.parametrize("stream", [False, True])
def test_d9_open_only_where_configured_and_then_marked(
    http: httpx.Client, vendor: Vendor, webhook: Webhook, stream: bool
) -> None:
    webhook.how = "http 500"
    answer = http.post(CHAT, json={"model": "hook-open", "messages": HELLO, "stream": stream})
    assert answer.status_code == 200
    assert answer.headers["x-gateway-degraded"] == "guardrails.hook"
    call = call_of(http, answer)
    assert call["degraded"] == ["guardrails.hook"]
    assert verdicts(call) == [("input", "hook", "unavailable"), ("output", "hook", "unavailable")]
    assert call["guardrails"][0]["failure"] == "its server answered with HTTP 500"


def test_a_webhook_is_told_what_it_may_know(http: httpx.Client, vendor: Vendor, webhook: Webhook) -> None:
    body = {"model": "hooked", "messages": [{"role": "user", "content": f"Say {WORD}"}]}
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    answer = http.post(CHAT, json=body, headers={"traceparent": f"00-{trace}-{parent}-01", "tracestate": "a=1"})
    assert answer.json()["error"]["message"].startswith("The request was blocked by a guardrail (hook: magic).")
    assert webhook.headers["traceparent"] == f"00-{trace}-{parent}-01"  # no spans are made here
    assert webhook.headers["tracestate"] == "a=1"
    context = {"road": "input", "part": "text", "tool": "", "question": f"Say {WORD}"}
    assert webhook.asked == [{"texts": [f"Say {WORD}"], "context": context}]


# -- checks that ask a model -------------------------------------------------------------------------------
def test_a_check_asks_its_model_through_the_gateways_own_targets(
    running: GatewayProcess, http: httpx.Client, vendor: Vendor
) -> None:
    """The mock's vectors all point the same way, so whatever is asked is on the topic."""
    answer = http.post(
        CHAT,
        json={"model": "topical", "messages": [{"role": "user", "content": "What do you think about this and that?"}]},
    )
    assert answer.json()["error"]["message"].startswith("The request was blocked by a guardrail (topics: ")
    asked = [request for request in vendor.requests if request.path.endswith("/embeddings")]
    assert "What do you think about this and that?" in [text for request in asked for text in request.body["input"]]
    assert len(vendor.requests) == len(asked)
    trace = call_of(http, answer)["trace_id"]
    made = until(lambda: _made(running, trace))
    assert {(purpose, endpoint, outcome, tenant) for purpose, endpoint, outcome, tenant in made} == {
        ("guardrail", "embeddings", "ok", "a")
    }


def _made(running: GatewayProcess, trace: str) -> list[tuple[str, str, str, str]]:
    """What the call log has of the gateway's own calls within a trace."""
    with contextlib.closing(sqlite3.connect(running.folder / "data" / "gateway.db")) as log:
        rows = log.execute(
            "SELECT detail, endpoint, outcome, tenant FROM calls WHERE trace_id = ?", (trace,)
        ).fetchall()
    return [(json.loads(row[0])["made_for"]["purpose"], *row[1:]) for row in rows if "made_for" in json.loads(row[0])]


def test_a_check_is_not_asked_where_the_call_itself_may_not_go(http: httpx.Client, vendor: Vendor) -> None:
    messages = [{"role": "user", "content": "What do you think about something that stays here?"}]
    answer = http.post(CHAT, json={"model": "topical", "messages": messages, "metadata": {"sensitivity": "secret"}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stage_unavailable")
    assert "(residency)" in answer.json()["error"]["message"]
    assert vendor.requests == []
