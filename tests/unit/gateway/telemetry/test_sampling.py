"""Which calls become spans."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.chat import ChatRequest
from gateway.config.telemetry import Traces
from gateway.exchange import Exchange
from gateway.runtime import Gateway
from gateway.telemetry.sampling import Sampler
from gateway.values import Caller


def sampler(**settings: Any) -> Sampler:
    return Sampler(Traces.model_validate({"console": True, **settings}))


def call(model: str = "plain", tenant: str = "a", key: str = "k", flags: str | None = None) -> Exchange:
    exchange = Exchange("chat.completions")
    exchange.model, exchange.caller = model, Caller(key, tenant, key_id="key_1")
    if flags is not None:
        exchange.trace_parent, exchange.trace_flags = "b7ad6b7169203331", flags
    return exchange


def ended(exchange: Exchange, outcome: str = "ok", seconds: float = 0.0) -> Exchange:
    exchange.outcome = outcome
    exchange.ended = exchange.started + int(seconds * 1e9)
    return exchange


def test_a_share_of_calls_is_kept() -> None:
    quarter = sampler(sample=0.25)
    kept = sum(quarter.flags(call()) == "01" for _ in range(2000))
    assert 400 < kept < 600


def test_every_process_decides_the_same_of_one_trace() -> None:
    exchanges = [call() for _ in range(200)]
    one, other = sampler(sample=0.5), sampler(sample=0.5)
    assert [one.flags(exchange) for exchange in exchanges] == [other.flags(exchange) for exchange in exchanges]


@pytest.mark.parametrize(
    ("exchange", "flags"),
    [
        (call("handbook"), "01"),
        (call("handbook", tenant="quiet"), "00"),
        (call("other"), "00"),
        (call("other", key="ci"), "01"),
        (call("other", tenant="b", key="ci"), "00"),
    ],
)
def test_the_first_rule_that_is_about_a_call_decides(exchange: Exchange, flags: str) -> None:
    rules = [
        {"when": {"tenant": "quiet"}, "sample": 0},
        {"when": {"model": ["handbook", "guide"]}, "sample": 1},
        {"when": {"key": "ci", "tenant": ["a", "c"]}, "sample": 1},
    ]
    assert sampler(sample=0.0, rules=rules).flags(exchange) == flags


def test_a_key_is_named_by_its_id_too() -> None:
    rules = [{"when": {"key": "key_1"}, "sample": 1}]
    assert sampler(sample=0.0, rules=rules).flags(call()) == "01"


@pytest.mark.parametrize(("parent", "flags"), [("honour", ("01", "00")), ("ignore", ("00", "00"))])
def test_a_callers_own_decision_counts_where_it_is_honoured(parent: str, flags: tuple[str, str]) -> None:
    made = sampler(sample=0.0, parent=parent)
    assert (made.flags(call(flags="01")), made.flags(call(flags="00"))) == flags


def test_what_went_wrong_or_took_long_is_kept_whatever_was_decided() -> None:
    made = sampler(sample=0.0)
    outcomes = [("ok", 0.0), ("cancelled", 0.0), ("error", 0.0), ("blocked", 0.0), ("ok", 11.0)]
    assert [made.keeps(ended(call(flags="00"), *told)) for told in outcomes] == [False, False, True, True, True]
    off = sampler(sample=0.0, keep={"errors": False, "blocked": False, "slow": "off"})
    assert not any(off.keeps(ended(call(flags="00"), *told)) for told in outcomes)


def test_a_flood_of_errors_is_not_kept_whole() -> None:
    made = sampler(sample=0.0, keep={"a_second": 10})
    first = call()
    kept = []
    for order in range(1000):
        exchange = call()
        exchange.outcome, exchange.ended = "error", first.started + order * 1_000_000  # a thousand in a second
        kept.append(made.keeps(exchange))
    assert all(kept[:7])
    assert sum(kept) <= 2 * 8  # the thousand may lie in two seconds


def test_a_call_that_is_kept_keeps_the_settings_of_its_request_and_no_other_does() -> None:
    made = sampler(sample=0.0)
    given = ChatRequest(b'{"model":"m","messages":[{"role":"user","content":"secret"}],"temperature":0.5}').fields
    good, bad = ended(call(flags="00")), ended(call(flags="00"), "error")
    for exchange in (good, bad):
        exchange.given = given
        made.settled(exchange)
    assert (good.parameters, good.given) == (None, None)
    assert (bad.parameters, bad.given) == ({"temperature": b"0.5"}, None)


@pytest.mark.parametrize(("sample", "flags"), [(1.0, "01"), (0.0, "00"), (None, "00")])
def test_the_provider_is_told_of_a_span_that_will_be_exported(sample: float | None, flags: str) -> None:
    made = sampler(sample=sample) if sample is not None else None
    gateway = Gateway(None, SimpleNamespace(strict=False), None, None, 0, made)  # type: ignore[arg-type]  # play no part here
    request = ChatRequest(b'{"model":"m","messages":[{"role":"user","content":"hi"}]}')
    exchange = Exchange("chat.completions")
    gateway.sample(request, exchange)
    assert exchange.trace_flags == flags
    called = call(flags="01")
    own = called.span_id
    gateway.sample(request, called)
    assert called.trace_flags == "01"
    assert called.span_id == ("b7ad6b7169203331" if sample is None else own)
    # Where no span is made, each try is told of the caller's own.
    first, second = (called.attempt(SimpleNamespace(label="x")).span_id for _ in range(2))  # type: ignore[arg-type]
    assert (first == second == "b7ad6b7169203331") is (sample is None)


@pytest.mark.parametrize("parent", ["honour", "ignore"])
def test_whoever_has_no_key_takes_half_of_what_is_always_kept_and_no_more(parent: str) -> None:
    """A traceparent is written in a moment, and being refused costs nothing: neither may fill the collector."""
    made = sampler(sample=0.0, parent=parent, keep={"a_second": 10})
    kept = 0
    for _ in range(100):
        stranger = Exchange("chat.completions")
        stranger.trace_parent, stranger.trace_flags = "b7ad6b7169203331", "01"
        kept += made.keeps(at(ended(stranger, "error"), 1.0))
    assert kept == 5
    assert [made.keeps(at(ended(call(), "error"), 1.0)) for _ in range(6)] == [True] * 5 + [False]


def floods(made: Sampler, second: float, **each: int) -> dict[str, int]:
    """How many of so many errors of each tenant are kept in that second, when they come one after the other in turn."""
    kept = dict.fromkeys(each, 0)
    for order in range(max(each.values())):
        for tenant, asked in each.items():
            if order < asked:
                kept[tenant] += made.keeps(at(ended(call(tenant=tenant), "error"), second))
    return kept


def test_one_tenants_flood_of_errors_leaves_the_others_theirs() -> None:
    made = sampler(sample=0.0, keep={"a_second": 100})
    assert floods(made, 1.0, loud=1000) == {"loud": 75}
    assert floods(made, 1.5, quiet=3) == {"quiet": 3}  # though it asks for the first time, and the flood came before
    assert floods(made, 2.0, loud=1000, quiet=3) == {"loud": 72, "quiet": 3}
    assert floods(made, 3.0, loud=1000, other=1000, quiet=3)["quiet"] == 3
    assert floods(made, 4.0, loud=1000, other=1000, quiet=3) == {"loud": 36, "other": 36, "quiet": 3}
    assert floods(made, 9.0, loud=1000) == {"loud": 75}  # of what nobody asks any more, nothing is held
    made = sampler(sample=0.0, keep={"a_second": 1})
    assert [floods(made, second, a=5) for second in (1.0, 2.0, 3.0)] == [{"a": 1}] * 3


def test_what_is_known_of_tenants_is_bounded() -> None:
    made = sampler(sample=0.0, keep={"a_second": 100_000})
    told = floods(made, 1.0, **{f"t{n}": 2 for n in range(3_000)})
    assert sum(told.values()) == 6_000
    assert len(made._room._asked) == len(made._room._kept_of) <= 1_001


def at(exchange: Exchange, seconds: float) -> Exchange:
    exchange.ended = int(seconds * 1e9)
    exchange.started = exchange.ended
    return exchange
