"""Run the gateway in this process: one event loop; signals, reload, drain. `workers` runs it in several."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from gateway.app import create_app
from gateway.assembly import check_templates, compile_revision, metering, open_records, open_services
from gateway.assembly.telemetry import open_events, open_metric_export, open_traces
from gateway.config.faults import ConfigError
from gateway.config.loading import is_loopback, load
from gateway.http_server import HttpServer
from gateway.records.database import StoreUnavailable, WrongVersion
from gateway.reloading import Reloads
from gateway.routing.fleet import Fleet
from gateway.routing.sync import RoutingSync
from gateway.runtime import Gateway
from gateway.siblings import Alone, Siblings
from gateway.telemetry.labels import ConfiguredNames
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.sampling import Sampler
from gateway.telemetry.watching import watch_components, watch_loop

if TYPE_CHECKING:
    from socket import socket

    from gateway.api.routes import Health
    from gateway.config.loading import Loaded

log = logging.getLogger(__name__)


def serve(loaded: Loaded, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM. Raises ValueError for what stands against a start."""
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run(loaded, host, port))
    except (StoreUnavailable, WrongVersion) as failure:
        raise ValueError(f"records: {failure}") from None


def loop_factory() -> Any:
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway in one process, for what looks after it."""

    loaded: Loaded
    gateway: Gateway
    fleet: Fleet
    reloads: Reloads
    server: HttpServer
    health: Health


class Attendant(Protocol):
    """Who looks after a gateway while it serves."""

    @property
    def siblings(self) -> Siblings: ...

    @property
    def sockets(self) -> Mapping[int, Sequence[socket]] | None:
        """To listen on, by worker, where they are not the gateway's own."""

    def attend(self, running: Running) -> AbstractAsyncContextManager[None]:
        """Entered when it can serve, left when it does no more."""


class _OnItsOwn:
    """A gateway of one process: it listens for itself, and SIGHUP reloads it."""

    siblings: Siblings = Alone()
    sockets: Mapping[int, Sequence[socket]] | None = None

    def attend(self, running: Running) -> AbstractAsyncContextManager[None]:
        return _reload_on_hangup(running)


async def run(
    loaded: Loaded, host: str, port: int, attendant: Attendant | None = None, fleet: Fleet | None = None
) -> None:
    """Serve until asked to end. Raises what compiling and opening raise, before anything is served."""
    attendant = _OnItsOwn() if attendant is None else attendant
    configuration = loaded.configuration
    services = open_services(configuration)
    events = open_events(configuration)
    services.quality.evaluated = events.judged if events is not None else None
    loopback = is_loopback(host)
    fleet = Fleet() if fleet is None else fleet
    revision = compile_revision(loaded, services, fleet, loopback=loopback)
    traces = open_traces(configuration, lambda: gateway.revision.configuration)
    records = open_records(configuration, services.database, fleet.prices, traces)
    journal = records.journal
    if services.counting is not None:
        services.counting.spending.catch_up = partial(journal.flush, 0.4)
    routing = RoutingSync(records.routing, fleet.routing, records.feedback.rated)
    await routing.round()  # what was switched before this start holds from the first call on
    keys = services.keys
    await keys.round()
    await services.prompts.round()
    if services.prompts.synced and revision.shelf is not None:
        check_templates(loaded, revision.shelf)
    await asyncio.to_thread(journal.flush)  # what a killed process left in its spool is spent, from the first call on
    configured = ConfiguredNames(lambda: gateway.revision.configuration)
    metrics = Metrics(lambda: journal.waiting, lambda: journal.dropped, configured)
    sampler = Sampler(configuration.telemetry.traces) if traces is not None else None
    server_settings = configuration.server
    gateway = Gateway(
        revision, journal, metrics, fleet.prices, server_settings.body_limit, sampler, server_settings.max_in_flight
    )
    siblings = gateway.siblings = attendant.siblings
    siblings.answer("metrics", metrics.snapshot_beside)
    siblings.answer("targets", fleet.overview_told)
    siblings.answer("cache.purge", services.caches.purge_told)
    siblings.answer("cache.told", services.caches.here)
    siblings.answer("prompts.changed", services.prompts.round_told)
    metering.tell(metrics, gateway, fleet, services)
    if traces is not None:
        traces.tell(metrics.counted)
    if events is not None:
        gateway.evaluations = events
        events.tell(metrics.counted)
    metric_export = open_metric_export(configuration, metrics.families)
    analyst = records.analyst if siblings.number == 1 else None
    if analyst is not None:
        analyst.tell(metrics)
        analyst.drifted = events.drifted if events is not None else None

    async def health() -> dict[str, str]:
        states = await services.states()
        servers = {f"providers.{name}": state for name, state in fleet.states().items()}
        store = "ok" if journal.healthy and routing.healthy and keys.healthy else "unavailable"
        return {"records": store if services.database.ready else "starting", **states, **servers}

    app = create_app(gateway, records, fleet, health, services)
    server = HttpServer(app, configuration, gateway, host, port, attendant.sockets)
    reloads = Reloads(gateway, services, fleet, loopback=loopback)
    reloads.tell(metrics)
    for notice in loaded.notices if siblings.number == 1 else ():
        log.info(notice)
    background = (
        watch_loop(metrics),
        watch_components(metrics, health),
        records.run(),
        records.sweep(),
        routing.run(),
        asyncio.to_thread(fleet.look_up_prices),
        *([analyst.run()] if analyst is not None else []),
        *services.runs(),
    )
    tasks = [asyncio.ensure_future(task) for task in background]
    for task in tasks:
        task.add_done_callback(_told_if_it_failed)
    fleet.start()
    async with attendant.attend(Running(loaded, gateway, fleet, reloads, server, health)):
        gc.collect()
        gc.freeze()  # what the start has made stays; the collector need not walk it again under load
        gc.set_threshold(10_000, 20, 20)  # a call makes some hundred objects that its end frees without the collector
        try:
            await server.serve()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, fleet.aclose(), return_exceptions=True)
            # Side by side: each may have to wait for a collector that says nothing.
            ending = [part.close for part in (records, metric_export, events) if part is not None]
            await asyncio.gather(*(asyncio.to_thread(close) for close in ending))
            await services.aclose()


def _told_if_it_failed(task: asyncio.Future[Any]) -> None:
    """What runs beside the calls runs until the end: one that does not must not be missed in silence."""
    if not task.cancelled() and (fault := task.exception()) is not None:
        log.error("a part of the gateway has stopped, and comes back with a restart", exc_info=fault)


@contextlib.asynccontextmanager
async def _reload_on_hangup(running: Running) -> AsyncIterator[None]:
    """SIGHUP: the file again, all or nothing."""
    path, reloads, gateway = running.loaded.path, running.reloads, running.gateway
    one_at_a_time = asyncio.Lock()
    reloading: set[asyncio.Task[None]] = set()

    async def reload() -> str:
        async with one_at_a_time:
            try:
                await reloads.prepare(await asyncio.to_thread(load, path))
            except ConfigError as error:
                reloads.refused()
                log.error("reload refused, revision %s stays:\n%s", gateway.revision.name, error)
                raise
            except Exception as error:
                reloads.refused()
                log.error("reload refused, revision %s stays: %s", gateway.revision.name, error)
                raise ValueError(str(error)) from error
            reloads.commit()
            return gateway.revision.name

    async def reload_on_hangup() -> None:
        with contextlib.suppress(ConfigError, ValueError):
            await reload()

    gateway.reload = reload

    def begin() -> None:
        task = asyncio.ensure_future(reload_on_hangup())
        reloading.add(task)
        task.add_done_callback(reloading.discard)

    loop = asyncio.get_running_loop()
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, begin)
        yield
        loop.remove_signal_handler(signal.SIGHUP)
    else:
        yield
