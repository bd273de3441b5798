"""D1: the record store goes away while keys of it are used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from gateway_process import GatewayProcess, until
from postgres_process import PostgresProcess
from sample_gateway import KEY_A, KEY_ADMIN, key_entry
from upstream.vendor import Vendor

from gateway.cli import main
from gateway.records.database import Database

HELLO: dict[str, Any] = {"model": "plain", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresProcess]:
    """One that these tests may stop."""
    with PostgresProcess(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@contextmanager
def serving(vendor: Vendor, folder: Path, records: dict[str, Any], **access: Any) -> Iterator[GatewayProcess]:
    configuration = {
        "access": {"keys": [key_entry("a", KEY_A), key_entry("admin", KEY_ADMIN, admin=True)], **access},
        "records": records,
        "providers": {"mock": {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}},
        "models": {"plain": {"targets": ["mock/gpt-mock"]}},
    }
    with GatewayProcess(configuration, folder) as running:
        yield running
    assert "Traceback" not in running.output, running.output


def prepared(postgres: PostgresProcess) -> str:
    url = postgres.database()
    database = Database(url)
    database.upgrade()
    database.close()
    return url


def made(gateway: GatewayProcess) -> dict[str, Any]:
    command = ["keys", "create", "--url", gateway.url, "--api-key", KEY_ADMIN, "--json"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.output)
    return told


def status(gateway: GatewayProcess, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    url = gateway.url + "/v1/chat/completions"
    return httpx.post(url, json=HELLO, headers=headers, timeout=20, trust_env=False).status_code


def readiness(gateway: GatewayProcess) -> tuple[int, str]:
    answer = httpx.get(gateway.url + "/readyz", timeout=20, trust_env=False)
    return answer.status_code, answer.json()["status"]


def others(gateway: GatewayProcess, known: str, unknown: list[str]) -> None:
    """Keys that are known go on, configured ones too; the rest is refused, and never with 200."""
    for _ in range(2):
        assert [status(gateway, key) for key in (known, KEY_A)] == [200, 200]
        assert {status(gateway, key) for key in unknown} <= {401, 503}
    headers = {"authorization": f"Bearer {KEY_ADMIN}"}
    answer = httpx.post(gateway.url + "/admin/keys", json={}, headers=headers, timeout=20, trust_env=False)
    assert answer.status_code in (201, 503)


def test_d1_postgresql_stopped_and_started(vendor: Vendor, postgres: PostgresProcess, tmp_path: Path) -> None:
    with serving(vendor, tmp_path, {"url": prepared(postgres)}) as gateway:
        known, unknown = made(gateway), made(gateway)
        assert status(gateway, known["key"]) == 200
        postgres.stop()
        try:
            until(lambda: readiness(gateway) == (200, "degraded"), what="a degraded gateway")
            others(gateway, known["key"], [unknown["key"], "sk-gw-nobody"])
            assert {status(gateway, key) for key in (unknown["key"], "sk-gw-nobody")} == {503}
        finally:
            postgres.start()
        until(lambda: readiness(gateway) == (200, "ready"), what="a whole gateway")
        assert [status(gateway, key) for key in (known["key"], unknown["key"])] == [200, 200]
        assert status(gateway, "sk-gw-nobody") == 401


def test_d1_postgresql_hangs(vendor: Vendor, postgres: PostgresProcess, tmp_path: Path) -> None:
    with serving(vendor, tmp_path, {"url": prepared(postgres)}) as gateway:
        known, unknown = made(gateway), made(gateway)
        assert status(gateway, known["key"]) == 200
        postgres.hang()
        try:
            others(gateway, known["key"], [unknown["key"], "sk-gw-nobody"])
            until(lambda: readiness(gateway) == (200, "degraded"), what="a degraded gateway")
        finally:
            postgres.wake()
        until(lambda: readiness(gateway) == (200, "ready"), what="a whole gateway")
        until(lambda: status(gateway, unknown["key"]) == 200, what="a look-up")


def test_d1_after_the_grace_the_store_s_keys_are_refused_and_others_go_on(
    vendor: Vendor, postgres: PostgresProcess, tmp_path: Path
) -> None:
    with serving(vendor, tmp_path, {"url": prepared(postgres)}, key_grace="1s") as gateway:
        known = made(gateway)
        assert status(gateway, known["key"]) == 200
        postgres.stop()
        try:
            until(lambda: status(gateway, known["key"]) == 503, what="the end of the grace")
            assert status(gateway, KEY_A) == 200
            assert readiness(gateway) == (200, "degraded")
        finally:
            postgres.start()
        until(lambda: status(gateway, known["key"]) == 200, what="the store")


def test_d1_the_sqlite_file_moved_away(vendor: Vendor, tmp_path: Path) -> None:
    with serving(vendor, tmp_path, {}) as gateway:
        known, unknown = made(gateway), made(gateway)
        assert status(gateway, known["key"]) == 200
        away = tmp_path / "away"
        away.mkdir()
        files = list((tmp_path / "data").glob("gateway.db*"))
        assert files
        for file in files:
            file.rename(away / file.name)
        for key in (known["key"], KEY_A):
            assert status(gateway, key) == 200
        assert {status(gateway, f"sk-gw-nobody-{number}") for number in range(5)} <= {401, 503}
        assert status(gateway, unknown["key"]) in (200, 401, 503)  # its file is open, and may be read still
        assert readiness(gateway)[0] == 200
        for file in away.iterdir():
            file.rename(tmp_path / "data" / file.name)
        until(lambda: status(gateway, unknown["key"]) == 200, what="the store")
        assert status(gateway, "sk-gw-nobody") == 401
        fresh = made(gateway)
        assert status(gateway, fresh["key"]) == 200
