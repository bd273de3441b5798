"""Calls of every kind as spans: held against the conventions' own files, and found again in a real collector."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_process import GatewayProcess, until
from otlp_sink import Sink, attributes_of
from phoenix_process import PhoenixProcess
from sample_gateway import KEY_A, KEY_ADMIN, gateway_configuration
from semconv_registry import attributes as registered
from semconv_registry import event_faults, faults, metric_faults
from upstream.vendor import Vendor

from gateway.config.telemetry import Telemetry
from gateway.exchange import Exchange
from gateway.telemetry.call_spans import Facts
from gateway.telemetry.names import V1_41
from gateway.telemetry.traces import Traces
from gateway.values import Caller, Target

# Planted: none of it may be in anything that is emitted.
COLLECTOR_KEY = "otlp-canary-88c1d0"
CARD = "4111 1111 1111 1111"
MAIL = "ada.lovelace@example.com"
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
QUESTION = "Which animal lives in the office?"
MINUTES = (
    "# Minutes\n\nThe office parrot Quetzalcoatl eats walnuts at noon.\n\n# Menu\n\nOn Mondays there is pea soup.\n"
)

PROMPT = """\
description: For tests.
messages:
  - role: system
    content: "Answer from these passages: {{ passages }}"
  - conversation
"""


class Tee(Sink):
    """Takes spans, and hands each request on as it came."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.hands_on = False

    def take(self, signal: str, body: bytes, headers: dict[str, str]) -> int:
        status = super().take(signal, body, headers)
        if signal == "traces" and self.hands_on:
            kept = {"content-type": headers["content-type"]}
            httpx.post(f"{self._url}/v1/traces", content=body, headers=kept, timeout=60)
        return status


def configuration(vendor: Vendor, collector: str, folder: Path) -> dict[str, Any]:
    made = gateway_configuration(vendor)
    prompts, documents = folder / "prompts", folder / "documents"
    for place, name, text in ((prompts, "brief@1.yaml", PROMPT), (documents, "minutes.md", MINUTES)):
        place.mkdir()
        (place / name).write_text(text)
    made["prompts"] = {"folder": str(prompts)}
    made["retrieval"] = {"collections": {"minutes": {"load": [str(documents)]}}}
    made["models"]["rag"] = {
        "targets": ["mock/gpt-mock"],
        "prompt": "brief@1",
        "retrieval": {"collection": "minutes", "top_k": 2},
        "guardrails": {"input": [{"check": "secrets", "action": "mask"}], "output": ["secrets"]},
    }
    made["providers"]["openai"] = {"kind": "openai", "base_url": vendor.url, "api_key": vendor.api_key}
    made["telemetry"] = {
        "traces": {
            "otlp": {"endpoint": collector, "headers": {"x-collector-key": "${COLLECTOR_KEY}"}},
            "sample": 1.0,
            "every": "50ms",
            "rules": [{"when": {"model": "embedder"}, "sample": 0}],
            "content": {"models": ["rag", "screened"]},
        },
        "metrics": {"otlp": {"endpoint": collector}, "every": "200ms"},
        "events": {"otlp": {"endpoint": collector, "compression": "gzip"}, "every": "50ms"},
        "logs": {"calls": "all"},
    }
    return made


class Traced:
    """A gateway whose spans come to a collector that knows the conventions, and to Phoenix."""

    def __init__(self, gateway: GatewayProcess, sink: Sink, phoenix: PhoenixProcess) -> None:
        self.gateway, self.sink, self.phoenix = gateway, sink, phoenix
        self.http = httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {KEY_A}"}, timeout=60)

    def chat(
        self, model: str, text: str = QUESTION, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        return self.http.post("/v1/chat/completions", json=body, headers=headers or {})

    def trace(self, answer: httpx.Response) -> list[Any]:
        """The spans of the call that was answered so, the root first; waits for them."""
        call_id = answer.headers["x-gateway-call-id"]

        def whole() -> list[Any]:
            for span in list(self.sink.spans):
                if attributes_of(span).get("rag_gateway.call.id") == call_id:
                    return [each for each in list(self.sink.spans) if each.trace_id == span.trace_id]
            return []

        return list(until(whole, what=f"the spans of {call_id}"))


@pytest.fixture(scope="module")
def traced(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    with contextlib.ExitStack() as stack:
        phoenix = PhoenixProcess(folder / "phoenix")
        sink = Tee(phoenix.url)
        stack.enter_context(sink)
        gateway = GatewayProcess(
            configuration(shared_vendor, sink.url, folder), folder, {"COLLECTOR_KEY": COLLECTOR_KEY}
        )
        stack.enter_context(gateway)  # both at once would be slow to start on a busy machine
        stack.enter_context(phoenix)
        phoenix.wait()
        sink.hands_on = True
        running = Traced(gateway, sink, phoenix)
        stack.callback(running.http.close)
        until(lambda: running.chat("rag").status_code == 200, what="the embedder")
        yield running


def named(spans: list[Any]) -> dict[str, Any]:
    return {span.name: span for span in spans}


PARENT = "b7ad6b7169203331"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_one_trace_from_the_client_to_the_provider(traced: Traced, vendor: Vendor) -> None:
    parent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=1,b=2", "baggage": "secret=1"}
    spans = named(traced.trace(traced.chat("plain", headers=parent, temperature=0.5, seed=7)))
    root, call, request = (spans[name] for name in ("POST /v1/chat/completions", "chat gpt-mock", "POST"))
    assert root.trace_id.hex() == TRACE
    assert root.parent_span_id.hex() == PARENT
    sent = vendor.requests[-1].headers
    assert sent["traceparent"] == f"00-{TRACE}-{request.span_id.hex()}-01"
    assert sent["tracestate"] == "a=1,b=2"
    assert "baggage" not in sent
    assert (request.parent_span_id, call.parent_span_id) == (call.span_id, root.span_id)
    assert attributes_of(request)["url.full"] == vendor.url + "/chat/completions"
    assert attributes_of(call)["gen_ai.request.temperature"] == 0.5
    # A client's decision against it is honoured too, but for what went wrong.
    parent["traceparent"] = f"00-{TRACE}-{PARENT}-00"
    quiet = traced.chat("plain", headers=parent).headers["x-gateway-call-id"]
    failed = traced.trace(traced.chat("nobody/x", headers={"traceparent": f"00-{TRACE[::-1]}-{PARENT}-00"}))
    assert {span.name for span in failed if span.status.code == 2} == {"POST /v1/chat/completions", "chat x", "POST"}
    assert quiet not in {attributes_of(span).get("rag_gateway.call.id") for span in traced.sink.spans}


def test_each_try_is_a_span_that_its_provider_was_told_of(traced: Traced, vendor: Vendor) -> None:
    answer = traced.chat('retrying/behave:{"status": 503, "fail_times": 1}')
    tries = [span for span in traced.trace(answer) if span.name == "POST"]
    told = [request.headers["traceparent"].split("-")[2] for request in vendor.requests[-len(tries) :]]
    assert [span.span_id.hex() for span in tries] == told
    assert len(set(told)) == 2
    assert attributes_of(tries[1])["http.request.resend_count"] == 1
    assert attributes_of(tries[0])["http.response.status_code"] == 503


def test_the_tree_of_a_call_with_passages_as_phoenix_shows_it(traced: Traced) -> None:
    answer = traced.chat("rag", stream=True)
    assert answer.status_code == 200, answer.text
    trace_id = traced.trace(answer)[0].trace_id.hex()
    spans = until(lambda: len(found := traced.phoenix.spans(trace_id)) >= 8 and found, what="the trace in Phoenix")
    names = {span["context"]["span_id"]: span["name"] for span in spans}
    tree = sorted((names.get(span["parent_id"], ""), span["name"]) for span in spans)
    # Stages that take less than 50 µs are no spans, and how long these take depends on the machine.
    assert [edge for edge in tree if edge[1] not in ("authenticate", "render")] == [
        ("", "POST /v1/chat/completions"),
        ("POST /v1/chat/completions", "chat gpt-mock"),
        ("POST /v1/chat/completions", "guardrail input"),
        ("POST /v1/chat/completions", "retrieval minutes"),
        ("chat gpt-mock", "POST"),
        ("retrieval minutes", "embeddings all-MiniLM-L6-v2"),
        ("retrieval minutes", "full_text_search minutes"),
        ("retrieval minutes", "search minutes"),
    ]
    (chat,) = (span for span in spans if span["name"] == "chat gpt-mock")
    assert chat["attributes"]["gen_ai.operation.name"] == "chat"
    assert chat["attributes"]["gen_ai.usage.output_tokens"] > 0


@pytest.mark.parametrize(("protocol", "compression"), [("grpc", "none"), ("grpc", "gzip"), ("http/protobuf", "gzip")])
def test_phoenix_takes_every_way_of_sending(traced: Traced, protocol: Any, compression: Any) -> None:
    """The gateway's own exporter, whose gateway above sends plain HTTP."""
    phoenix = traced.phoenix
    url = phoenix.grpc_url if protocol == "grpc" else phoenix.url
    otlp = {"endpoint": url, "protocol": protocol, "compression": compression}
    settings = Telemetry.model_validate({"traces": {"otlp": otlp, "every": "1ms"}})
    sent = Traces(settings, {"service.name": "ways"}, Facts(V1_41, lambda name: name))
    call = Exchange("chat.completions")
    call.caller, call.model, call.target, call.parameters = Caller("k", "a"), "plain", Target("mock", "m"), {}
    call.stage("call", call.started)
    call.settle()
    sent.export([call])
    until(lambda: sent.exported + sent.dropped, 60, "an answer")
    sent.close()
    assert (sent.exported, sent.dropped) == (2, 0)
    spans = until(lambda: len(found := phoenix.spans(call.trace_id)) == 2 and found, 60, "the trace in Phoenix")
    assert {span["name"] for span in spans} == {"POST /v1/chat/completions", "chat m"}


def file_search(traced: Traced) -> httpx.Response:
    """A call that searches a file, which the gateway does as a tool."""
    stored = traced.http.post(
        "/v1/files", files={"file": ("minutes.md", MINUTES.encode())}, data={"purpose": "assistants"}
    ).json()
    store = traced.http.post("/v1/vector_stores", json={"name": "m", "file_ids": [stored["id"]]}).json()["id"]
    until(
        lambda: traced.http.get(f"/v1/vector_stores/{store}").json()["file_counts"]["completed"] == 1, what="the store"
    )
    return traced.chat("plain", tools=[{"type": "file_search", "vector_store_ids": [store]}])


def test_every_span_is_as_the_conventions_registry_says(traced: Traced, vendor: Vendor) -> None:
    post = traced.http.post
    settings: dict[str, Any] = {
        "temperature": 0.2, "top_p": 0.9, "max_tokens": 50, "frequency_penalty": 0.1, "presence_penalty": 0.1, "seed": 3,
        "n": 2, "stop": ["END"], "response_format": {"type": "json_object"}, "user": "ada", "metadata": {"conversation_id": "c-1"},
    }  # fmt: skip
    answers = [
        traced.chat("openai/gpt-mock", **settings, service_tier="default"),
        traced.chat("plain", stream=True),
        traced.chat("rag", f"{QUESTION} {TOKEN}", stream=True),
        traced.chat("screened", f"My card is {CARD}."),
        traced.chat("blocked", "leak"),
        traced.chat("cached"),
        traced.chat("cached"),
        traced.chat("unreachable"),
        traced.chat('retrying/behave:{"status": 500}'),
        traced.chat('mock/behave:{"status": 400, "message": "wrong"}'),
        traced.chat('mock/behave:{"die_after": 2}', stream=True),
        file_search(traced),
        post("/v1/completions", json={"model": "plain", "prompt": "Once"}),
        post(
            "/v1/embeddings", json={"model": "openai/embed", "input": "a", "dimensions": 8, "encoding_format": "float"}
        ),
        post("/v1/rerank", json={"model": "mock/r", "query": "a", "documents": ["b", "c"]}),
        post("/v1/messages", json={"model": "plain", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
        post("/v1/responses", json={"model": "plain", "input": "hi"}),
    ]
    found = []
    for answer in answers:
        for span in traced.trace(answer):
            found += faults(span)
    assert found == []
    told = {span.name.split(" ")[0] for span in traced.sink.spans}
    asked = attributes_of(named(traced.trace(answers[0]))["chat gpt-mock"])
    assert asked["gen_ai.conversation.id"] == "c-1"
    assert asked["openai.request.service_tier"] == "default"
    assert told >= {"chat", "embeddings", "retrieval", "execute_tool", "rerank", "text_completion", "POST", "guardrail"}


def test_the_registry_finds_what_is_wrong(traced: Traced) -> None:
    """The test above can fail: a name, a type, a value and a requirement that are not the conventions'."""
    spans = named(traced.trace(traced.chat("plain")))
    broken = type(spans["chat gpt-mock"])()
    broken.CopyFrom(spans["chat gpt-mock"])
    del broken.attributes[:]
    for name, value in (("gen_ai.system", "openai"), ("gen_ai.operation.name", "chat"), ("gen_ai.invented", "1")):
        broken.attributes.add(key=name).value.string_value = value
    broken.attributes.add(key="gen_ai.request.seed").value.double_value = 1.5
    told = " ".join(faults(broken))
    for word in ("gen_ai.system", "gen_ai.invented is no attribute", "gen_ai.request.seed should be int", "required"):
        assert word in told
    assert "gen_ai.request.seed" in registered()


def test_a_rule_keeps_what_it_says_of_a_model(traced: Traced) -> None:
    unkept = traced.http.post("/v1/embeddings", json={"model": "embedder", "input": "a"})
    assert unkept.status_code == 200
    kept = traced.chat("plain")
    traced.trace(kept)  # it came later, and its spans are here
    told = {attributes_of(span).get("rag_gateway.call.id") for span in traced.sink.spans}
    assert unkept.headers["x-gateway-call-id"] not in told


def test_what_was_said_is_told_of_the_models_named_and_masked(traced: Traced, vendor: Vendor) -> None:
    vendor.behaviours["gpt-mock"] = {"text": f"Write to {MAIL}."}
    spans = named(traced.trace(traced.chat("rag", f"{QUESTION} My mail is {MAIL}, my token {TOKEN}.")))
    call, search = attributes_of(spans["chat gpt-mock"]), attributes_of(spans["retrieval minutes"])
    messages = json.loads(call["gen_ai.input.messages"])
    assert [message["role"] for message in messages] == ["system", "user"]
    assert "Quetzalcoatl" in messages[0]["parts"][0]["content"]
    assert "Which animal" in messages[1]["parts"][0]["content"]
    (answer,) = json.loads(call["gen_ai.output.messages"])
    assert (answer["role"], answer["finish_reason"]) == ("assistant", "stop")
    assert answer["parts"][0]["content"].startswith("Write to ")
    assert "Which animal" in search["gen_ai.retrieval.query.text"]
    assert json.loads(search["gen_ai.retrieval.documents"])[0]["score"] > 0
    assert MAIL not in str(spans)
    assert TOKEN not in str(spans)
    for stream in (False, True):
        tools = [{"type": "function", "function": {"name": name}} for name in ("weather", "news")]
        spans = named(traced.trace(traced.chat("screened", tools=tools, stream=stream)))
        (answer,) = json.loads(attributes_of(spans["chat gpt-mock"])["gen_ai.output.messages"])
        assert answer["finish_reason"] == "tool_calls"
        assert [(part["type"], part["name"], part["arguments"]) for part in answer["parts"]] == [
            ("tool_call", "weather", {"city": "Zürich 🏔", "n": 0}), ("tool_call", "news", {"city": "Zürich 🏔", "n": 1}),
        ]  # fmt: skip
    plain = str(traced.trace(traced.chat("plain", "nobody is to read this")))
    assert "gen_ai.input.messages" not in plain
    assert "nobody is to read" not in plain


def test_metrics_go_to_the_collector_under_the_conventions_names(traced: Traced) -> None:
    traced.trace(traced.chat("plain", stream=True))

    def points() -> dict[str, Any]:
        latest = traced.sink.metrics[-1:]
        return {
            metric.name: metric
            for request in latest
            for of in request.resource_metrics
            for scope in of.scope_metrics
            for metric in scope.metrics
        }

    told = until(
        lambda: {
            "gen_ai.client.operation.duration", "gen_ai.client.operation.time_per_output_chunk", "gen_ai.client.token.usage",
        } <= set(found := points()) and found
    )  # fmt: skip
    conventional = [metric for name, metric in told.items() if name.startswith("gen_ai.")]
    assert len(conventional) >= 5
    found = [fault for metric in conventional for fault in metric_faults(metric)]
    assert found == [], str(found)
    assert told["gen_ai.client.operation.time_per_output_chunk"].histogram.data_points[0].count > 0
    duration = told["gen_ai.client.operation.duration"]
    assert (duration.unit, duration.histogram.aggregation_temporality) == ("s", 2)
    point = next(p for p in duration.histogram.data_points if attributes_of(p)["gen_ai.operation.name"] == "chat")
    assert list(point.explicit_bounds)[:3] == [0.01, 0.02, 0.04]
    assert sum(point.bucket_counts) == point.count > 0
    assert told["gen_ai.client.token.usage"].unit == "{token}"
    assert told["rag_gateway_calls"].sum.is_monotonic
    own = {
        item.key: item.value.string_value for item in traced.sink.metrics[-1].resource_metrics[0].resource.attributes
    }
    of_spans = traced.sink.requests[-1].resource_spans[0].resource
    assert own["service.instance.id"] == attributes_of(of_spans)["service.instance.id"]


def test_what_a_user_says_of_an_answer_stands_below_the_answers_span(traced: Traced) -> None:
    for stream in (False, True):
        answer = traced.chat("plain", stream=stream)
        call_id = answer.headers["x-gateway-call-id"]
        said = {"call_id": call_id, "score": 0.25, "label": "wrong", "comment": f"Ask {MAIL}."}
        assert traced.http.post("/v1/feedback", json=said).status_code == 201
        spans = named(traced.trace(answer))

        def told(call_id: str = call_id) -> list[Any]:
            events = list(traced.sink.events)
            return [event for event in events if attributes_of(event)["rag_gateway.call.id"] == call_id]

        (event,) = until(told, what="the event")
        assert event_faults(event) == []
        assert (event.trace_id, event.span_id) == (spans["chat gpt-mock"].trace_id, spans["chat gpt-mock"].span_id)
        assert attributes_of(event) == {
            "gen_ai.evaluation.name": "feedback", "gen_ai.evaluation.score.value": 0.25,
            "gen_ai.evaluation.score.label": "wrong", "rag_gateway.evaluation.by": "user",
            "rag_gateway.call.id": call_id, "rag_gateway.model": "plain", "rag_gateway.tenant": "a",
            "gen_ai.response.id": attributes_of(spans["chat gpt-mock"])["gen_ai.response.id"],
        }  # fmt: skip
    assert MAIL not in str(traced.sink.logs)


def test_lines_of_a_call_say_which_and_all_lines_have_one_shape(traced: Traced) -> None:
    answer = traced.chat('mock/behave:{"status": 500}')
    call_id = answer.headers["x-gateway-call-id"]
    until(lambda: call_id in traced.gateway.output, what="the call's line")
    lines = [json.loads(line) for line in traced.gateway.output.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    (line,) = (line for line in lines if line.get("call_id") == call_id)
    root = traced.trace(answer)[0]
    assert (line["trace_id"], line["span_id"]) == (root.trace_id.hex(), root.span_id.hex())
    assert line["message"] == "POST /v1/chat/completions 502 error"
    assert line["call"]["error"] == "upstream_error"
    assert line["call"]["tenant"] == "a"


def test_nothing_that_is_emitted_holds_a_secret_or_personal_data(traced: Traced, vendor: Vendor) -> None:
    """G6 and G7 over all of it: spans, metrics, log lines, records, answers that are errors."""
    said = f"Card {CARD}, mail {MAIL}, token {TOKEN}."
    vendor.behaviours["gpt-mock"] = {"status": 401, "message": f"Incorrect API key provided: {{key}} {said}"}
    errors = [traced.chat(model, said) for model in ("plain", "screened", "rag", "retrying/gpt-mock", "nobody/x")]
    vendor.behaviours["gpt-mock"] = {"text": said}
    elsewhere: dict[str, Any] = {"user": MAIL, "stop": [CARD], "metadata": {"conversation_id": MAIL, "note": TOKEN}}
    answers = [
        traced.chat(model, said, stream=stream, **elsewhere) for model in ("plain", "rag") for stream in (False, True)
    ]
    http = traced.http
    for answer in (*errors, *answers):
        traced.trace(answer)
    metrics = http.get("/metrics", headers={"authorization": f"Bearer {KEY_ADMIN}"}).text
    records = "".join(
        http.get(f"/v1/calls/{answer.headers['x-gateway-call-id']}").text for answer in (*errors, *answers)
    )
    emitted = {
        "spans": str(traced.sink.spans),
        "span bytes": b"".join(request.SerializeToString() for request in traced.sink.requests).decode("latin-1"),
        "metrics": metrics + str(traced.sink.metrics),
        "events": str(traced.sink.logs),
        "log": traced.gateway.output,
        "records": records,
    }
    canaries = (KEY_A, KEY_ADMIN, vendor.api_key, COLLECTOR_KEY, TOKEN, CARD, CARD.replace(" ", ""), MAIL)
    found = {(place, canary) for place, text in emitted.items() for canary in canaries if canary in text}
    assert found == set()
    for error in errors:
        body = error.json()["error"]
        assert set(body) == {"message", "type", "param", "code"}
        assert not [
            word for word in ("Traceback", "0x7f", "/work/", str(vendor.port), vendor.api_key) if word in error.text
        ]
    assert {headers.get("x-collector-key") for headers in traced.sink.headers} >= {
        COLLECTOR_KEY
    }  # it was sent, no more
