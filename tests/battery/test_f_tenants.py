"""F: a scripted attempt, at every route, to get at what is somebody else's.

Ada of tenant acme has one of everything, with canaries in it. Seven others come: a stranger of another tenant, one by her
name, one whose token says her name, one that speaks for her, one that administers its own tenant, one that administers
its own organisation, and a colleague without rights. Whatever they try with Ada's ids, they are told what they are told of an id that never was: the
same status, the same body, the same headers. A route without an attempt fails the suite.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from embedding_process import EmbeddingProcess
from gateway_process import GatewayProcess, until
from sample_gateway import key_entry
from upstream.issuer import AUDIENCE, Issuer
from upstream.vendor import Vendor

from gateway.access.callers import configured_key_id

ROOT = Path(__file__).parents[2]
CANARY = "zanzibar-lighthouse"  # in whatever is Ada's
KEYS = {
    name: f"sk-gw-canary-f-{name}-77d1"
    for name in ("ada", "acme-front", "umbrella", "namesake", "front", "tenant-admin", "org-admin", "eve", "operator")
}
ATTACKERS = ("umbrella", "namesake", "bearer", "front", "tenant-admin", "org-admin", "eve")
STRANGERS = tuple(name for name in ATTACKERS if name != "eve")  # of another tenant
ADMINS = ("tenant-admin", "org-admin")
REFUSED = (401, 403, 404)

# What has no id and tells nobody anything of a tenant, and why.
OPEN = {
    "GET /healthz": "whether the process runs",
    "GET /readyz": "whether its components do",
    "GET /docs": "the API's documentation",
    "GET /docs/oauth2-redirect": "the API's documentation",
    "GET /openapi.json": "the API's documentation",
    "GET /": "the chat page, whose visitors bring their key",
    "GET /page/{name}": "its files, the same for everybody",
    "GET /widget": "the page in a frame, for the sites that are named",
    "GET /widget.js": "what such a site loads",
}


@dataclass(frozen=True)
class Attempt:
    """One thing to try. `{names}` in path, query and body stand for ids: each is tried with Ada's and with a made-up one.

    `told`: what is to be told of either; `refused` is one of 401, 403 and 404, `empty` a list in which nothing of Ada's
    is, `nothing` that nothing was there to be done. Where a route takes several ids, the attacker's own are tried in the
    other places too.
    """

    path: str
    body: Mapping[str, Any] | None = None
    told: str = "refused"
    by: tuple[str, ...] = ATTACKERS
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(re.findall(r"\{(\w+)\}", self.path + json.dumps(self.body))))


def _chat(**more: Any) -> dict[str, Any]:
    return {"model": "plain", "messages": [{"role": "user", "content": "hello"}], **more}


CACHED = _chat(model="cached", messages=[{"role": "user", "content": f"What of the {CANARY}?"}])
_SEARCH = {"type": "file_search", "vector_store_ids": ["{store}"]}
_TEMPLATE = f"messages: [{{role: system, content: The {CANARY} parrot}}, conversation]"
_RESULT = {"hash": "0" * 16, "suite": "s", "passed": 1, "failed": 0}

ATTEMPTS: dict[str, tuple[Attempt, ...]] = {
    # -- answers: models that others may not know, files that others may not search, what they may not continue
    "POST /v1/chat/completions": (
        Attempt("/v1/chat/completions", _chat(model="{model}")),
        Attempt("/v1/chat/completions", _chat(model="{model}", stream=True)),
        Attempt("/v1/chat/completions", _chat(tools=[_SEARCH])),
        Attempt("/v1/chat/completions", _chat(tools=[_SEARCH], stream=True)),
        Attempt("/v1/chat/completions", _chat(prompt={"id": "{prompt}"}), by=STRANGERS),
        Attempt("/v1/chat/completions", _chat(prompt={"id": "{prompt}", "version": "2"}), by=STRANGERS),
    ),
    "POST /v1/completions": (Attempt("/v1/completions", {"model": "{model}", "prompt": "hello"}),),
    "POST /v1/messages": (
        Attempt(
            "/v1/messages", {"model": "{model}", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
        ),
    ),
    "POST /v1/messages/count_tokens": (
        Attempt("/v1/messages/count_tokens", {"model": "{model}", "messages": [{"role": "user", "content": "hello"}]}),
    ),
    "POST /v1/embeddings": (Attempt("/v1/embeddings", {"model": "{model}", "input": "hello"}),),
    "POST /v1/rerank": (Attempt("/v1/rerank", {"model": "{model}", "query": "a", "documents": ["b"]}),),
    "POST /v1/moderations": (Attempt("/v1/moderations", {"model": "{model}", "input": "hello"}),),
    "POST /v1/responses": (
        Attempt("/v1/responses", {"model": "{model}", "input": "hello"}),
        Attempt("/v1/responses", {"model": "plain", "input": "go on", "previous_response_id": "{response}"}),
        Attempt("/v1/responses", {"model": "plain", "input": "hello", "tools": [_SEARCH]}),
    ),
    "GET /v1/responses/{response_id}": (Attempt("/v1/responses/{response}"),),
    "DELETE /v1/responses/{response_id}": (Attempt("/v1/responses/{response}"),),
    "GET /v1/responses/{response_id}/input_items": (
        Attempt("/v1/responses/{response}/input_items"),
        Attempt("/v1/responses/{response}/input_items?after={item}"),
    ),
    # -- what is told of models and calls
    "GET /v1/models": (Attempt("/v1/models", told="empty"),),
    "GET /v1/models/{name}": (Attempt("/v1/models/{model}"),),
    "GET /v1/calls": (
        Attempt("/v1/calls", told="empty"),
        Attempt("/v1/calls?limit=100&user=ada&model={model}", told="empty"),
        Attempt("/v1/calls?after=9000000000000000000.{call}", told="empty"),
    ),
    "GET /v1/calls/{call_id}": (
        Attempt("/v1/calls/{call}"),
        Attempt("/v1/calls/{request}"),
        Attempt("/v1/calls/{answer}"),
    ),
    "POST /v1/feedback": (
        Attempt("/v1/feedback", {"call_id": "{call}", "score": 0.0}),
        Attempt("/v1/feedback", {"call_id": "{request}", "label": "bad"}, by=("namesake", "eve")),
        Attempt("/v1/feedback", {"call_id": "{answer}", "comment": "bad"}, by=("front", "eve")),
    ),
    # -- files and vector stores
    "POST /v1/files": (Attempt("/v1/files", {}, told="none"),),
    "GET /v1/files": (
        Attempt("/v1/files", told="empty"),
        Attempt("/v1/files?purpose=assistants&limit=10000&order=asc", told="empty"),
        Attempt("/v1/files?after={file}", told="empty or refused"),
    ),
    "GET /v1/files/{file_id}": (Attempt("/v1/files/{file}"),),
    "GET /v1/files/{file_id}/content": (Attempt("/v1/files/{file}/content"),),
    "DELETE /v1/files/{file_id}": (Attempt("/v1/files/{file}"),),
    "POST /v1/vector_stores": (Attempt("/v1/vector_stores", {"name": "mine", "file_ids": ["{file}"]}),),
    "GET /v1/vector_stores": (
        Attempt("/v1/vector_stores?limit=100", told="empty"),
        Attempt("/v1/vector_stores?after={store}", told="empty or refused"),
        Attempt("/v1/vector_stores?before={store}", told="empty or refused"),
    ),
    "GET /v1/vector_stores/{store_id}": (Attempt("/v1/vector_stores/{store}"),),
    "POST /v1/vector_stores/{store_id}": (
        Attempt("/v1/vector_stores/{store}", {"name": "mine"}),
        Attempt("/v1/vector_stores/{store}", {"metadata": {}}),
        Attempt("/v1/vector_stores/{store}", {"expires_after": {"anchor": "last_active_at", "days": 1}}),
    ),
    "DELETE /v1/vector_stores/{store_id}": (Attempt("/v1/vector_stores/{store}"),),
    "POST /v1/vector_stores/{store_id}/search": (
        Attempt("/v1/vector_stores/{store}/search", {"query": "lighthouse"}),
        Attempt("/v1/vector_stores/{store}/search", {"query": ["lighthouse", "walnuts"], "max_num_results": 50}),
    ),
    "POST /v1/vector_stores/{store_id}/files": (Attempt("/v1/vector_stores/{store}/files", {"file_id": "{file}"}),),
    "GET /v1/vector_stores/{store_id}/files": (Attempt("/v1/vector_stores/{store}/files"),),
    "GET /v1/vector_stores/{store_id}/files/{file_id}": (Attempt("/v1/vector_stores/{store}/files/{file}"),),
    "POST /v1/vector_stores/{store_id}/files/{file_id}": (
        Attempt("/v1/vector_stores/{store}/files/{file}", {"attributes": {"a": 1}}),
    ),
    "DELETE /v1/vector_stores/{store_id}/files/{file_id}": (Attempt("/v1/vector_stores/{store}/files/{file}"),),
    "GET /v1/vector_stores/{store_id}/files/{file_id}/content": (
        Attempt("/v1/vector_stores/{store}/files/{file}/content"),
    ),
    "POST /v1/vector_stores/{store_id}/file_batches": (
        Attempt("/v1/vector_stores/{store}/file_batches", {"file_ids": ["{file}"]}),
        Attempt("/v1/vector_stores/{store}/file_batches", {"files": [{"file_id": "{file}"}]}),
    ),
    "GET /v1/vector_stores/{store_id}/file_batches/{batch_id}": (
        Attempt("/v1/vector_stores/{store}/file_batches/{batch}"),
    ),
    "POST /v1/vector_stores/{store_id}/file_batches/{batch_id}/cancel": (
        Attempt("/v1/vector_stores/{store}/file_batches/{batch}/cancel", {}),
    ),
    "GET /v1/vector_stores/{store_id}/file_batches/{batch_id}/files": (
        Attempt("/v1/vector_stores/{store}/file_batches/{batch}/files"),
    ),
    # -- the admin API
    "GET /metrics": (Attempt("/metrics"),),
    "GET /admin/targets": (Attempt("/admin/targets"),),
    "GET /admin/routing": (Attempt("/admin/routing"),),
    "GET /admin/routing/{model}": (Attempt("/admin/routing/{model}"),),
    "POST /admin/routing/{model}": (Attempt("/admin/routing/{model}", {"action": "rollback"}),),
    "GET /admin/rollouts": (Attempt("/admin/rollouts"),),
    "POST /admin/reload": (Attempt("/admin/reload", {}),),
    "POST /admin/keys": (
        Attempt("/admin/keys", {"name": "x", "tenant": "{tenant}"}),
        Attempt("/admin/keys", {"name": "x", "scope": "gateway", "role": "admin"}),
        Attempt("/admin/keys", {"name": "x", "models": ["{model}"]}),
    ),
    "GET /admin/keys": (
        Attempt("/admin/keys?limit=1000", told="empty", by=ADMINS),
        Attempt("/admin/keys?tenant={tenant}", told="empty", by=ADMINS),
        Attempt("/admin/keys?after={key}", told="empty", by=ADMINS),
        Attempt("/admin/keys", by=tuple(name for name in ATTACKERS if name not in ADMINS)),
    ),
    "GET /admin/keys/{key_id}": (Attempt("/admin/keys/{key}"), Attempt("/admin/keys/{configured_key}")),
    "PATCH /admin/keys/{key_id}": (
        Attempt("/admin/keys/{key}", {"name": "mine"}),
        Attempt("/admin/keys/{key}", {"user": "eve"}),
        Attempt("/admin/keys/{configured_key}", {"name": "mine"}),
    ),
    "POST /admin/keys/{key_id}/rotate": (
        Attempt("/admin/keys/{key}/rotate", {}),
        Attempt("/admin/keys/{configured_key}/rotate", {"overlap": "0s"}),
    ),
    "POST /admin/keys/{key_id}/revoke": (
        Attempt("/admin/keys/{key}/revoke", {}),
        Attempt("/admin/keys/{configured_key}/revoke", {"reason": "x"}),
    ),
    "POST /admin/organisations": (Attempt("/admin/organisations", {"id": "{organisation}"}),),
    "GET /admin/organisations": (
        Attempt("/admin/organisations", told="empty", by=ADMINS),
        Attempt("/admin/organisations", by=tuple(name for name in ATTACKERS if name not in ADMINS)),
    ),
    "POST /admin/tenants": (
        Attempt("/admin/tenants", {"id": "{tenant}"}, by=tuple(name for name in ATTACKERS if name != "org-admin")),
        Attempt("/admin/tenants", {"id": "new", "organisation": "{organisation}"}),
    ),
    "GET /admin/tenants": (
        Attempt("/admin/tenants", told="empty", by=ADMINS),
        Attempt("/admin/tenants", by=tuple(name for name in ATTACKERS if name not in ADMINS)),
    ),
    "GET /admin/tenants/{tenant_id}": (Attempt("/admin/tenants/{tenant}"),),
    "PATCH /admin/tenants/{tenant_id}": (
        Attempt("/admin/tenants/{tenant}", {"suspended": True}),
        Attempt("/admin/tenants/{tenant}", {"organisation": "umbrella-org"}),
    ),
    "GET /v1/limits": (Attempt("/v1/limits", told="empty"),),
    "GET /admin/limits": (Attempt("/admin/limits"), Attempt("/admin/limits?tenant={tenant}&user=ada")),
    "GET /admin/cache": (Attempt("/admin/cache"),),
    "POST /admin/cache/purge": (
        Attempt("/admin/cache/purge", {"tenant": "{tenant}"}),
        Attempt("/admin/cache/purge", {"tenant": "{tenant}", "key": "{cached}"}),
        Attempt("/admin/cache/purge", {"key": "{cached}"}, told="nothing", by=ADMINS),
        Attempt("/admin/cache/purge", {"model": "cached"}, told="nothing", by=ADMINS),
        Attempt("/admin/cache/purge", {"everything": True}, told="nothing", by=ADMINS),
        Attempt("/admin/cache/purge", {"user": "ada"}, told="nothing", by=ADMINS),
    ),
    "POST /admin/exports": (Attempt("/admin/exports", {"user": "ada", "tenant": "{tenant}"}),),
    "POST /admin/erasures": (Attempt("/admin/erasures", {"user": "ada", "tenant": "{tenant}"}),),
    "GET /admin/erasures": (
        Attempt("/admin/erasures?limit=1000", told="empty", by=ADMINS),
        Attempt("/admin/erasures", by=tuple(name for name in ATTACKERS if name not in ADMINS)),
    ),
    "PUT /admin/users": (Attempt("/admin/users", {"id": "ada", "tenant": "{tenant}", "suspended": True}),),
    "GET /admin/users": (
        Attempt("/admin/users?tenant={tenant}"),
        Attempt("/admin/users?tenant={tenant}&id=ada"),
        Attempt("/admin/users?limit=1000", told="empty or refused", by=ADMINS),
        Attempt("/admin/users", by=tuple(name for name in ATTACKERS if name not in ADMINS)),
    ),
    "DELETE /admin/users": (Attempt("/admin/users?id=ada&tenant={tenant}"),),
    "GET /admin/prompts": (
        Attempt("/admin/prompts", told="empty", by=ADMINS),
        Attempt("/admin/prompts", by=tuple(name for name in ATTACKERS if name not in ADMINS)),
        Attempt("/admin/prompts?tenant={tenant}"),
    ),
    "GET /admin/prompts/{name}": (
        Attempt("/admin/prompts/{prompt}"),
        Attempt("/admin/prompts/{prompt}?tenant={tenant}"),
    ),
    "GET /admin/prompts/{name}/versions/{version}": (
        Attempt("/admin/prompts/{prompt}/versions/1"),
        Attempt("/admin/prompts/{prompt}/versions/1?tenant={tenant}"),
    ),
    "GET /admin/prompts/{name}/diff": (
        Attempt("/admin/prompts/{prompt}/diff?before=1&after=2"),
        Attempt("/admin/prompts/{prompt}/diff?before=1&after=2&tenant={tenant}"),
    ),
    "GET /admin/prompts/{name}/history": (
        Attempt("/admin/prompts/{prompt}/history"),
        Attempt("/admin/prompts/{prompt}/history?tenant={tenant}"),
    ),
    "POST /admin/prompts/{name}/versions": (
        Attempt("/admin/prompts/{prompt}/versions", {"source": _TEMPLATE, "tenant": "{tenant}"}),
    ),
    "PUT /admin/prompts/{name}/versions/{version}": (
        Attempt("/admin/prompts/{prompt}/versions/2", {"source": _TEMPLATE}),
        Attempt("/admin/prompts/{prompt}/versions/2?tenant={tenant}", {"source": _TEMPLATE}),
    ),
    "DELETE /admin/prompts/{name}/versions/{version}": (
        Attempt("/admin/prompts/{prompt}/versions/2"),
        Attempt("/admin/prompts/{prompt}/versions/2?tenant={tenant}"),
    ),
    "POST /admin/prompts/{name}/versions/{version}/release": (
        Attempt("/admin/prompts/{prompt}/versions/2/release", {}),
        Attempt("/admin/prompts/{prompt}/versions/2/release?tenant={tenant}", {"label": "production"}),
    ),
    "PUT /admin/prompts/{name}/labels/{label}": (
        Attempt("/admin/prompts/{prompt}/labels/production", {"version": 1}),
        Attempt("/admin/prompts/{prompt}/labels/production?tenant={tenant}", {"version": 1}),
    ),
    "DELETE /admin/prompts/{name}/labels/{label}": (
        Attempt("/admin/prompts/{prompt}/labels/production"),
        Attempt("/admin/prompts/{prompt}/labels/production?tenant={tenant}"),
    ),
    "POST /admin/prompts/{name}/labels/{label}/rollback": (
        Attempt("/admin/prompts/{prompt}/labels/production/rollback", {}),
        Attempt("/admin/prompts/{prompt}/labels/production/rollback?tenant={tenant}", {}),
    ),
    "POST /admin/prompts/{name}/versions/{version}/render": (
        Attempt("/admin/prompts/{prompt}/versions/1/render", {}),
        Attempt("/admin/prompts/{prompt}/versions/2/render?tenant={tenant}", {}),
    ),
    "POST /admin/prompts/{name}/versions/{version}/results": (
        Attempt("/admin/prompts/{prompt}/versions/2/results", _RESULT),
        Attempt("/admin/prompts/{prompt}/versions/2/results?tenant={tenant}", _RESULT),
    ),
    "GET /admin/audit": (
        Attempt("/admin/audit?tenant={tenant}", told="empty", by=ADMINS),
        Attempt("/admin/audit?key={configured_key}", told="empty", by=ADMINS),
        Attempt("/admin/audit", by=tuple(name for name in ATTACKERS if name not in ADMINS)),
    ),
}


# --- the gateway, and what is Ada's ---------------------------------------------------------------------
def configuration(vendor: Vendor, documents: Path, issuer: str) -> dict[str, Any]:
    public = ["plain", "cached", "alike", "veiled", "knowing"]
    keys = [
        key_entry("Ada's " + CANARY, KEYS["ada"], tenant="acme", user="ada"),
        key_entry("acme-front", KEYS["acme-front"], tenant="acme", speaks_for_users=True),
        key_entry("eve", KEYS["eve"], tenant="acme", user="eve", models=public),
        key_entry("umbrella", KEYS["umbrella"], tenant="umbrella", models=public),
        key_entry("namesake", KEYS["namesake"], tenant="umbrella", user="ada", models=public),
        key_entry("front", KEYS["front"], tenant="umbrella", speaks_for_users=True, models=public),
        key_entry("tenant-admin", KEYS["tenant-admin"], tenant="umbrella", models=public, role="admin", scope="tenant"),
        key_entry("org-admin", KEYS["org-admin"], tenant="umbrella", models=public, role="admin", scope="organisation"),
        key_entry("operator", KEYS["operator"], role="admin"),
    ]
    bearer = {"name": "bearer", "issuer": issuer, "audience": AUDIENCE, "tenant": "umbrella", "models": public}
    mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    rules = {"input": [{"check": "pii", "action": "pseudonymise"}], "pseudonyms": "conversation"}
    return {
        "access": {"open_on_loopback": False, "user_header": "x-user", "keys": keys, "tokens": [bearer]},
        "records": {"content": "on", "encryption_keys": ["${RECORDS_KEY}"], "pseudonyms": "1h"},
        "prompts": {"folder": str(ROOT / "configs" / "prompts")},
        "providers": {"mock": mock},
        "retrieval": {
            "collections": {"office": {"load": [str(documents)], "tenant": "acme", "readers": ["user:ada"]}},
        },
        "models": {
            "plain": {"targets": ["mock/gpt-mock"]},
            "secret-model": {"targets": ["mock/gpt-mock"]},
            "cached": {"targets": ["mock/cached"], "cache": {"exact": {"ttl": "1h"}}},
            "alike": {"targets": ["mock/alike"], "cache": {"semantic": {"ttl": "1h", "budget": "20s"}}},
            "veiled": {"targets": ["mock/veiled"], "guardrails": rules},
            "knowing": {
                "targets": ["mock/gpt-mock"],
                "prompt": "handbook@1",
                "retrieval": {"collection": "office", "top_k": 5},
                "cache": {"exact": {"ttl": "1h"}, "semantic": {"ttl": "1h", "budget": "20s"}},
            },
        },
    }


@dataclass(frozen=True)
class Place:
    """The gateway, Ada's ids, and the ids that each attacker has of its own, by name."""

    running: GatewayProcess
    theirs: Mapping[str, str]
    own: Mapping[str, Mapping[str, str]]
    door: httpx.Client
    credentials: Mapping[str, str]

    def ask(self, key: str, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.credentials[key]}", **more.pop("headers", {})}
        if key == "front":
            headers.setdefault("x-user", "ada")
        return self.door.request(method, path, headers=headers, **more)

    def chat(self, key: str, model: str, text: str, **more: Any) -> httpx.Response:
        asked = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        answer = self.ask(key, "POST", "/v1/chat/completions", json=asked)
        assert answer.status_code == 200, answer.text
        return answer


@pytest.fixture(scope="module")
def place(
    shared_vendor: Vendor, embeddings: EmbeddingProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    shared_vendor.clear()
    documents = tmp_path_factory.mktemp("documents")
    (documents / "parrot.md").write_text(f"# The parrot\n\nThe office parrot {CANARY} eats walnuts at noon.\n")
    environment = {"RECORDS_KEY": base64.b64encode(os.urandom(32)).decode()}
    folder = tmp_path_factory.mktemp("tenants")
    with (
        Issuer() as issuer,
        GatewayProcess(
            embeddings.behind(configuration(shared_vendor, documents, issuer.url)), folder, environment
        ) as running,
        httpx.Client(base_url=running.url, timeout=30, trust_env=False) as door,
    ):
        token = issuer.token(exp=int(time.time()) + 3_600).decode()
        place = Place(running, {}, {}, door, {**KEYS, "bearer": token})
        theirs = _adas(place)
        own = {name: _objects(place, name) for name in ATTACKERS}
        yield replace(place, theirs=theirs, own=own)
    assert "Traceback" not in running.output, running.output


def _objects(place: Place, who: str, name: str = "mine") -> dict[str, str]:
    """A file and a store with it, in a batch."""
    headers = {"x-user": "ada"} if who == "front" else {}
    with openai.OpenAI(
        base_url=place.running.url + "/v1",
        api_key=place.credentials[who],
        max_retries=0,
        timeout=60,
        default_headers=headers,
    ) as client:
        text = f"The {name} lighthouse keeper eats walnuts.".encode()
        file = client.files.create(file=(f"{name}.md", io.BytesIO(text)), purpose="assistants")
        store = client.vector_stores.create(name=name, metadata={"label": name})
        batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[file.id], poll_interval_ms=50)
        assert batch.file_counts.completed == 1
        return {"file": file.id, "store": store.id, "batch": batch.id}


def _adas(place: Place) -> dict[str, str]:
    made = _objects(place, "ada", CANARY)
    asked = _chat(model="plain", messages=[{"role": "user", "content": f"tell {CANARY}"}])
    call = place.ask("ada", "POST", "/v1/chat/completions", json=asked, headers={"x-request-id": "ada-request-1"})
    kept = place.ask("ada", "POST", "/v1/chat/completions", json=CACHED)
    told = place.ask("ada", "POST", "/v1/responses", json={"model": "plain", "input": f"tell {CANARY}"}).json()
    items = place.ask("ada", "GET", f"/v1/responses/{told['id']}/input_items").json()
    for kind, name, more in (
        ("organisations", "acme-org", {}),
        ("organisations", "umbrella-org", {}),
        ("tenants", "acme", {"organisation": "acme-org"}),
        ("tenants", "umbrella", {"organisation": "umbrella-org"}),
    ):
        label = CANARY if name.startswith("acme") else "Umbrella"
        made_there = place.ask("operator", "POST", f"/admin/{kind}", json={"id": name, "name": label, **more})
        assert made_there.status_code == 201, made_there.text
    known = {"id": "ada", "tenant": "acme", "name": CANARY}
    assert place.ask("operator", "PUT", "/admin/users", json=known).status_code == 200
    key = place.ask("operator", "POST", "/admin/keys", json={"name": f"key {CANARY}", "tenant": "acme", "user": "ada"})
    assert key.status_code == 201, key.text
    path = "/admin/prompts/parrot-feeding/versions"
    for version in (1, 2):
        draft = place.ask("operator", "POST", path, json={"source": _TEMPLATE, "notes": CANARY, "tenant": "acme"})
        assert draft.status_code == 201, draft.text
        if version == 1:
            released = {"label": "production", "reason": CANARY}
            done = place.ask("operator", "POST", f"{path}/1/release?tenant=acme", json=released)
            assert done.status_code == 200, done.text
    return {
        **made,
        "prompt": "parrot-feeding",
        "model": "secret-model",
        "cached": place.ask("ada", "GET", f"/v1/calls/{kept.headers['x-gateway-call-id']}").json()["cache_decision"][
            "key"
        ],
        "call": call.headers["x-gateway-call-id"],
        "request": "ada-request-1",
        "answer": call.json()["id"],
        "response": told["id"],
        "item": items["data"][0]["id"],
        "key": key.json()["id"],
        "configured_key": configured_key_id("Ada's " + CANARY),
        "tenant": "acme",
        "organisation": "acme-org",
    }


# --- every route has its attempts -----------------------------------------------------------------------
_WALK = """
import json, sys
import gateway.server as server

made = server.create_app

def told(*arguments, **more):
    front = made(*arguments, **more)
    app = getattr(front._app, "_app", front._app)  # behind what answers browsers
    found, waiting = [], list(app.routes)
    while waiting:
        route = waiting.pop()
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        waiting += getattr(inner, "routes", None) or []
        found += [f"{method} {route.path}" for method in getattr(route, "methods", None) or ()]
    documented = app.openapi()["paths"]
    found += [f"{method.upper()} {path}" for path, methods in documented.items() for method in methods]
    found += [f"POST {path}" for path in front._doors]
    print("ROUTES " + json.dumps(sorted(set(found))), file=sys.__stdout__, flush=True)
    raise SystemExit(0)

server.create_app = told
from gateway.cli import main
main()
"""


@cache
def routes(file: Path) -> frozenset[str]:
    """Every route of a gateway with this configuration, from its own tables."""
    environment = {**os.environ, "RECORDS_KEY": base64.b64encode(bytes(32)).decode()}
    done = subprocess.run(
        [sys.executable, "-c", _WALK, "serve", "--config", str(file), "--port", "0"],
        capture_output=True, text=True, timeout=60, env=environment, cwd=file.parent,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("ROUTES ")]
    assert lines, done.stdout + done.stderr
    found = {re.sub(r":path\}", "}", route) for route in json.loads(lines[0].removeprefix("ROUTES "))}
    return frozenset(route for route in found if not route.startswith(("HEAD ", "OPTIONS ")))


def test_every_route_has_an_attempt(shared_vendor: Vendor, tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.md").write_text("a")
    walked = GatewayProcess(
        configuration(shared_vendor, tmp_path / "documents", "https://idp.example"), tmp_path / "walked"
    )
    found = routes(walked.file)
    untried, gone = sorted(found - set(OPEN) - set(ATTEMPTS)), sorted(set(ATTEMPTS) - found)
    assert not untried, f"routes without an attempt: {untried}"
    assert not gone, f"attempts at routes that are not there: {gone}"
    assert len(found) > 50


# --- the attempts ---------------------------------------------------------------------------------------
def made_up(like: str) -> str:
    """An id that never was, of the same form and length."""
    swapped = {"a": "b", "b": "c", "c": "d", "d": "e", "e": "f", "f": "a"}
    head, body = like[: min(6, len(like) // 2)], like[min(6, len(like) // 2) :]
    changed = head + "".join(swapped.get(letter, letter) for letter in body)
    return changed if changed != like else like[:-1] + ("x" if like[-1] != "x" else "y")


def _filled(value: Any, ids: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], value)
    if isinstance(value, Mapping):
        return {name: _filled(part, ids) for name, part in value.items()}
    return [_filled(part, ids) for part in value] if isinstance(value, list) else value


_CHANGING = {"date", "x-request-id", "x-gateway-call-id", "server-timing"}


def _told(answer: httpx.Response, ids: Mapping[str, str]) -> tuple[int, dict[str, str], str]:
    """Status, headers and body, without what differs from call to call and with the ids that were asked for blotted out."""
    headers = {name: value for name, value in answer.headers.items() if name not in _CHANGING}
    for name in _CHANGING & set(answer.headers):
        headers[name] = ",".join(sorted(part.split(";")[0].strip() for part in answer.headers[name].split(","))) * (
            name == "server-timing"
        )
    body = answer.text
    for value in sorted(ids.values(), key=len, reverse=True):
        body = body.replace(value, "<id>")
    own = answer.headers.get("x-gateway-call-id")
    return answer.status_code, headers, body.replace(own, "<call>") if own else body


def _combinations(attempt: Attempt, place: Place, attacker: str) -> Iterator[dict[str, str]]:
    """Ada's ids in every place of the attempt; and the attacker's own in some of them, where it has such."""
    own = place.own[attacker]
    choices = [
        [("theirs", place.theirs[name])] + ([("own", own[name])] if name in own and len(attempt.names) > 1 else [])
        for name in attempt.names
    ]
    for chosen in itertools.product(*choices):
        if attempt.names and all(kind == "own" for kind, _ in chosen):
            continue
        yield {name: value for name, (_, value) in zip(attempt.names, chosen, strict=True)}


@pytest.mark.parametrize("route", [route for route in ATTEMPTS if route != "POST /v1/files"])
def test_what_is_somebody_elses_is_as_if_it_were_not(place: Place, vendor: Vendor, route: str) -> None:
    method = route.partition(" ")[0]
    secrets = [CANARY, *(value for name, value in place.theirs.items() if name not in ("model", "tenant"))]
    for attempt in ATTEMPTS[route]:
        for attacker in attempt.by:
            for ids in _combinations(attempt, place, attacker):
                others = {name: made_up(value) if value == place.theirs[name] else value for name, value in ids.items()}
                answers = []
                if attempt.told == "nothing":
                    place.ask(attacker, method, attempt.path, json=_filled(attempt.body, ids))  # of what is its own
                for each in (ids, others):
                    body = None if attempt.body is None else _filled(attempt.body, each)
                    answer = place.ask(
                        attacker, method, _filled(attempt.path, each), json=body, headers=dict(attempt.headers)
                    )
                    answers.append((answer, each))
                what = f"{attacker}: {method} {_filled(attempt.path, ids)} {attempt.body}"
                if attempt.told == "refused":
                    assert vendor.requests == [], what
                there, absent = (_told(answer, each) for answer, each in answers)
                assert there == absent, what
                status = there[0]
                if attempt.told == "refused":
                    assert status in REFUSED, (what, there)
                else:
                    assert status == 200 or ("refused" in attempt.told and status in (400, *REFUSED)), (what, there)
                shown = str(there[1]) + there[2]
                for secret in secrets:
                    assert secret not in shown, (what, secret)
                assert there[1].get("x-gateway-cache") in (None, "off", "miss"), what


# --- kept answers ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_f1_a_kept_answer_is_its_tenants_own(place: Place, vendor: Vendor, stream: bool) -> None:
    question = f"What does the keeper eat, {stream}?"
    vendor.behaviours["cached"] = {"text": f"walnuts {CANARY}"}
    assert place.chat("ada", "cached", question).headers["x-gateway-cache"] == "miss"
    kept = place.chat("ada", "cached", question)
    assert (kept.headers["x-gateway-cache"], CANARY in kept.text) == ("hit", True)
    vendor.behaviours["cached"] = {"text": "made anew"}
    for count, stranger in enumerate(STRANGERS):
        asked = len(vendor.requests)
        unknown = place.chat(stranger, "cached", f"What else, {count}, {stream}?", stream=stream)
        same = place.chat(stranger, "cached", question, stream=stream)
        # The first of a tenant makes its own answer; the others of that tenant share that one.
        assert same.headers["x-gateway-cache"] == ("miss" if count == 0 else "hit")
        assert len(vendor.requests) == asked + (2 if count == 0 else 1)
        assert CANARY not in same.text + str(same.headers)
        if count == 0:
            assert set(same.headers) == set(unknown.headers)
    only = {"cache-control": "only-if-cached"}
    asked_for = {"model": "cached", "messages": [{"role": "user", "content": question + " "}]}
    for stranger in STRANGERS:
        answer = place.ask(stranger, "POST", "/v1/chat/completions", json=asked_for, headers=only)
        assert CANARY not in answer.text + str(answer.headers)
    assert CANARY in place.chat("ada", "cached", question).text


def test_f2_an_answer_to_a_like_question_is_its_tenants_own(place: Place, vendor: Vendor) -> None:
    vendor.behaviours["alike"] = {"text": f"walnuts {CANARY}"}
    first, second = "What does the office parrot eat?", "Please tell me, what does the office parrot eat?"
    place.chat("ada", "alike", first)
    until(
        lambda: place.chat("ada", "alike", second).headers["x-gateway-cache"] == "semantic", what="Ada's semantic hit"
    )
    vendor.behaviours["alike"] = {"text": "made anew"}
    assert place.chat("umbrella", "alike", second).headers["x-gateway-cache"] == "miss"
    for asked in (first, second):
        for stranger in STRANGERS:
            answer = place.chat(stranger, "alike", asked)
            assert CANARY not in answer.text + str(answer.headers)
    assert CANARY in place.chat("ada", "alike", first).text


# --- knowledge, conversations, what a caller claims -----------------------------------------------------
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_f6_a_passage_is_for_its_readers(place: Place, vendor: Vendor, stream: bool) -> None:
    """Not by the search, and not by the answer that was made of it and kept: nor for a colleague."""
    question = f"What does the office parrot eat, {stream}?"
    mine = place.chat("ada", "knowing", question)
    assert [source["collection"] for source in mine.json()["rag"]["sources"]] == ["office"]
    assert CANARY in vendor.requests[-1].raw.decode()
    assert place.chat("ada", "knowing", question).headers["x-gateway-cache"] == "hit"
    for attacker in ATTACKERS:
        for more in ({}, {"user": "ada"}, {"rag": {"top_k": 50, "min_score": -1}}, {"rag": {"filters": None}}):
            vendor.requests.clear()
            answer = place.chat(attacker, "knowing", question, stream=stream, **more)
            assert CANARY not in answer.text + str(answer.headers), (attacker, more)
            assert all(CANARY not in seen.raw.decode() for seen in vendor.requests), (attacker, more)
            call = place.ask(attacker, "GET", f"/v1/calls/{answer.headers['x-gateway-call-id']}").json()
            assert call["passages"] == [], (attacker, more)


def test_a_conversations_pseudonyms_are_its_speakers(place: Place, vendor: Vendor) -> None:
    address = f"{CANARY}@example.org"
    named = {"metadata": {"conversation_id": "ada's own"}}
    place.chat("ada", "veiled", f"Write to {address}.", **named)
    placeholder = re.findall(r"<EMAIL_ADDRESS_[0-9a-f_]+>", vendor.requests[-1].raw.decode())[0]
    vendor.behaviours["veiled"] = {"text": f"to {placeholder}"}
    assert address in place.chat("ada", "veiled", "To whom?", **named).text
    for attacker in ATTACKERS:
        answer = place.chat(attacker, "veiled", "To whom?", **named)
        assert CANARY not in answer.text + str(answer.headers)
        assert placeholder in answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("admin", ADMINS)
def test_who_administers_a_tenant_reads_its_log_alone(place: Place, admin: str) -> None:
    """What its own keys have tried is in there, also in vain and with others' ids."""
    place.ask("umbrella", "POST", "/admin/keys", json={"name": "x"})
    place.ask("eve", "POST", "/admin/keys", json={"name": "x"})
    answer = place.ask(admin, "GET", "/admin/audit?limit=1000")
    assert CANARY not in answer.text
    entries = answer.json()["data"]
    assert {entry["tenant"] for entry in entries} == {"umbrella"}
    assert {entry["actor"]["tenant"] for entry in entries} <= {"umbrella", "default"}, "its own, and the operator"


@pytest.mark.parametrize("admin", ADMINS)
def test_a_users_data_are_one_tenants(place: Place, admin: str) -> None:
    """Two users of one name: who administers the one's tenant exports and erases the one."""
    files = {}
    for front in ("front", "acme-front"):
        sent = {"file": ("a.md", f"text of {front}".encode()), "purpose": (None, "assistants")}
        made = place.ask(front, "POST", "/v1/files", files=sent, headers={"x-user": admin})
        files[front] = made.json()["id"]
    told = place.ask(admin, "POST", "/admin/exports", json={"user": admin, "tenant": "umbrella"})
    assert told.status_code == 200, told.text
    assert files["front"] in told.text
    assert files["acme-front"] not in told.text
    assert "acme" not in told.text
    erased = place.ask(admin, "POST", "/admin/erasures", json={"user": admin, "tenant": "umbrella"})
    assert erased.status_code == 200, erased.text
    for front, status in (("front", 404), ("acme-front", 200)):
        shown = place.ask(front, "GET", f"/v1/files/{files[front]}", headers={"x-user": admin})
        assert shown.status_code == status, front


FORGED = {
    "x-tenant": "acme", "x-tenant-id": "acme", "x-gateway-tenant": "acme", "x-organisation": "acme-org",
    "x-user": "ada", "x-user-id": "ada", "x-role": "admin", "x-forwarded-user": "ada", "openai-organization": "acme",
    "openai-project": "acme", "x-forwarded-for": "127.0.0.1", "x-api-key": KEYS["ada"],
}  # fmt: skip


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_f10_nobody_is_who_they_say_they_are(place: Place, vendor: Vendor, attacker: str) -> None:
    """Tenant, user and rights are the key's, whatever headers, metadata and the body's `user` say."""
    claims = {"user": "ada", "metadata": {"tenant": "acme", "user": "ada", "role": "admin", "budget": "1000"}}
    asked = {"model": "plain", "messages": [{"role": "user", "content": "hello"}], **claims}
    answer = place.ask(attacker, "POST", "/v1/chat/completions", json=asked, headers=FORGED)
    assert answer.status_code == 200, answer.text
    call = place.ask(attacker, "GET", f"/v1/calls/{answer.headers['x-gateway-call-id']}").json()
    tenant = "acme" if attacker == "eve" else "umbrella"
    user = {"eve": "eve", "namesake": "ada", "bearer": "ada", "front": "ada"}.get(attacker)
    assert call["caller"].items() >= {"key": attacker, "tenant": tenant, "user": user}.items()
    for path in (f"/v1/files/{place.theirs['file']}", f"/v1/calls/{place.theirs['call']}", "/admin/targets"):
        assert place.ask(attacker, "GET", path, headers=FORGED).status_code in REFUSED, path


def test_a_file_of_the_same_name_is_another_file(place: Place) -> None:
    for attacker in ATTACKERS:
        sent = {"file": (f"{CANARY}.md", b"overwritten"), "purpose": (None, "assistants")}
        made = place.ask(attacker, "POST", "/v1/files", files=sent)
        assert made.status_code == 200, made.text
        assert made.json()["id"] != place.theirs["file"]
        assert place.ask(attacker, "DELETE", f"/v1/files/{made.json()['id']}").status_code == 200
    content = place.ask("ada", "GET", f"/v1/files/{place.theirs['file']}/content").text
    assert content == f"The {CANARY} lighthouse keeper eats walnuts."


def test_ada_still_has_all_that_is_hers(place: Place) -> None:
    """Whatever was tried before this, and in whichever order."""
    theirs = place.theirs
    for path in (
        f"/v1/files/{theirs['file']}",
        f"/v1/files/{theirs['file']}/content",
        f"/v1/vector_stores/{theirs['store']}",
        f"/v1/vector_stores/{theirs['store']}/files/{theirs['file']}/content",
        f"/v1/vector_stores/{theirs['store']}/file_batches/{theirs['batch']}",
        f"/v1/responses/{theirs['response']}",
        f"/v1/responses/{theirs['response']}/input_items",
        f"/v1/calls/{theirs['call']}",
        f"/v1/calls/{theirs['request']}",
        f"/v1/models/{theirs['model']}",
    ):
        answer = place.ask("ada", "GET", path)
        assert answer.status_code == 200, (path, answer.text)
        assert CANARY in answer.text or "model" in path or "batch" in path, path
    store = place.ask("ada", "GET", f"/v1/vector_stores/{theirs['store']}").json()
    assert (store["name"], store["metadata"], store["expires_after"]) == (CANARY, {"label": CANARY}, None)
    key = place.ask("operator", "GET", f"/admin/keys/{theirs['key']}").json()
    assert (key["name"], key["user"], key["status"]) == (f"key {CANARY}", "ada", "active")
    assert place.ask("operator", "GET", "/admin/tenants/acme").json()["organisation"] == "acme-org"
    (user,) = place.ask("operator", "GET", "/admin/users?tenant=acme&id=ada").json()["data"]
    assert user["name"] == CANARY
    assert place.ask("ada", "POST", "/v1/chat/completions", json=CACHED).headers["x-gateway-cache"] == "hit"
