"""The gateway that most tests talk to: its public models, its keys, its planted secrets."""

from __future__ import annotations

import hashlib
from typing import Any

from upstream.vendor import Vendor

# Planted secrets. Whatever the tests do, none of them may be found where nobody should look for them.
KEY_A = "sk-gw-canary-tenant-a-5f1c9e"
KEY_B = "sk-gw-canary-tenant-b-7d20aa"
KEY_NARROW = "sk-gw-canary-narrow-10b4f3"
KEY_ADMIN = "sk-gw-canary-admin-e83c55"


def key_entry(name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "hash": "sha256:" + hashlib.sha256(key.encode()).hexdigest(), **more}


GUARDED = ("masked", "blocked", "screened")


def plain_configuration(vendor: Vendor) -> dict[str, Any]:
    """The same without guardrails, whose libraries take seconds to load."""
    configuration = gateway_configuration(vendor)
    for model in GUARDED:
        del configuration["models"][model]
    return configuration


def gateway_configuration(vendor: Vendor) -> dict[str, Any]:
    """The public models that most tests use, over the mock vendor; with keys, and timeouts made for tests."""
    mock = {
        "kind": "openai_compatible",
        "base_url": vendor.url,
        "api_key": vendor.api_key,
        "timeouts": {"connect": "1s", "first_token": "2s", "between_tokens": "1s", "total": "30s"},
        "retries": {"attempts": 0},
        # Tests that let the same target fail again and again must not see it put aside; circuits have their own tests.
        "circuit": {"failures": 1_000_000, "within": "1h", "pause": "1ms", "longest": "1ms"},
    }
    return {
        "server": {"body_limit": "2MB", "header_timeout": "2s", "body_timeout": "2s", "grace": "10s"},
        "access": {
            "open_on_loopback": False,
            "keys": [
                key_entry("a", KEY_A, tenant="a"),
                key_entry("b", KEY_B, tenant="b"),
                key_entry("narrow", KEY_NARROW, tenant="a", models=["plain"]),
                key_entry("admin", KEY_ADMIN, admin=True),
            ],
        },
        "providers": {
            "mock": mock,
            "patient": {**mock, "timeouts": {"first_token": "30s", "between_tokens": "30s", "total": "60s"}},
            "retrying": {**mock, "retries": {"attempts": 1, "backoff": "10ms", "max_backoff": "3s"}},
            "hasty": {**mock, "timeouts": {"total": "1s"}},
            "nobody": {**mock, "base_url": "http://127.0.0.1:1/v1"},
        },
        "models": {
            "plain": {"targets": ["mock/gpt-mock"]},
            "embedder": {"targets": ["mock/mock-embed"]},
            "cached": {"targets": ["patient/cached"], "cache": {"exact": {"ttl": "1h"}}},
            "masked": {
                "targets": ["mock/guarded"],
                "guardrails": {"output": [{"check": "secrets", "action": "mask"}, {"check": "pii", "action": "mask"}]},
            },
            "blocked": {
                "targets": ["mock/guarded"],
                "guardrails": {
                    "output": [{"check": "secrets", "action": "block"}, {"check": "pii", "action": "block"}]
                },
            },
            "screened": {
                "targets": ["mock/gpt-mock"],
                "guardrails": {"input": [{"check": "secrets", "action": "block"}, {"check": "pii", "action": "mask"}]},
            },
            "fallback": {"targets": ["mock/first"], "fallbacks": ["mock/second"]},
            "unreachable": {"targets": ["nobody/x"], "fallbacks": ["mock/second"]},
        },
    }
