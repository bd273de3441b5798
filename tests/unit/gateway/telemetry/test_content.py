"""What was said, as spans may tell it: in the conventions' shapes, masked, and nowhere it may not go."""

from __future__ import annotations

import json
import threading
from typing import Any

import jsonschema
import pytest
from gateway_process import until
from semconv_registry import FOLDER

from gateway.assembly.telemetry import open_traces
from gateway.config.models import Configuration, Telemetry
from gateway.exchange import Exchange
from gateway.telemetry import names
from gateway.telemetry.call_spans import Facts, call_spans
from gateway.telemetry.content import Contents, Mask
from gateway.telemetry.traces import Traces
from gateway.values import Target
from guardrails.verdicts import Finding, Verdict

SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


def masking(checks: frozenset[str]) -> Mask:
    """Stands for the checks: which of them look is what is tested here."""

    def mask(text: str, in_json: bool) -> str:
        for check in checks:
            text = text.replace(check.upper(), "***")
        return text

    return mask


def contents(most: int = 65_536, may_leave: bool = True, shapes: names.Names = names.V1_41) -> Contents:
    return Contents(frozenset({"m"}), masking, ["secrets"], most, lambda _: may_leave, shapes)


def talk(messages: list[dict[str, Any]], answer: str = "yes", model: str = "m") -> Exchange:
    exchange = Exchange("chat.completions")
    exchange.model, exchange.keep_content = model, True
    exchange.messages, exchange.answer_text, exchange.finish_reason = messages, answer, "stop"
    exchange.target = Target("openai", "gpt-x")
    attempt = exchange.attempt(exchange.target)
    attempt.outcome = "ok"
    exchange.attempts.append(attempt)
    exchange.stage("call", attempt.began)
    exchange.settle()
    return exchange


def told(exchange: Exchange, by: Contents, provider: str = "openai") -> dict[str, Any]:
    tree = call_spans(exchange, Facts(names.V1_41, lambda _: provider))
    by.add(exchange, tree)
    (span,) = (span for span in tree.spans if span.name == "chat gpt-x")
    return span.attributes


CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [
        {"type": "text", "text": "What is this? SECRETS"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "SECRETS"}'}},
        {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "no JSON"}},
    ]},
    {"role": "tool", "tool_call_id": "c1", "content": "a SECRETS parrot"},
]  # fmt: skip


def test_a_conversation_in_the_conventions_shapes() -> None:
    attributes = told(talk(CONVERSATION), contents())
    messages, answers = (json.loads(attributes[name]) for name in (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES))
    for name, value in (("input", messages), ("output", answers)):
        jsonschema.validate(value, json.loads((FOLDER / f"docs/gen-ai/gen-ai-{name}-messages.json").read_text()))
    assert messages == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [
            {"type": "text", "content": "What is this? ***"},
            {"type": "uri", "modality": "image", "uri": "https://example.org/a.png"},
            {"type": "image_url"},
            {"type": "input_audio"},
        ]},
        {"role": "assistant", "parts": [
            {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"at": "***"}},
            {"type": "tool_call", "id": "c2", "name": "look", "arguments": "no JSON"},
        ]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "a *** parrot"}]},
    ]  # fmt: skip
    assert answers == [{"role": "assistant", "parts": [{"type": "text", "content": "yes"}], "finish_reason": "stop"}]


def test_calls_of_tools_are_a_part_of_an_answer() -> None:
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "SECRETS"}'}},
        {"id": "c2", "type": "function", "function": {"name": "wait", "arguments": ""}},
    ]
    exchange = talk(CONVERSATION, "Let me see, SECRETS.")
    exchange.answer_calls, exchange.finish_reason = calls, "tool_calls"
    told_of_calls = [
        {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"at": "***"}},
        {"type": "tool_call", "id": "c2", "name": "wait", "arguments": {}},
    ]
    answers = json.loads(told(exchange, contents())[names.OUTPUT_MESSAGES])
    jsonschema.validate(answers, json.loads((FOLDER / "docs/gen-ai/gen-ai-output-messages.json").read_text()))
    assert answers == [{
        "role": "assistant", "parts": [{"type": "text", "content": "Let me see, ***."}, *told_of_calls],
        "finish_reason": "tool_calls",
    }]  # fmt: skip
    size = contents().size(exchange)
    exchange.answer_text = None
    (answer,) = json.loads(told(exchange, contents())[names.OUTPUT_MESSAGES])
    assert answer["parts"] == told_of_calls
    exchange.answer_calls = ()
    assert names.OUTPUT_MESSAGES not in told(exchange, contents())
    assert size - contents().size(exchange) >= len('Let me see, SECRETS.{"at": "SECRETS"}')  # what waits is bounded


def test_stop_sequences_are_a_callers_words_too() -> None:
    exchange = talk(CONVERSATION)
    for given, told_ in (
        (b'["END", "SECRETS"]', ["END", "***"]),
        (b'"END"', ["END"]),
        (b'["cut of', None),
        (b"[]", None),
    ):
        exchange.parameters = {"stop": given}
        assert told(exchange, contents()).get(names.STOP_SEQUENCES) == told_
    assert names.STOP_SEQUENCES not in told(talk(CONVERSATION, model="x"), contents())


def test_a_callers_words_are_masked_wherever_they_stand() -> None:
    """G6: an id, a tool's name, the kind of a part are strings that a caller chooses."""
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "id SECRETS", "function": {"name": "name SECRETS", "arguments": '{"a": "SECRETS"}'}},
        ]},
        {"role": "tool", "tool_call_id": "id SECRETS", "content": "SECRETS"},
        {"role": "user", "content": [{"type": "kind SECRETS"}, "SECRETS", {"type": "text", "text": "SECRETS"}]},
    ]  # fmt: skip
    written = json.dumps(told(talk(messages, "SECRETS"), contents()))
    assert "SECRETS" not in written
    assert written.count("***") == 9


@pytest.mark.parametrize("arguments", ["[" * 20_000 + "]" * 20_000, "{", "\x00"])
def test_arguments_that_nobody_can_read_keep_no_call_out_of_the_traces(arguments: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    attributes = told(talk([{"role": "assistant", "content": None, "tool_calls": [call]}]), contents())
    (message,) = json.loads(attributes[names.INPUT_MESSAGES])
    assert message["parts"][0]["arguments"] == arguments
    deep_and_long = "[" * 800 + json.dumps("x" * 20_000) + "]" * 800
    call["function"] = {"name": "f", "arguments": deep_and_long}
    attributes = told(talk([{"role": "assistant", "content": None, "tool_calls": [call]}]), contents(most=10_000))
    assert len(attributes[names.INPUT_MESSAGES]) <= 10_000


def test_a_bounded_part_of_what_was_said_is_looked_at() -> None:
    """Checks hold the interpreter for as long as they look: megabytes of it would be time of the calls."""
    seen: list[int] = []

    def counting(checks: frozenset[str]) -> Mask:
        def mask(text: str, in_json: bool) -> str:
            seen.append(len(text))
            return text.replace("SECRET" * 10, "***")

        return mask

    by = Contents(frozenset({"m"}), counting, ["secrets"], 10_000, lambda _: True, names.V1_41)
    long = "x" * 14_066 + "SECRET" * 10  # the cut goes through it
    attributes = told(talk([{"role": "user", "content": long + "y" * 1_000_000} for _ in range(50)], long * 100), by)
    assert "SECRET" not in attributes[names.OUTPUT_MESSAGES] + attributes[names.INPUT_MESSAGES]
    assert attributes[names.OUTPUT_MESSAGES].count("xxx") > 1_000
    assert sum(seen) < 200_000
    arguments = {"id": "1", "function": {"name": "f", "arguments": "x" * 1_000_000}}
    whole = talk([{"role": "assistant", "content": None, "tool_calls": [arguments]}])
    assert by.size(whole) > 1_000_000, "what waits is bounded by it"


def test_instructions_stand_apart_where_the_vendor_takes_them_apart() -> None:
    attributes = told(talk(CONVERSATION), contents(), "anthropic")
    assert json.loads(attributes[names.SYSTEM_INSTRUCTIONS]) == [{"type": "text", "content": "Be brief."}]
    assert [message["role"] for message in json.loads(attributes[names.INPUT_MESSAGES])] == [
        "user",
        "assistant",
        "tool",
    ]
    assert names.SYSTEM_INSTRUCTIONS not in told(talk(CONVERSATION), contents())


def test_other_models_say_nothing() -> None:
    assert not {names.INPUT_MESSAGES, names.OUTPUT_MESSAGES} & set(told(talk(CONVERSATION, model="x"), contents()))


def test_what_may_not_leave_the_premises_is_withheld() -> None:
    attributes = told(talk(CONVERSATION), contents(may_leave=False))
    assert not {names.INPUT_MESSAGES, names.OUTPUT_MESSAGES} & set(attributes)
    assert attributes[names.CONTENT] == "withheld: may not leave the premises"


@pytest.mark.parametrize("action", ["mask", "pseudonymise", "block"])
def test_what_a_guardrail_has_masked_is_masked_in_the_answer_too(action: Any) -> None:
    """A pseudonym is put back for the caller, and the words that were kept are those that the caller got."""
    exchange = talk([{"role": "user", "content": "<PERSON_1>"}], answer="Dear PII")
    assert "PII" in told(exchange, contents())[names.OUTPUT_MESSAGES]
    exchange.verdicts.append(("input", Verdict("pii", action, (Finding("PERSON", 0, 3, 1.0),), "1")))
    assert "PII" not in told(exchange, contents())[names.OUTPUT_MESSAGES]


def test_long_words_are_cut_and_the_rest_is_still_json() -> None:
    exchange = talk([{"role": "user", "content": f"{n} {'x' * 3_000}"} for n in range(20)])
    value = told(exchange, contents(most=5_000))[names.INPUT_MESSAGES]
    assert len(value.encode()) <= 5_000
    messages = json.loads(value)
    assert len(messages) == 20
    assert messages[7]["parts"][0]["content"].startswith("7 xxx")
    assert messages[7]["parts"][0]["content"].endswith(" […]")
    many = talk([{"role": "user", "content": "x"} for _ in range(1_000)])
    assert told(many, contents(most=5_000))[names.INPUT_MESSAGES] == "[]"


def test_what_waits_to_be_masked_is_bounded_and_the_rest_counted() -> None:
    holding, held = threading.Event(), threading.Event()

    def slow(checks: frozenset[str]) -> Mask:
        def mask(text: str, in_json: bool) -> str:
            held.set()
            holding.wait(60)
            return ""

        return mask

    settings = Telemetry.model_validate({"traces": {"console": True, "queue": "10kB"}})
    by = Contents(frozenset({"m"}), slow, ["secrets"], 65_536, lambda _: True, names.V1_41)
    traces = Traces(settings, {"service.name": "tests"}, Facts(names.V1_41, str), by)
    calls = [talk([{"role": "user", "content": [{"type": "text", "text": "x" * 4_000}]}]) for _ in range(10)]
    for call in calls:
        call.parameters = {}
    traces.export(calls)
    assert held.wait(60)
    assert len(traces._waiting) == 1
    assert traces.dropped == 8 * 3  # spans, of the calls that there was no room for
    holding.set()
    until(lambda: traces._made == traces._taken_in)
    traces.export(calls[:1])  # there is room again
    traces.close()
    assert traces.dropped == 8 * 3


def test_an_answer_has_no_finish_reason_in_the_shape_to_come() -> None:
    (answer,) = json.loads(told(talk(CONVERSATION), contents(shapes=names.LATEST))[names.OUTPUT_MESSAGES])
    assert "finish_reason" not in answer


def test_the_checks_that_are_configured_do_mask() -> None:
    configuration = Configuration.model_validate(
        {
            "providers": {"mock": {"kind": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"}},
            "models": {"m": {"targets": ["mock/gpt-x"]}},
            "telemetry": {"traces": {"console": True, "content": {"models": ["m"], "mask": ["secrets"]}}},
        }
    )
    traces = open_traces(configuration, lambda: configuration)
    assert traces is not None
    try:
        exchange = talk([{"role": "user", "content": f"My token is {SECRET}."}], answer=f"It is {SECRET}.")
        tree = traces.tree(exchange)
    finally:
        traces.close()
    said = str([span.attributes for span in tree.spans])
    assert "My token is <SECRET:github_token>." in said
    assert SECRET not in said
