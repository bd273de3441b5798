"""Metrics of settled calls, read back as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gateway.exchange import Exchange
from gateway.telemetry.logs import redacted
from gateway.telemetry.metrics import Metrics
from gateway.values import Attempt, Target, Usage
from guardrails.verdicts import Verdict


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.exposition()[0].decode()
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
        ("rag_gateway_model", "handbook"),
        ("gen_ai_provider_name", "openai"),
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
    assert told["gen_ai_client_operation_duration_seconds_count", tuple(sorted(of))] == 1
    assert told["rag_gateway_stage_duration_seconds_count", (("stage", "retrieval"),)] == 1
    assert told["rag_gateway_cache_total", (("model", "handbook"), ("outcome", "miss"))] == 1
    assert (
        told["rag_gateway_guardrail_verdicts_total", (("action", "mask"), ("check", "pii"), ("stage", "output"))] == 1
    )
    assert told["rag_gateway_failed_attempts_total", (("code", "upstream_timeout_total"), ("target", "gpu"))] == 1
    assert told["rag_gateway_degraded_total", (("stage", "features"),)] == 1
    assert told["rag_gateway_calls_in_progress", ()] == 1
    assert told["rag_gateway_records_waiting", ()] == 7


def test_labels_are_bounded_whatever_is_called() -> None:
    metrics = Metrics(lambda: 0, lambda: 0)
    for n in range(400):
        metrics.observe(call(f"openai/made-up-{n}"))
    metrics.observe(call(None))
    models = {dict(labels).get("model") for name, labels in samples(metrics) if name == "rag_gateway_calls_total"}
    assert len(models) == 202  # 200 names, "other", "unknown"
    assert "other" in models


def test_secrets_do_not_pass_the_log_formatter() -> None:
    told = redacted(
        "Authorization: Bearer abc.def api_key=sk-live-123456789 x-api-key: qwerty postgres://u:pw@h/db "
        '{"api_key": "xyz"} sk-gw-abcdefghijkl; its api_key is empty'
    )
    for secret in ("abc.def", "sk-live", "qwerty", "u:pw", "xyz", "abcdefghijkl"):
        assert secret not in told
    assert told.endswith("its api_key is empty")
