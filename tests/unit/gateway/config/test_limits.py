"""The `limits` section: what may be written, and what is said of it that can't be."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gateway.config.faults import ConfigError
from gateway.config.loading import load
from gateway.config.models import Configuration

REST = """
providers: {mock: {kind: openai_compatible, base_url: http://127.0.0.1:1/v1, api_key: k}}
models: {plain: {targets: [mock/gpt]}}
access: {keys: [{name: a, hash: "sha256:%s"}]}
""" % ("0" * 64)


def loaded(folder: Path, text: str) -> Configuration:
    file = folder / "gateway.yaml"
    file.write_text(textwrap.dedent(text) + REST, "utf-8")
    return load(file).configuration


def test_every_dimension_and_measure_can_be_said(tmp_path: Path) -> None:
    configuration = loaded(
        tmp_path,
        """
        limits:
          - {per: [key], requests_per_minute: 600, tokens_per_minute: 200000}
          - {per: [tenant, model], tokens_per_day: 5000000, requests_per_day: 10000}
          - {per: [user], concurrency: 4}
          - {per: [tenant], budget: 500, budget_period: week}
          - {per: [target], when: {target: mock/gpt, key: [a]}, concurrency: 16}
          - {per: [], requests_per_minute: 10000}
        charging: {own_calls: {shadow: nobody, guardrail: caller}, unknown_price: refuse, output_tokens: 300}
        """,
    )
    assert [rule.measures for rule in configuration.limits] == [
        {"requests_per_minute", "tokens_per_minute"},
        {"tokens_per_day", "requests_per_day"},
        {"concurrency"},
        {"budget for each week"},
        {"concurrency"},
        {"requests_per_minute"},
    ]
    assert configuration.limits[4].when == {"target": ["mock/gpt"], "key": ["a"]}
    assert configuration.charging.output_tokens == 300


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{per: [key]}", "limits nothing"),
        ("{per: [key, key], concurrency: 1}", "`key` stands here twice"),
        ("{per: [keys], concurrency: 1}", "tenant"),
        ("{per: [key], budget_period: day, concurrency: 1}", "`budget_period` needs a `budget`"),
        ("{per: [key], budget: -1}", "budget"),
        ("{per: [key], when: {model: []}, concurrency: 1}", "leave `model` out"),
        ("{per: [key], when: {model: plian}, concurrency: 1}", "there is no model `plian`"),
        ("{per: [key], when: {key: b}, concurrency: 1}", "there is no key `b`"),
        ("{per: [key], when: {target: mok/gpt}, concurrency: 1}", "there is no provider `mok`"),
        ("{per: [key], concurency: 1}", "concurency"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, rule: str, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        loaded(tmp_path, f"limits: [{rule}]\n")
    assert said in str(told.value)
    assert "gateway.yaml:1" in str(told.value)


def test_two_rules_about_the_same_are_a_fault_and_different_periods_are_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="limited for the same calls"):
        loaded(
            tmp_path,
            """
            limits:
              - {per: [key, model], requests_per_minute: 1}
              - {per: [model, key], requests_per_minute: 2}
            """,
        )
    loaded(
        tmp_path,
        """
        limits:
          - {per: [key], budget: 1, budget_period: day}
          - {per: [key], budget: 10, budget_period: month}
          - {per: [key], when: {model: plain}, budget: 1, budget_period: day}
        """,
    )


@pytest.mark.parametrize(
    "rest",
    ["", "/", "/3", "/0?ssl_ca_certs=/etc/redis.pem"],
)
def test_where_state_may_be(tmp_path: Path, rest: str) -> None:
    url = f"rediss://:secret@127.0.0.1:6379{rest}"
    assert loaded(tmp_path, f"state: {{url: '{url}'}}\n").state.url == url


@pytest.mark.parametrize("rest", ["/limits", "/0/1", "/0?decode_responses=true", "?db=two"])
def test_what_redis_py_would_not_understand_of_it(tmp_path: Path, rest: str) -> None:
    with pytest.raises(ConfigError, match="redis://HOST:PORT/NUMBER") as told:
        loaded(tmp_path, f"state: {{url: 'redis://:secret@127.0.0.1:6379{rest}'}}\n")
    assert "secret" not in str(told.value)


def test_a_price_is_a_figure(tmp_path: Path) -> None:
    text = REST.replace("api_key: k}", "api_key: k, prices: {gpt: {input: .inf, output: 1}}}")
    file = tmp_path / "gateway.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"prices\.gpt\.input: should be a finite number"):
        load(file)
