"""What calls cost, and that nobody is told 0 where nobody knows."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from gateway.config.models import Configuration
from gateway.pricing import PriceBook, Rates
from gateway.values import Target, Usage


def book(**providers: dict[str, Any]) -> PriceBook:
    made = PriceBook()
    made.configure(Configuration.model_validate({"providers": providers}).providers)
    return made


OPENAI = {"kind": "openai", "api_key": "k"}
LOCAL = {"kind": "openai_compatible", "base_url": "http://127.0.0.1:1/v1"}


def test_a_vendors_model_costs_what_the_maintained_data_say() -> None:
    price = book(openai=OPENAI).price(Target("openai", "gpt-4.1-mini"))
    assert price is not None
    # https://openai.com/api/pricing: 0.40 USD input, 0.10 cached, 1.60 output a million tokens
    assert price.cost(Usage(1000, 100, cached_tokens=200)) == pytest.approx((800 * 0.4 + 200 * 0.1 + 100 * 1.6) / 1e6)
    assert isinstance(price, Rates), "a price without tiers is plain arithmetic"


def test_a_price_with_tiers_keeps_them() -> None:
    price = book(g={"kind": "gemini", "api_key": "k"}).price(Target("g", "gemini-2.5-pro"))
    assert price is not None
    few, many = price.cost(Usage(1000, 0)), price.cost(Usage(1_000_000, 0))
    assert many > 1001 * few


@pytest.mark.parametrize(
    "target", [Target("openai", "no-such-model"), Target("local", "whatever"), Target("nobody", "gpt-4.1")]
)
def test_an_unknown_price_is_unknown(target: Target) -> None:
    assert book(openai=OPENAI, local=LOCAL).price(target) is None


def test_an_address_that_is_no_vendors_does_not_load_the_price_data() -> None:
    code = """
import sys
from gateway.config.models import Configuration
from gateway.pricing import PriceBook
from gateway.values import Target

urls = ["http://127.0.0.1:1/v1", "http://[::1]:1/v1", "http://localhost/v1", "http://vllm:8000/v1"]
providers = {f"p{n}": {"kind": "openai_compatible", "base_url": url} for n, url in enumerate(urls)}
book = PriceBook()
book.configure(Configuration.model_validate({"providers": providers}).providers)
assert [book.price(Target(name, "gpt-4.1")) for name in providers] == [None] * 4
assert "genai_prices" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_a_domain_may_be_a_vendors() -> None:
    groq = {"kind": "openai_compatible", "base_url": "https://api.groq.com/openai/v1", "api_key": "k"}
    assert book(groq=groq).price(Target("groq", "llama-3.1-8b-instant")) is not None


def test_what_is_written_counts_more_than_any_list() -> None:
    prices = {"gpt-4.1": {"input": 1.0, "output": 2.0}, "*": {"input": 0, "output": 0}}
    made = book(openai={**OPENAI, "prices": prices})
    written, other = made.price(Target("openai", "gpt-4.1")), made.price(Target("openai", "gpt-4.1-mini"))
    assert written == Rates(1.0, 2.0)
    assert other == Rates(0.0, 0.0)
    assert written.cost(Usage(1_000_000, 500_000, cached_tokens=400_000)) == 2.0


def test_what_needs_no_model_is_free() -> None:
    assert book(e={"kind": "extractive"}).price(Target("e", "")) == Rates(0.0, 0.0)


def test_a_look_up_is_made_once_and_forgotten_with_the_configuration() -> None:
    made = book(openai=OPENAI)
    target = Target("openai", "gpt-4.1-mini")
    assert made.known(target) is None
    found = made.price(target)
    assert made.known(target) is found
    made.configure({})
    assert made.known(target) is None
