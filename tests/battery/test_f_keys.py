"""F7 to F11: ways in. Two workers over one Redis and one PostgreSQL, so that what holds, holds in each of them."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from gateway_process import GatewayProcess, status_of, until
from postgres_process import PostgresProcess
from redis_process import RedisProcess
from sample_gateway import KEY_A, KEY_ADMIN, key_entry
from upstream.vendor import Vendor

from gateway.records.database import Database

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "plain", "messages": [{"role": "user", "content": "hello"}]}

# What has opened databases elsewhere, in every place where a request can name something.
SQL = (
    "' OR '1'='1", "' OR 1=1 --", '" OR ""="', "'; DROP TABLE keys; --", "1; SELECT pg_sleep(5)", "') OR ('a'='a",
    "' UNION SELECT digest, key, prefix, 1, 1 FROM key_secrets --", "\\' OR 1=1 --", "%27%20OR%201=1", "a' AND SLEEP(5)#",
    "$$; DELETE FROM audit_log; $$", "*", "%", "_", "\u02bc OR 1=1", "x'; UPDATE keys SET revoked_at = NULL; --",
)  # fmt: skip


@pytest.fixture(scope="module")
def pair(
    shared_vendor: Vendor,
    redis_server: RedisProcess,
    postgres_server: PostgresProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayProcess]:
    url = postgres_server.database()
    database = Database(url)
    database.upgrade()
    database.close()
    configuration = {
        "access": {"keys": [key_entry("a", KEY_A, tenant="a", user="ada"), key_entry("admin", KEY_ADMIN, admin=True)]},
        "records": {"url": url},
        "state": {"url": redis_server.url, "prefix": "f-keys", "deadline": "2s"},
        "providers": {
            "mock": {"kind": "openai_compatible", "base_url": shared_vendor.url, "api_key": shared_vendor.api_key}
        },
        "models": {"plain": {"targets": ["mock/gpt-mock"]}},
    }
    folder = tmp_path_factory.mktemp("pair")
    with GatewayProcess(configuration, folder, arguments=("--workers", "2")) as running:
        yield running
    assert "Traceback" not in running.output, running.output


@pytest.fixture(scope="module")
def each(pair: GatewayProcess) -> Iterator[list[httpx.Client]]:
    """A client for each worker: the connection that it holds open is that worker's."""
    with ExitStack() as stack:
        found: dict[int, httpx.Client] = {}

        def both() -> bool:
            client = stack.enter_context(httpx.Client(base_url=pair.url, timeout=20, trust_env=False))
            found.setdefault(client.get("/readyz").json()["worker"], client)
            return len(found) == 2

        until(both, what="a connection to each worker")
        yield list(found.values())


@pytest.fixture
def admin(pair: GatewayProcess, vendor: Vendor) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=pair.url, headers={"authorization": f"Bearer {KEY_ADMIN}"}, timeout=20, trust_env=False
    ) as client:
        yield client


def made(admin: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = admin.post("/admin/keys", json=body)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def statuses(each: list[httpx.Client], key: str) -> set[int]:
    """What each worker says to a call with this key."""
    headers = {"authorization": f"Bearer {key}"}
    return {client.post(CHAT, json=HELLO, headers=headers).status_code for client in each}


# -- F7 ----------------------------------------------------------------------------------------------------
def test_f7_nothing_but_the_whole_key_is_one(each: list[httpx.Client], admin: httpx.Client, vendor: Vendor) -> None:
    stored = made(admin)
    assert statuses(each, stored["key"]) == {200}
    vendor.clear()
    for key in (stored["key"], KEY_A):
        digest = hashlib.sha256(key.encode()).hexdigest()
        wrong = [key[:-1], key[:20], key[:20] + "A" * (len(key) - 20), key + "A", key.upper(), digest, f"sha256:{digest}",
                 digest[:32], digest.upper(), stored["id"], stored["prefix"].removesuffix("…"), f"{key},{key}",
                 f"{key} x"]  # fmt: skip
        for token in wrong:
            assert statuses(each, token) == {401}, token
    assert vendor.requests == []


# -- F8 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("payload", SQL)
def test_f8_sql_is_a_word_like_any_other(
    pair: GatewayProcess, each: list[httpx.Client], admin: httpx.Client, vendor: Vendor, payload: str
) -> None:
    stored = made(admin, name=payload, user=payload, groups=[payload])
    assert stored["name"] == payload
    before = [key["id"] for key in admin.get("/admin/keys", params={"limit": 1000}).json()["data"]]
    entries = admin.get("/admin/audit", params={"limit": 1}).json()["data"][0]["id"]
    bearer = b"Bearer " + payload.encode("utf-8")
    assert {client.post(CHAT, json=HELLO, headers={b"authorization": bearer}).status_code for client in each} == {401}
    quoted = f"/admin/keys/{quote(payload, safe='')}"
    for method, path in (
        ("GET", quoted),
        ("POST", quoted + "/revoke"),
        ("POST", quoted + "/rotate"),
        ("PATCH", quoted),
    ):
        assert admin.request(method, path, json={}).status_code in (400, 404), (method, path)
    for path, names in (("/admin/keys", ("tenant", "after", "limit")), ("/admin/rollouts", ("model", "limit")),
                        ("/admin/audit", ("action", "key", "target", "tenant", "outcome", "since", "before"))):  # fmt: skip
        for name in names:
            answer = admin.get(path, params={name: payload})
            assert answer.status_code in (200, 400), (path, name)
            if answer.status_code == 200 and name != "after" and payload not in ("*",):
                shown = [one for one in answer.json()["data"] if one.get("source") != "configuration"]
                assert [one for one in shown if one.get("target") != payload] == [], (path, name)
    for name in ("user", "model"):
        answer = httpx.post(
            pair.url + CHAT, json={**HELLO, name: payload}, headers={"authorization": f"Bearer {KEY_A}"}, timeout=20
        )
        assert answer.status_code == (200 if name == "user" else 404)
    for field in ("tenant", "scope", "role", "expires_at"):
        assert admin.post("/admin/keys", json={field: payload}).status_code in (400, 404), field
    assert [key["id"] for key in admin.get("/admin/keys", params={"limit": 1000}).json()["data"]] == before
    assert admin.get("/admin/audit", params={"limit": 1000}).json()["data"][-1]["id"] == 1
    assert admin.get("/admin/audit", params={"limit": 1}).json()["data"][0]["id"] >= entries


# -- F9 ----------------------------------------------------------------------------------------------------
def test_f9_a_key_that_begins_as_a_real_one_takes_as_long_as_any(pair: GatewayProcess, admin: httpx.Client) -> None:
    """Where two samples of the same thing are compared, one comparison in a hundred finds what is not there; the same
    three times running is something."""
    real = made(admin)["key"]
    assert any(_difference(pair, real, attempt) > 0.01 for attempt in range(3))


def _difference(pair: GatewayProcess, real: str, attempt: int) -> float:
    """How likely the times of 401 for such keys are to be so different by chance, by Mann and Whitney's test."""
    times: dict[str, list[float]] = {"prefix": [], "random": []}
    with pair.connect() as client:
        for number in range(400):
            tail = hashlib.sha256(f"{attempt} {number}".encode()).hexdigest()
            tokens = {"prefix": real[:20] + tail[: len(real) - 20], "random": "sk-gw-" + tail[: len(real) - 6][::-1]}
            order = sorted(tokens) if number % 2 else sorted(tokens, reverse=True)
            for kind in order:
                request = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {tokens[kind]}\r\n\r\n".encode()
                began = time.perf_counter()
                client.sendall(request)
                answer = client.recv(65536)
                times[kind].append(time.perf_counter() - began)
                assert status_of(answer) == 401
    return _chance(times["prefix"], times["random"])


def _chance(one: list[float], other: list[float]) -> float:
    """Two-sided, by the normal approximation, which is good from twenty values on."""
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    ranks = sum(rank for rank, (_, whose) in enumerate(ranked, 1) if whose == 0)
    count, others = len(one), len(other)
    mean = count * (count + others + 1) / 2
    deviation = math.sqrt(count * others * (count + others + 1) / 12)
    return math.erfc(abs(ranks - mean) / deviation / math.sqrt(2))


# -- F10 ---------------------------------------------------------------------------------------------------
def test_f10_a_virtual_key_is_refused_by_every_admin_route(pair: GatewayProcess, admin: httpx.Client) -> None:
    virtual = made(admin, tenant="a")
    paths = httpx.get(pair.url + "/openapi.json").json()["paths"]
    routes = [(method, path) for path in paths for method in paths[path] if path.startswith("/admin")]
    assert len(routes) > 20
    forged = {
        "authorization": f"Bearer {virtual['key']}", "x-role": "admin", "x-admin": "true", "x-tenant": "default",
        "x-gateway-role": "admin", "x-user-role": "admin", "x-forwarded-user": "admin", "x-openwebui-user-role": "admin",
        "x-original-url": "/healthz", "x-rewrite-url": "/healthz", "x-http-method-override": "GET",
    }  # fmt: skip
    with httpx.Client(base_url=pair.url, headers=forged, timeout=20, trust_env=False) as client:
        for method, path in [*routes, ("get", "/metrics")]:
            told = client.request(method, path.replace("{", "").replace("}", ""), json={"role": "admin"})
            assert told.status_code == 403, (method, path, told.text)
            assert told.json()["error"]["type"] == "permission_error"
        for path in ("/admin/../admin/keys", "//admin/keys", "/admin/keys/", "/ADMIN/keys", "/v1/../admin/keys",
                     "/healthz/../admin/keys", "/admin/keys;.css", "/admin%2fkeys"):  # fmt: skip
            assert client.get(path).status_code in (403, 404), path


def test_f10_nobody_becomes_somebody_else_by_saying_so(
    pair: GatewayProcess, each: list[httpx.Client], vendor: Vendor
) -> None:
    headers = {
        "authorization": f"Bearer {KEY_A}", "x-tenant": "b", "x-tenant-id": "b", "x-organisation": "b", "x-role": "admin",
        "x-user-id": "ben", "x-user": "ben", "x-openwebui-user-id": "ben", "x-litellm-tags": "b", "x-groups": "board",
    }  # fmt: skip
    claims = {"role": "admin", "tenant": "b", "user_id": "ben", "budget": "1000000", "key": "admin"}
    for client in each:
        answer = client.post(CHAT, json={**HELLO, "user": "ben", "metadata": claims}, headers=headers)
        assert answer.status_code == 200
        call = client.get(f"/v1/calls/{answer.headers['x-gateway-call-id']}", headers=headers).json()
        assert call["caller"].items() >= {"key": "a", "tenant": "a", "user": "ada"}.items()
        assert "groups" not in call["caller"]
        assert client.get("/admin/keys", headers=headers).status_code == 403
        assert client.get("/metrics", headers=headers).status_code == 403
    for field in ("role", "tenant", "budget", "is_admin"):
        answer = each[0].post(CHAT, json={**HELLO, field: "b"}, headers=headers)
        assert json.dumps(answer.json()).count('"admin"') == 0


# -- F11 ---------------------------------------------------------------------------------------------------
def _revoked(admin: httpx.Client, key: dict[str, Any]) -> None:
    assert admin.post(f"/admin/keys/{key['id']}/revoke").status_code == 200


def _expired(admin: httpx.Client, key: dict[str, Any]) -> None:
    change = {"expires_at": time.time() + 0.05}
    assert admin.patch(f"/admin/keys/{key['id']}", json=change).status_code == 200


def _rotated(admin: httpx.Client, key: dict[str, Any]) -> None:
    assert admin.post(f"/admin/keys/{key['id']}/rotate", json={"overlap": "0s"}).status_code == 200


@pytest.mark.parametrize("end", [_revoked, _expired, _rotated])
def test_f11_a_key_that_ends_is_dead_in_every_worker_within_a_second(
    each: list[httpx.Client], admin: httpx.Client, vendor: Vendor, end: Callable[[httpx.Client, dict[str, Any]], None]
) -> None:
    key = made(admin)
    assert statuses(each, key["key"]) == {200}
    assert statuses(each, key["key"]) == {200}  # both hold it now
    end(admin, key)
    until(lambda: statuses(each, key["key"]) == {401}, what="the key's end in every worker")
    vendor.clear()
    assert statuses(each, key["key"]) == {401}
    assert vendor.requests == []


def test_f11_what_is_taken_from_a_key_is_gone_in_every_worker_within_a_second(
    each: list[httpx.Client], admin: httpx.Client, vendor: Vendor
) -> None:
    admin.post("/admin/tenants", json={"id": "f11"})
    key = made(admin, tenant="f11")
    assert statuses(each, key["key"]) == {200}
    for change, undo, told in (
        ({"models": []}, {"models": None}, 404),
        ({"endpoints": ["embeddings"]}, {"endpoints": None}, 403),
        ({"networks": ["192.0.2.0/24"]}, {"networks": []}, 401),
    ):
        assert admin.patch(f"/admin/keys/{key['id']}", json=change).status_code == 200
        until(lambda told=told: statuses(each, key["key"]) == {told}, what=f"{change} in every worker")
        assert admin.patch(f"/admin/keys/{key['id']}", json=undo).status_code == 200
        until(lambda: statuses(each, key["key"]) == {200}, what=f"{undo} in every worker")
    assert admin.patch("/admin/tenants/f11", json={"suspended": True}).status_code == 200
    until(lambda: statuses(each, key["key"]) == {403}, what="a suspended tenant in every worker")


def test_a_reload_that_one_worker_is_asked_for_is_every_worker_s(
    pair: GatewayProcess, each: list[httpx.Client], admin: httpx.Client
) -> None:
    good = pair.file.read_text("utf-8")
    try:
        pair.file.write_text(good + "# another\n", "utf-8")
        told = admin.post("/admin/reload").json()
        assert {client.get("/readyz").json()["revision"] for client in each} == {told["revision"]} != {told["before"]}
        pair.file.write_text(good + "modles: {}\n", "utf-8")
        refused = admin.post("/admin/reload")
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "configuration_refused")
        assert {client.get("/readyz").json()["revision"] for client in each} == {told["revision"]}
    finally:
        pair.file.write_text(good, "utf-8")
        assert admin.post("/admin/reload").status_code == 200


def test_f11_a_new_key_works_in_every_worker_at_once(
    each: list[httpx.Client], admin: httpx.Client, vendor: Vendor
) -> None:
    for _ in range(5):
        assert statuses(each, made(admin)["key"]) == {200}
