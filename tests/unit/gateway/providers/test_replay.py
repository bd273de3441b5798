"""A stream gathered to a completion, a completion told as a stream: nothing is lost on the way."""

from __future__ import annotations

import json
from typing import Any

from gateway.chunks import Chunk
from gateway.identifiers import answer_id
from gateway.providers.replay import split, under_id, whole

FRAME = {"id": "chatcmpl-1", "created": 1, "model": "m", "system_fingerprint": "fp"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def event(index: int, delta: dict[str, Any], finish: str | None = None, **more: Any) -> Chunk:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    document = {**FRAME, "object": "chat.completion.chunk", "choices": [choice], "usage": None, **more}
    return Chunk(json.dumps(document).encode())


STREAM = [
    event(0, {"role": "assistant", "content": ""}),
    event(0, {"content": "He"}),
    event(1, {"role": "assistant", "content": "Other"}),
    event(0, {"content": "llo"}),
    event(
        1, {"tool_calls": [{"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": ""}}]}
    ),
    event(1, {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
    event(1, {"tool_calls": [{"index": 1, "id": "c1", "function": {"name": "g", "arguments": "{}"}}]}),
    event(1, {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
    event(0, {"annotations": [1]}, "stop", rag={"sources": [2]}),
    event(1, {}, "tool_calls"),
    Chunk(json.dumps({**FRAME, "choices": [], "usage": USAGE}).encode()),
]


def test_a_stream_makes_the_completion_it_would_have_been() -> None:
    document = json.loads(whole(STREAM).data)
    assert {key: document[key] for key in ("id", "object", "usage", "rag")} == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "usage": USAGE,
        "rag": {"sources": [2]},
    }
    first, second = document["choices"]
    assert first["message"] == {"role": "assistant", "content": "Hello", "refusal": None, "annotations": [1]}
    assert first["finish_reason"] == "stop"
    calls = [(call["id"], call["function"]) for call in second["message"]["tool_calls"]]
    assert calls == [("c0", {"name": "f", "arguments": '{"a":1}'}), ("c1", {"name": "g", "arguments": "{}"})]


def test_there_and_back_is_the_same() -> None:
    completion = whole(STREAM)
    assert json.loads(whole(split(completion)).data) == json.loads(completion.data)


def test_a_plain_answer_is_whole_already() -> None:
    plain = Chunk(b'{"id": "x", "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}')
    assert whole([plain]) is plain


def test_every_replay_has_an_id_of_its_own() -> None:
    plain = Chunk(b'{"id":"x","choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}')
    told = [json.loads(under_id(answer_id(), plain).data) for _ in range(2)]
    assert told[0]["id"] != told[1]["id"]
    assert told[0]["choices"] == told[1]["choices"]
