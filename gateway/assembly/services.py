"""The side services and the records that the configuration asks for."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.access.stored_keys import StoredKeys
from gateway.assembly.caching import open_caches
from gateway.assembly.limits import Counting, open_counting
from gateway.assembly.prompts import open_templates
from gateway.assembly.quality import QualityService
from gateway.assembly.sealing import seal_of
from gateway.assembly.telemetry import exporters
from gateway.assembly.tokens import TrustedIssuers
from gateway.cache.caches import Caches
from gateway.config.models import Configuration
from gateway.records.database import Database, StoreUnavailable, WrongVersion
from gateway.records.journal import CallJournal
from gateway.records.keys import KeyStore
from gateway.telemetry.check_times import CheckTimes

if TYPE_CHECKING:
    from gateway.analyst.attendant import Analyst
    from gateway.assembly.semantic import SemanticStores
    from gateway.exchange import Exchange
    from gateway.feature_service import FeatureService
    from gateway.guard_http import HttpPosts
    from gateway.knowledge_service import KnowledgeService
    from gateway.pricing import PriceBook
    from gateway.prompts.stored import StoredTemplates
    from gateway.records.call_queries import CallQueries
    from gateway.records.feedback import FeedbackStore
    from gateway.records.responses import ResponseStore
    from gateway.records.retention import RetentionSweep
    from gateway.records.routing import RoutingStore
    from gateway.records.users import UserRecords
    from gateway.state import RedisState
    from gateway.telemetry.traces import Traces
    from gateway.vector_stores import VectorStores
    from guardrails.outside import Post

log = logging.getLogger(__name__)

_LOOK_AGAIN = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Services:
    """The side services that the configuration asks for. `state` is None where it is this process's memory."""

    database: Database
    keys: StoredKeys
    quality: QualityService
    prompts: StoredTemplates
    knowledge: KnowledgeService | None = None
    features: FeatureService | None = None
    vector_stores: VectorStores | None = None
    state: RedisState | None = None
    counting: Counting | None = None
    caches: Caches = field(default_factory=Caches)
    guard_posts: GuardPosts = field(default_factory=lambda: GuardPosts())
    check_times: CheckTimes = field(default_factory=CheckTimes)
    token_issuers: TrustedIssuers = field(default_factory=TrustedIssuers)
    semantic: SemanticStores | None = None

    def runs(self) -> list[Coroutine[None, None, None]]:
        services = (
            self.knowledge, self.features, self.vector_stores, self.guard_posts, self.keys, self.token_issuers,
            self.counting, self.semantic, self.quality, self.prompts,
        )  # fmt: skip
        return [service.run() for service in services if service is not None]

    async def states(self) -> dict[str, str]:
        named = {"knowledge": self.knowledge, "features": self.features}
        states: dict[str, str] = {name: await service.state() for name, service in named.items() if service is not None}
        if self.state is not None:
            states["state"] = "ok" if self.state.healthy else "unavailable"
        if self.token_issuers.trusted:
            states["token_issuers"] = self.token_issuers.state()
        return states

    async def aclose(self) -> None:
        """After all that runs has ended, since it may still have something to settle."""
        if self.state is not None:
            await self.state.aclose()
        await asyncio.to_thread(self.database.close)


class GuardPosts:
    """HTTP for the guardrails that ask a server: made when a configuration first has one, kept across reloads."""

    def __init__(self) -> None:
        self._made: HttpPosts | None = None

    def post(self, url: str, headers: Mapping[str, str], timeout: float) -> Post:
        if self._made is None:
            from gateway.guard_http import HttpPosts

            self._made = HttpPosts()
        return self._made.post(url, headers, timeout)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            if self._made is not None:
                await self._made.aclose()


def open_services(configuration: Configuration) -> Services:
    """Nothing is started or opened yet: `runs` does that, in the server's loop. Raises ValueError for a wrong URL."""
    assert configuration.records.url is not None, "loading fills in the default"
    database, state = Database(configuration.records.url), _state(configuration)
    quality = QualityService(database, lake=configuration.lake is not None)
    prompts = open_templates(configuration, database)
    keys = StoredKeys(KeyStore(database), grace=configuration.access.key_grace)
    counting, caches = open_counting(configuration, database, state), open_caches(configuration, state)
    if configuration.retrieval is None and configuration.features is None:
        return Services(database, keys, quality, prompts, state=state, counting=counting, caches=caches)
    from gateway.feature_service import FeatureService
    from gateway.knowledge_service import KnowledgeService

    features = FeatureService(configuration) if configuration.features is not None else None
    if configuration.retrieval is None:
        return Services(
            database, keys, quality, prompts, features=features, state=state, counting=counting, caches=caches
        )
    from gateway.assembly.semantic import SemanticStores
    from gateway.vector_stores import VectorStores

    knowledge = KnowledgeService(configuration)
    stores = VectorStores(configuration.data_dir / "files", knowledge)
    semantic = SemanticStores(knowledge, caches, caches.seal)
    return Services(
        database, keys, quality, prompts, knowledge, features, stores, state, counting, caches, semantic=semantic
    )


def _state(configuration: Configuration) -> RedisState | None:
    settings = configuration.state
    if not settings.shared:
        return None
    from gateway.state import RedisState

    return RedisState(settings.url, deadline=settings.deadline, prefix=settings.prefix)


@dataclass(frozen=True, slots=True)
class Records:
    """The record store's parts; `run` beside the server, and what closes them and the trace exporter behind them."""

    database: Database
    journal: CallJournal
    queries: CallQueries
    routing: RoutingStore
    feedback: FeedbackStore
    responses: ResponseStore | None
    users: UserRecords
    retention: RetentionSweep
    close: Callable[[], None]
    analyst: Analyst | None = None

    async def run(self) -> None:
        """A server that was away at the start is looked for until it is there. Until cancelled."""
        while not self.database.ready:
            await asyncio.sleep(_LOOK_AGAIN)
            try:
                await asyncio.to_thread(_prepare, self.database)
            except (StoreUnavailable, WrongVersion) as failure:
                log.error("the record store can't be used yet, looking again: %s", failure)

    async def sweep(self) -> None:
        """What is past its time, and what came late for an erasure, goes: once an hour or so. Until cancelled."""
        from gateway.records.retention import EVERY

        while True:
            await asyncio.sleep(random.uniform(0.5, 1.5) * EVERY)  # workers of one gateway seldom meet
            for one in (self.retention.run, self.users.erase_late):
                try:
                    await asyncio.to_thread(one)
                except StoreUnavailable as failure:
                    log.warning("what is past its time stays for another hour: %s", failure)
                except Exception:  # neither keeps the other, nor the next ones, from what people were promised
                    log.exception("what is past its time, or came late for an erasure, stays for another hour")


def open_records(
    configuration: Configuration, database: Database, prices: PriceBook, traces: Traces | None = None
) -> Records:
    """Open the record store; migrate it where it is embedded. Raises StoreUnavailable for an embedded one that can't be
    opened, and WrongVersion.
    """
    from gateway.records.call_queries import CallQueries
    from gateway.records.calls import CallLog
    from gateway.records.contents import Contents
    from gateway.records.feedback import FeedbackStore
    from gateway.records.ledger import Ledger
    from gateway.records.pseudonyms import PseudonymStore
    from gateway.records.responses import ResponseStore
    from gateway.records.retention import Periods, RetentionSweep
    from gateway.records.routing import RoutingStore
    from gateway.records.users import UserRecords

    try:
        _prepare(database)
    except StoreUnavailable as failure:
        if database.embedded:
            raise
        log.error("the gateway starts without its record store and is not ready before it is there: %s", failure)

    def price(exchange: Exchange) -> None:
        if exchange.cost is None and exchange.usage is not None and exchange.target is not None:
            found = prices.price(exchange.target)
            if found is not None:
                exchange.cost = found.cost(exchange.usage) * exchange.cost_share

    seal = seal_of(configuration)
    contents = Contents(seal)
    strict = configuration.records.durability == "strict"
    lake, analyst = configuration.lake is not None, None
    if lake:
        from gateway.analyst.attendant import Analyst
        from gateway.analyst.settings import settings_of

        analyst = Analyst(settings_of(configuration))
    spool = configuration.records.spool
    journal = CallJournal(
        configuration.data_dir / "spool",
        Ledger(database, lake=lake),
        CallLog(database, contents),
        exporters(configuration, traces),
        price,
        contents=contents,
        strict=strict,
        max_bytes=spool.max_bytes,
        when_full=spool.when_full or ("refuse" if strict else "drop"),
    )

    def close() -> None:
        journal.close()
        if traces is not None:
            traces.close()

    keep, periods = configuration.records.responses, configuration.records.retention
    return Records(
        database,
        journal,
        CallQueries(database, contents),
        RoutingStore(database),
        FeedbackStore(database, lake=lake),
        None if keep == "off" else ResponseStore(database, keep, contents),
        UserRecords(database, contents, PseudonymStore(database, seal, 0.0) if seal is not None else None),
        RetentionSweep(database, Periods(periods.calls, periods.content)),
        close,
        analyst,
    )


def has_admin_key(configuration: Configuration) -> bool:
    """Whether the record store has a key that administers the whole gateway, or is a server that is away for now.

    Raises StoreUnavailable for an embedded one that can't be opened, and WrongVersion.
    """
    assert configuration.records.url is not None, "loading fills in the default"
    database = Database(configuration.records.url)
    try:
        database.prepare()
        return KeyStore(database).has_admin_key()
    except StoreUnavailable:
        if database.embedded:
            raise
        return True  # nobody gets in without a key that it knows, once it is there
    finally:
        database.close()


def _prepare(database: Database) -> None:
    from gateway.records.pseudonyms import remove_expired

    database.prepare()
    remove_expired(database)
