"""Features of users and things at a running gateway: two tenants, a Feast repository, and what goes back into it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_process import GatewayProcess, until
from sample_gateway import key_entry
from upstream.vendor import Vendor

ROOT = Path(__file__).parents[2]
APP, OTHER, LOADER, OWN, OPERATOR, TENANT_ADMIN, CHAT, CHAT_SMALL = (
    f"sk-gw-canary-{name}-5b0c"
    for name in ("app", "other", "loader", "own", "operator", "tenant-admin", "chat", "chat-small")
)
CANARY = "macadamia-canary"  # what ada is allergic to
BY_USER = "{tenant}/{user}"
PROMPT = """\
direct: true
inputs: {product: {type: string, default: ""}}
features: {tier: nobody, spent: 0.0, price: 0.0}
messages:
  - {role: system, content: "tier {{ user.tier }}, price {{ user.price }}{% for fact in facts if fact.unit and fact.value is not none %}, {{ fact.name }}: {{ fact.value }} {{ fact.unit }} {{ fact.description }}{% endfor %}"}
  - conversation
"""
CARE = """\
features: {tier: nobody, allergies: []}
messages: [{role: system, content: "allergies {{ user.allergies | join(', ') }}"}, conversation]
"""
HELP = """\
features: {last_topics: [], questions: 0, unhappy: 0, last_model: nothing}
messages: [{role: system, content: "asked {{ user.questions }}, unhappy {{ user.unhappy }}, by {{ user.last_model }}"}, conversation]
"""


def configuration(vendor: Vendor, folder: Path) -> dict[str, Any]:
    prompts = folder / "prompts"
    prompts.mkdir(parents=True)
    for name, text in (("shop", PROMPT), ("care", CARE), ("help", HELP)):
        (prompts / f"{name}@1.yaml").write_text(text)
    upstream = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    shop = {"service": "shop", "budget": "20s", "entities": {"product_id": "{metadata.product_id}"}}
    return {
        "access": {
            "keys": [
                key_entry("app", APP, tenant="a", speaks_for_users=True),
                key_entry("other", OTHER, tenant="b", speaks_for_users=True),
                key_entry("loader", LOADER, tenant="a", speaks_for_users=True, endpoints=["features"]),
                key_entry("own", OWN, tenant="a", user="ben", endpoints=["chat.completions", "features"]),
                key_entry("operator", OPERATOR, role="operator"),
                key_entry("chat", CHAT, tenant="a", speaks_for_users=True, front_end="open_webui"),
                key_entry(
                    "chat-small", CHAT_SMALL, tenant="a", front_end={"kind": "open_webui", "side_calls": "small"}
                ),
                key_entry("tenant-admin", TENANT_ADMIN, tenant="b", role="admin", scope="tenant"),
            ]
        },
        "records": {"content": "on"},
        "residency": {},
        "prompts": {"folder": str(prompts)},
        "providers": {"cloud": upstream, "home": {**upstream, "residency": "on_premises"}},
        "features": {
            "repo": str(ROOT / "tests/samples/shop"),
            "entities": {"user_id": BY_USER},
            "deadline": "20s",
            "from_calls": {
                "push_source": "talks_now",
                "every": "100ms",
                "features": {"questions": "calls", "unhappy": "feedback.bad", "last_model": "model"},
            },
        },
        "models": {
            "shop": {"targets": ["cloud/shop"], "prompt": "shop@1", "features": {**shop, "from_calls": False}},
            "strict": {
                "targets": ["cloud/shop"],
                "prompt": "shop@1",
                "features": {**shop, "max_age": {"tier": "1h"}, "defaults": {"tier": "unknown"}, "from_calls": False},
            },
            "by_header": {
                "targets": ["cloud/shop"],
                "prompt": "shop@1",
                "features": {**shop, "entities": {"product_id": "{header.x-product}"}, "from_calls": False},
            },
            "by_input": {
                "targets": ["cloud/shop"],
                "prompt": "shop@1",
                "features": {**shop, "entities": {"product_id": "{input.product}"}, "from_calls": False},
            },
            "care": {
                "targets": ["cloud/care", "home/care"],
                "prompt": "care@1",
                "cache": {"exact": {"ttl": "1h"}},
                "features": {"service": "care", "budget": "20s", "from_calls": False},
            },
            "hasty_care": {
                "targets": ["cloud/care", "home/care"],
                "prompt": "care@1",
                "features": {"service": "care", "budget": "100ms", "from_calls": False},
            },
            "small": {"targets": ["cloud/small", "home/small"]},
            "help": {
                "targets": ["cloud/help"],
                "prompt": "help@1",
                "features": {"service": "helper", "budget": "20s"},
            },
            "hasty": {
                "targets": ["cloud/help"],
                "prompt": "help@1",
                "features": {"service": "helper", "budget": "100ms", "from_calls": False},
            },
            "insisting": {
                "targets": ["cloud/help"],
                "prompt": "help@1",
                "features": {"service": "helper", "budget": "100ms", "on_failure": "refuse", "from_calls": False},
            },
        },
    }


@pytest.fixture(scope="module")
def shop(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("shop")
    with GatewayProcess(configuration(shared_vendor, folder), folder) as running:
        until(lambda: push(running, OPERATOR, "products_now", [{"product_id": 5, "price": 2.5}]).status_code == 200, 60)
        for tenant, tier in (("a", "gold"), ("b", "silver")):
            rows = [{"user_id": name, "tier": tier, "spent": 10.0} for name in ("ada", "adam")]
            assert push(running, OPERATOR, "buyers_now", rows, tenant=tenant).status_code == 200
        yield running
        assert CANARY.encode() not in b"".join(
            path.read_bytes()
            for path in (running.folder / "data").rglob("*")
            if path.is_file() and "features" not in path.parts
        )
        assert CANARY not in running.output
    assert "Traceback" not in running.output, running.output


def post(gateway: GatewayProcess, key: str, path: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(gateway.url + path, json=body, headers={"authorization": f"Bearer {key}", **headers}, timeout=60)


def push(gateway: GatewayProcess, key: str, source: str, rows: list[Any], **more: Any) -> httpx.Response:
    return post(gateway, key, "/v1/features/push", {"push_source": source, "rows": rows, **more})


def ask(gateway: GatewayProcess, model: str, user: str | None, key: str = APP, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}
    return post(gateway, key, "/v1/chat/completions", body | ({"user": user} if user else {}), **headers)


def told(vendor: Vendor) -> str:
    """What the last prompt begins with."""
    return str(vendor.requests[-1].body["messages"][0]["content"])


def record(gateway: GatewayProcess, answer: httpx.Response, key: str = APP) -> dict[str, Any]:
    call_id = answer.headers["x-gateway-call-id"]
    headers = {"authorization": f"Bearer {key}"}
    return dict(until(lambda: (got := httpx.get(f"{gateway.url}/v1/calls/{call_id}", headers=headers, timeout=20)).status_code == 200 and got.json(), 30))  # fmt: skip


def test_each_tenants_user_has_their_own(shop: GatewayProcess, vendor: Vendor) -> None:
    seen = []
    for key, user in ((APP, "ada"), (OTHER, "ada"), (APP, "stranger"), (APP, "b/adam"), (APP, None)):
        assert ask(shop, "shop", user, key).status_code == 200
        seen.append(told(vendor).partition(",")[0])
    assert seen == ["tier gold", "tier silver", "tier nobody", "tier nobody", "tier nobody"]


def test_units_and_descriptions_are_a_templates_to_use(shop: GatewayProcess, vendor: Vendor) -> None:
    ask(shop, "shop", "ada")
    assert "spent: 10.0 EUR in the last year" in told(vendor)


def test_a_product_comes_from_metadata_a_header_or_an_input(shop: GatewayProcess, vendor: Vendor) -> None:
    by: dict[str, dict[str, Any]] = {
        "shop": {"metadata": {"product_id": "5", "kept": "yes"}},
        "by_header": {"headers": {"x-product": "5"}},
        "by_input": {"prompt": {"id": "shop", "version": "1", "variables": {"product": "5"}}},
    }
    for model, more in by.items():
        answer = ask(shop, model, "ada", **more)
        assert answer.status_code == 200, answer.text
        assert told(vendor).startswith("tier gold, price 2.5"), model
        assert record(shop, answer)["features"]["entity"] == {"user_id": "a/ada", "product_id": 5}
        assert "product_id" not in json.dumps(vendor.requests[-1].body.get("metadata", {})), "not said to a provider"
    ask(shop, "by_header", "ada", metadata={"product_id": "5"})
    assert told(vendor).startswith("tier gold, price 0.0"), "each model says where its product stands"


@pytest.mark.parametrize("value", ["five", "5" * 300, "5\u0000", "0_5", "9" * 30])
def test_a_product_that_can_not_be_is_refused_by_name(shop: GatewayProcess, value: str) -> None:
    answer = ask(shop, "shop", "ada", metadata={"product_id": value})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "metadata.product_id"


def test_what_is_too_old_or_missing_has_its_default_and_the_record_says_so(
    shop: GatewayProcess, vendor: Vendor
) -> None:
    at = time.time() - 7_200
    rows = [{"user_id": "kim", "tier": "gold", "event_timestamp": at}]
    assert push(shop, LOADER, "buyers_now", rows).status_code == 200
    assert told_of(shop, vendor, "shop", "kim") == "tier gold"
    answer = ask(shop, "strict", "kim")
    assert told(vendor).startswith("tier unknown")
    features = record(shop, answer)["features"]
    assert features["stale"] == ["tier"]
    assert "spent" in features["missing"]
    assert abs(features["event_times"]["tier"] - at) < 2
    assert features["values"]["tier"] == "unknown"
    assert told_of(shop, vendor, "strict", "nobody") == "tier unknown"


def told_of(gateway: GatewayProcess, vendor: Vendor, model: str, user: str) -> str:
    assert ask(gateway, model, user).status_code == 200
    return told(vendor).partition(",")[0]


def test_what_is_sensitive_stays_here_and_is_masked(shop: GatewayProcess, vendor: Vendor) -> None:
    """The first target is in the cloud. Nothing that was kept of the call holds the word; the fixture looks, too."""
    assert push(shop, LOADER, "health_now", [{"user_id": "ada", "allergies": [CANARY]}]).status_code == 200
    vendor.behaviours["care"] = {"text": f"no {CANARY} for you"}
    answer = ask(shop, "care", "ada")
    assert CANARY in told(vendor)
    assert CANARY in answer.text
    assert answer.headers["x-gateway-target"] == "home/care"
    kept = record(shop, answer)
    assert kept["features"]["values"] == {"tier": "gold", "allergies": "[masked]"}
    assert kept["sensitivity"] == "restricted"
    assert kept["answer"] == "no [masked] for you"
    assert CANARY not in json.dumps(kept)
    history = [{"role": "assistant", "content": f"no {CANARY} for you"}, {"role": "user", "content": "hello"}]
    again = ask(shop, "care", "ada", messages=history)
    assert CANARY not in json.dumps(record(shop, again)), "earlier answers may repeat it"
    vendor.clear()
    vendor.behaviours["care"] = {"text": f"no {CANARY} for you"}
    for _ in range(2):
        again = ask(shop, "care", "ada")
    assert again.headers.get("x-gateway-cache") != "hit", "an answer that may rest nowhere rests in no cache"
    assert len(vendor.requests) == 2


@pytest.mark.parametrize(("key", "model"), [(CHAT, "care"), (CHAT_SMALL, "small")])
def test_a_title_goes_no_further_than_its_conversation(
    shop: GatewayProcess, vendor: Vendor, key: str, model: str
) -> None:
    """Open WebUI sends the conversation along, and with it what earlier answers have said of somebody."""
    history = f"### Task:\nGenerate a concise title.\n<chat_history>\nASSISTANT: no {CANARY}\n</chat_history>"
    answer = ask(shop, "care", None, key, messages=[{"role": "user", "content": history}])
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gateway-target"] == f"home/{model}"
    kept = record(shop, answer, key)
    assert kept["side_call"]["task"] == "title"
    assert CANARY not in json.dumps(kept)


@pytest.mark.parametrize(
    ("key", "body", "status", "param"),
    [
        (APP, {"push_source": "buyers_now", "rows": [{"user_id": "ada", "tier": "x"}]}, 403, None),
        (LOADER, {"push_source": "buyers_now", "rows": [{"user_id": "ada", "tier": "x"}], "tenant": "b"}, 403, "tenant"),
        (TENANT_ADMIN, {"push_source": "buyers_now", "rows": [{"user_id": "x", "tier": "x"}], "tenant": "a"}, 403, "tenant"),
        (LOADER, {"push_source": "products_now", "rows": [{"product_id": 5, "price": 0.0}]}, 403, "push_source"),
        (LOADER, {"push_source": "ratings_now", "rows": [{"user_id": "a", "product_id": 5}]}, 403, "push_source"),
        (OWN, {"push_source": "buyers_now", "rows": [{"user_id": "ada", "tier": "x"}]}, 403, "rows[0].user_id"),
        (LOADER, {"push_source": "nothing", "rows": [{"user_id": "ada", "tier": "x"}]}, 400, "push_source"),
        (LOADER, {"push_source": "buyers_now", "rows": []}, 400, "rows"),
        (LOADER, {"push_source": "buyers_now", "rows": [{"user_id": "ada", "tier": 5}]}, 400, "rows[0].tier"),
        (LOADER, {"push_source": "buyers_now", "rows": [{"user_id": 5, "tier": "x"}]}, 400, "rows[0].user_id"),
        (LOADER, {"push_source": "buyers_now", "rows": [{"tier": "x"}]}, 400, "rows[0].user_id"),
        (LOADER, {"push_source": "buyers_now", "rows": [{"user_id": "ada", "tear": "x"}]}, 400, "rows[0].tear"),
    ],
)  # fmt: skip
def test_a_push_that_may_not_be_or_can_not_be_writes_nothing(
    shop: GatewayProcess, vendor: Vendor, key: str, body: Any, status: int, param: str | None
) -> None:
    answer = post(shop, key, "/v1/features/push", body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param
    assert told_of(shop, vendor, "shop", "ada") == "tier gold"
    assert ask(shop, "shop", "ada", OTHER).status_code == 200
    assert told(vendor).startswith("tier silver")


def test_a_key_writes_of_its_own_tenants_users_whatever_it_calls_them(shop: GatewayProcess, vendor: Vendor) -> None:
    assert push(shop, LOADER, "buyers_now", [{"user_id": "b/ada", "tier": "stolen"}]).status_code == 200
    assert push(shop, OWN, "buyers_now", [{"user_id": "ben", "tier": "mine"}]).status_code == 200
    assert told_of(shop, vendor, "shop", "b/ada") == "tier stolen"
    assert told_of(shop, vendor, "shop", "ben") == "tier mine"
    ask(shop, "shop", "ada", OTHER)
    assert told(vendor).startswith("tier silver")


def test_the_next_answer_knows_of_the_last_ones(shop: GatewayProcess, vendor: Vendor) -> None:
    first = ask(shop, "help", "lou")
    assert told(vendor) == "asked 0, unhappy 0, by nothing"
    for _ in range(4):
        ask(shop, "help", "lou")
    rating = {"call_id": first.headers["x-gateway-call-id"], "score": 0.0}
    assert post(shop, APP, "/v1/feedback", rating).status_code == 201

    def knows() -> bool:
        ask(shop, "hasty", "lou")  # which writes nothing itself
        return told(vendor) == "asked 5, unhappy 1, by help"

    until(knows, 30)
    ask(shop, "hasty", "lou", OTHER)
    assert told(vendor) == "asked 0, unhappy 0, by nothing", "nobody else's"


def test_an_erased_users_features_go_and_nobody_elses(shop: GatewayProcess, vendor: Vendor) -> None:
    for key, tenant in ((OPERATOR, "a"), (TENANT_ADMIN, "b")):
        rows = [{"user_id": "zoe", "tier": f"of {tenant}", "orders": 2}]
        assert push(shop, key, "buyers_now", rows, tenant=tenant).status_code == 200
    about = {"tenant": "b", "user": "zoe"}
    held = post(shop, TENANT_ADMIN, "/admin/exports", about).text
    assert '"buyers:tier": "of b"' in held
    receipt = post(shop, TENANT_ADMIN, "/admin/erasures", about).json()
    assert receipt["erased"]["features"] == 2
    assert "features" not in receipt["left"]
    assert told_of(shop, vendor, "shop", "zoe") == "tier of a"
    ask(shop, "shop", "zoe", OTHER)
    assert told(vendor).startswith("tier nobody")


def test_the_age_of_views_is_measured(shop: GatewayProcess) -> None:
    metrics = httpx.get(shop.url + "/metrics", headers={"authorization": f"Bearer {OPERATOR}"}, timeout=20).text
    assert 'rag_gateway_feature_age_seconds{view="buyers"}' in metrics


def test_a_store_that_hangs_costs_the_budget_and_then_nothing(shop: GatewayProcess, vendor: Vendor) -> None:
    """D6. The table is locked by somebody else: SQLite would wait for seconds, in its thread."""
    ask(shop, "hasty", "ada")
    holder = sqlite3.connect(shop.folder / "data/features/online.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        for _ in range(5):
            answer = ask(shop, "hasty", "ada")
            assert answer.status_code == 200
            assert answer.headers["x-gateway-degraded"] == "features"
            assert told(vendor) == "asked 0, unhappy 0, by nothing"
        kept_here = ask(shop, "hasty_care", "ada")
        assert kept_here.headers["x-gateway-target"] == "home/care", "the conversation may hold what can't be read now"
        refused = ask(shop, "insisting", "ada")
        assert refused.status_code == 503
        assert refused.json()["error"]["message"].startswith("The features stage is unavailable")
    finally:
        holder.execute("COMMIT")
        holder.close()
    until(lambda: "x-gateway-degraded" not in ask(shop, "hasty", "ada").headers, 60)
