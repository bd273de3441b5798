"""C1-C6: providers that limit, fail, hang, lie about who they are, or no longer take the gateway's key.

What more belongs to them is in tests/e2e: test_retries_and_fallbacks.py, and of storms and keys test_routing.py.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator
from contextlib import ExitStack
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from gateway_process import GatewayProcess, until
from upstream.tls import Authority, tls_relay
from upstream.vendor import Vendor

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
DAY = datetime.timedelta(days=1)


def in_seconds(seconds: int) -> str:
    """A Retry-After's date."""
    return format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds), usegmt=True)


# -- C1 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("how", "least", "most"),
    [
        ({"retry_after": 120}, 120, 120),
        ({"retry_after": "date"}, 118, 121),
        ({"retry_after_ms": 90_500, "retry_after": 1}, 91, 91),
        ({"retry_after": 1e9}, 86_400, 86_400),
        ({"retry_after": -5}, 0, 0),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_c1_a_limit_is_relayed_with_its_time(
    client: openai.OpenAI, vendor: Vendor, how: dict[str, Any], least: int, most: int, stream: bool
) -> None:
    if how.get("retry_after") == "date":
        how = {"retry_after": in_seconds(120)}
    vendor.behaviours["gpt-mock"] = {"status": 429, "message": "slow down", **how}
    with pytest.raises(openai.RateLimitError, match="slow down") as told:
        client.chat.completions.create(model="plain", messages=HELLO, stream=stream)
    assert least <= int(told.value.response.headers["retry-after"]) <= most
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("how", [{"retry_after_ms": 400}, {"retry_after": "date"}])
def test_c1_a_time_within_the_patience_is_waited_for(
    client: openai.OpenAI, vendor: Vendor, how: dict[str, Any]
) -> None:
    if how.get("retry_after") == "date":
        how = {"retry_after": in_seconds(2)}
    vendor.behaviours["limited"] = {"status": 429, "fail_times": 1, **how}
    vendor.failures.clear()
    client.chat.completions.create(model="retrying/limited", messages=HELLO)
    first, second = vendor.requests
    assert second.at - first.at >= 0.39  # a timer may be early by its resolution


# -- C3 ----------------------------------------------------------------------------------------------------
def test_c3_a_content_filter_is_an_answer_and_no_failure(client: openai.OpenAI, vendor: Vendor) -> None:
    vendor.behaviours["first"] = {"finish": "content_filter"}
    told = client.chat.completions.create(model="fallback", messages=HELLO)
    assert told.choices[0].finish_reason == "content_filter"
    assert [seen.body["model"] for seen in vendor.requests] == ["first"]


@pytest.mark.parametrize("stream", [False, True])
def test_c3_the_fallback_is_asked_once(client: openai.OpenAI, vendor: Vendor, stream: bool) -> None:
    vendor.behaviours |= {"first": {"status": 500}, "second": {"status": 503}}
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="fallback", messages=HELLO, stream=stream)
    assert [seen.body["model"] for seen in vendor.requests] == ["first", "second"]


# -- C4 ----------------------------------------------------------------------------------------------------
async def test_c4_calls_that_hang_at_one_target_hold_nobody_else_up(gateway: GatewayProcess, vendor: Vendor) -> None:
    vendor.behaviours["hung"] = {"delay": 60}
    limits = httpx.Limits(max_connections=None)
    headers = {"authorization": "Bearer sk-gw-canary-tenant-a-5f1c9e"}
    async with httpx.AsyncClient(base_url=gateway.url, limits=limits, timeout=40, headers=headers) as client:

        async def call(model: str) -> httpx.Response:
            return await client.post("/v1/chat/completions", json={"model": model, "messages": HELLO})

        hanging = [asyncio.create_task(call("patient/hung")) for _ in range(1000)]
        for _ in range(1500):
            if len(vendor.requests) >= 1000:
                break
            await asyncio.sleep(0.02)
        assert len(vendor.requests) == 1000
        others = await asyncio.gather(*(call("plain") for _ in range(100)))
        assert {answer.status_code for answer in others} == {200}
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
    until(lambda: not vendor.unsettled, what="the end of every upstream call")


# -- C5 ----------------------------------------------------------------------------------------------------
WAYS = {
    "good": 200,
    "expired": 502,
    "self_signed": 502,
    "stranger": 502,
    "no_such_name": 502,
    "no_tls": 502,
    "not_there": 502,
}


@pytest.fixture(scope="module")
def over_tls(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("tls")
    trusted, unknown = Authority(folder), Authority(folder, "Nobody Knows")
    with ExitStack() as stack:

        def behind(certificate: Path) -> str:
            return f"https://127.0.0.1:{stack.enter_context(tls_relay(certificate, shared_vendor.port))}/v1"

        at = {
            "good": behind(trusted.certificate("127.0.0.1")),
            "expired": behind(trusted.certificate("127.0.0.1", -DAY)),
            "self_signed": behind(unknown.certificate("127.0.0.1")),
            "stranger": behind(trusted.certificate("api.example.com")),
            "no_such_name": "https://no-such-host.invalid/v1",
            "no_tls": f"https://127.0.0.1:{shared_vendor.port}/v1",
            "not_there": "https://127.0.0.1:1/v1",
        }
        retries = {"attempts": 0}
        providers = {
            name: {"kind": "openai", "base_url": url, "api_key": shared_vendor.api_key, "retries": retries}
            for name, url in at.items()
        }
        environment = {"SSL_CERT_FILE": str(trusted.file)}
        with GatewayProcess({"providers": providers}, folder, environment) as gateway:
            yield gateway
        assert "Traceback" not in gateway.output


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream", [False, True])
def test_c5_only_a_proven_provider_is_told_anything(
    over_tls: GatewayProcess, vendor: Vendor, way: str, stream: bool
) -> None:
    body = {"model": f"{way}/gpt-mock", "messages": HELLO, "stream": stream}
    answer = httpx.post(over_tls.url + "/v1/chat/completions", json=body, timeout=30)
    assert answer.status_code == WAYS[way], answer.text
    assert len(vendor.requests) == (1 if way == "good" else 0)
    if way in ("expired", "self_signed", "stranger"):
        assert answer.json()["error"]["code"] == "upstream_certificate"
    if way != "good":
        assert "127.0.0.1" not in answer.text
        assert "invalid" not in answer.text


# -- C6 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [401, 403])
def test_c6_a_revoked_key_is_the_gateways_matter(client: openai.OpenAI, vendor: Vendor, status: int) -> None:
    vendor.behaviours["gpt-mock"] = {"status": status, "message": "Incorrect API key provided: {key}"}
    with pytest.raises(openai.InternalServerError) as told:
        client.chat.completions.create(model="plain", messages=HELLO)
    assert told.value.status_code == 502
    assert vendor.api_key[-6:] not in told.value.response.text
    assert "Incorrect" not in told.value.response.text
