"""Metrics of settled calls, read back as Prometheus reads them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import gateway
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.telemetry.check_times import CheckTimes
from gateway.telemetry.labels import STAGE_OF_TYPE
from gateway.telemetry.logs import redacted
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.series import Distributions
from gateway.values import Attempt, Caller, Target, Usage
from guardrails.verdicts import Verdict
from retrieval.passages import Passage


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.exposition().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def call(model: str | None) -> Exchange:
    exchange = Exchange("chat.completions")
    exchange.model = model
    exchange.target = Target("openai", "gpt-x")
    exchange.status = 200
    exchange.usage = Usage(10, 20)
    exchange.stage("retrieval", exchange.started)
    exchange.settle()
    return exchange


def test_a_call_is_counted_where_it_belongs() -> None:
    metrics = Metrics(lambda: 7, lambda: 0)
    exchange = call("handbook")
    exchange.cache = "miss"
    exchange.verdicts = [("output", Verdict("pii", "mask", (), "1"))]
    exchange.attempts = [Attempt(Target("gpu", "m"), "upstream_timeout_total", 504, 1.0)]
    exchange.degraded = ["features"]
    metrics.begin()
    metrics.begin()
    metrics.observe(exchange)
    told = samples(metrics)
    of = (
        ("gen_ai_operation_name", "chat"),
        ("gen_ai_provider_name", "openai"),
        ("gen_ai_request_model", "gpt-x"),
        ("rag_gateway_model", "handbook"),
        ("rag_gateway_provider", "openai"),
    )
    assert (
        told[
            "rag_gateway_calls_total",
            (
                ("endpoint", "chat.completions"),
                ("model", "handbook"),
                ("outcome", "ok"),
                ("status", "200"),
                ("target", "openai"),
            ),
        ]
        == 1
    )
    assert told["gen_ai_client_token_usage_sum", tuple(sorted((*of, ("gen_ai_token_type", "output"))))] == 20
    assert told["gen_ai_client_operation_duration_seconds_count", tuple(sorted((*of, ("error_type", ""))))] == 1
    assert told["rag_gateway_stage_duration_seconds_count", (("stage", "retrieval"),)] == 1
    assert told["rag_gateway_cache_total", (("model", "handbook"), ("outcome", "miss"))] == 1
    assert (
        told["rag_gateway_guardrail_verdicts_total", (("action", "mask"), ("check", "pii"), ("stage", "output"))] == 1
    )
    assert told["rag_gateway_failed_attempts_total", (("code", "upstream_timeout_total"), ("target", "gpu"))] == 1
    assert told["rag_gateway_degraded_total", (("stage", "features"),)] == 1
    assert told["rag_gateway_calls_in_progress", ()] == 1
    assert told["rag_gateway_records_waiting", ()] == 7


def labels_of(metrics: Metrics, name: str, label: str) -> set[str | None]:
    return {dict(labels).get(label) for sample, labels in samples(metrics) if sample == name}


class Names:
    def names(self, model: str) -> bool:
        return model in ("handbook", "openai/gpt-4.1")

    def vendor(self, provider: str) -> str:
        return {"gpu": "vllm"}.get(provider, provider)


def test_a_model_that_a_caller_makes_up_is_no_label() -> None:
    metrics = Metrics(lambda: 0, lambda: 0, Names())
    for model in ("handbook", "openai/gpt-4.1", None):
        metrics.observe(call(model))
    before = len(samples(metrics))
    for n in range(400):
        exchange = call(f"openai/made-up-{n}")
        exchange.target = Target("openai", f"made-up-{n}")
        metrics.observe(exchange)
    told = {"handbook", "openai/gpt-4.1", "openai/*", "unknown"}
    assert labels_of(metrics, "rag_gateway_calls_total", "model") == told
    assert len(samples(metrics)) - before < 120  # the series of one more model, not of 400
    assert len(metrics._calls._series) == len(told)


def test_a_vendors_words_are_no_labels() -> None:
    metrics = Metrics(lambda: 0, lambda: 0)
    for n in range(50):
        exchange = call("handbook")
        exchange.outcome, exchange.error_code, exchange.finish_reason = "error", f"code-{n}", f"reason-{n}"
        metrics.observe(exchange)
    refused = call("handbook")
    refused.outcome, refused.error_code, refused.status = "error", "overloaded", 400  # as a vendor spells its 400
    refused.attempts = [Attempt(Target("openai", "m"), "upstream_refused", 400, 1.0)]
    metrics.observe(refused)
    assert labels_of(metrics, "rag_gateway_errors_total", "error_type") == {"other", "upstream_refused"}
    assert labels_of(metrics, "rag_gateway_finished_total", "finish_reason") == {"other"}


def test_tenants_beyond_the_first_200_are_counted_together() -> None:
    metrics = Metrics(lambda: 0, lambda: 0)
    for n in range(300):
        exchange = call("handbook")
        exchange.caller, exchange.cost = Caller("key", f"tenant-{n}"), 0.5
        metrics.observe(exchange)
    told = samples(metrics)
    assert told["rag_gateway_tenant_cost_usd_total", (("tenant", "other"),)] == 50
    assert len(labels_of(metrics, "rag_gateway_tenant_cost_usd_total", "tenant")) == 201
    assert told["rag_gateway_cost_usd_total", (("model", "handbook"), ("target", "openai"))] == 150


def test_an_answer_out_of_a_cache_says_what_it_saved() -> None:
    metrics = Metrics(lambda: 0, lambda: 0)
    exchange = call("handbook")
    exchange.cache, exchange.cost, exchange.saved = "semantic", 0.0, 0.25
    metrics.observe(exchange)
    told = samples(metrics)
    assert told["rag_gateway_cache_saved_usd_total", (("model", "handbook"),)] == 0.25
    assert told["rag_gateway_cache_saved_tokens_total", (("model", "handbook"), ("type", "output"))] == 20
    assert told["rag_gateway_tokens_total", (("model", "handbook"), ("target", "openai"), ("type", "input"))] == 10


@pytest.mark.parametrize(
    ("code", "attempts", "stages", "expected"),
    [
        ("invalid_api_key", [], [], "authenticate"),
        ("model_not_found", [], ["authenticate"], "request"),
        ("invalid_request_error", [], ["authenticate"], "request"),
        ("stage_unavailable", [], ["authenticate", "retrieval"], "retrieval"),
        ("internal_error", [], [], "request"),
        ("rate_limit_exceeded", ["rate_limit_exceeded"], ["authenticate", "call"], "call"),
        ("upstream_timeout_total", ["upstream_timeout_total"], ["authenticate", "call"], "call"),
        ("a vendor's", ["ok"], ["authenticate", "call"], "call"),
    ],
)
def test_a_failed_call_names_the_stage_that_it_ended_in(
    code: str, attempts: list[str], stages: list[str], expected: str
) -> None:
    metrics, exchange = Metrics(lambda: 0, lambda: 0), Exchange("chat.completions")
    exchange.model, exchange.outcome, exchange.error_code = "handbook", "error", code
    exchange.attempts = [Attempt(Target("openai", "m"), outcome, 500, 1.0) for outcome in attempts]
    for stage in stages:
        exchange.stage(stage, exchange.started)
    exchange.settle()
    metrics.observe(exchange)
    assert labels_of(metrics, "rag_gateway_errors_total", "stage") == {expected}
    assert labels_of(metrics, "rag_gateway_errors_total", "target") == {"openai" if attempts else "none"}


def test_a_search_tells_what_it_found() -> None:
    metrics = Metrics(lambda: 0, lambda: 0)
    passage = Passage("d", "1", "s", "handbook", 0.73, "", "", "")
    for passages, degraded in (([passage, replace(passage, score=0.5)], []), ([], []), ([], ["retrieval"])):
        exchange = call("handbook")
        exchange.passages, exchange.degraded = passages, degraded
        metrics.observe(exchange)
    told = samples(metrics)
    of = ("model", "handbook")
    outcomes = {outcome: told["rag_gateway_retrieval_total", (of, ("outcome", outcome))] for outcome in
                ("found", "nothing", "unavailable")}  # fmt: skip
    assert outcomes == {"found": 1, "nothing": 1, "unavailable": 1}
    assert told["rag_gateway_retrieval_passages_sum", (of,)] == 2
    assert told["rag_gateway_retrieval_passages_count", (of,)] == 2
    assert told["rag_gateway_retrieval_best_score_bucket", (("le", "0.7"), of)] == 0
    assert told["rag_gateway_retrieval_best_score_bucket", (("le", "0.8"), of)] == 1


def test_a_stream_tells_its_chunks_and_the_time_from_one_to_the_next() -> None:
    metrics = Metrics(lambda: 0, lambda: 0)
    for cache, outcome, chunks in (
        ("off", "ok", 5),
        ("miss", "ok", 2),
        ("hit", "ok", 9),
        ("off", "error", 9),
        ("off", "ok", 1),
    ):
        exchange = call("handbook")
        exchange.stream, exchange.cache, exchange.outcome, exchange.output_chunks = True, cache, outcome, chunks
        exchange.first_chunk = exchange.started
        exchange.ended = exchange.first_chunk + 400_000_000
        metrics.observe(exchange)
    name = "gen_ai_client_operation_time_per_output_chunk_seconds"
    told = {(sample, dict(labels).get("le")): value for (sample, labels), value in samples(metrics).items()}
    assert told[name + "_count", None] == 4 + 1
    assert told[name + "_sum", None] == pytest.approx(0.4 + 0.4)
    assert (told[name + "_bucket", "0.08"], told[name + "_bucket", "0.16"], told[name + "_bucket", "0.64"]) == (0, 4, 5)


def test_a_call_of_the_gateways_own_is_no_callers_call_but_costs_what_it_costs() -> None:
    metrics = Metrics(lambda: 0, lambda: 0)
    exchange = call("handbook")
    exchange.made_for, exchange.cost = ("shadow", "call_1"), 0.5
    metrics.observe(exchange)
    told = samples(metrics)
    of = (("outcome", "ok"), ("purpose", "shadow"), ("target", "openai"))
    assert told["rag_gateway_own_calls_total", of] == 1
    assert told["rag_gateway_cost_usd_total", (("model", "handbook"), ("target", "openai"))] == 0.5
    assert not labels_of(metrics, "rag_gateway_calls_total", "model")


def test_how_long_a_check_takes_is_told_from_when_there_are_metrics_on() -> None:
    times, metrics = CheckTimes(), Metrics(lambda: 0, lambda: 0)
    took = times.of("pii", "input")
    took(1_000_000)
    times.tell(metrics)
    took(2_000_000)
    times.of("pii", "input")(4_000_000)  # the same rule of another model
    told = samples(metrics)
    of = (("check", "pii"), ("side", "input"))
    assert told["rag_gateway_guardrail_duration_seconds_count", of] == 2
    assert told["rag_gateway_guardrail_duration_seconds_sum", of] == pytest.approx(0.006)


def test_every_code_of_an_error_has_a_stage() -> None:
    sources = [path.read_text("utf-8") for path in Path(gateway.__file__).parent.rglob("*.py")]
    codes = {code for text in sources for code in re.findall(r'\bcode="([a-z_]+)"', text)}
    codes |= {kind.code for kind in _subclasses(GatewayError) if kind.code}
    missing = sorted(codes - set(STAGE_OF_TYPE))
    assert not missing, f"they would be counted as `other`: add them to gateway/telemetry/labels.py: {missing}"


def _subclasses(kind: type[GatewayError]) -> set[type[GatewayError]]:
    return {kind}.union(*(_subclasses(below) for below in kind.__subclasses__()))


@given(st.lists(st.floats(min_value=0, max_value=200), max_size=40))
def test_a_distribution_is_what_prometheus_client_makes_of_it(values: list[float]) -> None:
    bounds = (0.01, 1, 2.5, 100)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    series = Distributions("seconds", "Time.", ("stage",), bounds)
    ours.register(series)
    reference = Histogram("seconds", "Time.", ("stage",), buckets=bounds, registry=theirs)
    for value in values:
        series.of("call").observe(value)
        reference.labels("call").observe(value)
    assert _told(ours) == _told(theirs)


def _told(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#") and "_created" not in line]


def test_secrets_do_not_pass_the_log_formatter() -> None:
    told = redacted(
        "Authorization: Bearer abc.def api_key=sk-live-123456789 x-api-key: qwerty postgres://u:pw@h/db "
        '{"api_key": "xyz"} sk-gw-abcdefghijkl; its api_key is empty'
    )
    for secret in ("abc.def", "sk-live", "qwerty", "u:pw", "xyz", "abcdefghijkl"):
        assert secret not in told
    assert told.endswith("its api_key is empty")
