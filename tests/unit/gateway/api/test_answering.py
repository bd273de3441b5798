"""What an answer leaves in its call's account."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from gateway.api.answering import write_plain, write_stream
from gateway.api.tool_calls import gathered
from gateway.chat import ChatRequest
from gateway.chunks import Chunk
from gateway.exchange import Exchange


class Bursts:
    """A stream whose chunks come in these bursts."""

    def __init__(self, *bursts: list[Chunk]) -> None:
        self._bursts = list(bursts)

    async def next(self) -> list[Chunk]:
        return self._bursts.pop(0) if self._bursts else []

    def close(self) -> None:
        pass


def chunk(finish: str | None = None, **delta: Any) -> Chunk:
    return Chunk(json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode())


class Sent(list[MutableMapping[str, Any]]):
    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.append(message)


class Strict:
    """An account that has a call recorded before its answer's end; and what is recorded is masked."""

    async def recorded(self, exchange: Exchange) -> None:
        exchange.settle()
        exchange.answer_text = "masked"

    def price(self, exchange: Exchange) -> None: ...

    def begin(self, exchange: Exchange) -> None: ...

    def settled(self, exchange: Exchange) -> None: ...


STREAM = ChatRequest(b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true}')
LOOK = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
WAIT = {"id": "c2", "type": "function", "function": {"name": "wait", "arguments": ""}}


async def test_the_chunks_of_a_stream_are_those_that_say_something() -> None:
    call = {"index": 0, "function": {"name": "f", "arguments": "{}"}}
    usage = Chunk(b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}')
    chunks = Bursts(
        [chunk(role="assistant", content=""), chunk(content="one "), chunk(content="two")],
        [chunk(reasoning_content="hm"), chunk(tool_calls=[call])],
        [chunk("stop"), usage],
    )
    sent, exchange = Sent(), Exchange("chat.completions")
    await write_stream(chunks, STREAM, exchange, sent)
    assert exchange.output_chunks == 4
    assert exchange.usage is not None
    assert exchange.usage.completion_tokens == 9
    assert sent[-1]["body"] == b"data: [DONE]\n\n"
    assert exchange.answer_calls == ()  # nobody has asked for what was said


@pytest.mark.parametrize("stream", [True, False])
async def test_the_calls_of_an_answer_are_kept_where_content_is(stream: bool) -> None:
    exchange = Exchange("chat.completions")
    exchange.keep_content = True
    if stream:
        pieces: list[list[dict[str, Any]]] = [
            [{"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}],
            [{"index": 0, "function": {"arguments": '{"at"'}}, {"index": 1, "id": "c2", "function": {"name": "wait"}}],
            [{"index": 0, "function": {"arguments": ": 1}"}}],
        ]
        chunks = Bursts([chunk(content="So: ", tool_calls=pieces[0])], [chunk(tool_calls=one) for one in pieces[1:]])
        await write_stream(chunks, STREAM, exchange, Sent())
    else:
        message = {"role": "assistant", "content": "So: ", "tool_calls": [LOOK, WAIT]}
        whole = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
        await write_plain(Bursts([Chunk(json.dumps(whole).encode())]), exchange, Sent())
    assert (exchange.answer_text, exchange.answer_calls) == ("So: ", [LOOK, WAIT])


def test_what_is_no_call_is_left_out() -> None:
    odd: list[Any] = ["a", None, {"id": 7}, {"index": "x", "function": "f"}, {"function": {"name": 1, "arguments": 2}}]
    custom = {"index": 9, "id": "c9", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    assert [call for call in gathered([(0, "x"), (0, odd), (1, [custom])]) if call["id"]] == [
        {"id": "c9", "type": "function", "function": {"name": "shell", "arguments": "ls"}}
    ]


async def test_what_was_masked_when_it_was_recorded_stays_masked() -> None:
    exchange = Exchange("chat.completions")
    exchange.keep_content, exchange.account = True, Strict()
    await write_stream(Bursts([chunk(content="a value"), chunk("stop")]), STREAM, exchange, Sent())
    assert exchange.answer_text == "masked"
