"""What tells of calls outside this process: spans, metrics and events to a collector, as the configuration asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from gateway.telemetry.provider_names import provider_name

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from gateway.config.models import Configuration
    from gateway.exchange import Exchange
    from gateway.telemetry.content import Contents, Mask
    from gateway.telemetry.evaluations import Evaluations
    from gateway.telemetry.metric_export import MetricExport
    from gateway.telemetry.names import Names
    from gateway.telemetry.traces import Traces

    Export = Callable[[Sequence[Exchange]], None]


def open_traces(configuration: Configuration, in_force: Callable[[], Configuration]) -> Traces | None:
    """None where no spans are made. `in_force` is the configuration that calls go by now: providers may be reloaded.

    Raises ValueError where something that it needs is not installed.
    """
    settings = configuration.telemetry
    if not settings.traces.on:
        return None
    from gateway.telemetry.call_spans import Facts
    from gateway.telemetry.names import chosen
    from gateway.telemetry.resource import resource_attributes
    from gateway.telemetry.traces import Traces

    def provider(name: str) -> str:
        found = in_force().providers.get(name)
        return provider_name(found) if found is not None else name

    shapes = chosen(os.environ)
    knowledge = configuration.retrieval
    facts = Facts(shapes, provider, knowledge.embeddings.model if knowledge is not None else None)
    return Traces(settings, resource_attributes(settings), facts, _contents(configuration, shapes))


def exporters(configuration: Configuration, traces: Traces | None) -> Export | None:
    """What is told of calls that have ended, off the path; None where that is nothing but their records."""
    made: list[Export] = [traces.export] if traces is not None else []
    which = configuration.telemetry.logs.calls
    if which != "none":
        from gateway.telemetry.call_lines import CallLines

        made.append(CallLines(which).export)
    if len(made) < 2:
        return made[0] if made else None

    def export(exchanges: Sequence[Exchange]) -> None:
        for one in made:
            one(exchanges)

    return export


def open_metric_export(configuration: Configuration, families: Callable[[], Iterable[Metric]]) -> MetricExport | None:
    """None where metrics are only scraped. Raises ValueError where something that it needs is not installed."""
    settings = configuration.telemetry
    otlp = settings.metrics.otlp
    if otlp is None:
        return None
    from gateway.telemetry.collectors import collector
    from gateway.telemetry.metric_export import MetricExport
    from gateway.telemetry.resource import resource_attributes

    resource = resource_attributes(settings)
    return MetricExport(collector(otlp, "metrics"), resource, families, settings.metrics.every)


def open_events(configuration: Configuration) -> Evaluations | None:
    """None where nobody is told of them. Raises ValueError where something that it needs is not installed."""
    settings = configuration.telemetry
    events = settings.events
    if events.otlp is None:
        return None
    from gateway.telemetry.collectors import collector
    from gateway.telemetry.evaluations import Evaluations
    from gateway.telemetry.names import chosen
    from gateway.telemetry.resource import resource_attributes

    to, schema = collector(events.otlp, "logs"), chosen(os.environ).schema_url
    return Evaluations(to, resource_attributes(settings), schema, every=events.every, most_bytes=events.queue)


def _contents(configuration: Configuration, shapes: Names) -> Contents | None:
    traces = configuration.telemetry.traces
    if traces.content == "off":
        return None
    from gateway.telemetry.content import Contents

    content = traces.content
    return Contents(
        traces.content_of,
        _masks(frozenset(content.mask)),
        content.mask,
        content.max_bytes,
        _may_leave(configuration),
        shapes,
    )


def _masks(always: frozenset[str]) -> Callable[[frozenset[str]], Mask]:
    """What masks the findings of some checks: `always` of these, others where a call's guardrails have masked before.

    Raises ValueError where their libraries are not installed.
    """
    known: dict[frozenset[str], Mask] = {frozenset(): lambda text, _: text, always: _mask(always)}

    def mask(checks: frozenset[str]) -> Mask:
        made = known.get(checks)
        if made is None:
            made = known[checks] = _mask(checks)
        return made

    return mask


def _mask(checks: frozenset[str]) -> Mask:
    from guardrails.assembly import build_check
    from guardrails.policy import Policy, Rule
    from guardrails.text_checks import TextCheck

    rules: list[Rule] = []
    for name in sorted(checks):
        try:
            check = build_check(name, {})
        except ImportError as missing:
            raise ValueError(
                f"telemetry.traces.content.mask: `{name}` needs {missing.name}: pip install 'rag-gateway[guardrails]'"
            ) from None
        assert not isinstance(check, TextCheck), "both are checks of runs"
        rules.append(Rule(check, "mask"))
    policy = Policy(rules)
    return lambda text, in_json: policy.screen(text, in_json=in_json).text


def _may_leave(configuration: Configuration) -> Callable[[str | None], bool]:
    residency, otlp = configuration.residency, configuration.telemetry.traces.otlp
    if residency is None or otlp is None or otlp.residency == "on_premises":
        return lambda _: True
    open_ = frozenset(residency.labels[: residency.labels.index(residency.stays)])
    return lambda label: label in open_  # a call whose label nobody has found stays here
