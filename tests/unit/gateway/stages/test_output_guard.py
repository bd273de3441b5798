"""No field of an answer is a way around the output guardrails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.chat import ChatRequest
from gateway.chunks import Chunk
from gateway.errors import UpstreamFailed
from gateway.exchange import Exchange
from gateway.providers.replay import Replayed
from gateway.stages.guarding import OutputGuard
from guardrails.assembly import build_check
from guardrails.policy import Policy, Rule

SECRET = "AKIAIOSFODNN7EXAMPLE"
GUARD = OutputGuard(Policy([Rule(build_check("secrets", {}), "mask")]))


REQUEST = ChatRequest(b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "hello"}]}')


async def never(*_: Any) -> Any:
    raise AssertionError("nothing is asked again here")


async def told(*documents: dict[str, Any]) -> str:
    replayed = Replayed([Chunk(json.dumps(d).encode()) for d in documents])
    chunks = GUARD.screen(replayed, REQUEST, Exchange("chat.completions"), never)
    out = b""
    while burst := await chunks.next():
        out += b"".join(chunk.data for chunk in burst)
    chunks.close()
    return out.decode()


def choice(**fields: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "finish_reason": "stop", **fields}]}


@pytest.mark.parametrize(
    "document",
    [
        choice(delta={"content": SECRET}),
        choice(delta={"reasoning": SECRET}),
        choice(delta={"content": "a"}, text=SECRET),
        choice(delta={"content": "a"}, logprobs={"content": [{"token": SECRET}]}),
        choice(message={"content": SECRET}),
        choice(message={"content": "a", "parts": [SECRET]}),
        {"id": "x", "choices": [{"delta": {}}, {"index": 1, "message": {"content": SECRET}}]},
        {"id": "x", "output": SECRET, "choices": []},
        {"id": "x", "output": SECRET},
    ],
)
async def test_no_field_carries_a_secret_past_the_guard(document: dict[str, Any]) -> None:
    assert SECRET not in await told(document)


@pytest.mark.parametrize(
    "choices", [{"0": SECRET}, [SECRET], [{"delta": SECRET}], [{"delta": {}, "message": {"content": SECRET}}]]
)
async def test_what_can_not_be_screened_is_refused(choices: Any) -> None:
    with pytest.raises(UpstreamFailed, match="can't be screened"):
        await told({"id": "x", "choices": choices})


async def test_what_is_held_comes_out_where_a_provider_leaves_out_its_finish() -> None:
    pieces = [{"id": "x", "choices": [{"index": 0, "delta": {"content": text}}]} for text in ("Hello wor", "ld")]
    chunks = [json.loads(part) for part in (await told(*pieces)).replace("}{", "}\n{").split("\n")]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "Hello world"
