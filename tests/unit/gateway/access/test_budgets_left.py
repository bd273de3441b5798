"""What the metrics are told of budgets."""

from __future__ import annotations

from gateway.access import budgets_left
from gateway.access.meters import Meters
from gateway.access.rules import NANO, rule_of
from gateway.config.limits import LimitRule
from gateway.telemetry.metrics import Metrics

NOW = 1_800_000_000.0
DAY = 86_400.0


def used(meters: Meters, dollars: float, *subject: str, **rule: object) -> None:
    """A call of this subject has cost so much."""
    made = rule_of(LimitRule.model_validate({"budget": 10, "budget_period": "day", **rule}))
    (ceiling,) = made.ceilings
    meters.meter(made, ceiling, subject, NOW).purse(NOW).spent = round(dollars * NANO)


def told(meters: Meters, now: float) -> dict[str, float]:
    metrics = Metrics(lambda: 0, lambda: 0)
    budgets_left.tell(metrics, meters, lambda: now)
    lines = metrics.exposition().decode().splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("rag_gateway_budget")}


def test_what_is_left_of_a_tenants_budget_and_all_of_it_in_the_next_period() -> None:
    meters = Meters()
    used(meters, 2.5, "a", per=["tenant"])
    used(meters, 12, "b", per=["tenant"])
    of = '{budget="tenant=%s",period="day"}'
    whole = {"rag_gateway_budget_usd" + of % tenant: 10.0 for tenant in "ab"}
    left = {"rag_gateway_budget_left_usd" + of % "a": 7.5, "rag_gateway_budget_left_usd" + of % "b": 0.0}
    assert told(meters, NOW) == whole | left
    assert set(told(meters, NOW + DAY).values()) == {10.0}


def test_users_budgets_are_no_series_and_of_many_the_emptiest_are_told() -> None:
    meters = Meters()
    used(meters, 9, "a", "somebody", per=["user"])
    assert told(meters, NOW) == {}
    for number in range(300):
        used(meters, number / 30, f"t{number}", per=["tenant"])
    names = [name for name in told(meters, NOW) if "left" in name]
    assert len(names) == 200
    assert all(f't{number}"' not in name for name in names for number in range(100))
