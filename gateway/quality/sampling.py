"""Which answers are judged, and the judging: after the caller has the answer, never in its way."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gateway.chat import ChatRequest, last_question
from gateway.records.database import StoreUnavailable
from gateway.records.quality import Judgement, QualityStore
from gateway.stages.guard_calls import guarding
from gateway.values import FROM_CACHE
from guardrails.text_checks import CheckUnavailable, Context

if TYPE_CHECKING:
    from gateway.chat import Request
    from gateway.exchange import Exchange
    from gateway.quality.measures import Measure
    from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

Evaluated = Callable[["Exchange", str, float, str], None]
"""A call, what was measured of its answer, the score from 0 to 1, and who judged."""

_AT_ONCE = 2  # answers that are judged side by side
_MOST_WAITING = 100  # answers; what comes while so many wait is passed over, and counted
_MOST_UNSTORED = 1_000  # judgements that wait for the record store, or for their call to be in it …
_CALL_WITHIN = 3600 * 10**9  # … ns within which it is, unless it was erased
_KEEP_EVERY = 1.0  # seconds
_LOOKS = (0.0, 0.1, 0.4, 1.0, 2.0, 4.0)  # seconds before each look whether a call is stored
_PATIENCE = 60.0  # seconds for one measure of one answer
_RECENT = 200  # judgements whose mean the metrics tell
_MOST_BYTES = 50_000_000  # of requests that wait so: each is held until its answer is judged
_LONGEST = 20_000  # characters of an answer that is judged, and of the question


@dataclass(frozen=True, slots=True)
class Sampling:
    """Of one public model: the share of its answers, by what they are measured, and who judges."""

    share: float
    measures: Mapping[str, Measure]
    judged_by: str


class _Answer(NamedTuple):
    sampling: Sampling
    request: Request
    exchange: Exchange
    text: str
    context: Context
    bytes: int


class QualityJudges:
    """All answers that wait to be judged in this process. Belongs to the event loop."""

    def __init__(
        self,
        store: QualityStore,
        chance: Callable[[], float] = random.random,
        evaluated: Evaluated | None = None,
    ) -> None:
        """`evaluated` is told of each judgement, too."""
        self._store = store
        self._evaluated = evaluated
        self._chance = chance
        self._waiting: asyncio.Queue[_Answer] = asyncio.Queue(_MOST_WAITING)
        self._bytes = 0
        self._unstored: deque[Judgement] = deque(maxlen=_MOST_UNSTORED)
        self._well = True
        self._recent: dict[tuple[str, ...], deque[float]] = {}
        self._judged: dict[tuple[str, ...], float] = {}
        self.failures = 0
        self.passed_over = 0

    def watch(self, sampling: Sampling, request: Request, exchange: Exchange) -> None:
        """Have this call's answer judged, where chance will have it and it turns out to be a new one."""
        if not isinstance(request, ChatRequest) or self._chance() >= sampling.share:
            return
        exchange.keep_content = True  # so that the answer's words are there at its end
        exchange.at_own_end(lambda ended: self._ended(sampling, request, ended))

    async def run(self) -> None:
        """Until cancelled; what waits then is not judged."""
        await asyncio.gather(self._keep_judgements(), *(self._judge_next() for _ in range(_AT_ONCE)))

    def tell(self, metrics: Metrics) -> None:
        of = ("model", "measure")
        metrics.levels(
            "rag_gateway_quality_score", "Mean of the last answers judged, 0 to 1.", of, self._means, how="max"
        )
        metrics.counted("rag_gateway_quality_judged", "Answers judged.", of, lambda: self._judged)
        metrics.counted(
            "rag_gateway_quality_failures", "Answers that nobody could judge.", (), lambda: {(): self.failures}
        )
        metrics.counted(
            "rag_gateway_quality_passed_over", "Sampled answers that found too many waiting, or whose calls are not stored.", (),
            lambda: {(): self.passed_over},
        )  # fmt: skip

    def _means(self) -> Mapping[tuple[str, ...], float]:
        return {key: sum(scores) / len(scores) for key, scores in list(self._recent.items()) if scores}

    def _ended(self, sampling: Sampling, request: ChatRequest, exchange: Exchange) -> None:
        # What a guardrail hides from the target by placeholders is in the answer again, and not for a judge to see.
        text = exchange.answer_text
        new = exchange.cache not in FROM_CACHE and exchange.outcome == "ok" and exchange.made_for is None
        if not text or not new or exchange.pseudonyms is not None or len(text) > _LONGEST:
            return
        question = last_question(exchange.asked if exchange.asked is not None else request.messages)
        if len(question) > _LONGEST:  # a judge reads it too, and nobody is charged for that
            return
        size = sum(memoryview(value).nbytes for value in request.fields.values())
        if self._bytes + size > _MOST_BYTES:
            self.passed_over += 1
            return
        context = Context("output", question, tuple(passage.text for passage in exchange.passages))
        try:
            self._waiting.put_nowait(_Answer(sampling, request, exchange, text, context, size))
            self._bytes += size
        except asyncio.QueueFull:
            self.passed_over += 1

    async def _judge_next(self) -> None:
        while True:
            answer = await self._waiting.get()
            for name, measure in answer.sampling.measures.items():
                try:
                    if await self._is_there(answer.exchange.call_id):
                        await self._judge(name, measure, answer)
                    else:
                        self.passed_over += 1
                except (CheckUnavailable, TimeoutError) as failure:
                    self.failures += 1
                    log.warning("the %s of an answer was not judged: %s", name, failure or "it took too long")
                except Exception:
                    self.failures += 1
                    log.exception("the %s of an answer was not judged", name)
            self._bytes -= answer.bytes
            del answer  # or it is held until the next one comes
            await self._keep()

    async def _is_there(self, call_id: str) -> bool:
        """False of a call that was erased while it waited, or not stored by then: no judge is shown it."""
        for pause in _LOOKS:
            await asyncio.sleep(pause)
            try:
                if await asyncio.to_thread(self._store.knows, call_id):
                    return True
            except StoreUnavailable:
                return True  # nobody is erased just now
        return False

    async def _judge(self, name: str, measure: Measure, answer: _Answer) -> None:
        exchange = answer.exchange
        with guarding(answer.request, exchange, "quality"):
            async with asyncio.timeout(_PATIENCE):
                score = await measure(answer.text, answer.context)
        if score is None:
            return
        key = (exchange.model or "", name)
        self._recent.setdefault(key, deque(maxlen=_RECENT)).append(score)
        self._judged[key] = self._judged.get(key, 0) + 1
        assert exchange.caller is not None, "only calls of known callers have an answer"
        if self._evaluated is not None:
            self._evaluated(exchange, name, round(score, 4), answer.sampling.judged_by)
        self._unstored.append(
            Judgement(
                exchange.call_id,
                exchange.caller.tenant,
                name,
                round(score, 4),
                answer.sampling.judged_by,
                time.time_ns(),
            )
        )

    async def _keep_judgements(self) -> None:
        """A call's record is written beside its answer, and may come to the store after what was judged of it."""
        while True:
            await asyncio.sleep(_KEEP_EVERY)
            await self._keep()

    async def _keep(self) -> None:
        rows = list(self._unstored)
        if not rows:
            return
        self._unstored.clear()
        try:
            early = await asyncio.to_thread(self._store.add, rows)
        except StoreUnavailable as failure:
            if self._well:
                log.warning("%d judgements of answers wait for the record store: %s", len(rows), failure)
            self._well = False
            self._unstored.extendleft(reversed(rows))
        except Exception:  # whatever it is, the next answer is judged
            self.failures += len(rows)
            log.exception("%d judgements of answers are lost", len(rows))
        else:
            self._well = True
            since = time.time_ns() - _CALL_WITHIN
            self._unstored.extendleft(one for one in reversed(early) if one.at > since)
