"""Rules: whom a limit counts together, and how much they may use.

A rule counts calls by its dimensions: `("tenant", "model")` is one count for each tenant's calls of each model. Its
subject for a call is the values of these dimensions; a call that has no value for one of them is not counted.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from gateway.config.limits import Allowance, LimitRule
    from gateway.values import Caller, Target

Measure = Literal["requests", "tokens", "concurrency", "budget"]
Period = Literal["day", "week", "month"]

MINUTE: Final = 60.0
DAY: Final = 86_400.0
NANO: Final = 1_000_000_000
"""Money is counted in whole billionths of a USD: sums of them are exact, in Redis's floats too up to 9 million USD."""

_TOLD: Final[frozenset[Measure]] = frozenset({"requests", "tokens"})


class Told(NamedTuple):
    """The headers that say how much of a ceiling is left."""

    limit: tuple[bytes, bytes]
    remaining: bytes
    reset: bytes


@dataclass(frozen=True, slots=True)
class Ceiling:
    """`most` of one measure: in any `span` seconds, at a time (a span of 0), or in each `period` (billionths of USD)."""

    measure: Measure
    most: int
    span: float = 0.0
    period: Period | None = None
    family: str = ""  # names all counts of this rule and measure, whatever `most` says: a reload keeps them
    told: Told | None = None  # where callers are

    @property
    def name(self) -> str:
        """As it is configured: `requests_per_minute`, `concurrency`, `budget per month`."""
        if self.measure == "budget":
            return f"budget per {self.period}"
        if self.measure == "concurrency":
            return "concurrency"
        return f"{self.measure}_per_{'minute' if self.span == MINUTE else 'day'}"


@dataclass(frozen=True, slots=True)
class Rule:
    """`scope` spells `when` and where the rule stands, so that two rules never share a count.

    `own` says that it is the one key's or tenant's own, beside the rules that are for all.
    """

    per: tuple[str, ...]
    when: tuple[tuple[str, frozenset[str]], ...]
    ceilings: tuple[Ceiling, ...]
    scope: str = ""
    own: bool = False

    @property
    def of_targets(self) -> bool:
        """Whether it can be asked only once a target is known."""
        return "target" in self.per or any(name == "target" for name, _ in self.when)

    @property
    def of_all(self) -> bool:
        """Whether it counts callers together who are not to know of each other."""
        return not {"key", "user", "tenant"} & set(self.per)

    def may_be_about(self, target: Target) -> bool:
        return all(name != "target" or target.label in values for name, values in self.when)

    def subject(self, caller: Caller, model: str, target: str | None = None) -> tuple[str, ...] | None:
        """Whose count this call goes to; None where the rule is not about it."""
        for name, values in self.when:
            if name == "key":  # operators name keys by the name that they have given them
                if caller.key_name not in values and caller.key_id not in values:
                    return None
            elif _value(name, caller, model, target) not in values:
                return None
        subject = []
        for name in self.per:
            value = _value(name, caller, model, target)
            if value is None:
                return None
            subject.append(value)
        return tuple(subject)

    def __post_init__(self) -> None:
        kind = f"{'+'.join(self.per)}{'!' if self.own else ''}?{self.scope}"
        named = tuple(
            replace(ceiling, family=f"{ceiling.name}:{kind}", told=None if self.of_all else _headers(ceiling))
            for ceiling in self.ceilings
        )
        object.__setattr__(self, "ceilings", named)

    def spelled(self, subject: tuple[str, ...]) -> str:
        """The subject as text that can't be taken for another one: `tenant=a&model=gpt-4`. It names what is spent."""
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in zip(self.per, subject, strict=True))
        return f"{text or 'all'}?{self.scope}" if self.scope else text or "all"


def _value(name: str, caller: Caller, model: str, target: str | None) -> str | None:
    if name == "model":
        return model
    if name == "target":
        return target
    if name == "key":
        return caller.key_id or caller.key_name
    return caller.user if name == "user" else caller.tenant


def _headers(ceiling: Ceiling) -> Told | None:
    """https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers"""
    if ceiling.measure not in _TOLD:
        return None
    limit, remaining, reset = (
        f"x-ratelimit-{what}-{ceiling.measure}".encode() for what in ("limit", "remaining", "reset")
    )
    return Told((limit, b"%d" % ceiling.most), remaining, reset)


def ceilings_of(allowance: Allowance) -> tuple[Ceiling, ...]:
    counted: list[Ceiling] = []
    rates: tuple[tuple[Measure, float, int | None], ...] = (
        ("requests", MINUTE, allowance.requests_per_minute),
        ("requests", DAY, allowance.requests_per_day),
        ("tokens", MINUTE, allowance.tokens_per_minute),
        ("tokens", DAY, allowance.tokens_per_day),
    )
    counted += [Ceiling(measure, most, span) for measure, span, most in rates if most is not None]
    if allowance.budget is not None:
        counted.append(Ceiling("budget", round(allowance.budget * NANO), period=allowance.budget_period))
    if allowance.concurrency is not None:
        counted.append(Ceiling("concurrency", allowance.concurrency))
    return tuple(counted)


def rule_of(written: LimitRule) -> Rule:
    when = tuple(sorted((name, frozenset(values)) for name, values in written.when.items()))
    scope = "&".join(f"{name}={','.join(quote(v, safe='') for v in sorted(values))}" for name, values in when)
    return Rule(written.dimensions, when, ceilings_of(written), scope)


def own_rule(allowance: Allowance | None, per: Literal["key", "tenant"]) -> tuple[Rule, ...]:
    """A key's own allowance, or a tenant's, as `Caller.limits` takes it; empty where there is none."""
    return (Rule((per,), (), ceilings_of(allowance), own=True),) if allowance is not None else ()


def period_of(period: Period, now: float) -> tuple[str, float]:
    """The calendar period in UTC that `now` lies in, as text, and when it ends; both in seconds since the epoch."""
    day = datetime.datetime.fromtimestamp(now, datetime.UTC).date()
    if period == "day":
        name, following = f"{day:%Y-%m-%d}", day + datetime.timedelta(days=1)
    elif period == "week":
        year, week, weekday = day.isocalendar()
        name, following = f"{year}-W{week:02}", day + datetime.timedelta(days=8 - weekday)
    else:
        following = (day.replace(day=1) + datetime.timedelta(days=32)).replace(day=1)
        name = f"{day:%Y-%m}"
    end = datetime.datetime.combine(following, datetime.time(), datetime.UTC).timestamp()
    return name, end
