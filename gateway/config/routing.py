"""How a public model chooses among its targets: strategies, hedging, residency."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.config.quantities import Duration
from gateway.config.section import Section

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Sticky = Literal["user", "conversation", "call"]


class Priority(Section):
    """The targets as written."""

    kind: Literal["priority"] = "priority"


class Weighted(Section):
    """Drawn by weight, anew for each call."""

    kind: Literal["weighted"] = "weighted"


class LeastLatency(Section):
    """The one that begins to answer soonest, by a smoothed time to the first content."""

    kind: Literal["least_latency"] = "least_latency"


class LeastCost(Section):
    """The cheapest by its prices; unknown prices come last."""

    kind: Literal["least_cost"] = "least_cost"


class LeastBusy(Section):
    """The one with the fewest calls: our own in flight, and what a vLLM's queue says."""

    kind: Literal["least_busy"] = "least_busy"


class PrefixAffinity(Section):
    """The same conversation to the same replica, whose KV cache then holds its prefix; no one takes more than
    `load` times its fair share."""

    kind: Literal["prefix_affinity"] = "prefix_affinity"
    load: Annotated[float, Field(gt=1, le=10)] = 1.25


class Plan(Section):
    """How a canary grows by itself: share after share, or back to nothing. Limits are against the stable arm."""

    steps: Annotated[list[Share], Field(min_length=1)] = [0.01, 0.05, 0.25, 0.5, 1.0]
    calls_per_step: Annotated[int, Field(ge=1)] = 200
    max_error_increase: Share = 0.02
    max_latency_increase: Annotated[float, Field(ge=0)] = 0.2
    max_cost_increase: Annotated[float, Field(ge=0)] | None = None
    max_feedback_drop: Share | None = 0.05
    max_guardrail_increase: Share = 0.02
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if (
            any(later <= before for before, later in zip(self.steps, self.steps[1:], strict=False))
            or self.steps[0] <= 0
        ):
            raise ValueError("`steps` are shares above 0 that grow, like [0.05, 0.25, 1.0]")
        return self


class Canary(Section):
    """The first target is the stable arm; each other one takes its weight's share of users."""

    kind: Literal["canary"] = "canary"
    sticky: Sticky = "user"
    plan: Plan | None = None


class BlueGreen(Section):
    """All calls go to one arm; the switch to the other, and back, is one command."""

    kind: Literal["blue_green"] = "blue_green"
    active: str | None = None


class Ab(Section):
    """Named arms side by side, each user always on the same; results by arm."""

    kind: Literal["ab"] = "ab"
    sticky: Sticky = "user"


class Shadow(Section):
    """The first target answers; the others get a copy of a share of the calls, after the answer, unseen by callers."""

    kind: Literal["shadow"] = "shadow"
    share: Share = 1.0
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 4
    calls_per_day: Annotated[int, Field(ge=1)] = 10_000


class Reward(Section):
    """What makes a good answer, in parts of one: feedback, guardrails passed, little cost, a quick first token.

    `cost_reference` (USD) and `latency_reference` are what counts as nothing left of that part.
    """

    feedback: Share = 1.0
    guardrails: Share = 0.0
    cost: Share = 0.0
    latency: Share = 0.0
    cost_reference: Positive = 0.01
    latency_reference: Duration = 5.0
    wait: Duration = 3600.0

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if not self.feedback + self.guardrails + self.cost + self.latency > 0:
            raise ValueError("a reward needs at least one weight above 0")
        return self


class Bandit(Section):
    """Thompson sampling over the arms: calls move to what earns the best reward, and follow when that changes."""

    kind: Literal["bandit"] = "bandit"
    reward: Reward = Reward()
    floor: Annotated[float, Field(ge=0, le=0.2)] = 0.02
    half_life: Annotated[int, Field(ge=10)] = 2000
    max_violations: Share = 0.05


class BestOf(Section):
    """Several generations, one chosen. `n` in all, the targets in turn.

    `choose`: the `majority` (JSON and short answers), the `consensus` of their embeddings by `embedder`, or a `judge`;
    these two are targets themselves, `provider/model`.
    """

    kind: Literal["best_of"] = "best_of"
    n: Annotated[int, Field(ge=2, le=9)] = 3
    choose: Literal["majority", "consensus", "judge"] = "majority"
    judge: str | None = None
    embedder: str | None = None

    @model_validator(mode="after")
    def _chosen(self) -> Self:
        if (self.choose == "judge") != (self.judge is not None):
            raise ValueError("`judge: provider/model` goes with `choose: judge`, and only with it")
        if (self.choose == "consensus") != (self.embedder is not None):
            raise ValueError("`embedder: provider/model` goes with `choose: consensus`, and only with it")
        return self


Strategy = Annotated[
    Priority
    | Weighted
    | LeastLatency
    | LeastCost
    | LeastBusy
    | PrefixAffinity
    | Canary
    | BlueGreen
    | Ab
    | Shadow
    | Bandit
    | BestOf,
    Field(discriminator="kind"),
]
StrategyName = Literal[
    "priority", "weighted", "least_latency", "least_cost", "least_busy", "prefix_affinity", "canary", "blue_green",
    "ab", "shadow", "bandit", "best_of",
]  # fmt: skip


class Hedge(Section):
    """A second target is asked beside the first when that has said nothing for `after`: a duration, or its own p95."""

    after: Duration | Literal["p95"] = "p95"


class Residency(Section):
    """Which data may not leave the premises. `labels` from open to strict; `stays` and stricter ones stay.

    `findings`: the label that a guardrail's finding gives a call, by check (`pii`) or by kind (`pii.IBAN_CODE`).
    Findings that are masked or pseudonymised do not count: they are not in the prompt any more.
    """

    labels: Annotated[list[str], Field(min_length=2)] = ["public", "internal", "restricted"]
    stays: str = "restricted"
    default: str = "public"
    findings: dict[str, str] = {}

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in (self.stays, self.default, *self.findings.values()):
            if name not in self.labels:
                raise ValueError(f"`{name}` is not one of `labels`: {', '.join(self.labels)}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("`labels` holds one twice")
        return self
