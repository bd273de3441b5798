"""What a running gateway holds: the revision that new calls begin with, and the services that outlive revisions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.access.browsers import Browsers
from gateway.access.callers import user_in_header
from gateway.errors import NotFound
from gateway.siblings import Alone
from gateway.values import Caller

if TYPE_CHECKING:
    from gateway.access.admission import Limits
    from gateway.access.keyring import Keyring
    from gateway.chat import Request
    from gateway.config.models import Configuration
    from gateway.exchange import Exchange
    from gateway.pipeline import Pipeline
    from gateway.pricing import PriceBook
    from gateway.prompts.shelf import Shelf
    from gateway.records.journal import CallJournal
    from gateway.siblings import Siblings
    from gateway.telemetry.evaluations import Evaluations
    from gateway.telemetry.metrics import Metrics
    from gateway.telemetry.sampling import Sampler


@dataclass(frozen=True, slots=True)
class Revision:
    """One configuration, compiled. Immutable: a reload makes another, and calls in flight keep theirs.

    `plain` makes (and keeps) the pipeline of a `provider/model` name that has no entry of its own; `tightened` makes
    (and keeps) a pipeline with the guardrails that a key adds, named as `Caller.guardrails` does.
    """

    name: str
    configuration: Configuration
    keyring: Keyring
    pipelines: Mapping[str, Pipeline]
    plain: Callable[[str], Pipeline | None]
    user_header: bytes | None
    tightened: Callable[[Pipeline, str], Pipeline] | None = None
    limits: Limits | None = None
    shelf: Shelf | None = None
    browsers: Browsers = field(default_factory=Browsers)

    def pipeline(self, model: str, caller: Caller) -> Pipeline:
        """The journey of a public model. Raises NotFound alike for a model that is not and one not allowed."""
        if caller.models is None or caller.may_use(model):
            pipeline = self.pipelines.get(model) or self.plain(model)
            if pipeline is not None:
                if caller.guardrails and self.tightened is not None:
                    return self.tightened(pipeline, caller.guardrails)
                return pipeline
        raise NotFound(
            f"The model '{model}' does not exist or this key may not use it. GET /v1/models lists what it may.",
            param="model",
            code="model_not_found",
        )

    def claimed_user(self, request: Request, headers: Mapping[bytes, bytes]) -> str | None:
        """Whom the request says that it speaks for; the keyring decides whether that is believed."""
        if self.user_header is not None and (user := headers.get(self.user_header)) is not None:
            return user_in_header(user)
        return request.user


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
