"""Run the gateway: one process, one event loop; signals, reload, drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from gateway.app import create_app
from gateway.assembly import Services, compile_revision, open_records, open_services
from gateway.config.faults import ConfigError
from gateway.config.loading import check_exposure, is_loopback, load
from gateway.connection import bounded_connection
from gateway.routing.fleet import Fleet
from gateway.routing.sync import RoutingSync
from gateway.runtime import Gateway
from gateway.telemetry.logs import configure_logging
from gateway.telemetry.metrics import Metrics, watch_loop

if TYPE_CHECKING:
    from gateway.config.loading import Loaded
    from gateway.config.models import Configuration

log = logging.getLogger(__name__)

# What a reload can't change under the calls that run.
_FIXED = ("data_dir", "server", "records", "state", "telemetry", "retrieval", "features")


def serve(loaded: Loaded, *, host: str | None = None, port: int | None = None) -> None:
    """Serve until SIGINT or SIGTERM. Raises ConfigError before anything is opened."""
    settings = loaded.configuration.server
    host, port = host or settings.host, settings.port if port is None else port
    check_exposure(loaded.configuration, host, loaded.path.name)
    configure_logging()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(loaded, host, port))


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


async def _serve(loaded: Loaded, host: str, port: int) -> None:
    configuration = loaded.configuration
    services = open_services(configuration)
    loopback = is_loopback(host)
    fleet = Fleet()
    revision = compile_revision(loaded, services, fleet, loopback=loopback)
    records = open_records(configuration, fleet.prices)
    journal = records.journal
    routing = RoutingSync(records.routing, fleet.routing, records.feedback.rated)
    await routing.round()  # what was switched before this start holds from the first call on
    metrics = Metrics(lambda: journal.waiting, lambda: journal.dropped)
    traces = configuration.telemetry.traces
    sample = traces.sample if traces.otlp is not None else None
    gateway = Gateway(revision, journal, metrics, fleet.prices, configuration.server.body_limit, sample)

    async def health() -> dict[str, str]:
        states = await services.states()
        servers = {f"providers.{name}": state for name, state in fleet.states().items()}
        return {"records": "ok" if journal.healthy and routing.healthy else "unavailable", **states, **servers}

    server = _Server(
        create_app(gateway, records, fleet, health, services.vector_stores), configuration, host, port, gateway
    )
    for notice in loaded.notices:
        log.info(notice)
    background = (watch_loop(metrics), routing.run(), asyncio.to_thread(fleet.look_up_prices), *services.runs())
    tasks = [asyncio.ensure_future(task) for task in background]
    fleet.start()
    with _reload_on_hangup(loaded.path, gateway, services, fleet, loopback=loopback):
        gc.collect()
        gc.freeze()  # what the start has made stays; the collector need not walk it again under load
        gc.set_threshold(10_000, 20, 20)  # a call makes some hundred objects that its end frees without the collector
        try:
            await server.serve()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, fleet.aclose(), return_exceptions=True)
            await services.aclose()
            await asyncio.to_thread(records.close)


class _Server(uvicorn.Server):
    """uvicorn, told to drain: readiness falls with the first signal, calls that run may finish."""

    def __init__(self, app: Any, configuration: Configuration, host: str, port: int, gateway: Gateway) -> None:
        settings = configuration.server
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=bounded_connection(
                    settings.header_timeout, settings.body_timeout, settings.keep_alive, settings.header_limit
                ),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=int(settings.keep_alive),
                timeout_graceful_shutdown=int(settings.grace),
                backlog=4096,
            )
        )
        self._gateway = gateway

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._gateway.draining = True
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """As uvicorn's, but a signal that was answered by a clean end is not raised again."""
        handled = (signal.SIGINT, signal.SIGTERM)
        before = {sig: signal.signal(sig, self.handle_exit) for sig in handled}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        address = self.servers[0].sockets[0].getsockname()
        _greet(self._gateway, address[0], address[1])


def _greet(gateway: Gateway, host: str, port: int) -> None:
    """What to type next, on a terminal; one log line elsewhere."""
    url = f"http://{'[' + host + ']' if ':' in host else host}:{port}"
    names = list(gateway.revision.pipelines)
    log.info("listening on %s, %d public models", url, len(names))
    if sys.stderr.isatty():
        first = names[0] if names else "provider/model"
        print(
            f"\n  rag-gateway answers at {url}/v1   (documentation: {url}/docs)\n\n"
            f'  .venv/bin/rag-gateway ask "How do I add a provider?"\n'
            f"  curl {url}/v1/chat/completions -H 'content-type: application/json' \\\n"
            f'    -d \'{{"model": "{first}", "messages": [{{"role": "user", "content": "What is a guardrail?"}}]}}\'\n\n'
            "  Ctrl-C ends it.\n",
            file=sys.stderr,
        )


@contextlib.contextmanager
def _reload_on_hangup(path: Path, gateway: Gateway, services: Services, fleet: Fleet, *, loopback: bool) -> Any:
    """SIGHUP: the file again, all or nothing. Calls in flight finish on the revision they began with.

    It is read and compiled in a thread, since a newly configured guardrail may import libraries for seconds.
    """
    one_at_a_time = asyncio.Lock()
    running: set[asyncio.Task[None]] = set()

    def beside(work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        running.add(task)
        task.add_done_callback(running.discard)

    async def reload() -> None:
        async with one_at_a_time:
            try:
                loaded = await asyncio.to_thread(load, path)
                changed = _fixed_changes(gateway.revision.configuration, loaded.configuration)
                if changed:
                    log.error("reload refused, a restart is needed for: %s", ", ".join(changed))
                    return
                with fleet.change():
                    gateway.revision = await asyncio.to_thread(
                        compile_revision, loaded, services, fleet, loopback=loopback
                    )
                fleet.start()
                for line in fleet.retired():
                    beside(line.aclose())  # which lets its calls come to their end
            except ConfigError as error:
                log.error("reload refused, revision %s stays:\n%s", gateway.revision.name, error)
            except Exception as error:
                log.error("reload refused, revision %s stays: %s", gateway.revision.name, error)
            else:
                log.info("revision %s is in force", loaded.revision)

    loop = asyncio.get_running_loop()
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, lambda: beside(reload()))
        yield
        loop.remove_signal_handler(signal.SIGHUP)
    else:
        yield


def _fixed_changes(before: Configuration, after: Configuration) -> list[str]:
    return [name for name in _FIXED if getattr(before, name) != getattr(after, name)]
