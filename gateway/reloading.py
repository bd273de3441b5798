"""A new configuration for a gateway that runs, in two steps: made whole beside the one in force, then put in its place.

Where several workers serve, none takes the second step before all of them have done the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from gateway.assembly import Services, compile_revision
from gateway.assembly.features import check_features
from gateway.config.secrets import secrets_of
from gateway.records.audit_log import AuditLog
from gateway.records.database import StoreUnavailable
from gateway.routing.fleet import Fleet
from gateway.runtime import Gateway
from gateway.telemetry.logs import keep_out_of_logs
from gateway.tenancy import Actor, Deed

if TYPE_CHECKING:
    from gateway.config.loading import Loaded
    from gateway.config.models import Configuration
    from gateway.revision import Revision
    from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_GATEWAY = Actor("gateway", "gateway", "", "local")

# What a reload can't change under the calls that run.
_FIXED = ("data_dir", "server", "records", "state", "telemetry", "retrieval", "features", "lake", "drift")


class Reloads:
    """One reload at a time: `prepare`, then `commit` or `abort`. Calls in flight finish on the revision they began with."""

    def __init__(self, gateway: Gateway, services: Services, fleet: Fleet, *, loopback: bool) -> None:
        self._gateway = gateway
        self._services = services
        self._fleet = fleet
        self._loopback = loopback
        self._pending: tuple[Revision, contextlib.ExitStack] | None = None
        self._refusals = 0
        self._in_force = True  # what the file held when it was read last
        self._closing: set[asyncio.Task[None]] = set()

    async def prepare(self, loaded: Loaded) -> None:
        """Compile it, in a thread, since a newly configured guardrail may import libraries for seconds.

        Raises ConfigError, ValueError or whatever else compiling raises; then nothing has changed.
        """
        self.abort()  # what was prepared too late for the one who asked
        refuse_fixed(self._gateway.revision.configuration, loaded.configuration)
        keep_out_of_logs(secrets_of(loaded.configuration))
        await asyncio.to_thread(check_features, loaded)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._fleet.change())
            revision = await asyncio.to_thread(
                compile_revision, loaded, self._services, self._fleet, loopback=self._loopback
            )
            self._pending = revision, stack.pop_all()

    def commit(self) -> None:
        """New calls begin with what was prepared."""
        assert self._pending is not None, "a reload is prepared before it is committed"
        (revision, stack), self._pending = self._pending, None
        stack.close()
        self._in_force = True
        before, self._gateway.revision = self._gateway.revision, revision
        if self._gateway.siblings.number == 1:
            self._beside(self._logged(before.name, revision.name))
        self._fleet.start()
        for line in self._fleet.retired():
            self._beside(line.aclose())  # which lets its calls come to their end
        log.info("revision %s is in force", revision.name)

    def abort(self) -> None:
        """Forget what was prepared, if anything was."""
        if self._pending is not None:
            (_, stack), self._pending = self._pending, None
            with contextlib.suppress(_Aborted), stack:
                raise _Aborted

    def refused(self, *, counted: bool = True) -> None:
        """Note that what the file holds was not taken, by whichever worker. One of several workers counts it."""
        self._in_force = False
        self._refusals += counted

    def tell(self, metrics: Metrics) -> None:
        metrics.counted(
            "rag_gateway_config_reloads_refused", "Configurations that were read again and not taken.", (),
            lambda: {(): self._refusals},
        )  # fmt: skip
        metrics.gauge(
            "rag_gateway_config_last_reload_successful",
            "1 where the configuration that was read last is in force, 0 where it was refused.",
            lambda: self._in_force,
            how="min",
        )

    async def _logged(self, before: str, after: str) -> None:
        """In the audit log too: a configuration has keys and says what they may."""
        deed = Deed("configuration.revision", after, None, {"revision": before}, {"revision": after})
        try:
            await asyncio.to_thread(AuditLog(self._services.database).add, _GATEWAY, deed)
        except StoreUnavailable as failure:
            log.error("the reload is not in the audit log: %s", failure)

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Aborted(Exception):
    """What takes the fleet's change back."""


def refuse_fixed(before: Configuration, after: Configuration) -> None:
    """Raises ValueError naming the sections that differ and that only a restart can change."""
    changed = [name for name in _FIXED if getattr(before, name) != getattr(after, name)]
    if changed:
        raise ValueError(f"a restart is needed for: {', '.join(changed)}")
