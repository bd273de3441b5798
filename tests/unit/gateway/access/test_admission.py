"""What a call reserves, what it is charged however it ends, and what a caller is told that has come to a limit."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from gateway.access.admission import Limits
from gateway.access.clock import SteadyClock
from gateway.access.costs import Costs
from gateway.access.counters import LocalCounters
from gateway.access.estimates import Estimate, estimate
from gateway.access.lengths import AnswerLengths
from gateway.access.meters import Meters
from gateway.access.permits import in_go
from gateway.access.rules import own_rule, rule_of
from gateway.access.spending import Spending
from gateway.access.standing import own_standings, standings
from gateway.chat import JSON, ChatRequest, EmbeddingsRequest
from gateway.config.limits import Allowance, Charging, LimitRule
from gateway.config.providers import OpenAICompatible
from gateway.errors import BudgetSpent, Forbidden, GatewayError, LimitReached
from gateway.exchange import Exchange
from gateway.pricing import PriceBook
from gateway.values import Attempt, Caller, Target, Usage

CHEAP, DEAR, UNPRICED = Target("mock", "cheap"), Target("mock", "dear"), Target("bare", "x")
CALLER = Caller("a", "acme", "jo", key_id="cfg_1")


def bench(*rules: dict[str, Any], targets: tuple[Target, ...] = (CHEAP, DEAR), **charging: Any) -> Limits:
    prices = PriceBook()
    told = {"kind": "openai_compatible", "base_url": "http://127.0.0.1:1/v1"}
    priced = {"cheap": {"input": 1.0, "output": 2.0}, "dear": {"input": 10.0, "output": 20.0}}
    prices.configure(
        {
            "mock": OpenAICompatible.model_validate({**told, "prices": priced}),
            "bare": OpenAICompatible.model_validate(told),
        }
    )
    settings = Charging.model_validate(charging)
    costs = Costs(prices, lambda model: targets, refuse_unknown=settings.unknown_price == "refuse")
    counters = LocalCounters(SteadyClock(), Spending(None, "local", 0.5))
    written = [rule_of(LimitRule.model_validate(rule)) for rule in rules]
    return Limits(written, settings, Meters(), counters, costs, AnswerLengths(), {"templated": 3_000}, {"best": 3})


def request(**more: Any) -> ChatRequest:
    return ChatRequest(JSON.encode({"model": "m", "messages": [{"role": "user", "content": "a" * 59}], **more}))


def call(model: str = "m", caller: Caller = CALLER) -> Exchange:
    exchange = Exchange("chat.completions")
    exchange.caller, exchange.model = caller, model
    return exchange


def ended(exchange: Exchange, usage: Usage | None, target: Target | None = CHEAP, outcome: str = "ok") -> Exchange:
    exchange.stage("call", exchange.started)
    exchange.usage, exchange.target, exchange.outcome = usage, target, outcome
    exchange.settle()
    return exchange


def used(limits: Limits) -> dict[str, int]:
    return {meter.ceiling.name: meter.state.used for meter in limits.meters}


BOTH = {"per": ["key"], "tokens_per_minute": 100_000, "budget": 1, "budget_period": "month"}


async def test_an_estimate_is_reserved_at_the_dearest_price_and_what_was_used_is_charged() -> None:
    limits, exchange = bench(BOTH), call()
    await limits.admit(request(max_tokens=50), exchange)
    prompt = (len(b'[{"role":"user","content":"' + b"a" * 59 + b'"}]')) // 3 + 1
    assert used(limits) == {"tokens_per_minute": prompt + 50, "budget per month": (prompt * 10 + 50 * 20) * 1_000}
    ended(exchange, Usage(20, 5))
    assert used(limits) == {"tokens_per_minute": 25, "budget per month": 30_000}
    ((subject, period),) = exchange.charges
    assert (subject, period[:6], exchange.charged) == ("key=cfg_1", "month:", 30e-6)


@pytest.mark.parametrize(
    ("usage", "target", "outcome", "tokens"),
    [
        (Usage(20, 5), CHEAP, "error", 25),  # broken off: what was said until then
        (Usage(20, 5, estimated=True), CHEAP, "cancelled", 25),
        (None, CHEAP, "cancelled", 30),  # before anything was said: the question
        (None, None, "cancelled", 30),
        (None, None, "error", 0),
        (None, CHEAP, "ok", 80),  # a provider that tells nothing: as reserved
    ],
)
async def test_what_a_call_is_charged_however_it_ends(
    usage: Usage | None, target: Target | None, outcome: str, tokens: int
) -> None:
    limits, exchange = bench(BOTH), call()
    await limits.admit(request(max_tokens=50), exchange)
    ended(exchange, usage, target, outcome)
    assert used(limits)["tokens_per_minute"] == tokens
    assert (used(limits)["budget per month"] > 0) == (tokens > 0)


async def test_what_is_cut_off_before_it_said_anything_may_cost_what_was_reserved() -> None:
    """Vendors may go on generating a whole answer that nobody waits for any more, and charge for it."""
    limits, exchange = bench(BOTH, cut_off="reserved"), call()
    await limits.admit(request(max_tokens=50), exchange)
    ended(exchange, None, CHEAP, "cancelled")
    assert used(limits) == {"tokens_per_minute": 80, "budget per month": (30 * 1 + 50 * 2) * 1_000}


async def test_a_call_that_never_came_to_a_target_is_charged_nothing() -> None:
    limits, exchange = bench(BOTH), call()
    await limits.admit(request(), exchange)
    exchange.outcome = "cancelled"
    exchange.settle()
    assert used(limits) == {"tokens_per_minute": 0, "budget per month": 0}


@pytest.mark.parametrize(("share", "tokens"), [(0.0, 0), (1.0, 25), (0.5, 12)])
async def test_an_answer_from_a_cache_is_charged_as_the_cache_says(share: float, tokens: int) -> None:
    limits, exchange = bench(BOTH), call()
    await limits.admit(request(), exchange)
    exchange.cost_share, exchange.cost = share, 30e-6 * share
    ended(exchange, Usage(20, 5))
    assert used(limits) == {"tokens_per_minute": tokens, "budget per month": round(30_000 * share)}


async def test_what_nobody_asked_for_reserves_a_small_part_of_a_limit_at_most() -> None:
    limits = bench(
        {"per": ["key"], "tokens_per_minute": 1_000, "budget": 0.01},
        {"per": ["user"], "tokens_per_minute": 100_000, "budget": 10},
    )
    await limits.admit(request(), call())
    assert sorted(meter.state.used for meter in limits.meters) == [
        30 + 100,
        30 + 1_000,
        300_000 + 1_000_000,
        300_000 + 20_000_000,
    ]


async def test_callers_who_name_no_max_tokens_can_spend_all_of_a_small_budget() -> None:
    limits = bench({"per": ["key"], "budget": 100 * 24e-6}, targets=(CHEAP,))
    flying: list[Exchange] = []
    served = 0
    for number in range(500):
        exchange = call()
        with suppress(BudgetSpent):
            await limits.admit(request(), exchange)
            flying.append(exchange)
            served += 1
        if number >= 20 and flying:
            ended(flying.pop(0), Usage(20, 2))
    assert 95 <= served <= 101


async def test_what_answers_had_lately_is_reckoned_for_the_next_that_is_not_bounded() -> None:
    limits = bench({"per": ["key"], "tokens_per_minute": 100_000}, targets=(CHEAP,))
    for length, expected in ((40, 40), (20, 40), (60, 60)):
        exchange = call()
        await limits.admit(request(), exchange)
        ended(exchange, Usage(30, length))
        assert limits.lengths.expected("m", 1_000) == expected
    bounded = call()
    await limits.admit(request(max_tokens=500), bounded)
    ended(bounded, Usage(30, 500))
    assert limits.lengths.expected("m", 1_000) == 60


async def test_a_template_is_reckoned_with() -> None:
    limits = bench({"per": ["key"], "tokens_per_minute": 100_000})
    await limits.admit(request(max_tokens=10), call("templated"))
    assert used(limits) == {"tokens_per_minute": 30 + 10 + 3_000}


async def test_several_generations_are_reckoned_with_but_not_of_one_target() -> None:
    rules: list[dict[str, Any]] = [{"per": [per], "tokens_per_minute": 100_000} for per in ("key", "target")]
    limits, exchange = bench(*rules), call("best")
    await limits.admit(request(max_tokens=50), exchange)
    assert used(limits) == {"tokens_per_minute": 3 * (30 + 50)}
    tools = [{"type": "function", "function": {"name": "f"}}]  # which is called once
    with_tools = request(max_tokens=50, tools=tools)
    await limits.admit(with_tools, call("best"))
    assert used(limits) == {"tokens_per_minute": 3 * (30 + 50) + 30 + 50 + len(JSON.encode(tools)) // 3 + 1}
    await limits.admit_to(CHEAP, request(max_tokens=50), exchange)
    assert [meter.state.used for meter in limits.meters][1:] == [30 + 50]


@pytest.mark.parametrize(
    ("asked", "reckoned"),
    [
        (request(), Estimate(30, 0, 0, 1_000)),
        (request(n=3), Estimate(30, 0, 0, 3_000)),
        (request(n=3, max_completion_tokens=7), Estimate(30, 21)),
        (request(max_completion_tokens=7, max_tokens=9_000), Estimate(30, 9_000)),
        (request(max_completion_tokens=7, max_tokens=None), Estimate(30, 7)),
        (request(max_tokens=1, functions=[{"name": "f" * 3_000}]), Estimate(30 + 1_005, 1)),
        (
            request(
                messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]}],
                max_tokens=1,
            ),
            Estimate(1_000 + 30, 1),
        ),
        (EmbeddingsRequest(b'{"model":"m","input":"\xc3\xa4\xc3\xa4\xc3\xa4"}'), Estimate(5, 0)),
        (
            request(
                messages=[
                    {"role": "user", "content": [
                        {"type": "text", "text": "what is this?"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}},
                    ]}
                ],
                max_tokens=1,
            ),
            Estimate(1_016, 1),
        ),
    ],
)  # fmt: skip
def test_estimates(asked: Any, reckoned: Estimate) -> None:
    assert estimate(asked, 1_000) == reckoned


async def test_a_price_that_nobody_knows_counts_nothing_or_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    limits, exchange = bench(BOTH, targets=(UNPRICED,)), call()
    await limits.admit(request(), exchange)
    ended(exchange, Usage(20, 5), UNPRICED)
    assert used(limits)["budget per month"] == 0
    assert "no price is known for bare/x" in caplog.text
    strict = bench(BOTH, targets=(UNPRICED,), unknown_price="refuse")
    with pytest.raises(Forbidden, match="prices"):
        await strict.admit(request(), call())


async def test_all_rules_of_a_call_are_granted_or_none_is() -> None:
    limits = bench({"per": ["key"], "requests_per_minute": 5}, {"per": ["user"], "concurrency": 1})
    first = call()
    await limits.admit(request(), first)
    for _ in range(3):
        refused = call()
        with pytest.raises(LimitReached):
            await limits.admit(request(), refused)
        refused.settle()
    assert used(limits) == {"requests_per_minute": 1, "concurrency": 1}
    ended(first, Usage(1, 1))
    await limits.admit(request(), call())


async def test_a_keys_own_limits_stand_beside_those_for_all() -> None:
    limits = bench({"per": ["key"], "requests_per_minute": 5})
    caller = Caller("a", key_id="cfg_1", limits=own_rule(Allowance(requests_per_minute=2), "key"))
    for _ in range(2):
        await limits.admit(request(), call(caller=caller))
    refused = call(caller=caller)
    with pytest.raises(LimitReached) as told:
        await limits.admit(request(), refused)
    assert told.value.retry_after == "60"
    assert dict(refused.permit.headers())[b"x-ratelimit-limit-requests"] == b"2"  # type: ignore[union-attr]  # it has one
    assert refused.permit.refusal == ("requests_per_minute", "key")  # type: ignore[union-attr]  # it has one


@pytest.mark.parametrize(
    ("rule", "error", "status", "kind", "said", "after"),
    [
        ({"requests_per_minute": 0}, LimitReached, 429, "rate_limit_error", "0 requests per minute", None),
        ({"tokens_per_day": 10}, LimitReached, 429, "rate_limit_error", "too large", None),
        ({"budget": 0}, BudgetSpent, 429, "insufficient_quota", "for this month is spent", "set"),
        ({"concurrency": 0}, LimitReached, 429, "rate_limit_error", "0 concurrency", None),
    ],
)
async def test_what_a_caller_is_told(
    rule: dict[str, Any], error: type[GatewayError], status: int, kind: str, said: str, after: str | None
) -> None:
    with pytest.raises(error) as told:
        await bench({"per": ["tenant"], **rule}).admit(request(), call())
    body = told.value.body()["error"]
    assert (told.value.status, body["type"], said in body["message"]) == (status, kind, True)
    assert "this tenant" in body["message"]
    assert (told.value.retry_after is not None) == (after is not None)
    assert told.value.spent  # there is no use in trying again at once


async def test_a_limit_over_all_tells_nobody_what_the_others_do() -> None:
    limits = bench({"per": [], "requests_per_minute": 3}, {"per": ["model"], "requests_per_minute": 5})
    for tenant in "abc":
        exchange = call(caller=Caller("k", tenant, key_id=tenant))
        await limits.admit(request(), exchange)
        assert exchange.permit is not None
        assert exchange.permit.headers() == []
    refused = call()
    with pytest.raises(LimitReached, match=r"all callers together\. Please"):
        await limits.admit(request(), refused)
    assert await own_standings(limits, CALLER, ["m"]) == []
    assert [row["used"] for row in await standings(limits, {})] == [3, 3]


async def test_calls_beside_are_charged_to_whom_the_configuration_says() -> None:
    limits, exchange = bench(BOTH, own_calls={"shadow": "nobody", "rewrite": "nobody"}), call()
    await limits.admit(request(max_tokens=50), exchange)
    before = used(limits)
    judged = ended(exchange.beside("guardrail"), Usage(100, 1))
    assert used(limits)["tokens_per_minute"] == before["tokens_per_minute"] + 101
    assert judged.charges == (("key=cfg_1", judged.charges[0][1]),)
    assert judged.charged == pytest.approx(102e-6)
    for purpose in ("shadow", "rewrite"):
        made = ended(exchange.beside(purpose), Usage(100, 1))
        assert (made.permit, made.charges) == (None, ())
    ended(exchange, Usage(20, 5))  # what the caller's own call reserved was not touched by them
    assert used(limits) == {"tokens_per_minute": 25 + 101, "budget per month": 30_000 + 102_000}


async def test_a_target_that_lost_the_race_keeps_what_was_reserved_and_the_winner_what_was_used() -> None:
    limits = bench({"per": ["target"], "tokens_per_minute": 100_000})
    exchange = call()
    winner = await limits.admit_to(CHEAP, request(max_tokens=50), exchange)
    loser = await limits.admit_to(DEAR, request(max_tokens=50), exchange)
    exchange.attempts += [Attempt(target, "ok", 200, 1.0) for target in (CHEAP, DEAR)]
    exchange.at_end(winner.settle)
    exchange.at_end(loser.settle)
    ended(exchange, Usage(20, 5))
    assert {meter.subject[0]: meter.state.used for meter in limits.meters} == {"mock/cheap": 25, "mock/dear": 80}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, b"0s"), (0.2, b"1s"), (59.01, b"1m0s"), (61, b"1m1s"), (3600, b"1h0m0s"), (86_400, b"24h0m0s")],
)
def test_durations_are_written_as_go_does(seconds: float, text: bytes) -> None:
    assert in_go(seconds) == text
