"""Answers whose text leaves as far as it is certain: the same verdicts and the same words, whole or cut anywhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chat import ChatRequest
from gateway.chunks import Chunk
from gateway.errors import StageFailed
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.providers.replay import Replayed
from gateway.stages.guarding import OutputGuard
from guardrails.assembly import build_check
from guardrails.checks.exfiltration import Exfiltration
from guardrails.checks.keywords import Keywords, WordList
from guardrails.checks.length import Length
from guardrails.checks.tool_policy import ToolPolicy
from guardrails.judging import Judges
from guardrails.policy import Policy, Rule
from guardrails.rules import TextRule
from guardrails.text_checks import Context, Cost, Flow, Horizon
from guardrails.verdicts import Action, Finding

FALCON = Keywords([WordList("project", ["Falcon", "Zürich"])])
CALLS_ONLY = TextRule(ToolPolicy(deny=["delete*"]), "block", by_tool=True, roads=frozenset(("tools",)))


class Told:
    """An answer that comes as the test lets it; it knows whether it was closed."""

    def __init__(self, chunks: list[Chunk]) -> None:
        self._chunks = list(chunks)
        self.closed = False

    async def next(self) -> list[Chunk]:
        return [self._chunks.pop(0)] if self._chunks else []

    def close(self) -> None:
        self.closed = True


def request(stream: bool = True, **more: Any) -> ChatRequest:
    return ChatRequest(
        json.dumps({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}], **more}).encode()
    )


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> Chunk:
    choices = [{"index": index, "delta": delta, "finish_reason": finish}]
    return Chunk(json.dumps({"id": "x", "model": "m", "choices": choices}).encode())


def streamed(pieces: Sequence[str], field: str = "content") -> list[Chunk]:
    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({field: piece}) for piece in pieces),
        chunk({}, "stop"),
    ]


def whole(message: dict[str, Any]) -> Chunk:
    choices = [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}]
    return Chunk(json.dumps({"id": "x", "model": "m", "choices": choices}).encode())


async def never(*_: Any) -> Any:
    raise AssertionError("nothing is asked again here")


def guarded(
    chunks: Chunks, *rules: TextRule, stream: bool = True, runs: Sequence[Rule] = (), **more: Any
) -> tuple[Chunks, Exchange]:
    exchange = Exchange("chat.completions")
    guard = OutputGuard(Policy(runs, Judges(rules)))
    return guard.screen(chunks, request(stream, **more), exchange, never), exchange


async def told(chunks: Chunks, index: int = 0) -> tuple[str, list[str]]:
    """What a choice's content says, and the reasons it ends with."""
    said, reasons = "", []
    while burst := await chunks.next():
        for one in burst:
            for choice in json.loads(one.data)["choices"]:
                if choice["index"] == index:
                    said += (choice.get("delta") or choice.get("message") or {}).get("content") or ""
                    reasons += [choice["finish_reason"]] if choice.get("finish_reason") else []
    chunks.close()
    return said, reasons


PIECES = st.lists(
    st.sampled_from(
        ["Falcon", "Fal", "con", "Fа", "lcon", " ", "\n\n", "![x](", "https://evil.example/a", ")", "[y](", "hay ", "stack", "<img ", "src="]
    ),
    max_size=10,
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    pieces=PIECES,
    actions=st.tuples(st.sampled_from(["block", "mask"]), st.sampled_from(["block", "mask"])),
    most=st.sampled_from([None, 20]),
)
def test_a_stream_cut_anywhere_ends_as_the_whole_answer_does(
    pieces: list[str], actions: tuple[Action, Action], most: int | None
) -> None:
    rules = [TextRule(FALCON, actions[0]), TextRule(Exfiltration(), actions[1])]
    if most is not None:
        rules.append(TextRule(Length(most), "block", content_only=True))

    async def both() -> None:
        plain, first = guarded(Replayed([whole({"content": "".join(pieces)})]), *rules, stream=False)
        said, reasons = await told(plain)
        cut, second = guarded(Replayed(streamed(pieces)), *rules)
        heard, ends = await told(cut)
        assert ends == reasons
        assert heard == said or reasons == ["content_filter"]
        assert second.outcome == first.outcome
        assert [verdict for _, verdict in second.verdicts] == [verdict for _, verdict in first.verdicts]

    asyncio.run(both())


async def test_text_flows_and_what_is_blocked_ends_the_stream_and_its_upstream_call() -> None:
    upstream = Told(streamed(["I may say that ", "all is well, ", "but Fal", "con is late", " and more"]))
    chunks, exchange = guarded(upstream, TextRule(FALCON, "block", message="No."))
    said, reasons = [], []
    while burst := await chunks.next():
        for one in burst:
            (choice,) = json.loads(one.data)["choices"]
            said.append(choice["delta"].get("content"))
            reasons += [choice["finish_reason"]] if choice["finish_reason"] else []
    assert said[1] == "I may say", "it does not wait for the end"
    assert "".join(map(str, said)) == "I may say that all is well, but No."
    assert reasons == ["content_filter"]
    assert upstream.closed
    assert exchange.outcome == "blocked"
    chunks.close()
    ((stage, verdict),) = exchange.verdicts
    assert (stage, verdict.action, verdict.findings) == ("output", "block", (Finding("project", 32, 38, 1.0),))


async def test_a_rule_may_hold_back_the_whole_answer_all_the_same() -> None:
    text = ["I may say that ", "all is well, ", "but Falcon is late"]
    chunks, _ = guarded(Replayed(streamed(text)), TextRule(FALCON, "block", message="No.", whole=True))
    assert await told(chunks) == ("No.", ["content_filter"])


async def test_each_choice_goes_its_own_way() -> None:
    upstream = [
        chunk({"content": text}, index=index) for text in ("Fal", "con is ", "late, ", "hay") for index in (0, 1)
    ]
    upstream[0] = chunk({"content": "hay"}, index=0)
    upstream += [chunk({}, "stop", 0), chunk({}, "stop", 1)]
    for index, expected in ((0, ("haycon is late, hay", ["stop"])), (1, ("", ["content_filter"]))):
        source = Told(upstream)
        chunks, exchange = guarded(source, TextRule(FALCON, "block"), n=2)
        assert await told(chunks, index) == expected
        assert exchange.outcome == "blocked"


async def test_what_is_said_beside_the_content_goes_past_the_rules_that_look_there() -> None:
    for rule, expected in (
        (TextRule(FALCON, "mask"), "<keywords.project>"),
        (TextRule(FALCON, "mask", content_only=True), "Falcon"),
    ):
        chunks, _ = guarded(Replayed(streamed(["Fal", "con"], "reasoning_content")), rule)
        said = ""
        while burst := await chunks.next():
            said += "".join(json.loads(one.data)["choices"][0]["delta"].get("reasoning_content") or "" for one in burst)
        assert said == expected


async def test_no_answer_is_a_wrong_answer_unless_it_calls() -> None:
    rule = TextRule(Length(least=1), "block", content_only=True)
    for stream, upstream in ((True, streamed([])), (False, [whole({"content": None})])):
        chunks, exchange = guarded(Replayed(upstream), rule, stream=stream)
        assert await told(chunks) == ("", ["content_filter"])
        assert [verdict.findings for _, verdict in exchange.verdicts] == [(Finding("too_short", 0, 0, 1.0),)]
    calling = [chunk(calls("find", "{}")), chunk({}, "tool_calls")]
    assert (await told(guarded(Replayed(calling), rule)[0]))[1] == ["tool_calls"]


# -- calls of tools ----------------------------------------------------------------------------------------
def calls(name: str, arguments: str) -> dict[str, Any]:
    return {
        "tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}]
    }


async def deltas(chunks: Chunks) -> list[dict[str, Any]]:
    found = []
    while burst := await chunks.next():
        for one in burst:
            (choice,) = json.loads(one.data)["choices"]
            found.append(choice.get("delta") or choice.get("message"))
    chunks.close()
    return found


@pytest.mark.parametrize("cut", range(1, 40, 6))
async def test_arguments_are_judged_as_they_read_whole_and_stay_json_while_text_flows(cut: int) -> None:
    arguments = '{"a": "x\\nZ\\u00fcrich\\"", "Falcon": [1, true, "hay"]}'
    upstream = [
        chunk({"content": "I look it up. "}),
        chunk(calls("find", arguments[:cut])),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments[cut:]}}]}),
        chunk({}, "tool_calls"),
    ]
    found = await deltas(guarded(Replayed(upstream), TextRule(FALCON, "mask"))[0])
    assert found[0] == {"content": "I look i"}
    assert [delta for delta in found if delta.get("tool_calls")] == [found[-1]]
    (call,) = found[-1]["tool_calls"]
    assert (call["index"], call["id"], call["function"]["name"]) == (0, "c", "find")
    masked = {"a": 'x\n<keywords.project>"', "<keywords.project>": [1, True, "hay"]}
    assert json.loads(call["function"]["arguments"]) == masked
    plain = whole({"content": "I look it up. ", **calls("find", arguments)})
    (message,) = await deltas(guarded(Replayed([plain]), TextRule(FALCON, "mask"), stream=False)[0])
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == masked


@pytest.mark.parametrize("stream", [False, True])
async def test_a_rule_about_tools_holds_back_their_calls_and_no_text(stream: bool) -> None:
    text = [chunk({"content": "Here "}), chunk({"content": "it is"})]
    upstream = [*text, chunk(calls("delete_all", "{}")), chunk({}, "tool_calls")]
    if not stream:
        upstream = [whole({"content": "Here it is", **calls("delete_all", "{}")})]
    chunks, exchange = guarded(Replayed(upstream), CALLS_ONLY, stream=stream)
    assert "delete_all" not in json.dumps(await deltas(chunks))
    assert exchange.outcome == "blocked"
    assert [(verdict.check, verdict.action) for _, verdict in exchange.verdicts] == [("tools", "block")]
    chunks, _ = guarded(Told(upstream), CALLS_ONLY, stream=stream)
    first = json.loads((await chunks.next())[0].data)["choices"][0]
    assert first == {"index": 0, "delta": {"content": "Here "}, "finish_reason": None} or not stream


# -- beside other rules ------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True])
async def test_rules_over_runs_stand_before_and_what_they_stop_is_told_in_their_words(stream: bool) -> None:
    secret = "ghp_" + "a1B2c3D4e5F6" * 3
    runs = [Rule(build_check("secrets", {}), "block", message="A key.")]
    noting = TextRule(Keywords([WordList("hay", ["hay"])]), "flag")
    pieces = ["some hay and Fal", "con, ", secret, " more"]
    upstream = streamed(pieces) if stream else [whole({"content": "".join(pieces)})]
    chunks, exchange = guarded(Replayed(upstream), TextRule(FALCON, "mask"), noting, stream=stream, runs=runs)
    said, reasons = await told(chunks)
    assert (said.removeprefix("some hay and <keywords.project>"), reasons) == ("A key.", ["content_filter"])
    assert exchange.outcome == "blocked"


@pytest.mark.parametrize("stream", [False, True])
async def test_rules_that_take_note_see_what_leaves(stream: bool) -> None:
    noting = TextRule(Keywords([WordList("left", ["keywords.project", "Falcon"])]), "flag")
    pieces = ["The Fal", "con flies"]
    upstream = streamed(pieces) if stream else [whole({"content": "".join(pieces)})]
    chunks, exchange = guarded(Replayed(upstream), noting, TextRule(FALCON, "mask"), stream=stream)
    assert await told(chunks) == ("The <keywords.project> flies", ["stop"])
    assert [(verdict.action, len(verdict.findings)) for _, verdict in exchange.verdicts] == [("mask", 1), ("flag", 1)]


async def test_a_sliding_rule_goes_on_with_the_choices_that_are_left() -> None:
    sliding = TextRule(Keywords([WordList("hay", ["hay"])]), "block", strict=False, every=20)
    upstream = [
        chunk({"content": "Falcon"}, index=0),
        chunk({}, "stop", 0),
        chunk({"content": "hay"}, index=1),
        chunk({}, "stop", 1),
    ]
    chunks, exchange = guarded(Replayed(upstream), TextRule(FALCON, "block"), sliding, n=2)
    assert (await told(chunks, 1))[1] == ["content_filter"]
    assert {verdict.findings[0].kind for _, verdict in exchange.verdicts} == {"project", "hay"}


class Fails:
    name = "fails"
    version = "1"
    default_action: Action = "block"
    cost: Cost = "cheap"

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        raise AssertionError("it is asked piece by piece")

    def horizon(self, action: Action) -> Horizon:
        return 0

    def flow(self, context: Context) -> Flow:
        return self

    def feed(self, text: str) -> tuple[int, Sequence[Finding]]:
        raise RuntimeError(text)

    def finish(self) -> Sequence[Finding]:
        return ()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_check_that_fails_is_no_consent(stream: bool) -> None:
    upstream = streamed(["hello"]) if stream else [whole({"content": "hello"})]
    chunks, _ = guarded(Replayed(upstream), TextRule(Fails(), "block"), stream=stream)
    with pytest.raises(StageFailed, match="The guardrail fails is unavailable: it failed with RuntimeError"):
        await told(chunks)
    chunks.close()
    chunks, exchange = guarded(Replayed(upstream), TextRule(Fails(), "block", closed=False), stream=stream)
    assert await told(chunks) == ("hello", ["stop"])
    assert exchange.degraded == ["guardrails.fails"]


async def test_what_a_provider_leaves_without_an_end_comes_out() -> None:
    chunks, _ = guarded(Replayed(streamed(["The Fal", "con"])[:-1]), TextRule(FALCON, "mask"))
    assert await told(chunks) == ("The <keywords.project>", [])
