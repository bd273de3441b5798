"""Every alert that is shipped: what makes it fire, and what does not, by promtool's own clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring_processes import CONFIGS, checked, program

SHIPPED = CONFIGS / "prometheus"
CALLS, FAILURES = 'rag_gateway_calls_total{job="g", outcome="ok"}', 'rag_gateway_failures_total{job="g"}'
STREAMS = "gen_ai_client_operation_time_to_first_chunk_seconds"
LAG = "rag_gateway_event_loop_lag_seconds_bucket"


@dataclass(frozen=True)
class Case:
    """`bad` makes the alert fire, and `good` does not, after so much time: series by name, as promtool writes them, with
    a value `every` so often."""

    bad: dict[str, str]
    good: dict[str, str]
    after: str = "1h"
    every: str = "1m"


def streams(slow: int) -> dict[str, str]:
    """A hundred a minute, of which `slow` are."""
    return {
        f'{STREAMS}_count{{job="g"}}': "0+100x400",
        f'{STREAMS}_bucket{{job="g", le="2.56"}}': f"0+{100 - slow}x400",
    }


def lag(late: int) -> dict[str, str]:
    return {f'{LAG}{{job="g", le="0.1"}}': f"0+{100 - late}x200", f'{LAG}{{job="g", le="+Inf"}}': "0+100x200",
            f'{LAG}{{job="g", le="0.25"}}': "0+100x200"}  # fmt: skip


def failing(share: int) -> dict[str, str]:
    """A thousand calls a minute, of which `share` fail."""
    return {CALLS: "0+1000x400", FAILURES: f"0+{share}x400"}


def searches(nothing: int) -> dict[str, str]:
    told = {"nothing": nothing, "found": 10 - nothing}
    return {f'rag_gateway_retrieval_total{{job="g", model="m", outcome="{o}"}}': f"0+{n}x200" for o, n in told.items()}


def spool(size: str) -> dict[str, str]:
    return {'rag_gateway_spool_bytes{job="g"}': size, 'rag_gateway_spool_limit_bytes{job="g"}': "1000000x200"}


def revisions(*names: str) -> dict[str, str]:
    return {
        f'rag_gateway_config_info{{job="g", instance="{n}", revision="{name}"}}': "1x200"
        for n, name in enumerate(names)
    }


def one(series: str, bad: str, good: str, after: str = "1h", every: str = "1m") -> Case:
    return Case({series: bad}, {series: good}, after, every)


CASES = {
    "RagGatewayErrorBudgetBurnsFast": Case(failing(80), failing(20), "2h"),
    "RagGatewayErrorBudgetBurnsSlowly": Case(failing(16), failing(4), "40h", "10m"),
    "RagGatewayFirstTokenSlow": Case(streams(80), streams(20), "2h"),
    "RagGatewayFirstTokenSlower": Case(streams(16), streams(4), "40h", "10m"),
    "RagGatewaySpendUnusual": one(
        'rag_gateway_cost_usd_total{job="g", model="m"}', "0+1x150 150+50x20", "0+1x150 150+1.5x20", "26h", "10m"
    ),
    "RagGatewayBudgetNearlySpent": Case(
        {'rag_gateway_budget_usd{job="g", budget="tenant=a"}': "10x200", 'rag_gateway_budget_left_usd{job="g", budget="tenant=a"}': "0.5x200"},
        {'rag_gateway_budget_usd{job="g", budget="tenant=a"}': "10x200", 'rag_gateway_budget_left_usd{job="g", budget="tenant=a"}': "5x200"},
    ),
    "RagGatewayCircuitOpen": one('rag_gateway_circuit_state{job="g", target="t", state="open"}', "1x200", "0x200"),
    "RagGatewayQueueSheds": one('rag_gateway_queue_shed_total{job="g", provider="p"}', "0+1x200", "7x200"),
    "RagGatewayDrift": one('rag_gateway_drift{kind="input", name="m"}', "1x200", "0x200"),
    "RagGatewayRetrievalFindsNothing": Case(searches(7), searches(3)),
    "RagGatewayGuardrailUnavailable": one(
        'rag_gateway_guardrail_verdicts_total{job="g", check="c", action="unavailable"}', "0+1x200", "3x200"
    ),
    "RagGatewayFeaturesStale": one('rag_gateway_feature_age_seconds{job="g", view="v"}', "90000x200", "600x200"),
    "RagGatewayRecordStoreAway": one('rag_gateway_component_up{job="g", component="records"}', "0x200", "1x200"),
    "RagGatewaySpoolFilling": Case(spool("600000x200"), spool("100000x200")),
    "RagGatewayRecordsDropped": one('rag_gateway_records_dropped{job="g"}', "0+1x200", "3x200"),
    "RagGatewayCollectorAway": one('rag_gateway_spans_dropped_total{job="g"}', "0+60x200", "60x200"),
    "RagGatewayLakeBehind": one('rag_gateway_lake_lag_seconds{job="g"}', "7200x200", "60x200"),
    "RagGatewayDown": one('up{job="rag-gateway"}', "0x200", "1x200"),
    "RagGatewayComponentAway": one('rag_gateway_component_up{job="g", component="knowledge"}', "0x200", "1x200"),
    "RagGatewayConfigurationRefused": one(
        'rag_gateway_config_last_reload_successful{job="g", instance="i"}', "1x30 0x60", "1x30 0 1x60"
    ),
    "RagGatewayEventLoopLag": Case(lag(20), lag(0)),
    "RagGatewayTurnsCallsAway": one('rag_gateway_turned_away_total{job="g"}', "0+60x200", "60x200"),
    "RagGatewayFileDescriptors": Case(
        {'process_open_fds{job="rag-gateway"}': "900x200", 'process_max_fds{job="rag-gateway"}': "1000x200"},
        {'process_open_fds{job="rag-gateway"}': "100x200", 'process_max_fds{job="rag-gateway"}': "1000x200"},
    ),
    "RagGatewayRevisionsDiffer": Case(revisions("a", "b"), revisions("a", "a")),
}  # fmt: skip


def written(folder: Path, name: str, *verdicts: tuple[dict[str, str], bool]) -> str:
    """promtool's test of one alert: that it is on with these series, or is not, whatever its labels and words.

    Of the recording rules only those are there that it asks for, since each is reckoned at every step.
    """
    alert = next(rule for rule in rules("alerts") if rule["alert"] == name)
    needed = [rule for rule in rules("recording") if rule["record"] in alert["expr"]]
    rule_file = folder / f"{name}.rules.yml"
    rule_file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [*needed, alert]}]}))
    one = CASES[name]
    tests = [
        {
            "interval": one.every,
            "input_series": [{"series": series, "values": values} for series, values in told.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)',
                    "eval_time": one.after,
                    "exp_samples": [{"labels": "{}", "value": int(fires)}],
                }
            ],
        }
        for told, fires in verdicts
    ]
    path = folder / f"{name}.test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(rule_file)], "evaluation_interval": one.every, "tests": tests}))
    return str(path)


def rules(kind: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((SHIPPED / f"{kind}.rules.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_each_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    files = [written(tmp_path, name, (one.bad, True), (one.good, False)) for name, one in CASES.items()]
    assert checked(program("promtool"), "test", "rules", *files).count("SUCCESS") == len(CASES)


def test_a_case_that_is_wrong_is_found(tmp_path: Path) -> None:
    name = "RagGatewayCircuitOpen"
    with pytest.raises(AssertionError, match=name):
        checked(program("promtool"), "test", "rules", written(tmp_path, name, (CASES[name].good, True)))


def test_there_is_a_case_for_each() -> None:
    assert set(CASES) == {rule["alert"] for rule in rules("alerts")}
