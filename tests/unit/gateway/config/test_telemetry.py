"""What may be said of traces, metrics and logs, and where what is wrong is told to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.faults import ConfigError
from gateway.config.loading import load_text
from gateway.config.models import Configuration

TEXT = """\
providers: {{mock: {{kind: openai_compatible, base_url: "http://127.0.0.1:9/v1"}}}}
models: {{plain: {{targets: [mock/m]}}}}
telemetry:
  {0}
"""


def load(telemetry: str) -> Configuration:
    return load_text(TEXT.format(telemetry), Path("gateway.yaml"), {"TOKEN": "a"}).configuration


def test_what_is_said_of_traces() -> None:
    traces = load(
        'traces: {otlp: {endpoint: "http://h:4317", protocol: grpc, headers: {authorization: "Bearer ${TOKEN}"}},'
        " rules: [{when: {model: plain, tenant: [a, b]}, sample: 1}], keep: {slow: off}, content: {models: [plain]}}"
    ).telemetry.traces
    assert traces.rules[0].when == {"model": ["plain"], "tenant": ["a", "b"]}
    assert traces.otlp is not None
    assert traces.otlp.headers["authorization"].get_secret_value() == "Bearer a"
    assert traces.content_of == {"plain"}
    assert load("traces: {}").telemetry.traces.content_of == frozenset()


@pytest.mark.parametrize(
    ("telemetry", "fault"),
    [
        ("traces: {sample: 2}", "telemetry.traces.sample"),
        ("traces: {otlp: {endpoint: ftp://h}}", "telemetry.traces.otlp.endpoint"),
        ("traces: {console: true, rules: [{when: {model: plian}, sample: 1}]}", "there is no model `plian`"),
        ("traces: {console: true, content: {models: [plian]}}", "did you mean `plain`?"),
        ("traces: {console: true, rules: [{when: {}, sample: 1}]}", "telemetry.traces.rules[0].when: should name"),
        ("traces: {console: true, rules: [{when: {user: ada}, sample: 1}]}", "telemetry.traces.rules[0].when.user"),
        ("traces: {console: true, rules: [{when: {key: []}, sample: 1}]}", "no key is named"),
        ("traces: {content: {models: [plain]}}", "spans that go nowhere"),
        ("logs: {level: loud}", "telemetry.logs.level"),
        ("events: {otlp: {endpoint: h}}", "telemetry.events.otlp.endpoint"),
        ("metrics: {otlp: {endpoint: 'http://h', protocol: carrier}}", "telemetry.metrics.otlp.protocol"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_key(telemetry: str, fault: str) -> None:
    with pytest.raises(ConfigError) as told:
        load(telemetry)
    assert fault in str(told.value)
    assert "gateway.yaml:4" in str(told.value)
