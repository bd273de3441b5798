"""Answers before their judges: held back or watched as they leave, the outcome is the whole answer's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import ChatRequest
from gateway.chunks import Chunk
from gateway.errors import StageFailed, UpstreamFailed
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.providers.replay import Replayed
from gateway.stages.guarding import OutputGuard
from guardrails.judging import Judges
from guardrails.policy import Policy
from guardrails.rules import TextRule
from guardrails.text_checks import CheckUnavailable, Context, Cost
from guardrails.verdicts import Action, Finding

WORD = "needle"


class FindsWord:
    name = "word"
    version = "1"
    default_action: Action = "block"
    cost: Cost = "cheap"

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], Context]] = []
        self.may: asyncio.Event | None = None  # answers only then

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        self.asked.append((list(texts), context))
        if self.may is not None:
            await self.may.wait()
        return [
            tuple(Finding("n", at, at + len(WORD), 1.0) for at in range(len(text)) if text.startswith(WORD, at))
            for text in texts
        ]


class Away(FindsWord):
    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        raise CheckUnavailable("it is away")


class Told:
    """An answer that comes as the test lets it; it knows whether it was closed."""

    def __init__(self, chunks: list[Chunk]) -> None:
        self._chunks = chunks
        self.closed = False
        self.more = asyncio.Event()

    async def next(self) -> list[Chunk]:
        if not self._chunks:
            await self.more.wait()
            return []
        return [self._chunks.pop(0)]

    def close(self) -> None:
        self.closed = True


def request(stream: bool = True, **more: Any) -> ChatRequest:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}]
    return ChatRequest(json.dumps({"model": "m", "stream": stream, "messages": messages, **more}).encode())


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> Chunk:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return Chunk(json.dumps({"id": "x", "model": "m", "choices": choices, **more}).encode())


def streamed(pieces: Sequence[str], field: str = "content") -> list[Chunk]:
    return [chunk({"role": "assistant"}), *(chunk({field: piece}) for piece in pieces), chunk({}, "stop")]


def whole(message: dict[str, Any], **more: Any) -> Chunk:
    choices = [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}]
    return Chunk(json.dumps({"id": "x", "model": "m", "choices": choices, **more}).encode())


async def never(*_: Any) -> Any:
    raise AssertionError("nothing is asked again here")


def guarded(
    chunks: Chunks, check: FindsWord, action: Action = "block", *, stream: bool = True, call: Any = never, **rule: Any
) -> tuple[Chunks, Exchange]:
    exchange = Exchange("chat.completions")
    guard = OutputGuard(Policy([], Judges([TextRule(check, action, **rule)])))
    return guard.screen(chunks, request(stream), exchange, call), exchange


async def told(chunks: Chunks) -> tuple[str, list[str]]:
    """What an answer's content says, and the reasons it ends with."""
    said, reasons = "", []
    while burst := await chunks.next():
        for one in burst:
            for choice in json.loads(one.data)["choices"]:
                said += (choice.get("delta") or choice.get("message") or {}).get("content") or ""
                reasons += [choice["finish_reason"]] if choice.get("finish_reason") else []
    chunks.close()
    return said, reasons


pieces = st.lists(st.sampled_from([WORD, "nee", "dle", "d", " ", "hay", "stack"]), max_size=8)


@given(pieces=pieces, action=st.sampled_from(["block", "mask", "flag"]), strict=st.booleans())
def test_a_stream_cut_anywhere_ends_as_the_whole_answer_does(pieces: list[str], action: Action, strict: bool) -> None:
    strict = strict or action == "mask"

    async def both() -> None:
        text = "".join(pieces)
        plain, first = guarded(Replayed([whole({"content": text})]), FindsWord(), action, stream=False, strict=strict)
        said, reasons = await told(plain)
        cut, second = guarded(Replayed(streamed(pieces)), FindsWord(), action, strict=strict, every=20, window=100)
        heard, ends = await told(cut)
        assert ends == reasons
        assert heard == said or (reasons == ["content_filter"] and not strict)
        assert second.outcome == first.outcome
        assert [v for _, v in second.verdicts] == [v for _, v in first.verdicts]

    asyncio.run(both())


async def test_what_is_watched_leaves_while_a_judgement_runs_and_is_stopped_by_it() -> None:
    check = FindsWord()
    check.may = asyncio.Event()
    upstream = Told(streamed(["a" * 30, WORD + "b" * 20, "c" * 30])[:-1])
    chunks, exchange = guarded(upstream, check, strict=False, every=20, window=100, message="No.")
    said = ""
    for _ in range(4):
        said += "".join(one.facts.choices[0].delta.content or "" for one in await chunks.next())
    assert said == "a" * 30 + WORD + "b" * 20 + "c" * 30, "nobody waits for the judge"
    assert len(check.asked) == 1, "one judgement at a time"
    waiting = asyncio.ensure_future(chunks.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    check.may.set()
    (last,) = await waiting
    assert json.loads(last.data)["choices"] == [
        {"index": 0, "delta": {"content": "No."}, "finish_reason": "content_filter"}
    ]
    assert upstream.closed
    assert exchange.outcome == "blocked"
    assert await chunks.next() == []
    chunks.close()


async def test_a_window_reaches_back_to_what_was_judged_before() -> None:
    check = FindsWord()
    chunks, exchange = guarded(
        Replayed(streamed(["x" * 27 + "nee", "dle" + "y" * 30, "z" * 30])), check, strict=False, every=20, window=40
    )
    _, reasons = await told(chunks)
    assert reasons == ["content_filter"]
    ((stage, verdict),) = exchange.verdicts
    assert (stage, verdict.findings) == ("output", (Finding("n", 27, 33, 1.0),))


@pytest.mark.parametrize("strict", [True, False])
async def test_an_answer_that_can_not_be_judged_is_no_answer(strict: bool) -> None:
    chunks, _ = guarded(Replayed(streamed(["hello"])), Away(), strict=strict)
    with pytest.raises(StageFailed, match="The guardrail word is unavailable: it is away"):
        await told(chunks)
    chunks, exchange = guarded(Replayed(streamed(["hello"])), Away(), strict=strict, closed=False)
    assert await told(chunks) == ("hello", ["stop"])
    assert exchange.degraded == ["guardrails.word"]


async def test_nothing_leaves_of_what_breaks_off_before_it_is_judged() -> None:
    class Breaks:
        async def next(self) -> list[Chunk]:
            raise UpstreamFailed("it broke off")

        def close(self) -> None:
            """Nothing is open."""

    chunks, _ = guarded(Breaks(), FindsWord())
    with pytest.raises(UpstreamFailed):
        await chunks.next()


async def test_a_judge_knows_question_passages_and_our_own_words() -> None:
    check = FindsWord()
    await told(guarded(Replayed([whole({"content": "hay"})]), check, stream=False)[0])
    assert check.asked == [(["hay"], Context("output", "What?", (), "Be brief."))]


# -- tools -------------------------------------------------------------------------------------------------
def calls(arguments: str) -> dict[str, Any]:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "find", "arguments": arguments}}
    return {"content": None, "tool_calls": [call]}


@pytest.mark.parametrize("stream", [False, True])
async def test_arguments_are_judged_as_they_read_and_stay_json(stream: bool) -> None:
    arguments = '{"a": "x\\n\\u006eeedle\\"", "needle": [1, true, "hay"]}'
    upstream = streamed([]) if stream else [whole(calls(arguments))]
    if stream:
        upstream[1:1] = [
            chunk({"tool_calls": calls(arguments[:12])["tool_calls"]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments[12:]}}]}),
        ]
    chunks, _ = guarded(Replayed(upstream), FindsWord(), "mask", stream=stream)
    found = []
    while burst := await chunks.next():
        for one in burst:
            (choice,) = json.loads(one.data)["choices"]
            found += (choice.get("delta") or choice.get("message") or {}).get("tool_calls") or []
    (call,) = found
    assert call["function"]["name"] == "find"
    assert json.loads(call["function"]["arguments"]) == {"a": 'x\n<word.n>"', "<word.n>": [1, True, "hay"]}


async def test_a_rule_by_tool_is_told_which_one_is_called() -> None:
    check = FindsWord()
    rule = TextRule(check, "block", by_tool=True, roads=frozenset(("tools",)))
    guard = OutputGuard(Policy([], Judges([rule])))
    arguments = '{"q": "hay"}'
    await told(guard.screen(Replayed([whole(calls(arguments))]), request(False), Exchange("chat.completions"), never))
    assert check.asked == [([arguments], Context("tools", "What?", (), "Be brief.", "call", "find"))]


async def test_a_call_of_a_tool_has_no_content_to_be_wrong() -> None:
    check = FindsWord()
    await told(guarded(Replayed([whole(calls("{}"))]), check, stream=False, content_only=True)[0])
    assert check.asked == []
    await told(guarded(Replayed([whole({"content": None})]), check, stream=False, content_only=True)[0])
    assert [texts for texts, _ in check.asked] == [[""]]


# -- repair ------------------------------------------------------------------------------------------------
USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}


class Again:
    """The model's targets, asked a second time."""

    def __init__(self, content: str | None) -> None:
        self._content = content
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, asked: ChatRequest, exchange: Exchange) -> Chunks:
        self.asked.append(json.loads(asked.body_for("m")))
        if self._content is None:
            raise UpstreamFailed("gone")
        return Replayed([whole({"content": self._content}, usage=USAGE)])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("second", "expected"), [("hay", ("hay", ["stop"])), (WORD, ("", ["content_filter"])), (None, ("", ["content_filter"]))]
)  # fmt: skip
async def test_an_answer_is_mended_once_by_asking_again(
    second: str | None, expected: tuple[str, list[str]], stream: bool
) -> None:
    again = Again(second)
    upstream = [*streamed([WORD]), Chunk(json.dumps({"id": "x", "choices": [], "usage": USAGE}).encode())]
    if not stream:
        upstream = [whole({"content": WORD}, usage=USAGE)]
    chunks, exchange = guarded(Replayed(upstream), FindsWord(), call=again, stream=stream, repair="Without it, please.")
    usage = None
    said, reasons = "", []
    while burst := await chunks.next():
        for one in burst:
            document = json.loads(one.data)
            usage = document.get("usage") or usage
            for choice in document["choices"]:
                said += (choice.get("delta") or choice.get("message") or {}).get("content") or ""
                reasons += [choice["finish_reason"]] if choice.get("finish_reason") else []
    assert (said, reasons) == expected
    (asked,) = again.asked
    assert asked["messages"][-2:] == [
        {"role": "assistant", "content": WORD},
        {"role": "user", "content": "Without it, please."},
    ]
    assert "stream" not in asked
    assert usage is not None
    assert usage["total_tokens"] == (13 if second is None else 26)
    actions = [verdict.action for _, verdict in exchange.verdicts]
    assert actions == (["flag"] if second == "hay" else ["flag", "block"])
