"""What is left of limits: for operators of all that are counted, for a caller of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.access.admission import Limits
from gateway.access.meters import Meter
from gateway.access.rules import NANO, Ceiling, Rule
from gateway.values import Caller

_SHOWN = 1_000  # meters at most


async def standings(limits: Limits, asked: dict[str, str]) -> list[dict[str, Any]]:
    """Every count of this process that is in use, of the subjects that `asked` names: `{"tenant": "a"}`."""
    told = []
    for meter in limits.meters:
        subject = dict(zip(meter.rule.per, meter.subject, strict=True))
        if all(subject.get(name) == value for name, value in asked.items()):
            used, reserved = await limits.counters.look(meter)
            if used or reserved:
                told.append(_standing(meter.rule, meter.ceiling, meter.subject, used, reserved))
        if len(told) >= _SHOWN:
            break
    return told


async def own_standings(limits: Limits, caller: Caller, models: Iterable[str]) -> list[dict[str, Any]]:
    """What holds for this caller's calls: of rules about models, of each of `models`. Nothing of targets, and of what
    it shares with callers that it is not to know of."""
    told = []
    names = list(models)
    for rule in (*limits.rules, *caller.limits):
        if rule.of_all:
            continue
        about_models = "model" in rule.per or any(name == "model" for name, _ in rule.when)
        subjects = dict.fromkeys(rule.subject(caller, model) for model in (names if about_models else [""]))
        for subject in subjects:
            for ceiling in rule.ceilings if subject is not None else ():
                meter: Meter | None = limits.meters.find(ceiling, subject or ())
                if meter is None:
                    meter = Meter(rule, ceiling, subject or ())  # not kept: nobody has used it here yet
                used, reserved = await limits.counters.look(meter)
                told.append(_standing(rule, ceiling, subject or (), used, reserved))
    return told


def _standing(rule: Rule, ceiling: Ceiling, subject: tuple[str, ...], used: int, reserved: int) -> dict[str, Any]:
    most, left = ceiling.most, max(0, ceiling.most - used)
    money = ceiling.measure == "budget"
    return {
        "limit": ceiling.name.replace(" ", "_"),
        "of": dict(zip(rule.per, subject, strict=True)),
        "when": {name: sorted(values) for name, values in rule.when},
        "most": most / NANO if money else most,
        "used": used / NANO if money else used,
        "reserved": reserved / NANO if money else reserved,
        "left": left / NANO if money else left,
    }
