"""A gateway in this process that serves nobody: the configuration's own pipelines, for calls that are run again.

Records go where the gateway's go, through a spool of their own, marked as made for a replay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
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
    from features.definitions import Feature
    from gateway.assembly import Records, Services
    from gateway.config.loading import Loaded
    from gateway.config.models import Configuration, Model
    from gateway.exchange import Exchange
    from gateway.pipeline import Pipeline
    from gateway.pricing import PriceBook
    from gateway.records.call_queries import CallQueries
    from gateway.records.journal import CallJournal
    from gateway.revision import Revision

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

    async def defined(self, service: str) -> Sequence[tuple[str, Feature]]:
        """What the feature store says of a service's features, by name; nothing where it can't be asked."""
        if self.configuration.features is None:
            return ()
        from features.repository import WrongDefinitions
        from features.vector import FeaturesUnavailable
        from gateway.feature_service import repository_of

        try:
            definitions = await asyncio.to_thread(repository_of(self.configuration).definitions)
        except (WrongDefinitions, FeaturesUnavailable) as fault:
            log.warning("what features mean is not known: %s", fault)
            return ()
        known = definitions.services.get(service)
        return [(known.called(feature), feature) for feature in known.features] if known is not None else ()

    async def _compiled(self, name: str, model: Model | None, keys_own: str) -> Journey:
        entries = {} if model is None else {name: model}
        configuration = self.configuration.model_copy(update={"models": entries})
        try:
            revision = await asyncio.to_thread(
                compile_revision, replace(self.loaded, configuration=configuration), self.services, self._fleet,
                loopback=True,
            )  # fmt: skip
            _check_template(model, revision)
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


def _check_template(model: Model | None, revision: Revision) -> None:
    if model is None or model.prompt is None or revision.shelf is None:
        return
    name, _, which = model.prompt.partition("@")
    if revision.shelf.find(name, which) is None:
        raise ReplayFault(f"there is no template {model.prompt}, neither as a file nor in the record store")


def _providers(model: Model) -> set[str]:
    return {entry.provider for entry in (*model.targets, *model.fallbacks)}


def needs(
    configuration: Configuration, change: Change, calls: Iterable[StoredCall], *, local: bool
) -> tuple[bool, bool]:
    """Whether a replay of `calls` needs knowledge, and user features. `local`: retrieval's own embedder compares texts."""
    if change.target is not None and any(call.stopped for call in calls):
        change = replace(change, pinned=False)  # see gateway.replay.replaying.replay
    rules: list[object] = [rule for rules in configuration.guardrails.values() for rule in rules]
    for model in configuration.models.values():
        rules += (*model.guardrails.input, *model.guardrails.output)
    embedded_here = any(getattr(rule, "embeddings", None) == "local" for rule in rules)
    knowledge = configuration.retrieval is not None and (change.searches or local or embedded_here)
    return knowledge, configuration.features is not None and not change.pinned


@contextlib.asynccontextmanager
async def open_bench(loaded: Loaded, *, knowledge: bool = True, features: bool = True) -> AsyncIterator[Bench]:
    """Open the record store and the side services of a configuration, and close them.

    Without `knowledge`, or `features`, these are left alone, as calls that are pinned to what they saw need neither.
    Nothing is loaded into collections. Raises ReplayFault, StoreUnavailable, WrongVersion.
    """
    configuration = _loading_nothing(loaded.configuration)
    loaded = replace(loaded, configuration=configuration)
    try:
        services = open_services(configuration)
    except ValueError as fault:
        raise ReplayFault(str(fault)) from None
    opened = services if knowledge else replace(services, knowledge=None, vector_stores=None, semantic=None)
    opened = opened if features else replace(opened, features=None)
    fleet = Fleet()
    tasks: list[asyncio.Future[None]] = []
    try:
        fleet.prices.configure(configuration.providers)
        records = await asyncio.to_thread(open_records, configuration, services.database, fleet.prices)
        try:
            tasks += [asyncio.ensure_future(run) for run in (records.run(), *opened.runs())]
            await services.prompts.round()
            await _ready(opened)
            yield Bench(loaded, services, fleet, records)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, fleet.aclose(), return_exceptions=True)
            await asyncio.to_thread(records.journal.flush, 30.0)
            await asyncio.to_thread(records.close)
    finally:
        await services.aclose()


def _loading_nothing(configuration: Configuration) -> Configuration:
    """Today's corpus is what the gateway has, not what it will load when it starts next."""
    asked = configuration.retrieval
    if asked is None:
        return configuration
    collections = {name: entry.model_copy(update={"load": []}) for name, entry in asked.collections.items()}
    return configuration.model_copy(update={"retrieval": asked.model_copy(update={"collections": collections})})


async def _ready(services: Services) -> None:
    """Raises ReplayFault where a side service does not come up."""
    parts = {"knowledge": services.knowledge, "features": services.features}
    loop = asyncio.get_running_loop()
    end = loop.time() + _READY_WITHIN
    for name, service in parts.items():
        while service is not None and (state := await service.state()) != "ok":
            if state == "unavailable" or loop.time() > end:
                raise ReplayFault(f"{name} can't be opened, see the log: the calls would not see what they should")
            await asyncio.sleep(_LOOK_AGAIN)
