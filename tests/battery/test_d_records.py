"""D1, D2, D8: the record store stopped, hung, read-only or late under load, and a disk without room."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from gateway_process import GatewayProcess, until
from load import Load
from postgres_process import PostgresProcess
from sample_gateway import KEY_A, KEY_ADMIN, plain_configuration
from sqlalchemy import text
from upstream.vendor import Vendor

from gateway.records.database import Database

BEARER = {"authorization": f"Bearer {KEY_A}"}
PRICES = {"input": 1.0, "output": 10.0}


def configuration(vendor: Vendor, **records: Any) -> dict[str, Any]:
    made = plain_configuration(vendor)
    for provider in made["providers"].values():
        provider["prices"] = {"*": PRICES}
    return {**made, "records": records, "limits": [{"per": ["key"], "budget": 1000}]}


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresProcess]:
    """One that these tests may stop."""
    with PostgresProcess(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture
def url(postgres: PostgresProcess) -> str:
    made = postgres.database()
    database = Database(made)
    database.upgrade()
    database.close()
    return made


@pytest.fixture
def gateway(vendor: Vendor, url: str, tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(configuration(vendor, url=url), tmp_path) as running:
        yield running
    assert "Traceback" not in running.output, running.output


def told(gateway: GatewayProcess, call_id: str) -> httpx.Response:
    return httpx.get(f"{gateway.url}/v1/calls/{call_id}", headers=BEARER, timeout=20, trust_env=False)


def metric(gateway: GatewayProcess, name: str) -> float:
    headers = {"authorization": f"Bearer {KEY_ADMIN}"}
    lines = httpx.get(gateway.url + "/metrics", headers=headers, timeout=20, trust_env=False).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def components(gateway: GatewayProcess) -> tuple[int, str]:
    answer = httpx.get(gateway.url + "/readyz", timeout=5, trust_env=False)
    return answer.status_code, answer.json()["components"]["records"]


def ledger(url: str) -> tuple[list[str], tuple[Any, ...], tuple[Any, ...]]:
    """Which calls are kept; how many, with how many tokens; and the same as it is charged."""
    database = Database(url)
    database.prepare()
    with database.reading() as connection:
        kept = [row[0] for row in connection.execute(text("SELECT call_id FROM calls"))]
        counted = connection.execute(text("SELECT count(*), sum(prompt_tokens + completion_tokens) FROM calls")).one()
        charged = connection.execute(text("SELECT sum(calls), sum(tokens) FROM spend")).one()
    database.close()
    return kept, tuple(counted), tuple(charged)


def caught_up(gateway: GatewayProcess, load: Load, url: str) -> None:
    """Every answer of `load` is kept and charged once, nothing else is, and the disk is given back."""
    until(lambda: metric(gateway, "rag_gateway_records_waiting") == 0, what="the records in the store")
    kept, counted, charged = ledger(url)
    assert sorted(kept) == sorted(seen.call_id for seen in load.seen)
    assert counted == charged
    assert metric(gateway, "rag_gateway_records_dropped") == 0
    until(lambda: components(gateway) == (200, "ok"), what="the record store")


def test_d1_postgresql_is_stopped_under_load_and_comes_back(
    gateway: GatewayProcess, postgres: PostgresProcess, url: str
) -> None:
    with Load(gateway.url, KEY_A) as load:
        until(lambda: len(load.answered) > 30, what="answers before")
        postgres.stop()
        try:
            stopped = len(load.answered)
            until(lambda: components(gateway) == (200, "unavailable"), what="noticing")
            until(lambda: len(load.answered) > stopped + 60, what="answers during the outage")
            late = told(gateway, load.answered[-1].call_id)
        finally:
            postgres.start()
        back = len(load.answered)
        until(lambda: len(load.answered) > back + 30, what="answers after")
    assert (late.status_code, late.json()["error"]["code"]) == (503, "store_unavailable")
    assert (load.statuses, load.broken) == ({200}, 0)
    caught_up(gateway, load, url)
    assert told(gateway, load.answered[-1].call_id).json()["id"] == load.answered[-1].call_id


def test_d1_postgresql_hangs_under_load(gateway: GatewayProcess, postgres: PostgresProcess, url: str) -> None:
    with Load(gateway.url, KEY_A) as load:
        until(lambda: len(load.answered) > 30, what="answers before")
        postgres.hang()
        try:
            hung = len(load.answered)
            until(lambda: len(load.answered) > hung + 100, what="answers while it hangs")
            until(lambda: components(gateway) == (200, "unavailable"), what="noticing")
        finally:
            postgres.wake()
    assert (load.statuses, load.broken) == ({200}, 0)
    caught_up(gateway, load, url)


def test_d1_postgresql_takes_no_writes_for_a_while(
    gateway: GatewayProcess, postgres: PostgresProcess, url: str
) -> None:
    """As a standby does, or a server that an operator has told to."""

    def read_only(wish: str) -> None:
        with psycopg.connect(url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
            name = connection.info.dbname
            connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {wish}')  # type: ignore[call-overload]  # a name can't be a parameter
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                (name,),
            )

    with Load(gateway.url, KEY_A) as load:
        read_only("on")
        until(lambda: components(gateway) == (200, "unavailable"), what="noticing")
        read_only("off")
    assert (load.statuses, load.broken) == ({200}, 0)
    caught_up(gateway, load, url)


def test_d1_what_waits_when_the_gateway_ends_is_brought_by_the_next_one(
    vendor: Vendor, postgres: PostgresProcess, url: str, tmp_path: Path
) -> None:
    settings = configuration(vendor, url=url)
    with GatewayProcess(settings, tmp_path) as gateway:
        postgres.stop()
        try:
            with Load(gateway.url, KEY_A) as load:
                until(lambda: len(load.answered) > 30, what="answers")
            gateway.__exit__(None, None, None)
        finally:
            postgres.start()
    assert "wait in the spool" in gateway.output
    with GatewayProcess(settings, tmp_path) as gateway:
        assert told(gateway, load.answered[-1].call_id).status_code == 200
        caught_up(gateway, load, url)


# -- D2 ----------------------------------------------------------------------------------------------------
def test_d2_a_gateway_that_starts_before_its_database_is_ready_when_it_is_there(
    vendor: Vendor, postgres: PostgresProcess, url: str, tmp_path: Path
) -> None:
    gateway = GatewayProcess(configuration(vendor, url=url), tmp_path)

    def state() -> tuple[int, str] | None:
        with contextlib.suppress(httpx.ConnectError):
            return components(gateway)
        return None

    postgres.stop()
    with ThreadPoolExecutor(1) as pool:
        try:
            start = pool.submit(gateway.__enter__)
            until(lambda: state() == (503, "starting"), 60, "a gateway that waits")
            early = Load(gateway.url, KEY_A, clients=1)
            with early:
                until(lambda: early.seen, what="an answer to whoever asks all the same")
        finally:
            postgres.start()
        start.result(60)
        try:
            assert early.statuses == {200}
            caught_up(gateway, early, url)
        finally:
            gateway.__exit__(None, None, None)
    assert "Traceback" not in gateway.output, gateway.output


# -- D8 ----------------------------------------------------------------------------------------------------
class Disk:
    """The disk of one process has no room: nothing it writes to any file takes more than its first byte."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._process = psutil.Process(gateway.process.pid)
        self._before = self._process.rlimit(psutil.RLIMIT_FSIZE)

    def full(self) -> None:
        self._process.rlimit(psutil.RLIMIT_FSIZE, (1, self._before[1]))

    def roomy(self) -> None:
        self._process.rlimit(psutil.RLIMIT_FSIZE, self._before)


def test_d8_a_full_disk_is_served_over_and_no_record_is_lost(vendor: Vendor, tmp_path: Path) -> None:
    with GatewayProcess(configuration(vendor, durability="fast"), tmp_path) as gateway:
        disk = Disk(gateway)
        with Load(gateway.url, KEY_A) as load:
            until(lambda: len(load.answered) > 30, what="answers before")
            disk.full()
            full = len(load.answered)
            until(lambda: len(load.answered) > full + 100, what="answers without a disk")
            until(lambda: components(gateway) == (200, "unavailable"), what="noticing")
            disk.roomy()
        assert (load.statuses, load.broken) == ({200}, 0)
        caught_up(gateway, load, f"sqlite:///{tmp_path / 'data' / 'gateway.db'}")
    assert "Traceback" not in gateway.output, gateway.output


def test_d8_strict_refuses_while_the_disk_is_full(vendor: Vendor, tmp_path: Path) -> None:
    with GatewayProcess(configuration(vendor, durability="strict"), tmp_path) as gateway:
        disk = Disk(gateway)
        with httpx.Client(base_url=gateway.url, headers=BEARER, timeout=20, trust_env=False) as client:

            def call(stream: bool = False) -> httpx.Response:
                asked = {"model": "plain", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
                return client.post("/v1/chat/completions", json=asked)

            assert call().status_code == 200
            disk.full()
            refused = [call(stream=True), call(), call()]
            disk.roomy()
            until(lambda: call().status_code == 200, what="an answer again")
        assert "[DONE]" not in refused[0].text  # it had begun: its end says that it is not whole
        for answer in refused[1:]:
            assert answer.status_code == 503
            assert "no room to record calls" in answer.json()["error"]["message"]
            assert answer.headers["retry-after"] == "5"
        assert len(vendor.requests) <= 4  # only what had begun before it was noticed was asked upstream
        until(lambda: metric(gateway, "rag_gateway_records_waiting") == 0, what="the records in the store")
        kept, counted, charged = ledger(f"sqlite:///{tmp_path / 'data' / 'gateway.db'}")
        assert len(kept) == len(vendor.requests)
        assert counted == charged
    assert "Traceback" not in gateway.output, gateway.output


def test_d8_a_spool_of_its_configured_size_refuses_or_drops_and_counts(
    vendor: Vendor, url: str, postgres: PostgresProcess, tmp_path: Path
) -> None:
    spool = {"max_bytes": "100kB", "when_full": "refuse"}
    with GatewayProcess(configuration(vendor, url=url, spool=spool), tmp_path) as gateway:
        postgres.stop()
        try:
            with Load(gateway.url, KEY_A) as load:
                until(lambda: 503 in load.statuses, what="a refusal")
        finally:
            postgres.start()
        held = sum(file.stat().st_size for file in (tmp_path / "data" / "spool").rglob("*.log"))
        assert held < 200_000
        assert load.statuses == {200, 503}
        until(lambda: metric(gateway, "rag_gateway_records_waiting") == 0, what="the records in the store")
        kept, counted, charged = ledger(url)
        assert sorted(kept) == sorted(seen.call_id for seen in load.answered)
        assert counted == charged
        with Load(gateway.url, KEY_A) as again:
            until(lambda: len(again.answered) > 3, what="answers again")
        assert again.statuses == {200}
