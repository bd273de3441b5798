"""What may be used up, and by whom: requests, tokens, calls at a time, and money."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from gateway.config.section import Section

Dimension = Literal["key", "user", "tenant", "model", "target"]
Period = Literal["day", "week", "month"]
OwnCall = Literal["guardrail", "rewrite", "hyde", "shadow", "quality"]

_Count = Annotated[int, Field(ge=0, le=10**12)]
_MEASURES = (
    "requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day", "concurrency", "budget",
)  # fmt: skip


class Allowance(Section):
    """How much may be used. What is left out is not limited.

    A minute is any 60 seconds and a day any 24 hours; `budget` is in USD for each calendar period in UTC, weeks from
    Monday. `concurrency` is how many calls may run at a time.
    """

    requests_per_minute: _Count | None = None
    requests_per_day: _Count | None = None
    tokens_per_minute: _Count | None = None
    tokens_per_day: _Count | None = None
    concurrency: _Count | None = None
    budget: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] | None = None
    budget_period: Period = "month"

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(getattr(self, measure) is None for measure in _MEASURES):
            raise ValueError(f"limits nothing: name at least one of {', '.join(_MEASURES)}")
        if self.budget is None and "budget_period" in self.model_fields_set:
            raise ValueError("`budget_period` needs a `budget`")
        return self


class LimitRule(Allowance):
    """One allowance for each value of `per`: `per: [tenant, model]` gives every tenant its own for every model.

    `per: []` is one allowance for all together. `when` narrows the rule to the calls of these keys, users, tenants,
    models or targets. What has no user is not limited per user; users of the same name in two tenants are two.
    """

    per: list[Dimension]
    when: dict[Dimension, list[str]] = {}

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
            raise ValueError(f"no {empty[0]} is named, so no call would be limited: leave `{empty[0]}` out")
        return value

    @field_validator("per")
    @classmethod
    def _each_once(cls, value: list[Dimension]) -> list[Dimension]:
        if twice := [name for name in value if value.count(name) > 1]:
            raise ValueError(f"`{twice[0]}` stands here twice")
        return value

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """By what is counted, in one order however it is written. A user is a tenant's: jo of another is another."""
        of_users: set[Dimension] = {"tenant"} if "user" in self.per or "user" in self.when else set()
        return tuple(sorted({*self.per, *of_users}))

    @property
    def identity(self) -> tuple[object, ...]:
        """What two rules have in common that limit the same calls."""
        return (self.dimensions, frozenset((name, frozenset(values)) for name, values in self.when.items()))

    @property
    def measures(self) -> frozenset[str]:
        named = {measure for measure in _MEASURES if getattr(self, measure) is not None}
        return frozenset(f"budget for each {self.budget_period}" if name == "budget" else name for name in named)


class Charging(Section):
    """What is charged to limits and budgets, and what is reserved for a call before it is made.

    What an answer from a cache is charged is the cache's to say (`cache.charge`). `output_tokens` are reserved for a call that does not say `max_tokens`.
    `cut_off`: what a call costs that its caller has left before the answer began. `own_calls` says who pays the calls that
    the gateway makes beside a caller's; those not named here are the caller's, but for copies to shadow targets and what judges the quality of answers.
    """

    own_calls: dict[OwnCall, Literal["caller", "nobody"]] = {}
    unknown_price: Literal["free", "refuse"] = "free"
    cut_off: Literal["question", "reserved"] = "question"
    output_tokens: Annotated[int, Field(ge=0, le=10_000_000)] = 1_000
