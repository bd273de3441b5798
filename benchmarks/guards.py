"""What guardrails cost: `python benchmarks/guards.py`. Processor time on one core, as markdown tables.

Requests of 1 kB through the input guard, and a stream of small chunks through the output guard; the same rules as in a
configuration, and none that asks a model or a server. Of a stream also how many chunks its text comes later: before the
first text leaves, and each character of it on average and at most.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

from gateway.assembly.guards import Guards, output_guard
from gateway.assembly.services import Services
from gateway.chat import ChatRequest
from gateway.chunks import Chunk
from gateway.config.models import Configuration
from gateway.exchange import Exchange
from gateway.values import Caller

_PROSE = (
    "The quarterly report is due on Friday, so please send the figures for the northern region by Thursday noon. "
    "Last year 1,204 customers asked for it, and version 2.4.1 of the template is in the shared folder. "
)
_ANSWER = (
    f"{_PROSE}\n\n## What to send\n\n- the figures of last year, see [the template](https://docs.example.com/template)\n"
    "- the **names** of `all` customers, in one list\n- what is new [1]\n\n```python\nfor each in region:\n    print(each.name, "
    "each.figure)\n```\n\n" + _PROSE * 2 + "\n\n"
)  # as models write: paragraphs, a list with a link, a little code
_WORDS: dict[str, Any] = {"check": "keywords", "lists": [{"kind": "project", "words": ["Umbrella", "Nightfall"]}]}
_ON_REQUESTS: dict[str, list[Any]] = {
    "secrets, pii, injection": ["secrets", "pii", "injection"],
    "secrets, pii": ["secrets", "pii"],
    "injection": ["injection"],
    "keywords": [_WORDS],
    "code": [{"check": "code", "deny": ["shell"]}],
    "language": [{"check": "language", "allowed": ["en"]}],
}
_ON_STREAMS: dict[str, list[Any]] = {
    "none": [],
    "secrets, pii": ["secrets", "pii"],
    "length, at most 100,000 characters": [{"check": "length", "most": 100_000}],
    "keywords, flagged": [{**_WORDS, "action": "flag"}],
    "keywords, strict": [_WORDS],
    "keywords, strict: false": [{**_WORDS, "strict": False}],
    "keywords, strict, a pattern without a bound: `SEC-\\d+`": [
        {"check": "keywords", "lists": [{"kind": "ticket", "patterns": ["SEC-\\d+"]}]}
    ],
    "keywords, strict, a pattern of lines: `top.*secret`": [
        {"check": "keywords", "lists": [{"kind": "secret", "patterns": ["top.*secret"]}]}
    ],
    "keywords, `strict: whole`": [{**_WORDS, "strict": "whole"}],
    "exfiltration": ["exfiltration"],
    "code, blocking": [{"check": "code", "action": "block", "deny": ["shell"]}],
    "secrets, pii, keywords, exfiltration": ["secrets", "pii", _WORDS, "exfiltration"],
}


def _guards(side: str, rules: Sequence[Any]) -> Any:
    """The stage of a model with these rules; None where there are none."""
    configuration = Configuration.model_validate(
        {
            "providers": {"extractive": {"kind": "extractive"}},
            "models": {"m": {"targets": ["extractive"], "guardrails": {side: list(rules)}}},
        }
    )
    # No rule here asks a model or the record store.
    guards = Guards(configuration, None, Services(None, None, None, None))  # type: ignore[arg-type]  # see above
    policy = guards.policy(getattr(configuration.models["m"].guardrails, side), side, 5.0)  # type: ignore[arg-type]  # one of two
    return guards.input_guard(policy, "m") if side == "input" else output_guard(policy)


def _exchange() -> Exchange:
    exchange = Exchange("chat.completions")
    exchange.caller = Caller("key", "default")
    return exchange


async def requests(count: int = 300) -> None:
    print("| rules, on a request of 1 kB | p50 ms | p99 ms |\n| --- | --- | --- |")
    for name, rules in _ON_REQUESTS.items():
        guard = _guards("input", rules)
        assert guard is not None
        taken = []
        for number in range(count + 20):
            text = f"{number} {_PROSE * 6}"[:1_000]  # another each time: verdicts are remembered
            body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
            request, exchange = ChatRequest(body), _exchange()
            started = time.process_time()
            await guard.screen(request, exchange)
            taken.append(time.process_time() - started)
        taken = sorted(taken[20:])
        print(f"| {name} | {statistics.median(taken) * 1e3:.2f} | {taken[int(count * 0.99)] * 1e3:.2f} |")


class _Stream:
    def __init__(self, chunks: list[Chunk]) -> None:
        self.left = chunks

    async def next(self) -> list[Chunk]:
        return [self.left.pop(0)] if self.left else []

    def close(self) -> None:
        self.left.clear()


def _told(text: str) -> list[bytes]:
    told = [
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
            {"index": 0, "delta": {"content": text[at : at + 5]}, "finish_reason": None}]}
        for at in range(0, len(text), 5)
    ]  # fmt: skip
    told.append({**told[0], "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return [json.dumps(each).encode() for each in told]


def _content(chunks: Sequence[Chunk]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in json.loads(chunk.data)["choices"]
    )


async def _late(guard: Any, request: ChatRequest, data: Sequence[bytes]) -> tuple[int, float, int]:
    """How many chunks later text leaves than it came: the first, on average, at most. Nothing here is masked."""
    source: Any = _Stream([Chunk(each) for each in data])
    chunks = guard.screen(source, request, _exchange(), None) if guard is not None else source
    late: list[int] = []
    while burst := await chunks.next():
        came = len(data) - len(source.left)
        late += [came - 1 - (len(late) + at) // 5 for at in range(len(_content(burst)))]
    chunks.close()
    return late[0], statistics.fmean(late), max(late)


async def streams(text: str, heading: str, rounds: int = 9) -> None:
    data = _told(text)
    request = ChatRequest(
        json.dumps(
            {"model": "m", "stream": True, "messages": [{"role": "user", "content": "docs.example.com"}]}
        ).encode()
    )
    print(f"\n{heading}, {len(data)} chunks of 5 characters\n")
    print("| rules | µs a chunk | first text after | late on average | at most |\n| --- | --- | --- | --- | --- |")
    bare = 0.0
    for name, rules in _ON_STREAMS.items():
        guard = _guards("output", rules)
        best = float("inf")
        for _ in range(rounds):
            chunks: Any = _Stream([Chunk(each) for each in data])
            if guard is not None:
                chunks = guard.screen(chunks, request, _exchange(), None)
            started = time.process_time()
            while await chunks.next():
                pass
            best = min(best, (time.process_time() - started) / len(data))
            chunks.close()
        bare = bare or best
        cost = f"{(best - bare) * 1e6:.1f}" if rules else f"{bare * 1e6:.1f}, taken off the others"
        first, mean, most = await _late(guard, request, data)
        print(f"| {name} | {cost} | {first} | {mean:.1f} | {most} |")


async def main() -> None:
    await requests()
    await streams((_PROSE * 40)[: 665 * 5], "Prose without a paragraph")
    await streams(_ANSWER * 4, "An answer with paragraphs, lists, links and code")


if __name__ == "__main__":
    asyncio.run(main())
