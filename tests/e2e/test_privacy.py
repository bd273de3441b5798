"""A user's data at a running gateway: encrypted at rest, handed over, erased with a receipt."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from gateway_process import GatewayProcess, until
from sample_gateway import key_entry
from upstream.vendor import Vendor

from gateway.cli import main

APP, OTHER, ADMIN, TENANT_ADMIN = (f"sk-gw-canary-{name}-77be1" for name in ("app", "other", "admin", "tenant-admin"))
CANARY = "the canary sings at midnight"


@pytest.fixture(scope="module")
def running(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("privacy")
    key_file = folder / "key"
    key_file.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    configuration = {
        "access": {
            "keys": [
                key_entry("app", APP, tenant="a", speaks_for_users=True),
                key_entry("other", OTHER, tenant="b", speaks_for_users=True),
                key_entry("admin", ADMIN, role="admin"),
                key_entry("tenant-admin", TENANT_ADMIN, tenant="b", role="admin", scope="tenant"),
            ],
        },
        "records": {"content": "on", "encryption_keys": [f"file:{key_file}"]},
        "providers": {
            "mock": {"kind": "openai_compatible", "base_url": shared_vendor.url, "api_key": shared_vendor.api_key}
        },
        "models": {
            "kept": {
                "targets": ["mock/kept"],
                "cache": {"exact": {"ttl": "10m"}},
                "guardrails": {"input": [{"check": "pii", "action": "pseudonymise"}], "pseudonyms": "conversation"},
            },
            "unrecorded": {"targets": ["mock/unrecorded"], "record_content": False},
        },
    }
    with GatewayProcess(configuration, folder) as gateway:
        yield gateway
        assert CANARY.encode() not in gateway.stored()
    assert "Traceback" not in gateway.output, gateway.output


def post(gateway: GatewayProcess, key: str, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(gateway.url + path, json=body, headers={"authorization": f"Bearer {key}"}, timeout=20)


def use(gateway: GatewayProcess, key: str, user: str) -> str:
    """A call, feedback on it, and a response that is kept; the call's id."""
    said = f"{CANARY}, says {user} of {user}@example.org"
    asked = {"model": "kept", "user": user, "messages": [{"role": "user", "content": said}], "prompt_cache_key": "c"}
    answered = post(gateway, key, "/v1/chat/completions", asked)
    assert answered.status_code == 200, answered.text
    call: str = answered.headers["x-gateway-call-id"]
    assert post(gateway, key, "/v1/feedback", {"call_id": call, "score": 1.0}).status_code == 201
    assert post(gateway, key, "/v1/responses", {"model": "kept", "user": user, "input": said}).status_code == 200
    return call


def exported(gateway: GatewayProcess, key: str, tenant: str, user: str) -> list[dict[str, Any]]:
    told = post(gateway, key, "/admin/exports", {"tenant": tenant, "user": user})
    assert told.status_code == 200, told.text
    return [json.loads(line) for line in told.text.splitlines()]


def test_a_user_s_data_is_handed_over_and_erased_everywhere(running: GatewayProcess) -> None:
    call = use(running, APP, "jo")
    use(running, APP, "joe")
    use(running, OTHER, "jo")

    held = exported(running, ADMIN, "a", "jo")
    assert sorted({one["object"] for one in held}) == ["call", "feedback", "pseudonym", "response.kept"]
    assert CANARY in json.dumps(held)
    assert "joe@example.org" not in json.dumps(held)

    receipt = post(running, ADMIN, "/admin/erasures", {"tenant": "a", "user": "jo", "reason": "asked for it"}).json()

    assert receipt["erased"]["cached_answers"] >= 1
    assert receipt["erased"]["calls"] == 2
    assert receipt["erased"]["responses"] == 1
    assert receipt["erased"]["conversations"] == 2
    assert set(receipt["left"]) == {"logs", "collections", "audit_log"}
    assert exported(running, ADMIN, "a", "jo") == []
    gone = httpx.get(f"{running.url}/v1/calls/{call}", headers={"authorization": f"Bearer {APP}"})
    assert gone.status_code == 404
    assert len(exported(running, ADMIN, "a", "joe")) == len(exported(running, ADMIN, "b", "jo")) == len(held)
    receipts = httpx.get(running.url + "/admin/erasures", headers={"authorization": f"Bearer {ADMIN}"}).json()["data"]
    assert receipt in receipts
    log = httpx.get(
        running.url + "/admin/audit?action=users.erase", headers={"authorization": f"Bearer {ADMIN}"}
    ).json()["data"]
    assert log[0]["reason"] == "asked for it"
    assert log[0]["after"]["id"] == receipt["id"]
    assert '"jo"' not in json.dumps(log)


def test_nothing_of_an_erased_user_is_left_in_a_file(running: GatewayProcess) -> None:
    use(running, APP, "theophrastus")
    assert b"theophrastus" in running.stored()

    assert post(running, ADMIN, "/admin/erasures", {"tenant": "a", "user": "theophrastus"}).status_code == 200

    until(lambda: b"theophrastus" not in running.stored(), what="the last of what was on its way to the store")


@pytest.mark.parametrize("status", [413, 422, 429])
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_provider_repeats_of_a_prompt_is_not_kept(
    running: GatewayProcess, shared_vendor: Vendor, status: int, stream: bool
) -> None:
    shared_vendor.behaviours["unrecorded"] = {"status": status, "message": f"not this: {CANARY}", "retry-after": "0"}
    asked = {"model": "unrecorded", "messages": [{"role": "user", "content": CANARY}], "stream": stream}
    answer = post(running, APP, "/v1/chat/completions", asked)
    assert answer.status_code == status
    assert CANARY in answer.text
    call = running.url + "/v1/calls/" + answer.headers["x-gateway-call-id"]
    told = httpx.get(call, headers={"authorization": f"Bearer {APP}"}).json()
    assert told["status"] == status
    assert told["error"]["message"] is None
    assert CANARY.encode() not in running.stored()


def test_only_who_administers_the_tenant_may(running: GatewayProcess) -> None:
    about = {"tenant": "a", "user": "jo"}
    for key in (APP, OTHER, TENANT_ADMIN):
        for path in ("/admin/exports", "/admin/erasures"):
            assert post(running, key, path, about).status_code == 403
    assert post(running, TENANT_ADMIN, "/admin/exports", {"tenant": "b", "user": "nobody"}).status_code == 200


def test_from_the_command_line(running: GatewayProcess, tmp_path: Path) -> None:
    use(running, APP, "cleo")
    to = ["--tenant", "a", "--url", running.url, "--api-key", ADMIN]
    out = tmp_path / "cleo.jsonl"

    done = CliRunner().invoke(main, ["users", "export", "cleo", "--out", str(out), *to])
    assert done.exit_code == 0, done.output
    assert CANARY in out.read_text()
    assert out.stat().st_mode & 0o077 == 0

    done = CliRunner().invoke(main, ["users", "erase", "cleo", "--yes", *to])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["erased"]["calls"] == 2

    refused = CliRunner().invoke(main, ["users", "erase", "cleo", "--yes", *to[:-1], APP])
    assert refused.exit_code == 1
    assert "role `admin`" in refused.output
