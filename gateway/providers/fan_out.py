"""Several choices from a vendor whose calls give one each: `n` calls side by side, told as one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from gateway.chat import JSON
from gateway.chunks import Chunk
from gateway.providers.answers import PlainAnswer, StreamedAnswer

Answer = PlainAnswer | StreamedAnswer


async def fan_out(calls: Sequence[Coroutine[Any, Any, Answer]], *, stream: bool) -> PlainAnswer | Interleaved:
    """One answer of all the calls' choices, numbered in the calls' order. Raises the first error; the others end."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        answers = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(ended, BaseException):
                ended.close()
        raise
    if stream:
        return Interleaved(answers)
    wholes = [msgspec.json.decode((await answer.next())[0].data) for answer in answers]
    merged = wholes[0]
    merged["choices"] = [{**one["choices"][0], "index": order} for order, one in enumerate(wholes)]
    merged["usage"] = _sum([one.get("usage") or {} for one in wholes])
    return PlainAnswer(Chunk(JSON.encode(merged)))


class Interleaved:
    """Streams of one choice each as one stream of many; whatever has come first is told first."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers
        self._reads: dict[asyncio.Task[list[Chunk]], int] = {}
        self._left = set(range(len(answers)))
        self._used: list[dict[str, Any]] = []
        self._frame: dict[str, Any] | None = None

    async def next(self) -> list[Chunk]:
        while self._left:
            reading = set(self._reads.values())
            for order in self._left - reading:
                self._reads[asyncio.ensure_future(self._answers[order].next())] = order
            done, _ = await asyncio.wait(self._reads, return_when=asyncio.FIRST_COMPLETED)
            chunks: list[Chunk] = []
            for task in done:
                task.add_done_callback(_look_at)  # when two fail at once, the second is nobody's news
                order = self._reads.pop(task)
                burst = task.result()
                if not burst:
                    self._left.discard(order)
                chunks += [told for chunk in burst if (told := self._renumbered(chunk, order)) is not None]
            if chunks:
                return chunks
        if self._used and self._frame is not None:
            used, self._used = self._used, []
            return [Chunk(JSON.encode({**self._frame, "choices": [], "usage": _sum(used)}))]
        return []

    def close(self) -> None:
        for task in self._reads:
            task.add_done_callback(_look_at)
            task.cancel()
        for answer in self._answers:
            answer.close()

    def _renumbered(self, chunk: Chunk, order: int) -> Chunk | None:
        told = msgspec.json.decode(chunk.data)
        if self._frame is None:
            self._frame = {name: told[name] for name in ("id", "object", "created", "model") if name in told}
        if told.get("usage"):
            self._used.append(told["usage"])
        if not told.get("choices"):
            return None
        told.pop("usage", None)
        told |= self._frame
        for choice in told["choices"]:
            choice["index"] = order
        return Chunk(JSON.encode(told))


def _look_at(task: asyncio.Task[list[Chunk]]) -> None:
    if not task.cancelled():
        task.exception()


def _sum(used: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Token counts added up, nested details included: each call is billed for its own prompt."""
    total: dict[str, Any] = {}
    for one in used:
        for name, value in one.items():
            if isinstance(value, dict):
                total[name] = _sum([total.get(name) or {}, value])
            elif isinstance(value, int):
                total[name] = total.get(name, 0) + value
    return total
