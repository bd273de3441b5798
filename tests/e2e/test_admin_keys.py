"""Keys, tenants and the audit log of a running gateway, by its admin API and by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner
from gateway_process import GatewayProcess, body_of, http_post, status_of, until
from sample_gateway import KEY_A, KEY_ADMIN, key_entry
from upstream.vendor import Vendor

from gateway.cli import main

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
CHAT = {"model": "plain", "messages": HELLO}
_WITHOUT_GATEWAY = {"RAG_GATEWAY_URL": None, "RAG_GATEWAY_API_KEY": None, "RAG_GATEWAY_CONFIG": None}


def configuration(vendor: Vendor, **access: Any) -> dict[str, Any]:
    mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    models = {name: {"targets": ["mock/gpt-mock"]} for name in ("plain", "other")}
    split = {"targets": ["mock/gpt-mock", "mock/gpt-other"], "strategy": "canary"}
    rules = [{"check": "keywords", "action": "block", "lists": [{"kind": "word", "words": ["forbidden"]}]}]
    return {
        "access": access,
        "guardrails": {"strict": rules},
        "providers": {"mock": mock},
        "models": {**models, "split": split},
    }


@pytest.fixture(scope="module")
def running(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    keys = [key_entry("a", KEY_A, tenant="a"), key_entry("admin", KEY_ADMIN, admin=True)]
    with GatewayProcess(configuration(shared_vendor, keys=keys), tmp_path_factory.mktemp("keys")) as gateway:
        yield gateway


@pytest.fixture
def admin(running: GatewayProcess, vendor: Vendor) -> Iterator[httpx.Client]:
    with api(running, KEY_ADMIN) as client:
        yield client


def api(gateway: GatewayProcess, key: str) -> httpx.Client:
    return httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {key}"}, timeout=20, trust_env=False)


def made(admin: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = admin.post("/admin/keys", json=body)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def status(gateway: GatewayProcess, key: str, **body: Any) -> int:
    with api(gateway, key) as client:
        return client.post("/v1/chat/completions", json={**CHAT, **body}).status_code


def command(*arguments: str) -> str:
    """What the command says on its way to success."""
    result = CliRunner(env=_WITHOUT_GATEWAY).invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# -- a key's life ------------------------------------------------------------------------------------------
def test_a_key_made_beside_the_gateway_works_at_once_and_is_dead_within_a_second(
    running: GatewayProcess, vendor: Vendor
) -> None:
    told = json.loads(command("keys", "create", "--config", str(running.file), "--name", "cli", "--json"))
    assert status(running, told["key"]) == 200
    command("keys", "revoke", told["id"], "--config", str(running.file))
    until(lambda: status(running, told["key"]) == 401, what="the end of a revoked key")
    with api(running, told["key"]) as client:
        answer = client.get("/v1/models")
    assert refusal(answer) == (401, "invalid_api_key")
    assert "revoked" in answer.json()["error"]["message"]


def test_a_key_is_made_shown_changed_rotated_and_revoked(running: GatewayProcess, admin: httpx.Client) -> None:
    told = made(admin, name="search", models=["plain"], expires_in="30d", limits={"requests_per_minute": 100})
    secret, key_id = told.pop("key"), told["id"]
    assert told["prefix"] == secret[:10] + "…"
    assert 29 < (told["expires_at"] - time.time()) / 86_400 <= 30
    assert admin.get(f"/admin/keys/{key_id}").json() == told
    assert told in admin.get("/admin/keys").json()["data"]
    assert (status(running, secret), status(running, secret, model="other")) == (200, 404)

    changed = admin.patch(f"/admin/keys/{key_id}", json={"models": ["other"], "name": "found"}).json()
    assert (changed["models"], changed["name"], changed["limits"]) == (["other"], "found", told["limits"])
    assert (status(running, secret), status(running, secret, model="other")) == (404, 200)

    rotated = admin.post(f"/admin/keys/{key_id}/rotate", json={"overlap": "1h"}).json()
    assert rotated["id"] == key_id
    assert [status(running, each, model="other") for each in (secret, rotated["key"])] == [200, 200]
    at_once = admin.post(f"/admin/keys/{key_id}/rotate", json={"overlap": "0s"}).json()
    secrets = [secret, rotated["key"], at_once["key"]]
    assert [status(running, each, model="other") for each in secrets] == [401, 401, 200]

    revoked = admin.post(f"/admin/keys/{key_id}/revoke").json()
    assert (revoked["status"], revoked["revoked_by"]) == ("revoked", "admin")
    assert status(running, at_once["key"], model="other") == 401
    assert refusal(admin.post(f"/admin/keys/{key_id}/rotate"))[0] == 400

    log = admin.get("/admin/audit", params={"target": key_id, "outcome": "done"}).json()["data"]
    assert [entry["action"] for entry in log] == [
        "keys.revoke", "keys.rotate", "keys.rotate", "keys.change", "keys.create",
    ]  # fmt: skip
    assert (log[3]["before"]["models"], log[3]["after"]["models"]) == (["plain"], ["other"])
    everything = running.output.encode() + running.stored() + admin.get("/admin/audit").content
    assert not any(each.encode() in everything for each in secrets)


def test_a_key_is_for_its_endpoints_and_networks_only(running: GatewayProcess, admin: httpx.Client) -> None:
    embeds = made(admin, endpoints=["embeddings"])["key"]
    assert status(running, embeds) == 403
    with api(running, embeds) as client:
        assert client.get("/v1/models").status_code == 200
        assert refusal(client.get("/v1/calls/x")) == (403, "forbidden")
        assert client.post("/v1/messages/count_tokens", json=CHAT | {"max_tokens": 5}).status_code == 403
    assert status(running, made(admin, networks=["10.0.0.0/8"])["key"]) == 401
    assert status(running, made(admin, networks=["127.0.0.0/8"])["key"]) == 200


def test_a_key_adds_its_guardrails_to_every_model(running: GatewayProcess, admin: httpx.Client) -> None:
    guarded = made(admin, guardrails={"input": ["strict"]})["key"]
    words = [{"role": "user", "content": "a forbidden word"}]
    assert status(running, guarded) == 200
    for model in ("plain", "mock/any"):
        assert status(running, guarded, model=model, messages=words) == 400
        assert status(running, KEY_ADMIN, model=model, messages=words) == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"models": ["absent"]}, "models"),
        ({"networks": ["10.0.0.1/8"]}, "networks.0"),
        ({"endpoints": []}, "endpoints"),
        ({"guardrails": {"input": ["absent"]}}, "guardrails"),
        ({"guardrails": {"input": [{"check": "python", "entry_point": "os:system"}]}}, "guardrails.input.0"),
        ({"limits": {}}, "limits"),
        ({"tenant": "absent"}, "tenant"),
        ({"tenant": "a b"}, "tenant"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"expires_in": "5"}, "expires_in"),
        ({"expires_in": "5d", "expires_at": "2030-01-01"}, None),
        ({"role": "owner"}, "role"),
        ({"hash": "sha256:" + "0" * 64}, "hash"),
        ({"admin": True}, "admin"),
    ],
)
def test_what_can_not_be_granted_is_a_fault_with_its_field(
    admin: httpx.Client, body: dict[str, Any], param: str | None
) -> None:
    before = admin.get("/admin/keys").json()["data"]
    answer = admin.post("/admin/keys", json=body)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param
    assert admin.get("/admin/keys").json()["data"] == before


def test_configured_keys_are_shown_and_stay_as_they_are_written(admin: httpx.Client) -> None:
    shown = next(key for key in admin.get("/admin/keys").json()["data"] if key["name"] == "a")
    assert (shown["source"], shown["tenant"], shown["prefix"]) == ("configuration", "a", None)
    assert "hash" not in shown
    assert admin.get(f"/admin/keys/{shown['id']}").json() == shown
    for path in (f"/admin/keys/{shown['id']}/revoke", f"/admin/keys/{shown['id']}/rotate"):
        assert "configuration file" in admin.post(path).json()["error"]["message"]


def test_the_list_has_pages(admin: httpx.Client) -> None:
    for _ in range(3):
        made(admin, tenant="a")
    page = admin.get("/admin/keys", params={"tenant": "a", "limit": 2}).json()
    stored = [key["id"] for key in page["data"] if key["source"] == "store"]
    assert (len(stored), page["has_more"], page["last_id"]) == (2, True, stored[-1])
    rest = admin.get("/admin/keys", params={"tenant": "a", "limit": 1000, "after": page["last_id"]}).json()
    assert rest["has_more"] is False
    assert len(rest["data"]) >= 1
    assert not {key["id"] for key in rest["data"]} & set(stored)


# -- who may do what ---------------------------------------------------------------------------------------
LOOKS = ("/admin/keys", "/admin/tenants", "/admin/organisations", "/admin/audit")
LOOKS_EVERYWHERE = ("/admin/targets", "/admin/routing", "/admin/rollouts", "/metrics")


def test_each_role_may_do_what_the_one_before_it_may(running: GatewayProcess, admin: httpx.Client) -> None:
    move = {"action": "set_shares", "shares": {"mock/gpt-other": 0.5}}
    allowed = {}
    for role in (None, "viewer", "operator", "admin"):
        with api(running, made(admin, role=role, scope="gateway")["key"]) as client:
            allowed[role] = (
                [client.get(path).status_code for path in (*LOOKS, *LOOKS_EVERYWHERE)],
                client.post("/admin/routing/split", json=move).status_code,
                client.post("/admin/keys", json={}).status_code,
            )
    assert allowed == {
        None: ([403] * 8, 403, 403),
        "viewer": ([200] * 8, 403, 403),
        "operator": ([200] * 8, 200, 403),
        "admin": ([200] * 8, 200, 201),
    }
    log = admin.get("/admin/audit", params={"action": "routing.set_shares", "limit": 2}).json()["data"]
    assert [entry["target"] for entry in log] == ["split", "split"]
    assert log[0]["after"]["shares"] == {"mock/gpt-mock": 0.5, "mock/gpt-other": 0.5}


def test_a_role_over_a_tenant_is_over_nothing_else(running: GatewayProcess, admin: httpx.Client) -> None:
    for tenant in ("red", "blue"):
        assert admin.post("/admin/tenants", json={"id": tenant, "limits": {"concurrency": 50}}).status_code == 201
    theirs = made(admin, tenant="blue", name="secret-project")
    chief = made(admin, tenant="red", role="admin", models=["plain"], networks=["127.0.0.0/8"])
    with api(running, chief["key"]) as red:
        assert [red.get(path).status_code for path in LOOKS] == [200] * 4
        assert [red.get(path).status_code for path in LOOKS_EVERYWHERE] == [403] * 4
        told = red.get("/admin/keys").text + red.get("/admin/tenants").text + red.get("/admin/audit").text
        assert "blue" not in told
        assert "secret-project" not in told
        for path in (f"/admin/keys/{theirs['id']}", "/admin/tenants/blue"):
            unknown = red.get(path.replace(theirs["id"], "key_none").replace("blue", "nowhere"))
            assert (red.get(path).status_code, unknown.status_code) == (404, 404)
        for path in ("revoke", "rotate"):
            assert red.post(f"/admin/keys/{theirs['id']}/{path}").status_code == 404
        assert red.patch(f"/admin/keys/{theirs['id']}", json={"models": ["plain"]}).status_code == 404
        missing = red.post("/admin/keys", json={"tenant": "nowhere"}).json()["error"]["message"]
        assert red.post("/admin/keys", json={"tenant": "blue"}).json()["error"]["message"] == missing.replace(
            "nowhere", "blue"
        )

        mine = red.post("/admin/keys", json={"name": "ours"}).json()
        assert (mine["tenant"], mine["models"], mine["networks"]) == ("red", ["plain"], ["127.0.0.0/8"])
        for more in ({"scope": "gateway"}, {"role": "admin", "scope": "organisation"}, {"models": ["other"]},
                     {"models": None}, {"networks": ["0.0.0.0/0"]}, {"speaks_for_users": True}):  # fmt: skip
            assert refusal(red.post("/admin/keys", json=more)) == (403, "forbidden"), more
            assert refusal(red.patch(f"/admin/keys/{mine['id']}", json=more)) == (403, "forbidden"), more
        assert red.post(f"/admin/keys/{mine['id']}/revoke").status_code == 200
        assert refusal(red.patch(f"/admin/keys/{chief['id']}", json={"limits": None})) == (403, "forbidden")
        assert refusal(red.patch("/admin/tenants/red", json={"limits": None})) == (403, "forbidden")
        assert refusal(red.post("/admin/tenants", json={"id": "green"})) == (403, "forbidden")
        assert refusal(red.post("/admin/organisations", json={"id": "green"})) == (403, "forbidden")
        assert refusal(red.post("/admin/routing/split", json={"action": "reset"})) == (403, "forbidden")
    assert admin.get(f"/admin/keys/{theirs['id']}").json()["status"] == "active"


def test_who_administers_a_tenant_gets_no_secret_of_a_key_that_reaches_further(
    running: GatewayProcess, admin: httpx.Client
) -> None:
    admin.post("/admin/tenants", json={"id": "mauve"})
    boss = made(admin, tenant="mauve", name="boss", role="admin", scope="gateway")
    chief = made(admin, tenant="mauve", role="admin", models=["plain"], networks=["127.0.0.0/8"])
    with api(running, chief["key"]) as mauve:
        for grants in ({"speaks_for_users": True}, {"models": ["other"]}, {"models": ["plain"]}, {}):
            theirs = made(admin, tenant="mauve", name="theirs", **grants)  # from everywhere
            assert refusal(mauve.post(f"/admin/keys/{theirs['id']}/rotate")) == (403, "forbidden"), grants
            assert mauve.post(f"/admin/keys/{theirs['id']}/revoke").status_code == 200
        for path in ("rotate", "revoke"):
            assert refusal(mauve.post(f"/admin/keys/{boss['id']}/{path}")) == (403, "forbidden")
        lower = {"scope": "tenant", "models": ["plain"], "networks": ["127.0.0.1"]}
        assert refusal(mauve.patch(f"/admin/keys/{boss['id']}", json=lower)) == (403, "forbidden")
        own = made(mauve)
        for key in (own, chief):
            assert mauve.post(f"/admin/keys/{key['id']}/rotate").status_code == 200
    assert admin.get(f"/admin/keys/{boss['id']}").json()["status"] == "active"
    assert status(running, boss["key"]) == 200


def test_a_role_is_not_given_for_longer_than_it_is_had(running: GatewayProcess, admin: httpx.Client) -> None:
    assert admin.post("/admin/tenants", json={"id": "teal"}).status_code == 201
    chief = made(admin, tenant="teal", role="admin", expires_in="1d")
    with api(running, chief["key"]) as teal:
        assert made(teal, tenant="teal", role="viewer")["expires_at"] == chief["expires_at"]
        assert made(teal, tenant="teal")["expires_at"] is None  # an application stays when who made its key has gone
        later = teal.post("/admin/keys", json={"tenant": "teal", "role": "admin", "expires_in": "2d"})
        assert (later.status_code, "longer than itself" in later.text) == (403, True)
        plain = made(teal, tenant="teal")
        raised = teal.patch(f"/admin/keys/{plain['id']}", json={"role": "admin"})
        assert raised.json()["expires_at"] == chief["expires_at"]


def test_a_tenant_s_bound_is_no_reach_of_its_keys(running: GatewayProcess, admin: httpx.Client) -> None:
    admin.post("/admin/tenants", json={"id": "ochre", "models": ["plain"]})
    chief = made(admin, tenant="ochre", role="admin")
    theirs = made(admin, tenant="ochre")
    with api(running, chief["key"]) as ochre:
        assert ochre.post(f"/admin/keys/{theirs['id']}/rotate").status_code == 200


def test_no_organisation_takes_a_tenant_that_tokens_may_name(running: GatewayProcess, admin: httpx.Client) -> None:
    admin.post("/admin/organisations", json={"id": "grabbers"})
    admin.post("/admin/tenants", json={"id": "grabber", "organisation": "grabbers"})
    chief = made(admin, tenant="grabber", role="admin", scope="organisation")
    good = running.file.read_text("utf-8")
    issuer = {"name": "idp", "issuer": "http://127.0.0.1:1", "audience": "x", "tenant": {"claim": "department"}}
    written = yaml.safe_load(good)
    written["access"]["tokens"] = [issuer]
    try:
        running.file.write_text(yaml.safe_dump(written), "utf-8")
        assert admin.post("/admin/reload").status_code == 200
        with api(running, chief["key"]) as client:
            assert refusal(client.post("/admin/tenants", json={"id": "research"})) == (403, "forbidden")
    finally:
        running.file.write_text(good, "utf-8")
        assert admin.post("/admin/reload").status_code == 200
    with api(running, chief["key"]) as client:
        assert client.post("/admin/tenants", json={"id": "research"}).status_code == 201


def test_a_role_over_an_organisation_is_over_its_tenants(running: GatewayProcess, admin: httpx.Client) -> None:
    assert admin.post("/admin/organisations", json={"id": "acme", "name": "Acme"}).status_code == 201
    assert refusal(admin.post("/admin/organisations", json={"id": "acme"})) == (409, "conflict")
    for tenant, organisation in (("acme-hr", "acme"), ("acme-it", "acme"), ("elsewhere", None)):
        admin.post("/admin/tenants", json={"id": tenant, "organisation": organisation})
    assert refusal(admin.post("/admin/tenants", json={"id": "x", "organisation": "none"}))[0] == 404
    theirs = made(admin, tenant="elsewhere")
    chief = made(admin, tenant="acme-hr", role="admin", scope="organisation")
    with api(running, chief["key"]) as acme:
        assert {tenant["id"] for tenant in acme.get("/admin/tenants").json()["data"]} == {"acme-hr", "acme-it"}
        assert [one["id"] for one in acme.get("/admin/organisations").json()["data"]] == ["acme"]
        mine = made(acme, tenant="acme-it", role="admin")
        assert acme.get("/admin/keys", params={"tenant": "elsewhere"}).json()["data"] == []
        assert acme.get(f"/admin/keys/{theirs['id']}").status_code == 404
        assert acme.post("/admin/tenants", json={"id": "acme-new"}).json()["organisation"] == "acme"
        assert refusal(acme.post("/admin/tenants", json={"id": "y", "organisation": "other"})) == (403, "forbidden")
        assert refusal(acme.post("/admin/tenants", json={"id": "default"})) == (409, "conflict")
        assert acme.patch("/admin/tenants/acme-it", json={"suspended": True}).status_code == 200
        assert status(running, mine["key"]) == 403
        assert acme.patch("/admin/tenants/acme-it", json={"suspended": False}).status_code == 200
        assert status(running, mine["key"]) == 200
        assert refusal(acme.patch("/admin/tenants/acme-it", json={"organisation": None})) == (403, "forbidden")
        # From another of its tenants it would be over what bounds its own.
        beside = {"role": "admin", "scope": "organisation"}
        assert refusal(acme.post("/admin/keys", json={"tenant": "acme-it", **beside})) == (403, "forbidden")
        assert refusal(acme.patch(f"/admin/keys/{mine['id']}", json=beside)) == (403, "forbidden")
        there = made(admin, tenant="acme-it", **beside)
        assert refusal(acme.post(f"/admin/keys/{there['id']}/rotate")) == (403, "forbidden")
        assert acme.post("/admin/keys", json=beside).status_code == 201
        assert refusal(acme.patch("/admin/tenants/elsewhere", json={"suspended": True}))[0] == 404


def test_a_tenant_of_configured_keys_can_be_bounded_too(running: GatewayProcess, admin: httpx.Client) -> None:
    assert (status(running, KEY_A), status(running, KEY_A, model="other")) == (200, 200)
    assert admin.post("/admin/tenants", json={"id": "a", "models": ["plain"]}).status_code == 201
    assert (status(running, KEY_A), status(running, KEY_A, model="other")) == (200, 404)
    assert admin.patch("/admin/tenants/a", json={"models": None}).status_code == 200
    assert status(running, KEY_A, model="other") == 200


def test_users_are_told_of_within_a_tenant(running: GatewayProcess, admin: httpx.Client) -> None:
    admin.post("/admin/tenants", json={"id": "crew"})
    front = made(admin, tenant="crew", speaks_for_users=True)["key"]
    assert status(running, front, user="ada") == 200
    told = {"id": "ada", "tenant": "crew", "name": "Ada", "groups": ["board"], "suspended": True}
    kept = admin.put("/admin/users", json=told).json()
    assert (kept["groups"], kept["suspended_at"] is not None) == (["board"], True)
    assert [status(running, front, user=user) for user in ("ada", "ben")] == [403, 200]
    assert admin.put("/admin/users", json={**told, "suspended": False}).json()["created_at"] == kept["created_at"]
    assert status(running, front, user="ada") == 200
    chief = made(admin, tenant="a", role="admin")["key"]
    with api(running, chief) as elsewhere:
        assert elsewhere.get("/admin/users").json()["data"] == []
        for answer in (
            elsewhere.get("/admin/users", params={"tenant": "crew"}),
            elsewhere.put("/admin/users", json=told),
            elsewhere.delete("/admin/users", params={"tenant": "crew", "id": "ada"}),
        ):
            assert refusal(answer) == (404, "not_found")
    query = {"tenant": "crew", "id": "ada"}
    assert [user["name"] for user in admin.get("/admin/users", params=query).json()["data"]] == ["Ada"]
    assert [user["id"] for user in admin.get("/admin/users", params={"tenant": "crew"}).json()["data"]] == ["ada"]
    assert admin.delete("/admin/users", params=query).json()["deleted"] is True
    assert admin.delete("/admin/users", params=query).status_code == 404
    assert admin.get("/admin/users", params=query).json()["data"] == []


# -- the audit log -----------------------------------------------------------------------------------------
def test_what_was_refused_is_logged_with_who_tried(running: GatewayProcess, admin: httpx.Client) -> None:
    nobody = made(admin, name="nobody", tenant="a")
    with api(running, nobody["key"]) as client:
        client.get("/admin/keys", headers={"x-request-id": "look-1"})
        client.post("/admin/keys", json={"role": "admin"})
        for _ in range(40):
            client.post("/admin/routing/split", json={"action": "reset"})
    with api(running, "sk-gw-nobody-knows") as client:
        assert client.post("/admin/keys", json={}).status_code == 401
    entries = admin.get("/admin/audit", params={"key": nobody["id"], "limit": 1000}).json()["data"]
    assert len(entries) == 30  # a key that is refused again and again does not fill the log
    assert {(entry["outcome"], entry["tenant"], entry["after"]) for entry in entries} == {("refused", "a", None)}
    assert [entry["action"] for entry in entries[-2:]] == ["keys.create", "keys.list"]
    assert entries[-1]["request_id"] == "look-1"
    assert entries[-1]["actor"] == {
        "key_id": nobody["id"], "key_name": "nobody", "tenant": "a", "address": "127.0.0.1",
    }  # fmt: skip
    assert "viewer" in entries[-1]["reason"]
    failed = admin.post("/admin/keys", json={"models": ["absent"]}, headers={"x-request-id": "wrong-1"})
    assert failed.status_code == 400
    newest = admin.get("/admin/audit", params={"outcome": "refused", "limit": 1}).json()["data"][0]
    assert (newest["request_id"], newest["reason"]) == ("wrong-1", "There is no model 'absent'.")


def test_the_log_holds_no_key_that_was_sent_for_its_id(running: GatewayProcess, admin: httpx.Client) -> None:
    sent = made(admin, name="sent")
    why = {"reason": f"found {sent['key']} in a chat"}
    assert admin.post(f"/admin/keys/{sent['key']}/revoke").status_code == 404
    assert admin.post(f"/admin/keys/{sent['id']}/revoke", json=why).status_code == 200
    done, refused = admin.get("/admin/audit", params={"action": "keys.revoke", "limit": 2}).json()["data"]
    assert refused["target"] == sent["prefix"]
    assert done["reason"] == f"found {sent['prefix']} in a chat"
    assert sent["key"].encode() not in running.stored()


def test_the_log_is_read_with_any_number_and_any_date(admin: httpx.Client) -> None:
    made(admin)
    read = {
        query: admin.get("/admin/audit?" + query)
        for query in ("since=2600-01-01", "until=9999-12-31", f"before={2**63 - 1}", f"before={2**63}")
    }
    assert [answer.status_code for answer in read.values()] == [200, 200, 200, 400]
    assert [len(answer.json().get("data", ())) > 0 for answer in read.values()] == [False, True, True, False]


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_credential_stands_once(running: GatewayProcess, admin: httpx.Client, name: str, order: int) -> None:
    prefix = "Bearer " if name == "authorization" else ""
    lines = tuple(f"{name}: {prefix}{key}" for key in (KEY_A, "sk-gw-nobody-knows")[::order])
    for path in ("/v1/chat/completions", "/v1/feedback"):
        answer = running.raw(http_post(path, CHAT, headers=lines))
        assert status_of(answer) == 400
        assert body_of(answer)["error"]["param"] == name


def test_a_reload_is_logged(running: GatewayProcess, admin: httpx.Client) -> None:
    query = {"action": "configuration.revision"}
    before = len(admin.get("/admin/audit", params=query).json()["data"])
    running.reload()
    entries = until(
        lambda: (found := admin.get("/admin/audit", params=query).json()["data"])[before:] and found, what="the reload"
    )
    assert (entries[0]["actor"]["key_name"], entries[0]["after"]) == ("gateway", {"revision": running.revision()})


def test_an_operator_reloads_and_is_told_what_is_wrong(running: GatewayProcess, admin: httpx.Client) -> None:
    good = running.file.read_text("utf-8")
    revision = running.revision()
    operator = made(admin, role="operator", scope="gateway", name="operator")
    with api(running, operator["key"]) as client:
        assert client.post("/admin/reload").json() == {"object": "revision", "revision": revision, "before": revision}
        try:
            running.file.write_text(good + "modles: {}\n", "utf-8")
            answer = client.post("/admin/reload")
            assert refusal(answer) == (400, "configuration_refused")
            assert "did you mean `models`?" in answer.json()["error"]["message"]
            assert running.revision() == revision
            running.file.write_text(good + "# another\n", "utf-8")
            assert client.post("/admin/reload").json()["before"] == revision
            assert running.revision() != revision
        finally:
            running.file.write_text(good, "utf-8")
            assert client.post("/admin/reload").json()["revision"] == revision
    log = admin.get("/admin/audit", params={"action": "configuration.reload", "limit": 4}).json()["data"]
    assert [entry["outcome"] for entry in log] == ["done", "done", "refused", "done"]  # the newest
    assert {entry["actor"]["key_name"] for entry in log} == {"operator"}


def test_no_request_can_change_the_log(admin: httpx.Client) -> None:
    made(admin)
    newest = admin.get("/admin/audit", params={"limit": 1}).json()["data"][0]["id"]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("/admin/audit", f"/admin/audit/{newest}"):
            assert admin.request(method, path).status_code in (404, 405)


# -- the command line --------------------------------------------------------------------------------------
def test_the_commands_do_the_same_by_the_api_and_in_the_store(running: GatewayProcess, vendor: Vendor) -> None:
    for where in (("--url", running.url, "--api-key", KEY_ADMIN), ("--config", str(running.file))):
        name = f"by{where[0]}"
        limits = ("--requests-per-minute", "60", "--budget", "5", "--budget-period", "day")
        told = json.loads(
            command(
                "keys",
                "create",
                "--name",
                name,
                "--models",
                "plain,other",
                "--expires",
                "30d",
                *limits,
                "--json",
                *where,
            )
        )
        assert told["limits"] == {"requests_per_minute": 60, "budget": 5, "budget_period": "day"}
        assert status(running, told["key"]) == 200
        shown = json.loads(command("keys", "show", told["id"], *where))
        assert shown["name"] == name
        listed = command("keys", "list", *where)
        assert told["id"] in listed
        assert told["prefix"] in listed
        fresh = json.loads(command("keys", "rotate", told["id"], "--overlap", "0s", "--json", *where))
        until(lambda old=told, new=fresh: (status(running, old["key"]), status(running, new["key"])) == (401, 200))
        assert "is revoked" in command("keys", "revoke", told["id"], *where)
        until(lambda new=fresh: status(running, new["key"]) == 401)
        tenant = f"tenant{where[0]}"
        assert tenant in command("tenants", "create", tenant, "--tokens-per-minute", "1000", *where)
        assert "tokens_per_minute: 1000" in command("tenants", "list", *where)
        log = command("audit", "--target", told["id"], *where)
        assert [line.split()[3] for line in log.splitlines() if line[0] != " "] == [
            "keys.revoke", "keys.rotate", "keys.create",
        ]  # fmt: skip
        assert '    status: "active" -> "revoked"' in log


def test_commands_say_what_is_wrong_and_end_with_status_1(running: GatewayProcess) -> None:
    for arguments, message in (
        (("keys", "create", "--models", "absent"), "There is no model 'absent'."),
        (("keys", "create", "--tenant", "absent"), "There is no tenant 'absent'."),
        (("keys", "create", "--expires", "soon"), "--expires soon"),
        (("keys", "create", "--expires", "5w"), "--expires 5w"),
        (("keys", "revoke", "key_none"), "There is no key 'key_none'"),
        (("keys", "rotate", "key_none", "--overlap", "long"), "--overlap long"),
        (("tenants", "create", "a b"), "an id is"),
        (("audit", "--since", "then"), "--since then"),
    ):
        for where in (("--url", running.url, "--api-key", KEY_ADMIN), ("--config", str(running.file))):
            result = CliRunner(env=_WITHOUT_GATEWAY).invoke(main, (*arguments, *where))
            assert result.exit_code == 1, arguments
            assert message in result.output, arguments


# -- open mode, and the first key --------------------------------------------------------------------------
def test_open_mode_stays_open_until_somebody_administers_it(vendor: Vendor, tmp_path: Path) -> None:
    with GatewayProcess(configuration(vendor), tmp_path) as gateway:
        url = ("--url", gateway.url)
        limited = json.loads(command("keys", "create", "--models", "plain", "--json", *url))
        with api(gateway, limited["key"]) as client:
            assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["plain"]
            assert client.get("/admin/keys").status_code == 403
        assert status(gateway, "anything") == 200
        command("keys", "revoke", limited["id"], *url)
        assert status(gateway, limited["key"]) == 401
        assert status(gateway, "anything") == 200
        chief = json.loads(command("keys", "create", "--admin", "--json", "--config", str(gateway.file)))
        until(lambda: status(gateway, "anything") == 401, what="the end of open mode")
        assert httpx.get(gateway.url + "/v1/models").status_code == 401
        with api(gateway, chief["key"]) as client:
            assert client.get("/metrics").status_code == 200


def test_beyond_loopback_it_starts_once_somebody_can_administer_it(vendor: Vendor, tmp_path: Path) -> None:
    """On a loopback address with open mode off the same holds, and is what a test may listen on."""
    gateway = GatewayProcess(configuration(vendor, open_on_loopback=False), tmp_path)
    start = [sys.executable, "-c", "from gateway.cli import main; main()", "serve", "--config", str(gateway.file)]
    for host in ("0.0.0.0", "127.0.0.1"):
        refused = subprocess.run([*start, "--host", host, "--port", "0"], capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1
        assert "rag-gateway keys create" in refused.stderr
    told = json.loads(command("keys", "create", "--admin", "--json", "--config", str(gateway.file)))
    with gateway:
        assert status(gateway, told["key"]) == 200
        assert status(gateway, "anything") == 401
