"""User features, opened beside the server's start: calls are served from the first second, with defaults until then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from features.definitions import Definitions
from features.online import Erased
from features.repository import Repository
from features.vector import FeaturesUnavailable, FeatureValue, FeatureVector
from gateway.alone import alone
from gateway.feature_events import FeatureEvents
from retrieval.breaking import Breaker, Tripped

if TYPE_CHECKING:
    from features.store import FeastStore
    from gateway.config.models import Configuration
    from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

State = Literal["starting", "ok", "unavailable"]
_RETRY = 5.0  # seconds between attempts to open a store that could not be
_SLOW = 0.1  # seconds after which a read that was given up counts as one that failed


def repository_of(configuration: Configuration) -> Repository:
    """The Feast repository that a configuration names; the command line and the check at the start read it too."""
    settings = configuration.features
    assert settings is not None
    return Repository(settings.repo, configuration.data_dir / "features", settings.online_store, settings.apply)


class FeatureService:
    """A FeatureReader that stands from the start and answers once Feast is open.

    Of a store that has failed several times in a row nobody asks for a moment: calls have their defaults at once.
    """

    def __init__(self, configuration: Configuration) -> None:
        assert configuration.features is not None
        self._settings = configuration.features
        self._repository = repository_of(configuration)
        self._store: FeastStore | None = None
        self._starting = True
        self._breaker = Breaker()
        self.events = FeatureEvents.of(configuration, self)

    async def run(self) -> None:
        """Open in a thread, since Feast's import alone takes seconds, then stay open until cancelled."""
        lock = self._repository.data_dir / "open.lock"
        while True:
            try:
                async with alone(lock):  # Feast applies definitions, samples are pushed
                    self._store = await self._open()
                self._starting = False
                self._breaker.worked()
                await self._stay()
            except FeaturesUnavailable as failure:
                log.error("user features are unavailable, trying again in %.0f s: %s", _RETRY, failure)
            finally:
                if self._store is not None:
                    await self._store.aclose()
                    self._store = None
            self._starting = False
            await asyncio.sleep(_RETRY)

    async def _open(self) -> FeastStore:
        from features.store import FeastStore

        settings = self._settings
        store = await asyncio.to_thread(FeastStore.open, self._repository, deadline=settings.deadline)
        if settings.sample_users is not None:
            count = await store.load_samples(settings.sample_users)
            if count:
                log.info("user features: %d sample users loaded", count)
        return store

    async def _stay(self) -> None:
        """Until cancelled: look at the registry now and then, and write what calls have to say."""
        writing = asyncio.ensure_future(self.events.run()) if self.events is not None else None
        try:
            while True:
                await asyncio.sleep(self._settings.refresh if self._settings.refresh != "off" else 3_600.0)
                if self._settings.refresh == "off":
                    continue
                try:
                    if await self.opened.refresh():
                        log.info("user features: the registry has changed")
                except FeaturesUnavailable as failure:
                    log.warning("the Feast registry can't be read, what is known of it stays: %s", failure)
        finally:
            if writing is not None:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    def tell(self, metrics: Metrics) -> None:
        """What is measured of it."""
        metrics.levels(
            "rag_gateway_feature_age_seconds", "Age of the newest value of a feature view.", ("view",),
            lambda: {(view,): age for view, age in self._store.ages().items()} if self._store is not None else {},
            how="min",
        )  # fmt: skip
        metrics.counted(
            "rag_gateway_features_stale", "Values too old to be used.", ("view",),
            lambda: {(view,): float(count) for view, count in self._store.stale.items()} if self._store else {},
        )  # fmt: skip
        if self.events is not None:
            self.events.tell(metrics)

    async def state(self) -> State:
        if self._store is not None:
            return "ok"
        return "starting" if self._starting else "unavailable"

    async def read(
        self, service: str, entity: Mapping[str, str], max_age: Mapping[str, float] | float | None = None
    ) -> FeatureVector:
        store = self.opened
        try:
            self._breaker.check()
        except Tripped as failure:
            raise FeaturesUnavailable(str(failure)) from None
        began = time.monotonic()
        try:
            vector = await store.read(service, entity, max_age)
        except FeaturesUnavailable:
            self._breaker.failed()
            raise
        except asyncio.CancelledError:
            if time.monotonic() - began > _SLOW:
                self._breaker.failed()
            raise
        self._breaker.worked()
        return vector

    def unread(self, service: str) -> FeatureVector | None:
        """See FeatureReader."""
        return self._store.unread(service) if self._store is not None else None

    @property
    def rated(self) -> Callable[[str, str | None, float | None], None] | None:
        """Who hears of feedback; None where nobody wants to."""
        return self.events.rated if self.events is not None else None

    async def push(self, source: str, rows: Sequence[Any]) -> int:
        """See FeastStore."""
        return await self.opened.push(source, rows)

    async def known_of(self, entity: Mapping[str, str]) -> dict[str, FeatureValue]:
        """See FeastStore."""
        return await self.opened.known_of(entity)

    async def erase(self, entity: Mapping[str, str]) -> Erased:
        """See FeastStore; what calls have still to write about the entity goes too."""
        if self.events is not None:
            await self.events.forget(entity)
        return await self.opened.erase(entity)

    @property
    def definitions(self) -> Definitions:
        """Raises FeaturesUnavailable while nothing is known."""
        return self.opened.definitions

    @property
    def opened(self) -> FeastStore:
        """Raises FeaturesUnavailable while it is not."""
        if self._store is None:
            raise FeaturesUnavailable("the feature store is starting" if self._starting else "it is away")
        return self._store
