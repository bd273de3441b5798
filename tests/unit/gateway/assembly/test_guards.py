"""Guardrails as configured: every check can be named, built, and put where it looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.assembly import compile_revision, open_services
from gateway.config.guardrails import CHECKS
from gateway.config.loading import load
from gateway.revision import Revision
from gateway.routing.fleet import Fleet
from gateway.values import Caller

SERVER = {"url": "http://127.0.0.1:1/v1", "headers": {"x-key": "k"}, "api_key": "k", "timeout": "1s"}
SETTINGS: dict[str, dict[str, Any]] = {
    "secrets": {},
    "pii": {"entities": ["EMAIL_ADDRESS"], "min_score": 0.5},
    "injection": {"threshold": 0.7, "embeddings": "local"},
    "keywords": {"lists": [{"kind": "k", "words": ["w"], "patterns": ["p+"]}]},
    "exfiltration": {"allowed_hosts": ["example.org"], "links": "allowed", "bare_urls": False, "data_images": True},
    "leaked_instructions": {"min_characters": 50},
    "groundedness": {"judge": "mock/judge", "language": "en"},
    "topics": {"denied": [{"name": "t", "examples": ["x"]}], "allowed": [], "embeddings": "mock/e"},
    "language": {"allowed": ["en", "de"], "certainty": 0.8},
    "length": {"most": 100, "unit": "tokens"},
    "code": {"allow": ["python"], "deny": ["shell"], "commands": ["destructive"]},
    "citations": {"min_share": 0.5, "language": "de"},
    "schema": {"schema": {"type": "object"}, "fenced": False, "repair": True},
    "tools": {"allow": ["a*"], "deny": ["b"], "arguments": {"a": {"type": "object"}}, "max_characters": 100},
    "moderation": {**SERVER, "model": "m", "thresholds": {"hate": 0.5}, "others": False},
    "guard_model": {**SERVER, "family": "llama_guard", "model": "m", "categories": ["S1"], "min_score": 0.4},
    "python": {"entry_point": "guardrails.checks.length:Length", "settings": {"most": 10}},
    "webhook": {**SERVER, "name": "mine", "version": "7"},
}
OF_ANSWERS = {"leaked_instructions", "groundedness", "citations", "schema"}
HASH = "sha256:" + "0" * 64


def compiled(folder: Path, **more: Any) -> Revision:
    configuration = {
        "providers": {"mock": {"kind": "openai_compatible", "base_url": "http://127.0.0.1:1/v1"}},
        "retrieval": {"collections": {}},
        **more,
    }
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(configuration), "utf-8")
    loaded = load(file, {})
    return compile_revision(loaded, open_services(loaded.configuration), Fleet(), loopback=True)


def names(policy: Any) -> list[str]:
    return [r.check.name for r in (*policy.rules, *(policy.judges.rules if policy.judges else ()))]


def test_every_check_is_tested_here() -> None:
    assert set(SETTINGS) == CHECKS


@pytest.mark.parametrize("check", sorted(SETTINGS))
def test_a_check_is_built_with_all_of_its_settings(tmp_path: Path, check: str) -> None:
    rule = {"check": check, **SETTINGS[check]}
    sides = {"output": [rule]} if check in OF_ANSWERS else {"input": [rule], "output": [rule]}
    revision = compiled(tmp_path, models={"m": {"targets": ["mock/x"], "guardrails": sides}})
    pipeline = revision.pipelines["m"]
    expected = {"webhook": "mine", "python": "length"}.get(check, check)
    assert pipeline.output_guard is not None
    assert names(pipeline.output_guard.policy) == [expected]
    assert (pipeline.input_guard is not None) == (check not in OF_ANSWERS)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"check": "keywords", "lists": [{"kind": "k"}]}, "`k` has neither `words` nor `patterns`"),
        ({"check": "python", "entry_point": "no_such_module:Check"}, "`no_such_module:Check` can't be loaded"),
        ({"check": "python", "entry_point": "json:no_such_name"}, "`json:no_such_name` can't be loaded"),
        ({"check": "python", "entry_point": "json:dumps", "settings": {"obj": 1}}, "`json:dumps` does not make a check"),
        ({"check": "python", "entry_point": "json:dumps"}, "`json:dumps` does not take these settings"),
        ({"check": "exfiltration", "strict": False}, "`exfiltration` masks, which what has left can't be"),
    ],
)  # fmt: skip
def test_what_a_check_does_not_take_is_said_at_the_start(tmp_path: Path, settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault.replace("(", r"\(")):
        compiled(tmp_path, models={"m": {"targets": ["mock/x"], "guardrails": {"output": [settings]}}})


def test_a_set_stands_for_its_rules_in_their_order(tmp_path: Path) -> None:
    revision = compiled(
        tmp_path,
        guardrails={"house": ["secrets", {"check": "length", "most": 10}]},
        models={"m": {"targets": ["mock/x"], "guardrails": {"input": ["pii", "house"]}}},
    )
    guard = revision.pipelines["m"].input_guard
    assert guard is not None
    assert names(guard.policy) == ["pii", "secrets", "length"]


def test_a_key_adds_its_rules_to_models_with_and_without_and_to_their_arms(tmp_path: Path) -> None:
    arms = [{"provider": "mock", "model": name, "arm": name} for name in ("one", "two")]
    revision = compiled(
        tmp_path,
        access={"keys": [{"name": "k", "hash": HASH, "guardrails": {"input": ["pii"]}}]},
        models={
            "m": {"targets": ["mock/x"], "guardrails": {"input": ["secrets"]}, "cache": {"exact": {}}},
            "arms": {"targets": arms, "strategy": "ab"},
        },
    )
    tight = Caller("k", guardrails=revision.configuration.access.keys[0].guardrails.digest)  # type: ignore[union-attr]  # it has some
    pipeline = revision.pipeline("m", tight)
    assert pipeline.input_guard is not None
    assert names(pipeline.input_guard.policy) == ["secrets", "pii"]
    assert pipeline is revision.pipeline("m", tight)
    assert pipeline.targets is revision.pipeline("m", Caller("other")).targets
    for name in ("mock/y", "arms"):
        loose, strict = revision.pipeline(name, Caller("other")), revision.pipeline(name, tight)
        assert (loose.input_guard, strict.input_guard is not None) == (None, True)
    plain = revision.pipeline("m", Caller("other")).input_guard
    assert plain is not None
    assert names(plain.policy) == ["secrets"]


def test_a_model_without_guardrails_loads_nothing_of_them(tmp_path: Path) -> None:
    import subprocess
    import sys

    file = tmp_path / "gateway.yaml"
    file.write_text("providers: {mock: {kind: openai_compatible, base_url: http://127.0.0.1:1/v1}}\n"
                    "models: {m: {targets: [mock/x]}}\n", "utf-8")  # fmt: skip
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom gateway.assembly import compile_revision, open_services\n"
        "from gateway.config.loading import load\nfrom gateway.routing.fleet import Fleet\n"
        f"loaded = load(Path({str(file)!r}), {{}})\n"
        "compile_revision(loaded, open_services(loaded.configuration), Fleet(), loopback=True)\n"
        "print(json.dumps([m for m in sys.modules if m.startswith('guardrails')]))"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(told) == []
