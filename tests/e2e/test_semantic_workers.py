"""Semantic caching by two workers over a Milvus server and a Redis: what one has answered, both give; what goes, goes
from both.

Every text is as like as another to the vendor's embedder, so that the words alone tell two questions apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
from gateway_process import GatewayProcess, until
from milvus_process import MilvusProcess
from redis_process import RedisProcess
from sample_gateway import key_entry
from steady_load import whole
from upstream.vendor import Vendor

from gateway.config.loading import load
from gateway.knowledge_service import knowledge_settings
from retrieval.access import SHARED
from retrieval.knowledge import Knowledge

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the server is a program for Linux on x86-64"
)
ROOT = Path(__file__).parents[2]
KEYS = {name: f"sk-gw-canary-crew-{name}-83de" for name in ("ann", "tom", "bert", "admin")}
ADMIN = {"authorization": f"Bearer {KEYS['admin']}"}
CHAT = "/v1/chat/completions"
# As long as the machine needs: what is tested here is not how fast it is.
PATIENT = {"budget": "20s"}
BLANKS = itertools.count(1)
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusProcess]:
    with MilvusProcess(tmp_path_factory.mktemp("milvus") / "server", lease=120) as running:
        yield running


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "leave.md").write_text("# Parental leave\n\nParental leave for employees is fourteen weeks.\n")
    return folder


@pytest.fixture(scope="module")
def started(
    milvus: MilvusProcess,
    redis_server: RedisProcess,
    shared_vendor: Vendor,
    docs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayProcess]:
    mock = {"kind": "openai_compatible", "base_url": shared_vendor.url, "api_key": shared_vendor.api_key}
    embeddings = {"url": shared_vendor.url, "api_key": shared_vendor.api_key, "model": "mock-embed", "dimension": 3}
    plain = ["mock/gpt-mock"]
    knowing = {"prompt": "handbook@1", "targets": ["mock/gpt-cited"], "retrieval": {"collection": "leave", "top_k": 3}}
    knowing["retrieval"]["mode"] = "dense"  # type: ignore[index]  # a mapping, of several kinds of values
    configuration = {
        "server": {"workers": 2},
        "state": {"url": redis_server.url, "prefix": "e2e-semantic-workers", "deadline": "2s"},
        "access": {
            "open_on_loopback": False,
            "keys": [
                key_entry("ann", KEYS["ann"], tenant="a", user="ann"),
                key_entry("tom", KEYS["tom"], tenant="a", user="tom"),
                key_entry("bert", KEYS["bert"], tenant="b", user="ann"),
                key_entry("admin", KEYS["admin"], admin=True),
            ],
        },
        "prompts": {"folder": str(ROOT / "configs" / "prompts")},
        "providers": {"mock": mock, "gpu": {**mock, "queue": {"concurrency": 3}}},
        "retrieval": {
            "milvus": {"uri": milvus.url, "bm25": False},
            "embeddings": embeddings,
            "collections": {"leave": {"load": [str(docs)]}},
        },
        "models": {
            "alike": {"targets": plain, "cache": {"exact": {"ttl": "1h"}, "semantic": PATIENT}},
            "memory": {"targets": plain, "cache": {"semantic": {**PATIENT, "store": "memory"}}},
            "shadow": {"targets": ["mock/gpt-shadow"], "cache": {"semantic": {**PATIENT, "shadow": True}}},
            "brief": {"targets": plain, "cache": {"semantic": {"budget": "100ms"}}},
            "leave": {**knowing, "cache": {"semantic": PATIENT}},
            "queued": {"targets": ["gpu/queued"]},
        },
    }
    with GatewayProcess(configuration, tmp_path_factory.mktemp("crew")) as running:
        until(lambda: whole(running), what="two workers")
        for number in (1, 2):
            with worker(running, number) as client:
                until(lambda client=client: semantic(client)["answers"]["milvus"] is not None, what="Milvus")  # type: ignore[misc]  # the default binds the loop's value
        yield running
    assert "Traceback" not in running.output, running.output


@pytest.fixture
def crew(started: GatewayProcess, vendor: Vendor) -> GatewayProcess:
    until(lambda: whole(started), what="two workers")
    return started


@contextlib.contextmanager
def worker(gateway: GatewayProcess, number: int) -> Iterator[httpx.Client]:
    """A connection that this worker has."""

    def connected() -> httpx.Client | None:
        client = httpx.Client(base_url=gateway.url, timeout=60, limits=httpx.Limits(max_connections=1))
        with contextlib.suppress(httpx.HTTPError):  # the connection was one of a worker that was just killed
            if client.get("/readyz").json()["worker"] == number:
                return client
        client.close()
        return None

    client: httpx.Client = until(connected, what=f"a connection to worker {number}")
    try:
        yield client
    finally:
        client.close()


class Question(NamedTuple):
    """Only those about the same are compared: what it is about goes as the request's `seed`."""

    words: str
    about: int


class Told(NamedTuple):
    text: str
    cache: str
    call: str


def ask(gateway: GatewayProcess, number: int, question: Question, *, key: str = "ann", model: str = "alike") -> Told:
    """What this worker answers to words that no request had before: the exact cache is out of it."""
    with worker(gateway, number) as client:
        return ask_over(client, question, key=key, model=model)


def ask_over(client: httpx.Client, question: Question, *, key: str = "ann", model: str = "alike") -> Told:
    messages = [{"role": "user", "content": question.words + " " * next(BLANKS)}]
    body = {"model": model, "messages": messages, "seed": question.about}
    answer = client.post(CHAT, json=body, headers={"authorization": f"Bearer {KEYS[key]}"})
    assert answer.status_code == 200, answer.text
    said = answer.json()["choices"][0]["message"]["content"]
    return Told(said, answer.headers["x-gateway-cache"], answer.headers["x-gateway-call-id"])


def found(gateway: GatewayProcess, number: int, question: Question, **more: Any) -> Told:
    """The same once it is a kept answer: a worker keeps one a little after it is given."""

    def kept() -> Told | None:
        told = ask(gateway, number, question, **more)
        return told if told.cache == "semantic" else None

    return until(kept, what="a kept answer")  # type: ignore[no-any-return]  # it is what `kept` gives


def semantic(client: httpx.Client) -> Any:
    told = client.get("/admin/cache", headers=ADMIN)
    assert told.status_code == 200, told.text
    return told.json()["semantic"]


def purge(gateway: GatewayProcess, number: int, what: dict[str, Any]) -> int:
    """A worker that is late with its answer is asked again, as the error says."""

    def answered() -> httpx.Response | None:
        with worker(gateway, number) as client:
            told = client.post("/admin/cache/purge", json=what, headers=ADMIN)
        return None if told.status_code == 503 else told

    return int(until(answered, what="the purge").json()["purged"])


def questions(
    one: str = "How do I reset my password?", other: str = "How can I reset my password?"
) -> tuple[Question, Question]:
    """A new question, and one that means the same."""
    about = next(NUMBERS)
    return Question(one, about), Question(other, about)


def test_what_one_worker_has_answered_the_other_gives_to_whom_it_is_for(crew: GatewayProcess, vendor: Vendor) -> None:
    question, paraphrase = questions()
    vendor.behaviours["gpt-mock"] = {"text": "canary of tenant a"}
    assert ask(crew, 1, question).cache == "miss"
    for number in (2, 1):
        assert found(crew, number, paraphrase).text == "canary of tenant a"
        assert found(crew, number, paraphrase, key="tom").text == "canary of tenant a"
    vendor.behaviours["gpt-mock"] = {"text": "another"}
    for number in (1, 2):
        for said in (question, paraphrase):
            told = ask(crew, number, said, key="bert")
            assert told.text == "another"
    assert ask(crew, 2, paraphrase._replace(words="How can I delete my password?"))[:2] == ("another", "miss")


@pytest.mark.parametrize(("at", "what"), [(1, {"model": "alike"}), (2, {"tenant": "a"}), (1, {"user": "ann"})])
def test_a_purge_at_one_worker_reaches_what_both_have_kept(
    crew: GatewayProcess, vendor: Vendor, at: int, what: dict[str, str]
) -> None:
    (first, again), (other, other_again) = questions(), questions()
    vendor.behaviours["gpt-mock"] = {"text": "before"}
    ask(crew, 1, first)
    ask(crew, 2, other)
    found(crew, 2, again)
    found(crew, 1, other_again)
    assert purge(crew, at, what) >= 2
    vendor.behaviours["gpt-mock"] = {"text": "after"}
    for number in (1, 2):
        for said in (again, other_again):
            assert ask(crew, number, said).text == "after"


def test_a_purge_by_key_takes_the_one_answer(crew: GatewayProcess, vendor: Vendor) -> None:
    question, paraphrase = questions()
    ask(crew, 1, question)
    given = found(crew, 2, paraphrase)

    def recorded() -> dict[str, Any] | None:
        headers = {"authorization": f"Bearer {KEYS['ann']}"}
        told = httpx.get(f"{crew.url}/v1/calls/{given.call}", headers=headers, timeout=30)
        return told.json()["cache_decision"]["semantic"] if told.status_code == 200 else None

    decision = until(recorded, what="the record")
    assert decision["outcome"] == "hit"
    assert purge(crew, 1, {"key": decision["key"]}) >= 1
    for number in (1, 2):
        assert ask(crew, number, paraphrase).text != given.text


def test_erasing_a_user_reaches_what_both_workers_have_kept(crew: GatewayProcess, vendor: Vendor) -> None:
    (first, again), (other, other_again) = questions(), questions()
    vendor.behaviours["gpt-mock"] = {"text": "before"}
    for number, said in ((1, first), (2, other)):
        ask(crew, number, said, key="tom")
    found(crew, 2, again, key="tom")
    found(crew, 1, other_again, key="tom")

    def erased() -> httpx.Response | None:
        with worker(crew, 2) as client:
            told = client.post("/admin/erasures", json={"tenant": "a", "user": "tom"}, headers=ADMIN)
        return None if told.status_code == 503 else told

    receipt = until(erased, what="the erasure")
    assert receipt.json()["erased"]["cached_answers"] >= 2, receipt.text
    vendor.behaviours["gpt-mock"] = {"text": "after"}
    for number in (1, 2):
        for said in (again, other_again):
            assert ask(crew, number, said, key="tom").text == "after"


def test_a_document_that_changes_or_goes_takes_its_answers_from_both(
    crew: GatewayProcess, vendor: Vendor, docs: Path
) -> None:
    question, paraphrase = questions(
        "How many weeks is the parental leave for employees?", "How many weeks is parental leave for the employees?"
    )
    vendor.behaviours["gpt-cited"] = {"text": "It is fourteen weeks [1]."}
    ask(crew, 1, question, model="leave")
    for number in (2, 1):
        assert found(crew, number, paraphrase, model="leave").text == "It is fourteen weeks [1]."

    (docs / "leave.md").write_text("# Parental leave\n\nParental leave for employees is twenty weeks.\n")
    asyncio.run(loaded(crew, docs))
    vendor.behaviours["gpt-cited"] = {"text": "It is twenty weeks [1]."}
    for number in (1, 2):
        assert ask(crew, number, paraphrase, model="leave").text == "It is twenty weeks [1]."
        assert found(crew, number, paraphrase, model="leave").text == "It is twenty weeks [1]."

    (docs / "leave.md").rename(docs / "leave.gone")
    asyncio.run(loaded(crew, docs))
    vendor.behaviours["gpt-cited"] = {"text": "Nobody says."}
    for number in (1, 2):
        assert ask(crew, number, paraphrase, model="leave").text == "Nobody says."


async def loaded(gateway: GatewayProcess, folder: Path) -> None:
    """As `rag-gateway ingest --prune` does."""
    async with Knowledge.open(knowledge_settings(load(gateway.file).configuration)) as knowledge:
        await knowledge.ingest(
            [folder], collection="leave", tenant=SHARED, on_progress=lambda name, done, total: None, prune=True
        )


def test_in_memory_each_worker_has_its_own_and_a_purge_reaches_both(crew: GatewayProcess, vendor: Vendor) -> None:
    question, paraphrase = questions()
    vendor.behaviours["gpt-mock"] = {"text": "of worker 1"}
    ask(crew, 1, question, model="memory")
    assert found(crew, 1, paraphrase, model="memory").text == "of worker 1"
    vendor.behaviours["gpt-mock"] = {"text": "of worker 2"}
    assert ask(crew, 2, paraphrase, model="memory").text == "of worker 2"
    found(crew, 2, paraphrase, model="memory")
    for number in (1, 2):  # whichever is asked tells of both
        with worker(crew, number) as client:
            until(lambda client=client: semantic(client)["answers"]["memory"] >= 2, what="what both have")  # type: ignore[misc]  # the default binds the loop's value
    assert purge(crew, 2, {"model": "memory"}) >= 2
    vendor.behaviours["gpt-mock"] = {"text": "after"}
    for number in (1, 2):
        assert ask(crew, number, paraphrase, model="memory").text == "after"


def test_shadow_mode_s_reports_are_of_both_workers(crew: GatewayProcess, vendor: Vendor) -> None:
    question, paraphrase = questions()

    def counts(number: int) -> dict[str, float]:
        with worker(crew, number) as client:
            return semantic(client)["models"].get("shadow", {})  # type: ignore[no-any-return]  # JSON

    vendor.behaviours["gpt-shadow"] = {"text": "Press the red button for 5 seconds."}
    ask(crew, 1, question, model="shadow")
    until(lambda: ask(crew, 1, paraphrase, model="shadow") and counts(2).get("agreed"), what="what agrees")
    assert "false_hit" not in counts(1)
    vendor.behaviours["gpt-shadow"] = {"text": "Press the red button for 9 seconds."}
    assert ask(crew, 2, paraphrase, model="shadow")[:2] == ("Press the red button for 9 seconds.", "miss")
    for number in (1, 2):
        told = until(lambda number=number: (said := counts(number)).get("false_hit") and said, what="what does not")  # type: ignore[misc]  # the default binds the loop's value
        assert told["false_hit_rate"] == 1 / (told["agreed"] + 1)
    line = 'rag_gateway_semantic_cache_total{model="shadow",outcome="false_hit"} 1.0'
    until(lambda: line in httpx.get(crew.url + "/metrics", headers=ADMIN, timeout=30).text, what="the metrics of both")


def test_a_worker_that_replaces_another_goes_on_with_what_was_kept(crew: GatewayProcess, vendor: Vendor) -> None:
    question, paraphrase = questions()
    told = ask(crew, 1, question)
    vendor.behaviours["gpt-mock"] = {"text": told.text}
    victim = psutil.Process(crew.workers()[1])
    victim.kill()
    psutil.wait_procs([victim], 60)
    assert found(crew, 2, paraphrase).text == told.text
    until(lambda: whole(crew), what="another worker")
    assert found(crew, 1, paraphrase).text == told.text


def test_without_milvus_both_workers_go_on_uncached_and_count_it(
    crew: GatewayProcess, vendor: Vendor, milvus: MilvusProcess
) -> None:
    question, paraphrase = questions()
    ask(crew, 1, question)
    found(crew, 2, paraphrase)
    with worker(crew, 1) as one, worker(crew, 2) as two, milvus.hanging():
        for client in (one, two, one, two):
            assert ask_over(client, question, model="brief").cache == "miss"
        assert semantic(one)["answers"]["milvus"] is None
        assert one.get("/readyz").json()["components"]["knowledge"] == "unavailable"

    def counted() -> bool:
        with worker(crew, 2) as client:
            told = semantic(client)["models"].get("brief", {})
        return bool(told.get("late", 0) + told.get("unavailable", 0) == 4)

    until(counted, what="the counts of both")
    for number in (1, 2):
        found(crew, number, paraphrase)


def test_of_a_server_s_queue_each_worker_has_a_part(crew: GatewayProcess, vendor: Vendor) -> None:
    """Of 3 calls at a time: 2 and 1, each in an order of its own."""
    vendor.behaviours["queued"] = {"capacity": 100, "work": 0.05}

    async def crowd() -> list[int]:
        headers = {"authorization": f"Bearer {KEYS['ann']}"}
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=crew.url, headers=headers, limits=limits, timeout=60) as client:
            body = {"model": "queued", "messages": [{"role": "user", "content": "hello"}]}
            return [
                told.status_code for told in await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(24)))
            ]

    assert asyncio.run(crowd()) == [200] * 24
    assert 1 <= vendor.most_running["queued"] <= 3
    rows = httpx.get(crew.url + "/admin/targets", headers=ADMIN, timeout=30).json()["data"]
    queues = {row["worker"]: row["queue"] for row in rows if row["target"] == "gpu/queued"}
    assert {number: queue["concurrency"] for number, queue in queues.items()} == {1: 2, 2: 1}
    assert {(queue["running"], queue["waiting"]) for queue in queues.values()} == {(0, 0)}
