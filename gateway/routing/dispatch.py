"""The attempt engine: candidate after candidate, try after try, inside one deadline, until an answer begins.

There is no other place where anything is tried again: plain and streamed calls, all providers and all strategies
come through here. It ends where the first content is here; after that an answer is never spliced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from functools import reduce
from typing import TYPE_CHECKING, Protocol

from gateway.chat import Request
from gateway.errors import (
    BadRequest,
    CredentialRefused,
    GatewayError,
    LimitReached,
    Overloaded,
    QueueFull,
    TargetsFull,
    UpstreamError,
    UpstreamLimited,
    UpstreamRefused,
)
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.routing.hedging import hedged
from gateway.routing.queueing import Queued, sooner
from gateway.routing.retries import RetryBudget, pause, seconds_of

if TYPE_CHECKING:
    from gateway.routing.candidates import Candidate, Gate, Line, Ranking
    from gateway.routing.queueing import ServerQueue
    from gateway.routing.strategies import Strategy
    from gateway.values import Attempt


Begun = tuple["Candidate", Chunks]
"""Who answers, and the beginning of the answer."""


class Filter(Protocol):
    def keep(self, ranked: Ranking, request: Request, exchange: Exchange) -> Ranking:
        """Those of `ranked` that this call may go to, in their order. Raises GatewayError when there is none."""


class Calls(Protocol):
    """Whatever calls a model's targets: the dispatcher, and what stands around it."""

    async def call(self, request: Request, exchange: Exchange) -> Chunks:
        """The beginning of an answer. Raises GatewayError."""


class Dispatcher:
    """Calls the targets of one public model. `filters`: residency and capability, where the model asks for them."""

    def __init__(
        self,
        strategy: Strategy,
        budget: RetryBudget,
        filters: tuple[Filter, ...] = (),
        hedge_after: float | str | None = None,
        kind: str = "priority",
    ) -> None:
        """`hedge_after`: seconds without content before a second target is asked beside the first; "p95" is the
        first one's own. `kind` is the strategy as the configuration names it."""
        self._strategy = strategy
        self._kind = kind
        self._budget = budget
        self._filters = filters
        self._hedge_after = hedge_after

    async def call(self, request: Request, exchange: Exchange) -> Chunks:
        """The beginning of an answer from the first candidate that gives one.

        Raises the last one's error. A refusal of the request itself ends the call at once: no other target is
        asked to accept what one has found wrong.
        """
        started = time.perf_counter_ns()
        begin = time.monotonic()  # the loop's own clock, without asking which loop this is
        self._budget.call()
        error: GatewayError | None = None
        asked = False
        full: list[tuple[Candidate, LimitReached | QueueFull]] = []
        try:
            exchange.ranked = ranked = self._strategy.rank(request, exchange)
            exchange.strategy = self._kind
            for keep in self._filters:
                ranked = keep.keep(ranked, request, exchange)
            if exchange.wanted is not None:
                ranked = _wanted(ranked, exchange.wanted, exchange)
            for order, candidate in enumerate(ranked):
                if not candidate.circuit.admits():
                    exchange.pass_over(candidate.target.label, "circuit_open")
                    continue
                if asked and not self._budget.take():
                    for left in ranked[order:]:
                        exchange.pass_over(left.target.label, "retry_budget")
                    break
                before, asked = asked, True
                try:
                    return _settled_on(
                        await self._try(candidate, ranked[order + 1 :], request, exchange, begin), exchange
                    )
                except (LimitReached, QueueFull) as limit:
                    full.append((candidate, limit))
                    exchange.pass_over(
                        candidate.target.label, "queue_full" if isinstance(limit, QueueFull) else "limit"
                    )
                    asked = before
                except (UpstreamError, Overloaded) as failure:
                    if _is_final(failure):
                        raise
                    error = failure
            if not asked:
                # All are out. Whoever is back soonest is asked all the same, once: a guess beats a certain refusal.
                limited = [candidate for candidate, _ in full]
                others = [candidate for candidate in ranked if candidate not in limited] if full else ranked
                if not others:
                    raise _soonest(full)
                soonest = min(others, key=lambda candidate: candidate.circuit.reopens_in)
                deadline = begin + soonest.line.total
                return _settled_on(await self._attempt(soonest, request, exchange, deadline), exchange)
            assert error is not None
            raise error
        except UpstreamError as failure:
            # Clients must not multiply our own tries, nor knock at a target that is known to be down.
            failure.spent = failure.spent or len(exchange.attempts) > 1 or not asked
            raise
        finally:
            # An error holds the frames it passed, and a frame that held it in turn would keep all their bytes
            # until the collector comes by, which is seldom.
            error = None
            full.clear()
            exchange.stage("call", started)

    # What only passes a call on is no coroutine of its own: each one more would be paid for by every call.
    def _try(
        self, candidate: Candidate, others: Ranking, request: Request, exchange: Exchange, begin: float
    ) -> Awaitable[Begun]:
        """One candidate with all the tries it is worth, hedged where the model asks for that."""
        after = self._hedge_after
        if after == "p95":
            after = candidate.observed.p95()
        beside = next((other for other in others if other.circuit.closed), None) if after is not None else None
        if beside is None:
            return self._persist(candidate, request, exchange, begin)
        assert isinstance(after, float)
        return hedged(
            lambda: self._persist(candidate, request, exchange, begin),
            lambda: self._attempt(beside, request, exchange, begin + beside.line.total),
            after,
            self._budget.take,
        )

    async def _persist(self, candidate: Candidate, request: Request, exchange: Exchange, begin: float) -> Begun:
        """Try after try at one candidate, inside its provider's time. Raises the last try's error."""
        line = candidate.line
        deadline = begin + line.total
        attempt = 0
        while True:
            try:
                return await self._attempt(candidate, request, exchange, deadline)
            except QueueFull:
                raise
            except (UpstreamError, Overloaded) as failure:
                other_key = (
                    len(line.lanes) > 1 and line.awake and isinstance(failure, (UpstreamLimited, CredentialRefused))
                )
                # A pause that the target itself asks for is waited out; one that its failures have earned is not.
                given_up = not candidate.circuit.closed and failure.retry_after is None
                if not other_key and (_is_final(failure) or given_up):
                    failure.spent = given_up
                    raise
                wait = 0.0 if other_key else pause(failure.retry_after, attempt, line.backoff, line.max_backoff)
                attempt += 1
                patience = len(line.lanes) if other_key else line.retries
                if wait is None or attempt > patience or not self._in_time(wait, deadline):
                    raise
                if not self._budget.take():
                    failure.spent = True
                    raise
            await asyncio.sleep(wait)

    def _attempt(self, candidate: Candidate, request: Request, exchange: Exchange, deadline: float) -> Awaitable[Begun]:
        """One try at one candidate, noted in the exchange and in the candidate's health.

        Raises LimitReached where the candidate is at a limit of its own, QueueFull where there is no room before its
        server.
        """
        if candidate.queue is not None:
            return self._queued(candidate, candidate.queue, request, exchange, deadline)
        return self._admitted(candidate, request, exchange, deadline)

    async def _queued(
        self, candidate: Candidate, queue: ServerQueue, request: Request, exchange: Exchange, deadline: float
    ) -> Begun:
        """One try when the candidate's server has room for it. Raises QueueFull."""
        well = candidate.circuit.closed
        slot = await queue.enter(exchange, deadline)
        try:
            if well and not candidate.circuit.closed:
                raise QueueFull(
                    "The model's server has failed while this call waited for it. Try again shortly.",
                    retry_after=f"{max(1.0, candidate.circuit.reopens_in):g}",
                )
            _, chunks = await self._admitted(candidate, request, exchange, deadline)
        except BaseException:
            slot.release()
            raise
        exchange.at_end(slot.release)
        return candidate, Queued(chunks, slot, whole=not request.stream)

    def _admitted(
        self, candidate: Candidate, request: Request, exchange: Exchange, deadline: float
    ) -> Awaitable[Begun]:
        """One try within the candidate's own limits. Raises LimitReached."""
        if candidate.gate is not None:
            return self._gated(candidate, candidate.gate, request, exchange, deadline)
        return self._open(candidate, request, exchange, deadline)

    async def _gated(
        self, candidate: Candidate, gate: Gate, request: Request, exchange: Exchange, deadline: float
    ) -> Begun:
        held = await gate.enter(request, exchange)
        try:
            begun = await self._open(candidate, request, exchange, deadline)
        except BaseException:
            held.settle_unused()
            raise
        exchange.at_end(held.settle)
        return begun

    async def _open(self, candidate: Candidate, request: Request, exchange: Exchange, deadline: float) -> Begun:
        target, line = candidate.target, candidate.line
        lane = line.lane()
        attempt = exchange.attempt(target, line.residency)
        observed = candidate.observed
        observed.in_flight += 1
        try:
            chunks = await lane.provider.open(request, target, exchange, deadline)
        except (UpstreamError, Overloaded) as failure:
            observed.in_flight -= 1
            # The provider's own code may be anything; what is counted is one of ours.
            code = "upstream_refused" if isinstance(failure, UpstreamRefused) else failure.code or "error"
            _note(exchange, attempt, code, failure.status)
            _blame(candidate, line, lane.failed(failure), failure, code)
            raise
        except BaseException as failure:
            observed.in_flight -= 1
            cut_off = isinstance(failure, asyncio.CancelledError)
            _note(exchange, attempt, "cancelled" if cut_off else "internal_error", 499 if cut_off else 500)
            raise
        _note(exchange, attempt, "ok", 200)
        candidate.circuit.succeeded()
        observed.answered(attempt.ms / 1e3)
        exchange.at_end(candidate.ended)
        return candidate, chunks

    @staticmethod
    def _in_time(wait: float, deadline: float) -> bool:
        return asyncio.get_running_loop().time() + wait < deadline


def _wanted(ranked: Ranking, wanted: str, exchange: Exchange) -> Ranking:
    """Of those that may answer, the one that the caller has named; all of them where it was an arm. Raises BadRequest."""
    if wanted == exchange.arm:
        return ranked
    chosen = [candidate for candidate in ranked if candidate.target.label == wanted]
    if not chosen:
        may = ", ".join(candidate.target.label for candidate in ranked)
        raise BadRequest(
            f"{wanted} is none of the targets of {exchange.model} that may answer this call: {may}.",
            param="x-gateway-use-target",
        )
    return chosen


def _settled_on(begun: Begun, exchange: Exchange) -> Chunks:
    """Which candidate answers is known only here: two may have been asked at once."""
    exchange.target = begun[0].target
    return begun[1]


def _soonest(full: list[tuple[Candidate, LimitReached | QueueFull]]) -> GatewayError:
    """Every target is at a limit of its own, or has a queue without room: when the first of them is not."""
    if queues := [error for _, error in full if isinstance(error, QueueFull)]:
        return reduce(sooner, queues)
    waits = [wait for _, limit in full if (wait := seconds_of(limit.retry_after)) is not None]
    return TargetsFull(
        "Every target of this model is at a limit of its own. Please try again later.",
        retry_after=f"{min(waits):g}" if waits else None,
    )


def _is_final(failure: GatewayError) -> bool:
    """Whether no other try could help: the request itself was refused, or the operator must act."""
    return isinstance(failure, UpstreamError) and not failure.retryable


def _blame(candidate: Candidate, line: Line, concerns_key: bool, failure: GatewayError, code: str) -> None:
    """Count a failure against the target, unless it lies with the request, with us, or with one key of several."""
    if isinstance(failure, (UpstreamRefused, Overloaded)) or (concerns_key and line.awake):
        return
    if isinstance(failure, CredentialRefused):
        candidate.circuit.failed(code, 30.0)
    elif isinstance(failure, UpstreamLimited) and (after := seconds_of(failure.retry_after)) is not None:
        candidate.circuit.failed(code, after)
    else:
        candidate.circuit.failed(code)


def _note(exchange: Exchange, attempt: Attempt, outcome: str, status: int) -> None:
    attempt.ms = (time.perf_counter_ns() - attempt.began) / 1e6
    attempt.outcome, attempt.status = outcome, status
    exchange.attempts.append(attempt)
