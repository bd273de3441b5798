"""What the metrics look up in the parts of a gateway when somebody scrapes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gateway.access import budgets_left
from gateway.telemetry.labels import ConfiguredNames, ModelLabels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.assembly.services import Services
    from gateway.routing.fleet import Fleet
    from gateway.runtime import Gateway
    from gateway.telemetry.metrics import Metrics

_STATES = ("closed", "half_open", "open")


def tell(metrics: Metrics, gateway: Gateway, fleet: Fleet, services: Services) -> None:
    """Once, before calls are served."""
    journal, settings = gateway.journal, gateway.revision.configuration.records
    metrics.gauge(
        "rag_gateway_spool_bytes",
        "Bytes of call records that the store may not have yet.",
        lambda: journal.spooled_bytes,
    )
    metrics.gauge(
        "rag_gateway_spool_limit_bytes", "Bytes of call records that may wait: records.spool.max_bytes.",
        lambda: settings.spool.max_bytes,
    )  # fmt: skip
    metrics.levels(
        "rag_gateway_config_info", "Processes that serve a revision of the configuration.", ("revision",),
        lambda: {(gateway.revision.name,): 1.0},
    )  # fmt: skip
    labels = ModelLabels(ConfiguredNames(lambda: gateway.revision.configuration).names)
    metrics.levels(
        "rag_gateway_circuit_state", "Processes that hold a target's circuit to be in a state.", ("target", "state"),
        lambda: _circuits(fleet, labels),
    )  # fmt: skip
    services.caches.tell(metrics.gauge)
    fleet.queues.tell(metrics)
    services.quality.tell(metrics)
    services.check_times.tell(metrics)
    if services.semantic is not None:
        services.semantic.tell(metrics.counted)
    if services.features is not None:
        services.features.tell(metrics)
    if services.counting is not None:
        budgets_left.tell(metrics, services.counting.meters, services.counting.counters.clock)


def _circuits(fleet: Fleet, labels: ModelLabels) -> Mapping[tuple[str, ...], float]:
    """By target and state. What callers name of a provider beside the targets of the configuration is one target."""
    states: Counter[tuple[str, str]] = Counter()
    for label, circuit in fleet.circuits().items():
        states[labels.of(label) if "/" in label else label, circuit.state] += 1
    targets = {target for target, _ in states}
    return {(target, state): float(states[target, state]) for target in sorted(targets) for state in _STATES}
