"""Two gateways, one of them with two workers, over one Redis: what one has answered all of them give."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis
from click.testing import CliRunner
from gateway_process import GatewayProcess, until
from redis_process import RedisProcess
from sample_gateway import KEY_A, KEY_ADMIN, KEY_B, key_entry, plain_configuration
from upstream.vendor import Vendor

from gateway.cli import main

KEY_VIEWER = "sk-gw-canary-viewer-77aa01"
KEY_OPERATOR_B = "sk-gw-canary-operator-b-99bb02"
ENCRYPTION = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def configuration(vendor: Vendor, url: str) -> dict[str, Any]:
    made = plain_configuration(vendor)
    target = ["patient/cached"]
    made["providers"]["patient"]["prices"] = {"*": {"input": 1000, "output": 1000}}
    made["models"] = {
        "cached": {"targets": target, "cache": {"exact": {"ttl": "1h"}}},
        "stale": {"targets": target, "cache": {"exact": {"ttl": "1ms", "stale_while_revalidate": "1h"}}},
        "here": {"targets": target, "cache": {"exact": {"ttl": "1h", "store": "memory"}, "charge": 1}},
        "plain": {"targets": target},
    }
    made["access"]["keys"] += [
        key_entry("viewer", KEY_VIEWER, role="viewer"),
        key_entry("operator b", KEY_OPERATOR_B, tenant="b", role="operator", scope="tenant"),
    ]
    made["records"] = {"encryption_keys": [ENCRYPTION]}
    made["state"] = {"url": url, "deadline": "2s"}  # a busy machine is no Redis that is away
    return made


class Shared:
    def __init__(self, redis_process: RedisProcess, vendor: Vendor, one: GatewayProcess, two: GatewayProcess) -> None:
        self.redis = redis_process
        self.vendor = vendor
        self.one = one
        self.two = two

    @property
    def both(self) -> tuple[GatewayProcess, GatewayProcess]:
        return self.one, self.two


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("shared")
    with RedisProcess(folder / "redis") as server, Vendor() as vendor:
        made = configuration(vendor, server.url)
        with (
            GatewayProcess(made, folder / "one") as one,
            GatewayProcess(made, folder / "two", arguments=("--workers", "2")) as two,
        ):
            yield Shared(server, vendor, one, two)
            for gateway in (one, two):
                assert "Traceback" not in gateway.output, gateway.output


@pytest.fixture
def shared(running: Shared) -> Iterator[Shared]:
    running.vendor.clear()
    yield running
    until(lambda: not running.vendor.unsettled, what="the end of every upstream call")


@pytest.fixture
def question() -> str:
    return f"question {uuid4()}"


def ask(
    gateway: GatewayProcess, question: str, *, key: str = KEY_A, model: str = "cached", **more: Any
) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": more.pop("stream", False)}
    headers = {"authorization": f"Bearer {key}", **more.pop("headers", {})}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json={**body, **more}, headers=headers, timeout=30)


def kept_in_redis(shared: Shared) -> set[bytes]:
    with redis.Redis.from_url(shared.redis.url) as client:
        return {name for name in client.scan_iter("rag-gateway:cache:*") if b":answer:" in name}


def ask_and_keep(shared: Shared, question: str, **more: Any) -> httpx.Response:
    """A new answer of the first gateway's, which is kept a little after it is given; or not, in a moment without Redis:
    then it is asked for again, as if it had not been before.
    """
    before = kept_in_redis(shared)

    def kept() -> httpx.Response | None:
        shared.vendor.requests.clear()
        answer = ask(shared.one, question, **more)
        looked_until = time.monotonic() + 3.0
        while not (there := kept_in_redis(shared) - before) and time.monotonic() < looked_until:
            time.sleep(0.01)
        return answer if there else None

    return until(kept, what="the answer's being kept")  # type: ignore[no-any-return]  # it is what `kept` gives


def ask_until_kept(gateway: GatewayProcess, question: str, **more: Any) -> None:
    """An answer is kept a little after it is given, and not at all where anything was purged meanwhile."""
    until(lambda: kind(ask(gateway, question, **more)) == "hit", what="the answer's being kept")


def said(response: httpx.Response) -> str:
    """The answer's words, streamed or not."""
    if not response.headers["content-type"].startswith("text/event-stream"):
        return response.json()["choices"][0]["message"]["content"]
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def kind(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.headers["x-gateway-cache"]


def admin(gateway: GatewayProcess, what: dict[str, Any], key: str = KEY_ADMIN) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.url}/admin/cache/purge", json=what, headers=headers, timeout=30)


def purged(gateway: GatewayProcess, asked: dict[str, Any]) -> int:
    """How many answers went; a worker that is late with its answer is asked again, as the error says."""

    def answered() -> httpx.Response | None:
        told = admin(gateway, asked)
        return None if told.status_code == 503 else told

    return int(until(answered, what="the purge").json()["purged"])


def record(gateway: GatewayProcess, response: httpx.Response, key: str = KEY_A) -> dict[str, Any]:
    path = f"{gateway.url}/v1/calls/{response.headers['x-gateway-call-id']}"

    def written() -> dict[str, Any] | None:
        told = httpx.get(path, headers={"authorization": f"Bearer {key}"}, timeout=10)
        return told.json() if told.status_code == 200 else None

    return until(written, what="the call's record")


@pytest.mark.parametrize("stream", [False, True])
def test_what_one_gateway_has_answered_the_other_gives(shared: Shared, question: str, stream: bool) -> None:
    first, again = ask_and_keep(shared, question), ask(shared.two, question, stream=stream)
    assert (kind(first), kind(again)) == ("miss", "hit")
    assert said(again) == "echo: " + question
    assert "age" not in first.headers
    assert int(again.headers["age"]) < 60
    assert len(shared.vendor.requests) == 1


def test_f1_no_tenant_gets_another_s_over_redis(shared: Shared, question: str) -> None:
    ask(shared.one, question)
    other = ask(shared.two, question, key=KEY_B)
    assert kind(other) == "miss"
    assert "age" not in other.headers
    assert len(shared.vendor.requests) == 2


def test_nothing_in_redis_can_be_read_without_the_key(shared: Shared, question: str) -> None:
    """`records.encryption_keys` seal what is kept there; names are never there."""
    ask_and_keep(shared, question)
    with redis.Redis.from_url(shared.redis.url) as client:
        keys = list(client.scan_iter("rag-gateway:cache:*"))
        values = [client.get(key) or b"" for key in keys if b":answer:" in key]
    assert values
    for held in (*keys, *values):
        assert question.encode() not in held
        assert b"echo" not in held


async def test_equal_calls_on_all_workers_make_one_upstream_call(shared: Shared, question: str) -> None:
    shared.vendor.behaviours["cached"] = {"delay": 0.5}
    told = await asyncio.gather(
        *(asyncio.to_thread(ask, shared.both[n % 2], question, stream=n % 3 == 0) for n in range(18))
    )
    assert {said(each) for each in told} == {"echo: " + question}
    assert len({json.loads(each.text)["id"] for each in told if each.text.startswith("{")}) == 12
    assert sorted(kind(each) for each in told).count("miss") == 1
    assert len(shared.vendor.requests) == 1


def test_a_gateway_that_is_killed_delays_the_other_by_no_more_than_its_lease(
    shared: Shared, question: str, tmp_path: Path
) -> None:
    shared.vendor.behaviours["cached"] = {"delay": 120}
    doomed = GatewayProcess(configuration(shared.vendor, shared.redis.url), tmp_path).__enter__()
    lost = threading.Thread(target=lambda: _expect_loss(doomed, question))
    lost.start()
    until(lambda: shared.vendor.requests, what="the first call")
    shared.vendor.behaviours.clear()
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(shared.one, question)))
    waiting.start()
    until(lambda: answers or shared.one.clients() > 0, what="the second call")
    doomed.process.kill()
    doomed._close()
    waiting.join(100)  # the vendor's first answer would have taken longer
    assert kind(answers[0]) == "miss"
    lost.join()


def _expect_loss(gateway: GatewayProcess, question: str) -> None:
    with pytest.raises(httpx.HTTPError):
        ask(gateway, question)


# --- what a caller may say ----------------------------------------------------------------------------------
@pytest.mark.parametrize(("headers", "outcome", "calls"), [
    ({"x-gateway-cache": "off"}, "off", 2),
    ({"x-gateway-cache": "refresh"}, "miss", 2),
    ({"x-gateway-cache": "exact"}, "hit", 1),
    ({"cache-control": "max-age=0"}, "miss", 2),
    ({"cache-control": "max-age=600"}, "hit", 1),
    ({"cache-control": "only-if-cached"}, "hit", 1),
])  # fmt: skip
def test_a_caller_s_wishes(shared: Shared, question: str, headers: dict[str, str], outcome: str, calls: int) -> None:
    ask_and_keep(shared, question)
    until(lambda: time.sleep(0.005) or True)  # so that it is older than max-age=0 allows
    assert kind(ask(shared.two, question, headers=headers)) == outcome
    assert len(shared.vendor.requests) == calls


@pytest.mark.parametrize("model", ["cached", "plain"])
def test_only_if_cached_without_an_answer_is_a_504(shared: Shared, question: str, model: str) -> None:
    """RFC 9111, section 5.2.1.7."""
    refused = ask(shared.one, question, model=model, headers={"cache-control": "only-if-cached"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (504, "not_cached")
    assert refused.headers["x-should-retry"] == "false"
    assert not shared.vendor.requests


def test_a_wish_that_can_t_be_read_is_a_400(shared: Shared, question: str) -> None:
    refused = ask(shared.one, question, headers={"x-gateway-cache": "forever"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "x-gateway-cache")
    assert "off, refresh, exact" in refused.json()["error"]["message"]


# --- stale answers ------------------------------------------------------------------------------------------
def test_a_stale_answer_is_given_at_once_and_made_anew_beside(shared: Shared, question: str) -> None:
    ask_and_keep(shared, question, model="stale")
    shared.vendor.behaviours["cached"] = {"delay": 3, "text": "made anew"}
    old = [ask(shared.both[n % 2], question, model="stale") for n in range(4)]
    assert [kind(each) for each in old] == ["hit"] * 4
    assert {said(each) for each in old} == {"echo: " + question}
    until(lambda: said(ask(shared.two, question, model="stale")) == "made anew", what="the new answer")
    made = record(shared.one, old[0])
    assert made["cache"] == "hit"


# --- records and purges ---------------------------------------------------------------------------------------
def test_a_call_s_record_shows_the_key_and_its_parts_but_none_of_their_values(shared: Shared, question: str) -> None:
    first, again = ask_and_keep(shared, question, seed=4711), ask(shared.one, question, seed=4711)
    made, given = record(shared.one, first), record(shared.one, again)
    assert made["cache_decision"]["key"] == given["cache_decision"]["key"]
    assert set(made["cache_decision"]["parts"]) == {
        "tenant", "model", "endpoint", "request.messages", "request.seed",
    }  # fmt: skip
    assert question not in json.dumps(made["cache_decision"])
    assert given["cache_decision"]["age"] >= 0
    assert (made["cache"], given["cache"]) == ("miss", "hit")


def test_a_kept_answer_costs_the_share_that_is_configured(shared: Shared, question: str) -> None:
    costs = {
        model: [record(shared.one, ask(shared.one, question, model=model))["cost"] for _ in range(2)]
        for model in ("cached", "here")
    }
    price = costs["cached"][0]
    assert price > 0
    assert costs == {"cached": [price, 0.0], "here": [price, price]}


def test_a_purge_by_key_reaches_every_gateway(shared: Shared, question: str) -> None:
    first = ask_and_keep(shared, question)
    key = record(shared.one, first)["cache_decision"]["key"]
    gone = admin(shared.two, {"key": key, "reason": "it was wrong"})
    assert gone.json() == {"object": "cache.purge", "purged": 1}
    assert kind(ask(shared.one, question)) == "miss"


def test_a_purge_by_tenant_leaves_other_tenants_theirs(shared: Shared, question: str) -> None:
    for key in (KEY_A, KEY_B):
        ask_until_kept(shared.one, question, key=key)
    assert purged(shared.one, {"tenant": "a", "model": "cached"}) >= 1
    assert kind(ask(shared.two, question, key=KEY_B)) == "hit"
    assert kind(ask(shared.two, question)) == "miss"


def test_a_purge_reaches_the_memory_of_every_worker(shared: Shared, question: str) -> None:
    kinds = [kind(ask(shared.two, question, model="here")) for _ in range(16)]
    made = kinds.count("miss")  # by each worker that the kernel gave a connection to
    assert purged(shared.two, {"model": "here"}) >= made
    again = [kind(ask(shared.two, question, model="here")) for _ in range(16)]
    assert again[0] == "miss"
    assert again.count("miss") <= 2


@pytest.mark.parametrize(("what", "says"), [
    ({}, "everything: true"),
    ({"everything": True, "model": "cached"}, "say one of them"),
    ({"key": "abc"}, "key"),
    ({"colection": "x"}, "colection"),
])  # fmt: skip
def test_a_purge_says_what_it_means(shared: Shared, what: dict[str, Any], says: str) -> None:
    refused = admin(shared.one, what)
    assert refused.status_code == 400
    assert says in json.dumps(refused.json()["error"])


def test_f10_who_may_purge(shared: Shared, question: str) -> None:
    """Whoever operates a tenant purges what is that tenant's; a viewer looks; a key without a role does neither."""
    for key in (KEY_A, KEY_B):
        ask_until_kept(shared.one, question, key=key)
    statuses = [admin(shared.one, {"everything": True}, key).status_code for key in (KEY_A, KEY_VIEWER)]
    statuses.append(admin(shared.one, {"tenant": "a"}, KEY_OPERATOR_B).status_code)
    assert statuses == [403, 403, 403]
    assert admin(shared.one, {"everything": True}, KEY_OPERATOR_B).json()["purged"] >= 1
    assert kind(ask(shared.two, question, key=KEY_A)) == "hit"
    assert kind(ask(shared.two, question, key=KEY_B)) == "miss"
    sees = {"authorization": f"Bearer {KEY_VIEWER}"}
    stores = httpx.get(shared.one.url + "/admin/cache", headers=sees).json()["stores"]
    assert stores["redis"]["answers"] >= 2
    assert set(stores) == {"memory", "redis"}


def test_the_command_line_purges(shared: Shared, question: str) -> None:
    ask_and_keep(shared, question)
    options = ["--url", shared.one.url, "--api-key", KEY_ADMIN]
    shown = CliRunner().invoke(main, ["cache", "show", *options])
    assert "redis: " in shown.output, shown.output
    silent = CliRunner().invoke(main, ["cache", "purge", *options])
    assert (silent.exit_code, "--document, or --all" in silent.output) == (1, True)
    purged = CliRunner().invoke(main, ["cache", "purge", "--model", "cached", *options])
    assert "answers purged" in purged.output, purged.output
    assert kind(ask(shared.two, question)) == "miss"


def test_metrics_count_what_the_cache_does(shared: Shared, question: str) -> None:
    for _ in range(2):
        ask(shared.one, question, model="here")
    told = httpx.get(shared.one.url + "/metrics", headers={"authorization": f"Bearer {KEY_ADMIN}"}).text
    for line in ('rag_gateway_cache_total{model="here",outcome="hit"}', 'outcome="miss"}', "rag_gateway_cache_failures",
                 "rag_gateway_cache_stale_hits", "rag_gateway_cache_rejected", "rag_gateway_cache_memory_bytes"):  # fmt: skip
        assert line in told
    (answers,) = [line for line in told.splitlines() if line.startswith("rag_gateway_cache_memory_answers ")]
    assert float(answers.split()[1]) >= 1


# --- Redis away ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["stopped", "hung"])
def test_d3_d4_without_redis_every_call_is_answered(shared: Shared, question: str, how: str) -> None:
    """The cache is missed, not the answer; and it is used again by itself once Redis is back."""
    ask(shared.one, question)
    try:
        shared.redis.stop() if how == "stopped" else shared.redis.hang()
        told = [ask(shared.both[n % 2], f"{question} {n}") for n in range(12)]
        assert [each.status_code for each in told] == [200] * 12
    finally:
        shared.redis.start() if how == "stopped" else shared.redis.wake()

    def shared_again() -> bool:
        """Each of the second gateway's workers finds out by itself: which of them is asked is the kernel's choice."""
        fresh = f"{question} {uuid4()}"
        return (
            kind(ask(shared.one, fresh)) == "miss" and [kind(ask(shared.two, fresh)) for _ in range(8)] == ["hit"] * 8
        )

    # For a while: a command that was on its way when Redis went may yet fail, and is another short outage.
    until(lambda: all(shared_again() for _ in range(10)), what="the shared cache")
    metrics = httpx.get(shared.one.url + "/metrics", headers={"authorization": f"Bearer {KEY_ADMIN}"}).text
    (failures,) = [line for line in metrics.splitlines() if line.startswith("rag_gateway_cache_failures ")]
    assert float(failures.split()[1]) >= 1
