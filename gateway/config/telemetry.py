"""What the gateway tells of itself: spans, metrics and log lines, where they go and how much of them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from gateway.config.quantities import Duration, Size
from gateway.config.section import Credential, HeaderName, HttpUrl, Section
from gateway.values import Residency as Place

Share = Annotated[float, Field(ge=0, le=1)]
Dimension = Literal["model", "tenant", "key"]
ResourceName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,254}$")]


class Otlp(Section):
    """A collector that speaks OTLP. `http/protobuf` is sent to `/v1/traces`, `/v1/metrics` and `/v1/logs` below
    `endpoint`.

    `residency`: where it is; what was said in calls that may not leave the premises is only sent to one on them.
    """

    endpoint: HttpUrl
    protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
    headers: dict[HeaderName, Credential] = {}
    compression: Literal["none", "gzip"] = "none"
    timeout: Duration = 10.0
    residency: Place = "external"


class SampleRule(Section):
    """The share of these calls that is kept. A call must be of one of each that is named."""

    when: Annotated[dict[Dimension, list[str]], Field(min_length=1)]
    sample: Share

    @field_validator("when", mode="before", json_schema_input_type=dict[Dimension, str | list[str]])
    @classmethod
    def _several(cls, value: object) -> object:
        if isinstance(value, dict):
            return {name: [values] if isinstance(values, str) else values for name, values in value.items()}
        return value

    @field_validator("when")
    @classmethod
    def _narrow_to_somebody(cls, value: dict[Dimension, list[str]]) -> dict[Dimension, list[str]]:
        if empty := [name for name, values in value.items() if not values]:
            raise ValueError(f"no {empty[0]} is named, so the rule is about no call: leave `{empty[0]}` out")
        return value


class Keep(Section):
    """Calls that are kept whatever the sample says; `slow` is how long one takes that counts as slow.

    At most so many of them `a_second`, shared between tenants: a flood of refusals must not cost more than the calls that
    are served, nor hide another tenant's errors.
    """

    errors: bool = True
    blocked: bool = True
    slow: Duration | Literal["off"] = 10.0
    a_second: Annotated[int, Field(ge=1, le=100_000)] = 100


class Content(Section):
    """What was said, in the spans of these `models`. `mask` is what is found and cut out before; `[]` for nothing."""

    models: Annotated[list[str], Field(min_length=1)]
    mask: list[Literal["secrets", "pii"]] = ["secrets", "pii"]
    max_bytes: Size = 65_536


class Traces(Section):
    """`sample` is the share of calls that become spans; the first of `rules` that is about a call goes before it.

    `parent`: whether a caller's own decision in its `traceparent` goes before both. `console` writes spans as log
    lines. `queue` bounds what waits for a collector; beyond, spans are dropped and counted.
    """

    otlp: Otlp | None = None
    console: bool = False
    sample: Share = 0.1
    rules: list[SampleRule] = []
    parent: Literal["honour", "ignore"] = "honour"
    keep: Keep = Keep()
    content: Literal["off"] | Content = "off"
    every: Duration = 1.0
    queue: Size = 16_000_000

    @property
    def on(self) -> bool:
        return self.otlp is not None or self.console

    @property
    def content_of(self) -> frozenset[str]:
        """The models whose spans hold what was said."""
        return frozenset() if self.content == "off" or not self.on else frozenset(self.content.models)

    @model_validator(mode="after")
    def _has_somewhere_to_go(self) -> Self:
        said = sorted(self.model_fields_set & {"content", "rules"})
        if said and not self.on and (self.rules or self.content != "off"):
            raise ValueError(
                f"`{said[0]}` is about spans that go nowhere: name a collector with `otlp`, or `console: true`"
            )
        return self


class Metrics(Section):
    """`/metrics` is there in any case; with `otlp` they are sent to a collector too, so often."""

    otlp: Otlp | None = None
    every: Duration = 60.0


class Events(Section):
    """What answers were found to be worth: feedback, quality and drift, sent as OpenTelemetry events where a collector
    takes logs. `queue` bounds what waits for it; beyond, events are dropped and counted.
    """

    otlp: Otlp | None = None
    every: Duration = 1.0
    queue: Size = 1_000_000


class Logs(Section):
    """`format`: `auto` is text on a terminal and JSON elsewhere. `level` is about the gateway's own lines, libraries
    are heard from `warning` on. `calls`: which calls have a line of their own."""

    format: Literal["auto", "json", "text"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    calls: Literal["none", "failed", "all"] = "none"


class Telemetry(Section):
    """`resource`: attributes of everything that is sent, such as `deployment.environment.name`."""

    service_name: Annotated[str, Field(min_length=1, max_length=255)] = "rag-gateway"
    resource: dict[ResourceName, str] = {}
    traces: Traces = Traces()
    metrics: Metrics = Metrics()
    events: Events = Events()
    logs: Logs = Logs()
