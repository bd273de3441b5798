"""I1, I2, I5 with two workers: killed, reloaded, replaced and ended while others are answered."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from gateway_process import GatewayProcess, events_of, text_of, until
from redis_process import RedisProcess
from sample_gateway import KEY_A, KEY_ADMIN, plain_configuration
from steady_load import CHAT, ask, get, load, more, ready, whole
from upstream.vendor import Vendor

BEARER = {"authorization": f"Bearer {KEY_A}"}


def configuration(vendor: Vendor, redis: RedisProcess, prefix: str) -> dict[str, Any]:
    return {**plain_configuration(vendor), "state": {"url": redis.url, "prefix": prefix, "deadline": "2s"}}


@pytest.fixture(scope="module")
def started(
    shared_vendor: Vendor, redis_server: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    settings = configuration(shared_vendor, redis_server, "i-workers")
    with GatewayProcess(settings, tmp_path_factory.mktemp("workers"), arguments=("--workers", "2")) as running:
        yield running
        family = psutil.Process(running.process.pid).children(recursive=True)
    assert not [process for process in family if process.is_running()]
    assert "Traceback" not in running.output, running.output


@pytest.fixture
def crew(started: GatewayProcess, vendor: Vendor) -> Iterator[GatewayProcess]:
    """Two workers that are ready, before and after."""
    until(lambda: whole(started), 60, "two workers")
    good = started.file.read_text("utf-8")
    yield started
    if started.file.read_text("utf-8") != good:
        before = started.output.count("in every worker")
        started.configure(yaml.safe_load(good))
        started.reload()
        until(lambda: started.output.count("in every worker") > before, 60, "the reload")
    until(lambda: whole(started), 60, "two workers again")


def fresh_connections(gateway: GatewayProcess) -> httpx.Client:
    """A client whose every call is a connection of its own, so that both workers get some."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=gateway.url, headers=BEARER, limits=limits, trust_env=False)


def counted(gateway: GatewayProcess) -> float:
    """Calls of the model `plain` that have ended, as some worker tells it of all of them."""
    told = get(gateway, "/metrics", KEY_ADMIN).decode()
    return sum(map(float, re.findall(r'^rag_gateway_calls_total\{.*model="plain".*\} (\S+)$', told, re.MULTILINE)))


def refusals(gateway: GatewayProcess) -> tuple[float, float]:
    """Whether what was read last is in force, and how often it was refused, as some worker tells it of all of them."""
    told = get(gateway, "/metrics", KEY_ADMIN).decode()
    names = ("last_reload_successful", "reloads_refused_total")
    well, times = (float(re.findall(rf"^rag_gateway_config_{name} (\S+)$", told, re.MULTILINE)[0]) for name in names)
    return well, times


async def reloaded(gateway: GatewayProcess, before: int) -> None:
    """Wait until one reload more than `before` was taken by all."""
    await asyncio.to_thread(until, lambda: gateway.output.count("in every worker") > before, 60, "the reload")


# -- serving together --------------------------------------------------------------------------------------
def test_connections_go_to_both_and_what_each_has_counted_is_told_by_either(crew: GatewayProcess) -> None:
    before = counted(crew)
    assert {ready(crew)["worker"] for _ in range(40)} == {1, 2}
    with fresh_connections(crew) as client:
        for _ in range(30):
            assert client.post(CHAT, json=ask("count me")).status_code == 200
    assert [counted(crew) - before for _ in range(8)] == [30] * 8


def test_what_is_known_to_one_worker_alone_says_so(crew: GatewayProcess) -> None:
    with fresh_connections(crew) as client:
        for _ in range(20):
            client.post(CHAT, json=ask("x"))
    rows = json.loads(get(crew, "/admin/targets", KEY_ADMIN))["data"]
    assert {row["worker"] for row in rows if row["target"] == "mock/gpt-mock"} == {1, 2}
    told = get(crew, "/metrics", KEY_ADMIN).decode()
    assert set(re.findall(r'^process_resident_memory_bytes\{worker="(\d)"\}', told, re.MULTILINE)) == {"1", "2"}
    assert "\nrag_gateway_workers 2.0\n" in told
    assert set(re.findall(r'^rag_gateway_tasks\{worker="(\d)"\}', told, re.MULTILINE)) == {"1", "2"}
    assert f'\nrag_gateway_config_info{{revision="{crew.revision()}"}} 2.0\n' in told
    well = b'\nrag_gateway_component_up{component="records"} 1.0\n'
    until(lambda: well in get(crew, "/metrics", KEY_ADMIN), 60, "the records of both")


def test_a_key_that_is_revoked_at_one_worker_is_refused_by_both(crew: GatewayProcess) -> None:
    limits = httpx.Limits(max_keepalive_connections=0)
    admin = {"authorization": f"Bearer {KEY_ADMIN}"}
    with httpx.Client(base_url=crew.url, headers=admin, limits=limits, trust_env=False) as client:
        made = client.post("/admin/keys", json={"name": "leaver", "models": ["plain"]})
        assert made.status_code == 201, made.text
        bearer = {"authorization": f"Bearer {made.json()['key']}"}

        def told() -> set[int]:
            return {client.get("/v1/models", headers=bearer).status_code for _ in range(16)}

        assert told() == {200}
        assert client.post(f"/admin/keys/{made.json()['id']}/revoke").status_code == 200
        until(lambda: told() == {401}, what="a refusal by both")


# -- a worker that is killed -------------------------------------------------------------------------------
async def test_i5_a_worker_that_is_killed_takes_only_its_calls_in_flight_along(
    crew: GatewayProcess, vendor: Vendor
) -> None:
    vendor.behaviours["gpt-mock"] = {"gap": 0.005, "piece": 4}
    victim = (await asyncio.to_thread(crew.workers))[1]
    async with load(crew, KEY_A, 16, keep_alive=False) as told:
        await more(told, 50)
        before = await asyncio.to_thread(counted, crew)
        os.kill(victim, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: not psutil.pid_exists(victim), what="its end")
        gone = time.monotonic()
        await more(told, 100)
        await asyncio.to_thread(until, lambda: whole(crew), 60, "another worker")
        back = time.monotonic()
        await more(told, 50)
    assert [call.fault for call in told.since(gone) if call.fault] == []
    assert len(told.faults) <= 16
    assert len(told.since(back)) >= 50
    assert (await asyncio.to_thread(crew.workers))[1] != victim
    assert await asyncio.to_thread(counted, crew) >= before, "a counter fell"


# -- I2 ----------------------------------------------------------------------------------------------------
async def test_i2_both_workers_take_a_revision_or_neither(crew: GatewayProcess, vendor: Vendor) -> None:
    changed = yaml.safe_load(crew.file.read_text("utf-8"))
    async with load(crew, KEY_A, 16, keep_alive=True) as told:
        for turn in range(4):
            changed["models"]["plain"]["targets"] = [f"mock/turn-{turn}"]
            taken = crew.output.count("in every worker")
            began = time.monotonic()
            await asyncio.to_thread(crew.configure, changed)
            crew.reload()
            await reloaded(crew, taken)
            ended = time.monotonic()
            await more(told, 60)
            assert {call.target for call in told.since(ended)} == {f"mock/turn-{turn}"}
            assert not [call for call in told.calls if call.target == f"mock/turn-{turn}" and call.ended < began]
    assert told.faults == []


async def test_i2_what_no_worker_can_compile_none_takes(crew: GatewayProcess) -> None:
    """It is valid by itself: only compiling it shows that the file of credentials is not there."""
    before, refused = crew.revision(), refusals(crew)
    wrong = yaml.safe_load(crew.file.read_text("utf-8"))
    wrong["providers"]["cloud"] = {"kind": "vertex", "project": "p", "location": "us-east1", "credentials": "nowhere"}
    async with load(crew, KEY_A, 8, keep_alive=True) as told:
        await more(told, 20)
        await asyncio.to_thread(crew.configure, wrong)
        crew.reload()
        await asyncio.to_thread(until, lambda: f"revision {before} stays: " in crew.output, 60, "the refusal")
        await more(told, 40)
    assert told.faults == []
    assert {ready(crew)["revision"] for _ in range(20)} == {before}
    assert [refusals(crew) for _ in range(4)] == [(0, refused[1] + 1)] * 4
    for pid in (await asyncio.to_thread(crew.workers)).values():
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(until, lambda: whole(crew), 60, "two others")
    # What is on the disk is still refused, whoever serves.
    await asyncio.to_thread(until, lambda: refusals(crew)[0] == 0, 60, "the others to know")


def test_a_worker_that_is_replaced_starts_with_the_revision_in_force(crew: GatewayProcess) -> None:
    """And not with what somebody is just writing into the file."""
    before, good = crew.revision(), crew.file.read_text("utf-8")
    crew.file.write_text("models: [", "utf-8")
    try:
        victim = crew.workers()[2]
        os.kill(victim, signal.SIGKILL)
        until(lambda: crew.workers().get(2, victim) != victim and whole(crew), 60, "another worker")
        assert {ready(crew)["revision"] for _ in range(20)} == {before}
    finally:
        crew.file.write_text(good, "utf-8")


# -- I5 ----------------------------------------------------------------------------------------------------
async def test_i5_a_rolling_restart_fails_no_call(crew: GatewayProcess, vendor: Vendor) -> None:
    vendor.behaviours["gpt-mock"] = {"gap": 0.005, "piece": 4}
    before = await asyncio.to_thread(crew.workers)
    rolled = crew.output.count("every worker was replaced")
    async with load(crew, KEY_A, 8, keep_alive=False) as fresh, load(crew, KEY_A, 8, keep_alive=True) as kept:
        await more(kept, 40)
        counts = await asyncio.to_thread(counted, crew)
        crew.process.send_signal(signal.SIGUSR2)
        await asyncio.to_thread(until, lambda: crew.output.count("every worker was replaced") > rolled, 90, "the roll")
        await more(kept, 40)
    after = await asyncio.to_thread(crew.workers)
    assert not set(before.values()) & set(after.values())
    assert (fresh.faults, kept.faults) == ([], [])
    assert await asyncio.to_thread(counted, crew) >= counts + 40, "what the old ones had counted is kept"


async def test_i5_a_worker_that_is_told_to_end_ends_when_there_is_another(crew: GatewayProcess) -> None:
    victim = (await asyncio.to_thread(crew.workers))[1]
    async with load(crew, KEY_A, 8, keep_alive=True) as told:
        await more(told, 20)
        os.kill(victim, signal.SIGTERM)
        await asyncio.to_thread(until, lambda: not psutil.pid_exists(victim), 60, "its end")
        await more(told, 20)
    assert told.faults == []


# -- I1 ----------------------------------------------------------------------------------------------------
async def test_i1_after_sigterm_the_streams_of_both_workers_finish_and_nothing_is_left(
    vendor: Vendor, redis_server: RedisProcess, tmp_path: Path
) -> None:
    vendor.behaviours["gpt-mock"] = {"gap": 0.1, "piece": 5}
    text = "a stream that has begun is told to its end, come what may, so it is"
    settings = configuration(vendor, redis_server, "i1-workers")
    gateway = GatewayProcess(settings, tmp_path, arguments=("--workers", "2"))
    await asyncio.to_thread(gateway.__enter__)
    try:
        await asyncio.to_thread(until, lambda: whole(gateway), 60, "two workers")
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)

        async def stream(client: httpx.AsyncClient) -> tuple[str, Any]:
            events = list(events_of((await client.post(CHAT, json=ask(text, True))).content))
            return text_of(events), events[-1]

        settings = {"timeout": 60, "limits": limits, "trust_env": False}
        async with httpx.AsyncClient(base_url=gateway.url, headers=BEARER, **settings) as client:
            streams = [asyncio.create_task(stream(client)) for _ in range(50)]
            await asyncio.to_thread(until, lambda: len(vendor.requests) == 50)
            gateway.process.send_signal(signal.SIGTERM)

            def refused() -> bool:
                try:
                    httpx.get(gateway.url + "/readyz", timeout=30)
                except httpx.ConnectError:
                    return True
                except httpx.TransportError:
                    return False  # it came while connections were being closed
                return False

            await asyncio.to_thread(until, refused, what="connections are refused")
            told = await asyncio.gather(*streams)
        assert told == [("echo: " + text, "[DONE]")] * 50
        assert await asyncio.to_thread(gateway.process.wait, 60) == 0
        assert len(vendor.requests) == 50
        assert not [process for process in family if process.is_running()]
    finally:
        await asyncio.to_thread(gateway.__exit__)


def test_a_supervisor_that_is_killed_takes_its_workers_along(
    vendor: Vendor, redis_server: RedisProcess, tmp_path: Path
) -> None:
    settings = configuration(vendor, redis_server, "orphans")
    gateway = GatewayProcess(settings, tmp_path, arguments=("--workers", "2"))
    with pytest.raises(AssertionError, match="ended with status -9"), gateway:
        until(lambda: whole(gateway), 60, "two workers")
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        gateway.process.kill()
        _, left = psutil.wait_procs(family, timeout=60)
        assert left == []
