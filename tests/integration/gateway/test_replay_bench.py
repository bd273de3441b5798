"""Calls run again in this process: with what they saw, scored by models, and never further than they may go."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from sample_gateway import key_entry
from upstream.vendor import Vendor

from features.definitions import Feature
from gateway.config.loading import load
from gateway.exchange import Exchange
from gateway.replay.bench import Bench, open_bench
from gateway.replay.changes import Change, ReplayFault
from gateway.replay.pinned import features_of
from gateway.replay.replaying import replay, replay_all
from gateway.replay.scoring import Scoring, scoring_of
from gateway.replay.stored import StoredCall

TEMPLATES = {
    "greeting@1": "Hello {{ user.plan }} reader, be brief. {{ passages }}",
    "greeting@2": "Dear {{ user.plan }} reader, take your time. {{ passages }}",
}
TEXTS = ("The train leaves at nine.", "Tickets cost two coins.")


@pytest.fixture
async def bench(vendor: Vendor, tmp_path: Path) -> AsyncIterator[Bench]:
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name, text in TEMPLATES.items():
        messages = [{"role": "system", "content": text}, "conversation"]
        content = {"features": {"plan": "free"}, "messages": messages}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    words = {"check": "keywords", "lists": [{"kind": "name", "words": ["Bluebird"]}]}
    configuration = {
        "data_dir": str(tmp_path / "data"),
        "records": {"content": "on"},
        "residency": {"labels": ["public", "internal"], "default": "public", "stays": "internal"},
        "prompts": {"folder": str(folder)},
        "access": {"keys": [key_entry("app", "sk-x", guardrails={"input": [{**words, "action": "block"}]})]},
        "providers": {"mock": mock, "house": {**mock, "residency": "on_premises"}},
        "guardrails": {"names": [{**words, "action": "mask"}]},
        "models": {"m": {"targets": ["mock/one"], "prompt": "greeting@2"}, "plain": {"targets": ["mock/one"]}},
    }
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(configuration))
    async with open_bench(load(file, os.environ), knowledge=False, features=False) as bench:
        yield bench


def stored(**more: Any) -> StoredCall:
    """A call that saw two passages and a plan."""
    passages = [
        {
            "n": n, "document_id": f"d{n}", "version": "v1", "section_id": f"d{n}#0", "collection": "c", "score": 0.5,
            "title": f"Title {n}", "url": "", "heading": [], "text": text,
        }
        for n, text in enumerate(TEXTS, 1)
    ]  # fmt: skip
    return StoredCall.of(
        {
            "id": "call_1", "endpoint": "messages", "caller": {"key": "app", "tenant": "t", "user": "jo"},
            "model": "m", "target": "mock/one", "template": {"reference": "greeting@1", "hash": "0" * 16, "trimmed": []},
            "conversation": [{"role": "user", "content": "When does Bluebird leave?"}],
            "answer": "The train leaves at nine [1].", "passages": passages,
            "features": {"service": "s", "entity": {"user_id": "jo"}, "values": {"plan": "team"}, "missing": []},
            "outcome": "ok", "timings": {"total_ms": 7.0}, "guardrails": [], "usage": None, "cost": None, "error": None,
            "sensitivity": "public", **more,
        }
    )  # fmt: skip


async def test_a_pinned_call_is_rendered_with_what_it_saw(bench: Bench, vendor: Vendor) -> None:
    again = await replay(stored(), Change(), bench)
    assert again.failure is None
    first, last = vendor.requests[-1].body["messages"]
    assert first["content"].startswith("Hello team reader, be brief.")
    assert all(text in first["content"] for text in TEXTS)
    assert last["content"] == "When does Bluebird leave?"
    assert again.again is not None
    assert again.again.passages == again.then.passages == ("d1#0 (v1)", "d2#0 (v1)")
    assert [note for note in again.notes if "not the text that it was" in note], "the hash is another"

    changed = await replay(stored(), Change(template="greeting@2"), bench)
    assert vendor.requests[-1].body["messages"][0]["content"].startswith("Dear team reader")
    assert changed.again is not None
    assert (changed.then.template, changed.again.template) == ("greeting@1", "greeting@2")


async def test_what_was_not_kept_is_not_made_up(bench: Bench, vendor: Vendor) -> None:
    features = {"service": "s", "entity": {"user_id": "jo"}, "values": {"plan": "[masked]"}, "missing": []}
    again = await replay(stored(features=features), Change(), bench)
    assert vendor.requests[-1].body["messages"][0]["content"].startswith("Hello free reader"), "the template's default"
    assert "sensitive features are not kept, so the template's defaults stood for plan" in again.notes
    asked = len(vendor.requests)
    bare = [{name: value for name, value in passage.items() if name != "text"} for passage in stored().passages]
    for call, told in (
        (stored(passages=bare), "the text of its passages was not kept"),
        (stored(conversation=None), "what was said was not kept"),
        (stored(endpoint="embeddings"), "calls of embeddings are not replayed"),
        (stored(template=None), "no template would show them"),
    ):
        failure = (await replay(call, Change(), bench)).failure
        assert failure is not None
        assert told in failure
    assert len(vendor.requests) == asked


async def test_features_keep_what_the_feature_store_says_of_them() -> None:
    given = features_of(stored(), [("plan", Feature("plan", "String", "people", "What they pay for", "tier"))])
    exchange = Exchange("chat.completions")
    assert given is not None
    await given.fetch(exchange)
    assert exchange.features is not None
    (fact,) = exchange.features.described
    assert (fact.name, fact.value, fact.unit, fact.description) == ("plan", "team", "tier", "What they pay for")


async def test_passages_keep_their_label(bench: Bench, vendor: Vendor) -> None:
    secret = [{**passage, "sensitivity": "internal"} for passage in stored().passages]
    refused = await replay(stored(passages=secret), Change(), bench)
    assert refused.again is not None
    assert (refused.again.outcome, vendor.requests) == ("error", [])
    inside = await replay(stored(passages=secret), Change(target="house/two"), bench)
    assert inside.again is not None
    assert (inside.again.outcome, inside.again.target) == ("ok", "house/two")


async def test_a_call_whose_label_nobody_has_found_stays_here(bench: Bench, vendor: Vendor) -> None:
    """`only-if-cached`, or a client that hangs up in the queue, ends a call before its label is looked for."""
    refused = await replay(stored(sensitivity=None), Change(target="mock/two"), bench)
    assert refused.again is not None
    assert (refused.again.outcome, vendor.requests) == ("error", [])
    inside = await replay(stored(sensitivity=None), Change(target="house/two"), bench)
    assert inside.again is not None
    assert inside.again.outcome == "ok"


async def test_a_keys_own_guardrails_hold_unless_others_are_named(bench: Bench, vendor: Vendor) -> None:
    (key,) = bench.configuration.access.keys
    assert key.guardrails is not None
    caller = {"key": "app", "tenant": "t", "user": "jo", "groups": [], "guardrails": key.guardrails.digest}
    blocked = await replay(stored(caller=caller), Change(), bench)
    assert blocked.differences.outcome == ("ok", "blocked")
    masked = await replay(stored(caller=caller), Change(input_guardrails=("names",)), bench)
    assert "<keywords.name>" in vendor.requests[-1].body["messages"][1]["content"]
    assert masked.differences.verdicts_gained == ("input keywords mask name",)


async def test_answers_are_scored_by_models_that_may_see_them(bench: Bench, vendor: Vendor) -> None:
    vendor.behaviours["one"] = {"text": "The train leaves at nine [1]. Dogs ride free."}
    vendor.behaviours["judge"] = {"text": '{"1": "yes", "2": "no"}'}
    vendor.behaviours["judge-then"] = {"text": '{"1": "yes"}'}
    scoring = await scoring_of(bench, "mock/mock-embed", "mock/judge")
    told = (await replay(stored(), Change(), bench, scoring)).quality
    assert told.similarity is not None
    assert -1 <= told.similarity <= 1
    assert told.again["judged_groundedness"] == 0.5
    assert "judged_groundedness" not in told.then, "a verdict on two sentences is none on one"
    assert [fault for fault in told.faults if "the judge gave no verdict" in fault]
    assert 0 <= told.again["groundedness"] <= 1
    labelled = stored(sensitivity="internal")
    vendor.requests.clear()
    kept_in = await replay(labelled, Change(target="house/one"), bench, scoring)
    assert {seen.body["model"] for seen in vendor.requests} == {"one"}, "what stays is judged by nobody outside"
    assert kept_in.quality.similarity is None
    with pytest.raises(ReplayFault, match="no model nobody/judge"):
        await scoring_of(bench, None, "nobody/judge")


async def test_a_call_whose_replay_breaks_off_does_not_stop_the_others(bench: Bench) -> None:
    async def odd(texts: Sequence[str], exchange: Exchange) -> Sequence[Sequence[float]]:
        assert exchange.made_for is not None
        return [[1.0, 2.0], [3.0]] if exchange.made_for[1] == "call_2" else [[1.0, 2.0], [1.0, 2.0]]

    calls = [stored(id=f"call_{number}", passages=[]) for number in (1, 2, 3)]
    told = await replay_all(calls, Change(template="greeting@2"), bench, Scoring(odd, None))
    assert [one.failure for one in told] == [None, "it broke off: ValueError", None]
    assert [one.again is None for one in told] == [False, True, False]


async def test_each_replay_has_a_record_and_a_request_its_parameters(bench: Bench, vendor: Vendor) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    call = replace(
        stored(model="plain", template=None, passages=[], features=None), parameters={"tools": tools, "seed": 4}
    )
    done = []
    all_told = await replay_all([call, call, call], Change(), bench, concurrency=2, progress=lambda: done.append(1))
    assert len(done) == 3
    assert [(seen.body["tools"], seen.body["seed"]) for seen in vendor.requests] == [(tools, 4)] * 3
    bench.journal.flush(30.0)
    for one in all_told:
        assert one.again is not None
        record = bench.journal.find(one.again.call_id, "t", "jo")
        assert record is not None
        assert record["made_for"] == {"purpose": "replay", "call_id": "call_1"}
        assert record["conversation"] is None
        assert record["parameters"] == {"tools": tools, "seed": 4}
