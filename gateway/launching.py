"""In how many processes a configuration is served; what may not be served at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gateway.config.loading import check_exposure, check_workers
from gateway.config.secrets import secrets_of
from gateway.telemetry.logs import capture_all, configure_logging

if TYPE_CHECKING:
    from gateway.config.loading import Loaded


def serve(loaded: Loaded, *, host: str | None = None, port: int | None = None, workers: int | None = None) -> int:
    """Serve until SIGINT or SIGTERM; the exit status. What is given goes before the configuration's `server`.

    Raises ConfigError before anything is opened, and ValueError, ImportError or OSError for what shows at the start.
    """
    settings = loaded.configuration.server
    host, port = host or settings.host, settings.port if port is None else port
    workers = (settings.workers if workers is None else workers) or usable_cores()
    check_exposure(loaded.configuration, host, loaded.path.name, lambda: _stored_admin_key(loaded))
    check_workers(loaded, workers)
    configure_logging(settings=loaded.configuration.telemetry.logs, secrets=secrets_of(loaded.configuration))
    capture_all()
    if loaded.configuration.features is not None:
        from gateway.assembly.features import check_features

        check_features(loaded, apply=True)
    if workers == 1:
        from gateway.server import serve as serve_here

        serve_here(loaded, host, port)
        return 0
    from gateway.workers.supervisor import supervise

    return supervise(loaded, host, port, workers)


def _stored_admin_key(loaded: Loaded) -> bool:
    from gateway.assembly import has_admin_key
    from gateway.records.database import StoreUnavailable, WrongVersion

    try:
        return has_admin_key(loaded.configuration)
    except (StoreUnavailable, WrongVersion) as failure:
        raise ValueError(f"records: {failure}") from None


def usable_cores() -> int:
    """Those that this process may run on; a container's CPU quota is not among what the system tells of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
