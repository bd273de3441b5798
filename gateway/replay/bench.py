"""A gateway in this process that serves nobody: the configuration's own pipelines, for calls that are run again.

Records go where the gateway's go, through a spool of their own, marked as made for a replay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.assembly import compile_revision, open_records, open_services
from gateway.errors import StageFailed
from gateway.prompts.library import TemplateFault
from gateway.providers.protocol import Attended
from gateway.replay.changed import changed_model
from gateway.replay.changes import Change, ReplayFault
from gateway.replay.stored import StoredCall
from gateway.routing.fleet import Fleet

if TYPE_CHECKING:
    from gateway.assembly import Records, Services
    from gateway.config.loading import Loaded
    from gateway.config.models import Configuration, Model
    from gateway.exchange import Exchange
    from gateway.pipeline import Pipeline
    from gateway.pricing import PriceBook
    from gateway.records.call_queries import CallQueries
    from gateway.records.journal import CallJournal
    from gateway.runtime import Revision

log = logging.getLogger(__name__)

_READY_WITHIN = 120.0  # seconds that knowledge and features may take to open
_LOOK_AGAIN = 0.05


class Account:
    """See gateway.exchange.Account: a record for each call, and nothing else."""

    recorded: Callable[[Exchange], Awaitable[None]] | None = None

    def __init__(self, journal: CallJournal, prices: PriceBook) -> None:
        self._journal = journal
        self._prices = prices

    def price(self, exchange: Exchange) -> None:
        if exchange.cost is None and exchange.usage is not None and exchange.target is not None:
            found = self._prices.known(exchange.target)
            if found is not None:
                exchange.cost = found.cost(exchange.usage)

    def begin(self, exchange: Exchange) -> None:
        """Nothing is counted."""

    def settled(self, exchange: Exchange) -> None:
        self._journal.append(exchange)


@dataclass(frozen=True, slots=True)
class Journey:
    """A pipeline of a revision that was compiled for a change."""

    pipeline: Pipeline
    revision: Revision


class Bench:
    """Use `open_bench`."""

    def __init__(self, loaded: Loaded, services: Services, fleet: Fleet, records: Records) -> None:
        self.loaded = loaded
        self.services = services
        self.account = Account(records.journal, fleet.prices)
        self.journal = records.journal
        self._records = records
        self._fleet = fleet
        self._known: dict[tuple[str, str, str], Journey] = {}
        self._started: set[str] = set()
        self._one_at_a_time = asyncio.Lock()

    @property
    def configuration(self) -> Configuration:
        return self.loaded.configuration

    @property
    def queries(self) -> CallQueries:
        return self._records.queries

    async def journey(self, call: StoredCall, change: Change) -> Journey:
        """What runs this call with this change. Raises ReplayFault."""
        model = changed_model(self.configuration, call, change)
        assert call.model is not None, "a model without a name has no entry"
        changed_rules = change.input_guardrails is not None or change.output_guardrails is not None
        keys_own = "" if changed_rules else str(call.record["caller"].get("guardrails") or "")
        known_as = (call.model, model.model_dump_json(), keys_own)
        async with self._one_at_a_time:
            journey = self._known.get(known_as)
            if journey is None:
                journey = self._known[known_as] = await self._compiled(call.model, model, keys_own)
        return journey

    async def other(self, name: str) -> Journey:
        """A public model or `provider/model` that judges or embeds. Raises ReplayFault."""
        async with self._one_at_a_time:
            journey = self._known.get((name, "", ""))
            if journey is None:
                entry = self.configuration.models.get(name)
                journey = self._known[name, "", ""] = await self._compiled(name, entry, "")
        return journey

    async def _compiled(self, name: str, model: Model | None, keys_own: str) -> Journey:
        entries = {} if model is None else {name: model}
        configuration = self.configuration.model_copy(update={"models": entries})
        try:
            revision = await asyncio.to_thread(
                compile_revision, replace(self.loaded, configuration=configuration), self.services, self._fleet,
                loopback=True,
            )  # fmt: skip
            pipeline = revision.pipelines.get(name) or revision.plain(name)
            if pipeline is None:
                raise ReplayFault(f"there is no model {name}, and no provider for it")
            if keys_own and revision.tightened is not None:
                pipeline = await asyncio.to_thread(revision.tightened, pipeline, keys_own)
        except (TemplateFault, ValueError) as fault:
            raise ReplayFault(str(fault)) from None
        except StageFailed:
            raise ReplayFault(
                "the key that made the call adds guardrails that the configuration does not have any more: name those "
                "that should hold"
            ) from None
        except ImportError as error:
            raise ReplayFault(f"this needs {error.name}: pip install 'rag-gateway[all]'") from None
        await asyncio.to_thread(self._fleet.look_up_prices)
        await self._start({name.partition("/")[0]} if model is None else _providers(model), revision)
        return Journey(pipeline, revision)

    async def _start(self, providers: set[str], revision: Revision) -> None:
        """Servers of the gateway's own, where these providers have such; until they have loaded their model."""
        waited = []
        for provider, line in self._fleet.lines(providers - self._started):
            self._started.add(provider)
            for lane in line.lanes:
                if isinstance(lane.provider, Attended):
                    lane.provider.start()
                    waited.append(lane.provider)
        while any(provider.state == "loading" for provider in waited):
            await asyncio.sleep(_LOOK_AGAIN)


def _providers(model: Model) -> set[str]:
    return {entry.provider for entry in (*model.targets, *model.fallbacks)}


@contextlib.asynccontextmanager
async def open_bench(loaded: Loaded, *, knowledge: bool = True, features: bool = True) -> AsyncIterator[Bench]:
    """Open the record store and the side services of a configuration, and close them.

    Without `knowledge`, or `features`, these are left alone: for calls that are pinned to what they saw. Nothing is
    loaded into collections. Raises ReplayFault, StoreUnavailable, WrongVersion.
    """
    configuration = _without(loaded.configuration, knowledge=knowledge, features=features)
    loaded = replace(loaded, configuration=configuration)
    try:
        services = open_services(configuration)
    except ValueError as fault:
        raise ReplayFault(str(fault)) from None
    fleet = Fleet()
    tasks: list[asyncio.Future[None]] = []
    try:
        fleet.prices.configure(configuration.providers)
        records = await asyncio.to_thread(open_records, configuration, services.database, fleet.prices)
        try:
            tasks += [asyncio.ensure_future(run) for run in (records.run(), *services.runs())]
            await _opened(services)
            yield Bench(loaded, services, fleet, records)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, fleet.aclose(), return_exceptions=True)
            await asyncio.to_thread(records.journal.flush, 30.0)
            await asyncio.to_thread(records.close)
    finally:
        await services.aclose()


def _without(configuration: Configuration, *, knowledge: bool, features: bool) -> Configuration:
    update: dict[str, object] = {}
    if not features:
        update["features"] = None
    asked = configuration.retrieval
    if asked is not None:
        if knowledge:
            collections = {name: entry.model_copy(update={"load": []}) for name, entry in asked.collections.items()}
            update["retrieval"] = asked.model_copy(update={"collections": collections})
        else:
            update["retrieval"] = None
    return configuration.model_copy(update=update)


async def _opened(services: Services) -> None:
    """Raises ReplayFault where a side service does not come up."""
    parts = {"knowledge": services.knowledge, "features": services.features}
    loop = asyncio.get_running_loop()
    end = loop.time() + _READY_WITHIN
    for name, service in parts.items():
        while service is not None and (state := await service.state()) != "ok":
            if state == "unavailable" or loop.time() > end:
                raise ReplayFault(f"{name} can't be opened, see the log: the calls would not see what they should")
            await asyncio.sleep(_LOOK_AGAIN)
