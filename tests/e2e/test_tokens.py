"""Signed tokens as keys: an OpenID provider of another make, a gateway that trusts it, and calls with its tokens."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import openai
import pytest
from gateway_process import GatewayProcess, free_port, until
from sample_gateway import KEY_ADMIN, key_entry, plain_configuration
from upstream.issuer import AUDIENCE, Issuer, public_jwk
from upstream.vendor import Vendor

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
USERS = (
    {"sub": "ada", "email": "ada@lab.example", "department": "research", "groups": ["board"], "roles": ["chat"]},
    {"sub": "bob", "email": "bob@shop.example", "department": "sales", "roles": ["chat", "ops"]},
    {"sub": "eve", "email": "eve@else.example", "department": "elsewhere", "roles": ["chat"]},
)


class OpenIdProvider:
    """`oidc-provider-mock`, a process of its own. Started again, it has another key, as after a rotation."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        users = [part for user in USERS for part in ("--user-claims", json.dumps(user))]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "oidc_provider_mock", "--port", str(self.port), *users],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        until(self._answers, what="the OpenID provider's answer")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(self.url + "/jwks", timeout=5, trust_env=False).status_code == 200
        return False

    def sign_in(self, user: str) -> str:
        """The user's ID token, by the authorization code flow."""
        asked = {"client_id": AUDIENCE, "redirect_uri": "http://127.0.0.1/back", "response_type": "code"}
        with httpx.Client(base_url=self.url, trust_env=False, timeout=10) as browser:
            back = browser.post(
                "/oauth2/authorize", params={**asked, "scope": "openid email", "state": "s"}, data={"sub": user}
            )
            code = parse_qs(urlsplit(back.headers["location"]).query)["code"][0]
            told = browser.post(
                "/oauth2/token",
                data={"grant_type": "authorization_code", "code": code, "client_secret": "x", **asked},
            )
            return str(told.json()["id_token"])


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    provider = OpenIdProvider()
    provider.start()
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def gateway(
    provider: OpenIdProvider, issuer: Issuer, shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    configuration = plain_configuration(shared_vendor)
    configuration["access"] = {
        "keys": [key_entry("admin", KEY_ADMIN, admin=True)],
        "tokens": [
            {
                "name": "staff",
                "issuer": provider.url,
                "audience": AUDIENCE,
                "user": "email",
                "groups": "groups",
                "tenant": {"claim": "department", "values": {"research": "lab", "sales": "shop"}},
                "models": {"claim": "roles", "values": {"chat": ["plain", "cached"]}},
                "role": {"claim": "roles", "values": {"ops": "admin"}},
                "scope": "gateway",
            },
            {"name": "own", "issuer": issuer.url, "audience": AUDIENCE, "refresh": "1s", "grace": "1h"},
        ],
    }
    with GatewayProcess(configuration, tmp_path_factory.mktemp("tokens")) as running:
        yield running
    assert "Traceback" not in running.output, running.output


def post(gateway: GatewayProcess, token: str, model: str = "plain") -> httpx.Response:
    return httpx.post(
        gateway.url + "/v1/chat/completions",
        json={"model": model, "messages": HELLO},
        headers={"authorization": f"Bearer {token}"},
        timeout=20,
        trust_env=False,
    )


def told_of(gateway: GatewayProcess, answer: httpx.Response) -> dict[str, Any]:
    call: dict[str, Any] = httpx.get(
        gateway.url + "/v1/calls/" + answer.headers["x-gateway-call-id"],
        headers={"authorization": answer.request.headers["authorization"]},
        trust_env=False,
    ).json()
    return call


def test_an_openid_providers_users_call_as_themselves(
    gateway: GatewayProcess, provider: OpenIdProvider, vendor: Vendor
) -> None:
    ada, bob = provider.sign_in("ada"), provider.sign_in("bob")
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=ada, max_retries=0, timeout=20) as client:
        assert [model.id for model in client.models.list()] == ["plain", "cached"]
        assert client.chat.completions.create(model="plain", messages=HELLO).choices
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="fallback", messages=HELLO)
    answer = post(gateway, ada)
    expected = {"key": "staff", "tenant": "lab", "user": "ada@lab.example"}
    assert told_of(gateway, answer)["caller"].items() >= expected.items()
    other = post(gateway, bob)
    assert told_of(gateway, other)["caller"]["tenant"] == "shop"
    # Neither may see what the other's tenant asked.
    headers = {"authorization": f"Bearer {bob}"}
    url = gateway.url + "/v1/calls/" + answer.headers["x-gateway-call-id"]
    assert httpx.get(url, headers=headers, trust_env=False).status_code == 404
    assert all(ada not in str(request) and bob not in str(request) for request in vendor.requests)


def test_a_claim_gives_a_role(gateway: GatewayProcess, provider: OpenIdProvider) -> None:
    for user, status in (("ada", 403), ("bob", 200)):
        headers = {"authorization": f"Bearer {provider.sign_in(user)}"}
        assert httpx.get(gateway.url + "/metrics", headers=headers, trust_env=False).status_code == status


def test_a_users_tokens_end_with_the_users_suspension(
    gateway: GatewayProcess, provider: OpenIdProvider, vendor: Vendor
) -> None:
    ada, bob = provider.sign_in("ada"), provider.sign_in("bob")
    assert post(gateway, ada).status_code == 200

    def suspend(suspended: bool) -> None:
        told = {"tenant": "lab", "id": "ada@lab.example", "suspended": suspended}
        answer = httpx.put(
            gateway.url + "/admin/users", json=told, headers={"authorization": f"Bearer {KEY_ADMIN}"}, trust_env=False
        )
        assert answer.status_code == 200, answer.text

    suspend(True)
    refused = post(gateway, ada)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert post(gateway, bob).status_code == 200
    suspend(False)
    assert post(gateway, ada).status_code == 200


def test_who_is_of_no_tenant_is_not_let_in(gateway: GatewayProcess, provider: OpenIdProvider, vendor: Vendor) -> None:
    answer = post(gateway, provider.sign_in("eve"))
    assert (answer.status_code, answer.json()["error"]) == (
        403,
        {
            "message": "The token's claim `department` names no tenant of this gateway.",
            "type": "permission_error",
            "param": None,
            "code": "forbidden",
        },
    )
    assert vendor.requests == []


def test_a_provider_that_has_rotated_its_key_is_asked_once_more(
    gateway: GatewayProcess, provider: OpenIdProvider, vendor: Vendor
) -> None:
    before = provider.sign_in("ada")
    assert post(gateway, before).status_code == 200
    provider.stop()
    assert post(gateway, before).status_code == 200  # its known key holds while it is away
    provider.start()
    after = provider.sign_in("ada")
    # It names no key: a signature that the known one did not make has the issuer asked again, once in 5 s at most.
    until(lambda: post(gateway, after).status_code == 200, what="the new key")
    assert post(gateway, before).status_code == 401


def test_keys_rotate_and_are_withdrawn_under_way(gateway: GatewayProcess, issuer: Issuer, vendor: Vendor) -> None:
    old = issuer.token(exp=int(time.time()) + 900).decode()
    assert post(gateway, old).status_code == 200
    issuer.keys = [public_jwk("RSA", "second")]
    new = issuer.token("second").decode()
    until(lambda: post(gateway, new).status_code == 200, what="the new key")
    until(lambda: post(gateway, old).status_code == 401, what="the withdrawn key's end")
    issuer.stop()
    until(lambda: _component(gateway) == "unavailable", what="what readiness says of the issuer")
    assert post(gateway, new).status_code == 200
    away = post(gateway, issuer.token("third").decode())
    assert (away.status_code, away.json()["error"]["code"]) == (503, "token_issuer_unavailable")
    assert away.headers["retry-after"] == "5"
    issuer.start()
    until(lambda: _component(gateway) == "ok", what="the issuer's return")
    issuer.keys = [public_jwk("RSA", "first")]


def _component(gateway: GatewayProcess) -> str:
    told = httpx.get(gateway.url + "/readyz", trust_env=False)
    assert told.status_code == 200
    return str(told.json()["components"]["token_issuers"])


@pytest.mark.parametrize("length", [20_000, 100_000])
def test_tokens_that_are_far_too_long_are_refused(gateway: GatewayProcess, vendor: Vendor, length: int) -> None:
    answer = post(gateway, "e30." + "A" * length + ".e30")
    assert answer.status_code in (401, 431)
    assert answer.json()["error"]["message"]
    assert vendor.requests == []


def test_open_mode_ends_with_the_first_trusted_issuer(
    issuer: Issuer, shared_vendor: Vendor, vendor: Vendor, tmp_path: Path
) -> None:
    configuration = plain_configuration(shared_vendor)
    configuration["access"] = {"tokens": [issuer.entry()]}
    with GatewayProcess(configuration, tmp_path / "closed") as running:
        assert post(running, "anything").status_code == 401
        assert post(running, issuer.token().decode()).status_code == 200
        assert issuer.token().decode() not in running.output
