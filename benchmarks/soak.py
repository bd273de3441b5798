"""Whether a gateway stays the size that it is: mixed load and faults for half an hour, and what is left of it at rest.

    python benchmarks/soak.py --minutes 30
    python benchmarks/soak.py --minutes 30 --retrieval --workers 2

A round of load, then a rest: no call runs, all records are in the store, and memory, file descriptors, threads and
asyncio tasks of all processes are read. After a third of the time, which is warm-up, a line is fitted to each of them
(Theil and Sen's, which single readings can't bend). It is a fault where it rises by more than is allowed over the rest
of the time, where a call ends otherwise than its kind may, or where the log has an unexpected error. Exit status 1 then.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gateway_process import GatewayProcess, until
from redis_process import RedisProcess
from sample_gateway import KEY_A, KEY_ADMIN, KEY_B, key_entry, plain_configuration
from upstream.vendor import Vendor

ROOT = Path(__file__).parents[1]
CHAT = "/v1/chat/completions"
KEY_LIMITED = "sk-gw-soak-limited"
ROUNDS, SHORTEST = 60, 8.0  # rounds in all the time, but none shorter than so many seconds
WARM_UP = 1 / 3
MADE_UP = 2_400  # names, before the first round
STEADY = ("rag_gateway_tasks", "rag_gateway_calls_in_progress", "rag_gateway_records_waiting")

FAULTS: dict[str, dict[str, Any]] = {
    "failing": {"status": 500},
    "limited": {"status": 429, "retry_after": 1},
    "reset": {"die_after": 4, "how": "reset", "text": "word " * 40},
    "truncated": {"die_after": 4, "how": "truncated", "text": "word " * 40},
    "unfinished": {"die_after": 4, "how": "end", "text": "word " * 40},
    "stalled": {"stall_after": 4, "text": "word " * 40},
    "html": {"body": "html"},
    "bad_json": {"body": "bad_json"},
    "long": {"gap": 0.02, "piece": 5, "text": "word " * 60},
    "late": {"delay": 0.3},
    "private": {"text": "Write to nobody, of Bluebird and of bluebird again. " * 20},
}


def configuration(vendor: Vendor, redis: RedisProcess, *, retrieval: bool, docs: Path) -> dict[str, Any]:
    made = plain_configuration(vendor)
    made["access"]["keys"].append(key_entry("limited", KEY_LIMITED, limits={"requests_per_minute": 30, "budget": 1}))
    mock = {
        **made["providers"]["mock"],
        "prices": {"*": {"input": 0.01, "output": 0.02}},
        "circuit": {"failures": 20, "pause": "500ms"},
    }
    words = {"check": "keywords", "lists": [{"kind": "name", "words": ["bluebird"]}]}
    made["providers"] |= {"mock": mock, "queued": {**mock, "queue": {"concurrency": 4, "max_wait": "500ms"}}}
    made["models"] = {
        "plain": {"targets": ["mock/gpt-mock"]},
        "kept": {"targets": ["mock/gpt-mock"], "cache": {"exact": {"ttl": "1m"}}},
        "guarded": {
            "targets": ["mock/private"],
            "guardrails": {"input": [words, "secrets"], "output": [{**words, "action": "mask"}]},
        },
        "copied": {"targets": ["mock/gpt-mock", "mock/copy"], "strategy": "shadow"},
        "hedged": {"targets": ["mock/late", "mock/gpt-mock"], "hedge": {"after": "100ms"}},
        "queued": {"targets": ["queued/late"]},
        "rescued": {"targets": ["mock/failing"], "fallbacks": ["mock/gpt-mock"]},
    }
    made["state"] = {"url": redis.url, "prefix": "soak"}
    if retrieval:
        made["prompts"] = {"folder": str(ROOT / "configs" / "prompts")}
        made["retrieval"] = {
            "embeddings": {"url": vendor.url, "api_key": vendor.api_key, "model": "mock-embed", "dimension": 3},
            "collections": {"office": {"load": [str(docs)]}},
        }
        search = {"collection": "office", "top_k": 3, "mode": "dense"}
        made["models"]["office"] = {"targets": ["mock/gpt-mock"], "prompt": "handbook@1", "retrieval": search}
    return made


# -- load --------------------------------------------------------------------------------------------------
class Load:
    """Clients that ask one thing after another, each thing by chance."""

    def __init__(
        self, gateway: GatewayProcess, clients: int, rate: float, *, retrieval: bool, seed: int, only: list[str]
    ) -> None:
        """`rate`: calls a second of all clients together. `only` these kinds of call, where some are named."""
        self._gateway = gateway
        self._clients = clients
        self._pause = clients / rate
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.unexpected: Counter[tuple[str, str]] = Counter()
        self.calls = 0
        kinds: dict[str, tuple[int, Callable[[httpx.AsyncClient], Awaitable[str]], set[str]]] = {
            "answered": (20, lambda c: self._ask(c, "plain"), {"200"}),
            "streamed": (20, lambda c: self._ask(c, "plain", stream=True), {"200"}),
            "kept": (12, lambda c: self._ask(c, "kept", stream=self._coin(), text=f"again {self._number(150)}"), {"200"}),
            "guarded": (8, lambda c: self._ask(c, "guarded", stream=self._coin()), {"200"}),
            "blocked": (4, lambda c: self._ask(c, "guarded", text="of bluebird"), {"400"}),
            "copied": (4, lambda c: self._ask(c, "copied", stream=self._coin()), {"200"}),
            "hedged": (4, lambda c: self._ask(c, "hedged", stream=self._coin()), {"200"}),
            "queued": (4, lambda c: self._ask(c, "queued"), {"200", "503"}),
            "rescued": (4, lambda c: self._ask(c, "rescued", stream=self._coin()), {"200"}),
            "made up": (4, lambda c: self._ask(c, f"mock/made-up-{next(self._numbers)}"), {"200"}),
            "limited": (4, lambda c: self._ask(c, "plain", key=KEY_LIMITED), {"200", "429", "503"}),
            "embedded": (4, self._embed, {"200"}),
            "failed": (6, self._fail, {"400", "429", "502", "503", "504", "broken", "cut"}),
            "left": (8, self._leave, {"left"}),
            "wrong": (4, self._wrong, {"400", "401", "404"}),
            "told": (2, self._look, {"200"}),
        }  # fmt: skip
        if retrieval:
            kinds["found"] = (8, lambda c: self._ask(c, "office", stream=self._coin()), {"200"})
        self._kinds = {name: kind for name, kind in kinds.items() if not only or name in only}

    async def __aenter__(self) -> Load:
        self._open = await asyncio.gather(*(self._client(key).__aenter__() for key in self._keys()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(client.aclose() for client in self._open))

    async def run(self, seconds: float) -> None:
        """All clients, for so long; the calls that run then come to their end."""
        end = time.monotonic() + seconds
        await asyncio.gather(*(self._ask_on(client, end) for client in self._open))

    async def fill(self) -> None:
        """What is kept of callers and of names that they make up has a bound: up to there it may grow, and does now."""
        await asyncio.gather(*(self._fill_by(client) for client in self._open))

    async def _fill_by(self, client: httpx.AsyncClient) -> None:
        for _ in range(MADE_UP // self._clients):
            await self._ask(client, f"mock/made-up-{next(self._numbers)}", text="hello")
            await self._ask(client, "plain", text="hello", key=f"sk-nobody-{next(self._numbers)}")

    def _keys(self) -> list[str]:
        return [self._random.choice([KEY_A, KEY_B]) for _ in range(self._clients)]

    def _client(self, key: str) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.AsyncClient(base_url=self._gateway.url, headers=headers, timeout=60, trust_env=False, verify=False)

    async def _ask_on(self, client: httpx.AsyncClient, end: float) -> None:
        names = list(self._kinds)
        weights = [self._kinds[name][0] for name in names]
        while time.monotonic() < end:
            (name,) = self._random.choices(names, weights)
            _, ask, allowed = self._kinds[name]
            try:
                how = await ask(client)
            except httpx.HTTPError as failure:
                how = type(failure).__name__
            self.calls += 1
            self.ended[name, how] += 1
            if how not in allowed:
                self.unexpected[name, how] += 1
            await asyncio.sleep(self._pause * self._random.uniform(0.5, 1.5))

    def _coin(self) -> bool:
        return self._random.random() < 0.5

    def _number(self, most: int) -> int:
        return self._random.randrange(most)

    async def _ask(
        self, client: httpx.AsyncClient, model: str, *, stream: bool = False, text: str = "", key: str | None = None
    ) -> str:
        """The status; "broken" for an error within a stream, "cut" where one has no end."""
        said = text or f"question {next(self._numbers)} " + "and so on " * self._number(50)
        body = {"model": model, "messages": [{"role": "user", "content": said}], "stream": stream}
        headers = {"authorization": f"Bearer {key}"} if key else {}
        answer = await client.post(CHAT, json=body, headers=headers)
        if stream and answer.status_code == 200:
            if b'"error"' in answer.content:
                return "broken"
            return "200" if answer.content.endswith(b"data: [DONE]\n\n") else "cut"
        return str(answer.status_code)

    async def _embed(self, client: httpx.AsyncClient) -> str:
        answer = await client.post("/v1/embeddings", json={"model": "mock/mock-embed", "input": ["a", "b"]})
        return str(answer.status_code)

    async def _fail(self, client: httpx.AsyncClient) -> str:
        fault = self._random.choice(
            ["failing", "limited", "reset", "truncated", "unfinished", "stalled", "html", "bad_json"]
        )
        streams = fault in ("reset", "truncated", "unfinished", "stalled") or self._coin()
        return await self._ask(client, f"mock/{fault}", stream=streams)

    async def _leave(self, client: httpx.AsyncClient) -> str:
        """Before the first byte, or in the middle of a stream."""
        body = {"model": "mock/long", "messages": [{"role": "user", "content": "tell me"}], "stream": True}
        if self._coin():
            with contextlib.suppress(httpx.TimeoutException):
                await client.post(CHAT, json={**body, "model": "mock/late"}, timeout=0.1)
            return "left"
        async with client.stream("POST", CHAT, json=body) as answer:
            seen = 0
            async for part in answer.aiter_raw():
                seen += len(part)
                if seen > 600:
                    return "left"
        return "left"

    async def _wrong(self, client: httpx.AsyncClient) -> str:
        kind = self._number(4)
        if kind == 0:
            answer = await client.post(CHAT, content=b'{"model": ', headers={"content-type": "application/json"})
        elif kind == 1:
            answer = await client.post(CHAT, json={"model": "plain", "messages": "no list"})
        elif kind == 2:
            return await self._ask(client, "plain", key=f"sk-nobody-{next(self._numbers)}")
        else:
            return await self._ask(client, f"nobody-{next(self._numbers)}")
        return str(answer.status_code)

    async def _look(self, client: httpx.AsyncClient) -> str:
        answer = await client.get("/v1/models")
        return str(answer.status_code)


# -- at rest -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Reading:
    """`seconds` since the start. `rss` in MB."""

    seconds: float
    rss: float
    descriptors: float
    threads: float
    tasks: float


def metrics(gateway: GatewayProcess) -> dict[str, float]:
    """Of what has to be steady, the sum over all workers."""
    headers = {"authorization": f"Bearer {KEY_ADMIN}"}
    told = httpx.get(gateway.url + "/metrics", headers=headers, timeout=30, trust_env=False, verify=False).text
    found: dict[str, float] = dict.fromkeys(STEADY, 0.0)
    for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? (\S+)$", told, re.MULTILINE):
        if name in STEADY:
            found[name] += float(value)
    return found


def at_rest(gateway: GatewayProcess) -> bool:
    told = metrics(gateway)
    return told["rag_gateway_calls_in_progress"] == 0 and told["rag_gateway_records_waiting"] == 0


def read(gateway: GatewayProcess, began: float) -> Reading:
    parent = psutil.Process(gateway.process.pid)
    rss = descriptors = threads = 0.0
    for process in (parent, *parent.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
            rss += process.memory_info().rss / 1e6
            descriptors += process.num_fds()
            threads += process.num_threads()
    return Reading(time.monotonic() - began, rss, descriptors, threads, metrics(gateway)["rag_gateway_tasks"])


def line(number: int, calls: int, reading: Reading) -> str:
    return json.dumps(
        {"round": number, "calls": calls, **{name: round(getattr(reading, name), 1) for name in Reading.__slots__}}
    )


# -- the verdict -------------------------------------------------------------------------------------------
def slope(points: list[tuple[float, float]]) -> float:
    """Theil and Sen's: the median of the slopes of all pairs of points."""
    return statistics.median((y - v) / (x - u) for (u, v), (x, y) in itertools.combinations(points, 2) if x > u)


def judged(readings: list[Reading], calls_a_second: float, clients: int) -> bool:
    """Print what became of each; whether nothing has grown.

    Connections that idle at rest are as many as calls ran side by side just before: they come and go with chance.
    """
    warm = readings[round(len(readings) * WARM_UP) :]
    span = warm[-1].seconds - warm[0].seconds
    flat = True
    print(
        f"\n| after a warm-up of {warm[0].seconds / 60:.1f} min | first | median | last | a hour | over {span / 60:.1f} min | allowed | |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, unit, least, share in (
        ("rss", "MB", 4.0, 0.03), ("descriptors", "", clients / 2, 0.0), ("threads", "", 2.0, 0.0), ("tasks", "", 2.0, 0.0),
    ):  # fmt: skip
        points = [(reading.seconds, getattr(reading, name)) for reading in warm]
        values = [value for _, value in points]
        rise, middle = slope(points), statistics.median(values)
        grown, allowed = rise * span, max(least, share * middle)
        verdict = "flat" if grown <= allowed else "GROWS"
        flat = flat and grown <= allowed
        print(
            f"| {name} {unit} | {values[0]:.1f} | {middle:.1f} | {values[-1]:.1f} | {rise * 3600:+.2f} | {grown:+.2f} "
            f"| {allowed:.1f} | {verdict} |"
        )
        if name == "rss":
            a_call = f"{grown * 1e6 / max(1.0, calls_a_second * span):+.0f} bytes of memory a call"
    print(f"\n{a_call}; {len(readings)} readings at rest.")
    return flat


async def soak(options: argparse.Namespace, folder: Path) -> bool:
    docs = folder / "docs"
    docs.mkdir()
    (docs / "trains.md").write_text("# Trains\n\nThe train to the office leaves at nine.\n", "utf-8")
    with Vendor() as vendor, RedisProcess(folder / "redis") as redis:
        vendor.behaviours |= FAULTS
        settings = configuration(vendor, redis, retrieval=options.retrieval, docs=docs)
        arguments = ("--workers", str(options.workers)) if options.workers > 1 else ()
        with GatewayProcess(settings, folder / "gateway", arguments=arguments) as gateway:
            load = Load(
                gateway,
                options.clients,
                options.rate,
                retrieval=options.retrieval,
                seed=options.seed,
                only=options.only,
            )
            rounds = max(12, min(ROUNDS, round(options.minutes * 60 / SHORTEST)))
            each = options.minutes * 60 / rounds
            readings: list[Reading] = []
            async with load:
                await load.fill()
                began = time.monotonic()
                for number in range(rounds):
                    running = asyncio.ensure_future(load.run(each))
                    if number % 3 == 1:  # a reload that changes something
                        settings["models"]["plain"]["description"] = f"round {number}"
                        gateway.configure(settings)
                        gateway.reload()
                    if number % 4 == 2:
                        await asyncio.sleep(each * 0.2)
                        await asyncio.to_thread(redis.stop)
                        await asyncio.sleep(each * 0.2)
                        await asyncio.to_thread(redis.start)
                    await running
                    await asyncio.to_thread(until, lambda: at_rest(gateway), 60, "the end of every call")
                    vendor.requests.clear()
                    readings.append(await asyncio.to_thread(read, gateway, began))
                    print(line(number, load.calls, readings[-1]), flush=True)
            took = time.monotonic() - began
            reloads = len(range(1, rounds, 3))
            output = gateway.output
    print("\n| kind of call | ended as |\n| --- | --- |")
    for kind in sorted({name for name, _ in load.ended}):
        told = ", ".join(f"{how}: {count}" for (name, how), count in sorted(load.ended.items()) if name == kind)
        print(f"| {kind} | {told} |")
    print(
        f"\n{load.calls} calls in {took / 60:.1f} min; {reloads} reloads; Redis was away {len(range(2, rounds, 4))} times."
    )
    flat = judged(readings, load.calls / took, options.clients)
    for (kind, how), count in load.unexpected.items():
        print(f"UNEXPECTED: {count} calls of the kind '{kind}' ended as {how}")
    faults = output.count("Traceback") + output.count("unexpected error")
    if faults:
        (where := Path(tempfile.gettempdir()) / "soak-gateway.log").write_text(output, "utf-8")
        print(f"UNEXPECTED: {faults} errors in the log, see {where}")
    return flat and not load.unexpected and not faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--rate", type=float, default=60.0, help="calls a second, of all clients together")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--retrieval", action="store_true", help="Milvus Lite and a search in some calls")
    parser.add_argument("--only", action="append", default=[], metavar="KIND", help="to find out which kind it is")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        ok = asyncio.run(soak(options, Path(folder)))
    print("\nIt stays as it is." if ok else "\nIt does not stay as it is.")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
