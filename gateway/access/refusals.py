"""What a caller is told that has come to a limit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gateway.access.rules import NANO
from gateway.errors import BudgetSpent, LimitReached

if TYPE_CHECKING:
    from gateway.access.meters import Ask


def refusal(ask: Ask) -> LimitReached | BudgetSpent:
    """What a caller is told that has come to a limit."""
    ceiling, wait = ask.ceiling, ask.wait
    whose = " and ".join(ask.meter.rule.per)
    whose = "all callers together" if ask.meter.rule.of_all else f"this {whose}"
    if ceiling.measure == "budget":
        spent = BudgetSpent(
            f"The budget of {whose} for this {ceiling.period} is spent, or reserved for calls that run: "
            f"{ceiling.most / NANO:g} USD.",
            retry_after=_after(wait),
        )
        spent.spent = wait > 1.0
        return spent
    name = ceiling.name.replace("_", " ")
    if math.isinf(wait):
        too_large = LimitReached(
            f"This call is too large for the limit of {ceiling.most} {name} of {whose}: it asks for {ask.amount}. "
            "Shorten it, or ask for fewer tokens with max_completion_tokens."
            if ceiling.measure == "tokens"
            else f"The limit of {whose} is {ceiling.most} {name}."
        )
        too_large.spent = True
        return too_large
    figures = "" if ask.meter.rule.of_all else f", {ask.left} left, {ask.amount} asked for"
    return LimitReached(
        f"Rate limit reached: {ceiling.most} {name} for {whose}{figures}. Please try again in {_after(wait)} s.",
        retry_after=_after(wait),
    )


def _after(wait: float) -> str:
    return str(max(1, math.ceil(wait - 1e-6)))
