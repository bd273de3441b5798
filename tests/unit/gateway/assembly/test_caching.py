"""What of a configuration shapes a model's answers, and so their cache's scope; and which store they go to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.assembly import compile_revision, open_services
from gateway.cache.answers import AnswerCache
from gateway.cache.memory import MemoryEntries
from gateway.cache.redis_entries import RedisEntries
from gateway.config.faults import ConfigError
from gateway.config.loading import load
from gateway.routing.fleet import Fleet

PROMPT = "max_prompt_tokens: 1000\nmessages:\n  - role: system\n    content: Be brief.\n  - conversation\n"


def configuration() -> dict[str, Any]:
    provider = {"kind": "openai_compatible", "base_url": "http://127.0.0.1:1/v1", "api_key": "secret"}
    keywords = {"check": "keywords", "lists": [{"kind": "k", "words": ["w"]}]}
    return {
        "providers": {"one": provider, "two": {**provider, "base_url": "http://127.0.0.1:2/v1"}},
        "models": {
            "m": {
                "targets": ["one/a"],
                "fallbacks": ["two/b"],
                "prompt": "brief@1",
                "guardrails": {"input": [keywords], "output": [keywords]},
                "cache": {"exact": {"ttl": "1h"}},
            }
        },
    }


def compiled(folder: Path, made: dict[str, Any], prompt: str = PROMPT) -> AnswerCache:
    prompts = folder / "prompts"
    prompts.mkdir(parents=True, exist_ok=True)
    (prompts / "brief@1.yaml").write_text(prompt)
    (prompts / "brief@2.yaml").write_text(prompt)
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump({"data_dir": str(folder), "prompts": {"folder": str(prompts)}, **made}))
    loaded = load(file)
    services = open_services(loaded.configuration)
    revision = compile_revision(loaded, services, Fleet(), loopback=True)
    services.database.close()
    cache = revision.pipelines["m"].cache
    assert cache is not None
    return cache


def changed(path: str, value: Any) -> dict[str, Any]:
    made = configuration()
    *way, last = path.split(".")
    at: Any = made
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[last] = value
    return made


@pytest.mark.parametrize(("path", "value"), [
    ("models.m.targets", ["one/other"]),
    ("models.m.targets", ["two/a"]),
    ("models.m.fallbacks", []),
    ("models.m.prompt", "brief@2"),
    ("models.m.guardrails.input", []),
    ("models.m.guardrails.output", []),
    ("models.m.guardrails.output.0.lists", [{"kind": "k", "words": ["other"]}]),
    ("models.m.guardrails.output.0.action", "flag"),
    ("models.m.strategy", "weighted"),
    ("providers.one.base_url", "http://127.0.0.1:3/v1"),
    ("providers.two.base_url", "http://127.0.0.1:3/v1"),
    ("providers.one.residency", "on_premises"),
])  # fmt: skip
def test_what_shapes_answers_is_in_the_scope(tmp_path: Path, path: str, value: Any) -> None:
    before = compiled(tmp_path / "before", configuration())
    after = compiled(tmp_path / "after", changed(path, value))
    assert before._scope != after._scope


@pytest.mark.parametrize(("path", "value"), [
    ("models.m.description", "other"),
    ("models.m.record_content", True),
    ("models.m.cache.exact.ttl", "5m"),
    ("providers.one.api_key", "rotated"),
    ("providers.one.timeouts", {"total": "5s"}),
])  # fmt: skip
def test_what_does_not_shape_answers_is_not(tmp_path: Path, path: str, value: Any) -> None:
    before = compiled(tmp_path / "before", configuration())
    after = compiled(tmp_path / "after", changed(path, value))
    assert before._scope == after._scope


def test_the_template_s_text_is_in_the_scope(tmp_path: Path) -> None:
    before = compiled(tmp_path / "before", configuration())
    after = compiled(tmp_path / "after", configuration(), PROMPT.replace("brief", "short"))
    assert before._scope != after._scope


@pytest.mark.parametrize(("state", "store", "kind"), [
    ("memory://", None, MemoryEntries),
    ("redis://127.0.0.1:1/0", None, RedisEntries),
    ("redis://127.0.0.1:1/0", "memory", MemoryEntries),
    ("redis://127.0.0.1:1/0", "redis", RedisEntries),
])  # fmt: skip
def test_answers_go_where_the_state_is_unless_told_otherwise(
    tmp_path: Path, state: str, store: str | None, kind: type
) -> None:
    made = changed("models.m.cache.exact.store", store) if store else configuration()
    assert isinstance(compiled(tmp_path, {**made, "state": {"url": state}})._entries, kind)


def test_redis_has_to_be_there_to_keep_answers_in(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cache\.exact\.store: needs `state\.url"):
        compiled(tmp_path, changed("models.m.cache.exact.store", "redis"))


def test_a_cache_without_settings_has_the_usual_ones(tmp_path: Path) -> None:
    terms = compiled(tmp_path, changed("models.m.cache", {}))._terms
    assert (terms.ttl, terms.stale, terms.charge, terms.recheck) == (600.0, 0.0, 0.0, True)
