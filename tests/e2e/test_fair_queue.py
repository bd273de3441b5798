"""A server of our own gets what it can hold: at five times that it does as much, and the rest is refused early."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx
import pytest
from gateway_process import GatewayProcess, events_of, http_post, until
from sample_gateway import KEY_A, KEY_ADMIN, KEY_B, plain_configuration
from upstream.vendor import Vendor

CHAT = "/v1/chat/completions"
SLOTS = 8
MOST = 200
WORK = 0.2  # seconds a call


@pytest.fixture(scope="module")
def server() -> Iterator[Vendor]:
    """A server that collapses when it is overdriven."""
    with Vendor() as running:
        yield running


@pytest.fixture(scope="module")
def fair(server: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    configuration = plain_configuration(server)
    providers, models = configuration["providers"], configuration["models"]
    patient = providers["patient"]
    queue = {"concurrency": SLOTS, "max_length": 80, "max_wait": "2s"}
    providers["gpu"] = {**patient, "queue": queue}
    providers["narrow"] = {**patient, "queue": {"concurrency": 1, "max_length": 1, "max_wait": "20s"}}
    providers["hasty"] = {**patient, "queue": {"concurrency": 1, "max_wait": "1ms"}}
    configuration["server"]["max_in_flight"] = MOST
    models["overflowing"] = {"targets": ["hasty/slow"], "fallbacks": ["mock/elsewhere"]}
    with GatewayProcess(configuration, tmp_path_factory.mktemp("fair")) as running:
        yield running


@pytest.fixture(autouse=True)
def clean(server: Vendor) -> Iterator[None]:
    server.clear()
    server.behaviours["llm"] = {"capacity": SLOTS, "work": WORK}
    server.behaviours["slow"] = {"delay": 0.3}
    server.behaviours["held"] = {"delay": 60}
    yield
    until(lambda: not server.unsettled, what="the end of every upstream call")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    seconds: float
    headers: dict[str, str]
    body: bytes


@dataclass
class Told:
    """What callers were answered, and when."""

    statuses: Counter[int] = field(default_factory=Counter)
    served: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    refused: list[Answer] = field(default_factory=list)

    def take(self, answer: Answer) -> None:
        self.statuses[answer.status] += 1
        if answer.status == 200:
            self.served.append(time.monotonic())
            self.seconds.append(answer.seconds)
        else:
            self.refused.append(answer)

    def rate(self) -> float:
        """Answers a second. They may come all slots at a time, so those of the first time are where counting begins."""
        return (len(self.served) - SLOTS) / (self.served[-1] - self.served[SLOTS - 1])


class Connections:
    """To a gateway, kept alive: what hundreds of calls a second can be made with beside it on a busy machine."""

    def __init__(self, gateway: GatewayProcess, key: str, model: str) -> None:
        self._port = gateway.port
        self._request = http_post(CHAT, asked(model), key, close=False)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Connections:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()

    async def call(self) -> Answer:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        began = time.monotonic()
        try:
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
            body = await reader.readexactly(int(headers["content-length"]))
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return Answer(int(head[0].split()[1]), time.monotonic() - began, headers, body)


def client_of(gateway: GatewayProcess, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=gateway.url, headers={"authorization": f"Bearer {key}"}, timeout=30, trust_env=False
    )


def asked(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


@asynccontextmanager
async def callers(gateway: GatewayProcess, key: str, count: int, model: str) -> AsyncIterator[Told]:
    """So many that call, one call after the other each; who is refused comes back after a while."""
    told = Told()
    ending = asyncio.Event()

    async def one(connections: Connections) -> None:
        while not ending.is_set():
            answer = await connections.call()
            told.take(answer)
            if answer.status != 200:
                await asyncio.sleep(0.3)

    async with Connections(gateway, key, model) as connections, asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one(connections))
        try:
            yield told
        finally:
            ending.set()


async def offered(gateway: GatewayProcess, key: str, model: str, a_second: float, seconds: float) -> Told:
    """Calls that come at this rate, whatever becomes of those before them."""
    told = Told()
    began = time.monotonic()

    async def one(connections: Connections) -> None:
        told.take(await connections.call())

    async with Connections(gateway, key, model) as connections, asyncio.TaskGroup() as group:
        sent = 0
        while (passed := time.monotonic() - began) < seconds:
            for _ in range(int(passed * a_second) - sent):
                group.create_task(one(connections))
                sent += 1
            await asyncio.sleep(0.005)
    return told


async def test_at_five_times_its_capacity_it_does_as_much_and_the_rest_is_refused_early(
    fair: GatewayProcess, server: Vendor
) -> None:
    async with callers(fair, KEY_A, SLOTS, "gpu/llm") as alone:
        await asyncio.sleep(1.2)
    capacity = alone.rate()
    told = await offered(fair, KEY_A, "gpu/llm", 5 * capacity, 3.0)
    assert told.rate() > 0.7 * capacity
    assert server.most_running["llm"] == SLOTS
    assert set(told.statuses) == {200, 503}
    assert told.statuses[503] > told.statuses[200]
    for refused in told.refused:
        error = json.loads(refused.body)["error"]
        assert (error["type"], error["code"]) == ("server_error", "overloaded")
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert "x-should-retry" not in refused.headers
    assert median(refused.seconds for refused in told.refused) < 0.5 * median(told.seconds)


async def test_without_a_queue_it_collapses(fair: GatewayProcess, server: Vendor) -> None:
    """What the test above would find if the queue did nothing."""
    server.behaviours["llm"]["work"] = WORK / 4
    async with callers(fair, KEY_A, SLOTS, "patient/llm") as alone:
        await asyncio.sleep(0.5)
    began = time.monotonic()
    async with callers(fair, KEY_A, 5 * SLOTS, "patient/llm") as told:
        await asyncio.sleep(2.0)
    assert len(told.served) / (told.served[-1] - began) < 0.5 * alone.rate()


async def test_two_callers_are_served_beside_a_hundred_of_another_tenant(fair: GatewayProcess, server: Vendor) -> None:
    server.behaviours["llm"]["work"] = WORK / 2
    async with callers(fair, KEY_A, 100, "gpu/llm") as crowd:
        await asyncio.to_thread(until, lambda: crowd.statuses[503], what="a full queue")
        async with callers(fair, KEY_B, 2, "gpu/llm") as few:
            await asyncio.to_thread(until, lambda: len(few.served) >= 16, what="16 calls of the two")
            beside = len(crowd.served)
            await asyncio.to_thread(until, lambda: len(few.served) >= 26, what="10 more")
            beside = len(crowd.served) - beside
    assert few.statuses[503] == 0
    # By heads they would have had 1 in 51. They had two of eight slots, or nearly, so that 30 went to the others.
    assert 10 < beside < 100


async def test_a_stream_has_its_slot_until_it_ends_or_its_client_leaves(fair: GatewayProcess, server: Vendor) -> None:
    server.behaviours["streaming"] = {"gap": 0.05, "text": "x" * 4_000}  # for 50 s
    async with client_of(fair, KEY_A) as client:
        async with client.stream("POST", CHAT, json=asked("narrow/streaming", stream=True)) as stream:
            events = stream.aiter_bytes()
            await anext(events)
            waiting = asyncio.create_task(client.post(CHAT, json=asked("narrow/plain")))
            await asyncio.to_thread(until, lambda: length(fair, "narrow") == 1, what="a call in the queue")
            full = await client.post(CHAT, json=asked("narrow/plain"))
            assert full.status_code == 503
            server.behaviours["streaming"]["gap"] = 0
            said = b"".join([part async for part in events])
        answer = await waiting
        assert list(events_of(said))[-1] == "[DONE]"
        assert answer.status_code == 200
        assert "queue;dur=" in answer.headers["server-timing"]
        call = (await client.get("/v1/calls/" + answer.headers["x-gateway-call-id"])).json()
        assert next(stage["ms"] for stage in call["stages"] if stage["name"] == "queue") > 0
        server.behaviours["streaming"]["gap"] = 0.05
        async with client.stream("POST", CHAT, json=asked("narrow/streaming", stream=True)) as stream:
            await anext(stream.aiter_bytes())
        assert (await client.post(CHAT, json=asked("narrow/plain"))).status_code == 200
    await asyncio.to_thread(until, lambda: running(fair, "narrow") == 0, what="a free slot")


async def test_a_client_that_leaves_is_out_of_the_queue(fair: GatewayProcess, server: Vendor) -> None:
    async with client_of(fair, KEY_A) as client:
        holding = asyncio.create_task(client.post(CHAT, json=asked("narrow/held")))
        await asyncio.to_thread(until, lambda: running(fair, "narrow") == 1, what="a call that runs")
        leaving = asyncio.create_task(client.post(CHAT, json=asked("narrow/plain")))
        await asyncio.to_thread(until, lambda: length(fair, "narrow") == 1, what="a call that waits")
        leaving.cancel()
        await asyncio.to_thread(until, lambda: length(fair, "narrow") == 0, what="nobody waiting")
        holding.cancel()
        await asyncio.to_thread(until, lambda: running(fair, "narrow") == 0, what="nobody running")
        assert [seen.body["model"] for seen in server.requests] == ["held"]


async def test_where_there_is_no_room_the_next_target_answers(fair: GatewayProcess, server: Vendor) -> None:
    async with client_of(fair, KEY_A) as client:
        holding = asyncio.create_task(client.post(CHAT, json=asked("hasty/held")))
        await asyncio.to_thread(until, lambda: running(fair, "hasty") == 1, what="a call that runs")
        answer = await client.post(CHAT, json=asked("overflowing"))
        assert answer.headers["x-gateway-target"] == "mock/elsewhere"
        holding.cancel()
    await asyncio.to_thread(until, lambda: running(fair, "hasty") == 0, what="nobody running")


async def test_calls_beyond_what_the_gateway_takes_are_refused_at_once(fair: GatewayProcess, server: Vendor) -> None:
    async with AsyncExitStack() as stack:
        holding = Connections(fair, KEY_A, "patient/held")
        calls = [asyncio.create_task(holding.call()) for _ in range(MOST)]
        await asyncio.to_thread(until, lambda: len(server.requests) == MOST, what="as many calls as may be")
        client = await stack.enter_async_context(client_of(fair, KEY_A))
        refused = await client.post(CHAT, json=asked("patient/plain"), headers={"x-request-id": "mine"})
        other = await client.post("/v1/messages", json={**asked("patient/plain"), "max_tokens": 5})
        assert (await client.get("/healthz")).status_code == 200
        assert numbers(fair, "rag_gateway_turned_away_total") == [2]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.to_thread(until, lambda: numbers(fair, "rag_gateway_calls_in_progress") == [0], what="their end")
        assert (await client.post(CHAT, json=asked("patient/plain"))).status_code == 200
    assert (refused.status_code, refused.headers["retry-after"], refused.headers["x-request-id"]) == (503, "1", "mine")
    assert refused.json()["error"]["code"] == "overloaded"
    assert (other.status_code, other.json()["type"]) == (503, "error")


def length(gateway: GatewayProcess, provider: str) -> int:
    return int(sum(numbers(gateway, f'rag_gateway_queue_length{{priority="normal",provider="{provider}"}}')))


def running(gateway: GatewayProcess, provider: str) -> int:
    return int(sum(numbers(gateway, f'rag_gateway_queue_running{{provider="{provider}"}}')))


def numbers(gateway: GatewayProcess, series: str) -> list[float]:
    text = httpx.get(gateway.url + "/metrics", headers={"authorization": f"Bearer {KEY_ADMIN}"}).text
    return [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series)]
