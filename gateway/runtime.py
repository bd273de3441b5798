"""What a running gateway holds: the revision that new calls begin with, and the services that outlive revisions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gateway.siblings import Alone

if TYPE_CHECKING:
    from gateway.chat import Request
    from gateway.exchange import Exchange
    from gateway.pricing import PriceBook
    from gateway.records.journal import CallJournal
    from gateway.revision import Revision
    from gateway.siblings import Siblings
    from gateway.telemetry.evaluations import Evaluations
    from gateway.telemetry.metrics import Metrics
    from gateway.telemetry.sampling import Sampler


class Gateway:
    """Shared by the hot paths and the routes. `revision` is swapped whole by a reload."""

    def __init__(
        self,
        revision: Revision,
        journal: CallJournal,
        metrics: Metrics,
        prices: PriceBook,
        body_limit: int,
        sampler: Sampler | None,
        max_in_flight: int = 10_000,
    ) -> None:
        """`sampler` says which calls become spans; None where no span is made at all."""
        self.revision = revision
        self.journal = journal
        self.recorded = self._recorded if journal.strict else None
        self.metrics = metrics
        self._prices = prices
        self.body_limit = body_limit
        self.max_in_flight = max_in_flight
        self.draining = False
        self.siblings: Siblings = Alone()
        self.reload: Callable[[], Awaitable[str]] = _not_yet
        self.evaluations: Evaluations | None = None  # who is told of feedback, where a collector takes events
        self.rated: Callable[[str, str | None, float | None], None] | None = (
            None  # who hears of feedback on a user's call
        )
        self._sampler = sampler

    def sample(self, request: Request, exchange: Exchange) -> None:
        """Decide what the provider is told of tracing: a parent that will be exported, or whom the caller named."""
        if self._sampler is None:
            exchange.span_id = exchange.trace_parent or exchange.span_id
            exchange.trace_flags = exchange.trace_flags or "00"
        else:
            exchange.trace_flags = self._sampler.flags(exchange)
            exchange.given = request.fields
            if request.conversation is not None:
                exchange.conversation = request.conversation

    def begin(self, exchange: Exchange) -> None:
        self.metrics.begin()

    def settled(self, exchange: Exchange) -> None:
        """Account for a call that has ended. Calls that nobody is known to have made are counted, not kept."""
        if self._sampler is not None:
            self._sampler.settled(exchange)
        if exchange.caller is not None:
            self.journal.append(exchange)
        self.metrics.observe(exchange)

    async def _recorded(self, exchange: Exchange) -> None:
        """Settle a call before its answer's last bytes, which may go out once its record is on the disk.

        Raises Overloaded where the disk does not take it.
        """
        exchange.settle()
        if exchange.caller is not None:
            await self.journal.kept()

    def price(self, exchange: Exchange) -> None:
        """Find out what a call cost, where its price is at hand; called before anything is told of the call."""
        if exchange.cost is None and exchange.usage is not None and exchange.target is not None:
            price = self._prices.known(exchange.target)
            if price is not None:
                full = price.cost(exchange.usage)
                exchange.cost = full * exchange.cost_share
                exchange.saved = full - exchange.cost


async def _not_yet() -> str:
    """What reloads the configuration, in every worker: the revision in force then. Raises ConfigError or ValueError."""
    raise ValueError("this gateway is starting")
