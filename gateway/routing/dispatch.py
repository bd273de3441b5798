"""The attempt engine: target after target, try after try, inside one deadline, until an answer begins.

It ends where the first content is here: after that an answer is never spliced, so nothing is tried again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from gateway.chat import Request
from gateway.errors import GatewayError, Overloaded, UpstreamError, UpstreamRefused
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks, Provider
from gateway.routing.strategies import Strategy
from gateway.values import Attempt, Target


@dataclass(frozen=True, slots=True)
class Line:
    """A provider with the patience that its configuration gives it. Times in seconds."""

    provider: Provider
    total: float
    retries: int
    backoff: float
    max_backoff: float


class Dispatcher:
    def __init__(self, lines: Mapping[str, Line], strategy: Strategy) -> None:
        self._lines = lines
        self._strategy = strategy

    async def call(self, request: Request, exchange: Exchange) -> Chunks:
        """The beginning of an answer from the first target that gives one.

        Raises the last target's error. A refusal of the request itself ends the call at once: no other
        target is asked to accept what one has found wrong.
        """
        started = time.perf_counter_ns()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        error: GatewayError | None = None
        try:
            for target in self._strategy.rank():
                line = self._lines[target.provider]
                deadline = begin + line.total
                for attempt in range(line.retries + 1):
                    tried = time.perf_counter_ns()
                    try:
                        chunks = await line.provider.open(request, target, exchange, deadline)
                    except (UpstreamError, Overloaded) as failure:
                        error = failure
                        # The provider's own code may be anything; what is counted is one of ours.
                        code = "upstream_refused" if isinstance(failure, UpstreamRefused) else failure.code or "error"
                        _note(exchange, target, code, failure.status, tried)
                        if isinstance(failure, UpstreamRefused):
                            raise
                        if isinstance(failure, UpstreamError) and not failure.retryable:
                            raise
                        pause = _pause(failure.retry_after, line, attempt)
                        if pause is None or loop.time() + pause >= deadline:
                            break
                        if attempt < line.retries:
                            await asyncio.sleep(pause)
                    else:
                        _note(exchange, target, "ok", 200, tried)
                        exchange.target = target
                        return chunks
            assert error is not None
            if isinstance(error, UpstreamError):
                error.spent = len(exchange.attempts) > 1
            raise error
        finally:
            # An error holds the frames it passed, and a frame that held it in turn would keep all their bytes
            # until the collector comes by, which is seldom.
            error = None
            exchange.stage("call", started)


def _note(exchange: Exchange, target: Target, outcome: str, status: int, tried: int) -> None:
    ms = (time.perf_counter_ns() - tried) / 1e6
    exchange.attempts.append(Attempt(target, outcome, status, ms, exchange.upstream_id))
    exchange.upstream_id = None


def _pause(retry_after: str | None, line: Line, attempt: int) -> float | None:
    """Seconds until the next try at the same target; None when the provider asks for more than we wait.

    Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    asked = seconds_of(retry_after)
    if asked is not None:
        return asked if asked <= line.max_backoff else None
    return random.uniform(0, min(line.max_backoff, line.backoff * 2.0**attempt))


def seconds_of(retry_after: str | None) -> float | None:
    """A Retry-After in seconds, from its two forms (RFC 9110, 10.2.3); None when absent or unreadable."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if seconds == seconds else None
