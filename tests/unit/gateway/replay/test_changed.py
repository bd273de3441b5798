"""What a change makes of a model's entry."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.models import Configuration
from gateway.replay.changed import changed_model
from gateway.replay.changes import Change, ReplayFault
from gateway.replay.differences import unified
from gateway.replay.selection import Selection
from gateway.replay.stored import StoredCall

VENDOR = {"kind": "openai_compatible", "base_url": "http://127.0.0.1:1/v1", "api_key": "sk-x"}


def configuration(**model: Any) -> Configuration:
    return Configuration.model_validate(
        {
            "providers": {"one": VENDOR, "two": VENDOR, "off": {"kind": "openai", "api_key": ""}},
            "guardrails": {"strict": [{"check": "secrets", "action": "block"}]},
            "models": {"m": {"targets": ["one/a", "two/b"], "fallbacks": ["two/c"], **model}},
        }
    )


def call(**more: Any) -> StoredCall:
    record: dict[str, Any] = {
        "id": "call_1", "endpoint": "chat.completions", "caller": {"key": "k", "tenant": "t", "user": None},
        "model": "m", "target": "one/a", **more,
    }  # fmt: skip
    return StoredCall.of(record)


def targets(model: Any) -> list[str]:
    return [f"{target.provider}/{target.model}" for target in (*model.targets, *model.fallbacks)]


def test_a_pinned_call_goes_where_it_went_and_nowhere_else() -> None:
    for target in ("one/a", "two/c"):
        assert targets(changed_model(configuration(), call(target=target), Change())) == [target]
    assert targets(changed_model(configuration(), call(target=None), Change())) == ["one/a", "two/b", "two/c"]
    with pytest.raises(ReplayFault, match="has no target one/gone any more"):
        changed_model(configuration(), call(target="one/gone"), Change())


def test_todays_call_goes_where_it_would_go_today() -> None:
    today = Change(pinned=False)
    model = changed_model(configuration(strategy="weighted"), call(target="one/gone"), today)
    assert (targets(model), model.strategy.kind) == (["one/a", "two/b", "two/c"], "weighted")
    shadowed = changed_model(configuration(strategy={"kind": "shadow", "share": 1}), call(), today)
    assert shadowed.strategy.kind == "priority"


def test_a_call_of_an_arm_stays_with_it() -> None:
    entries = [
        {"provider": "one", "model": "a", "arm": "old"},
        {"provider": "two", "model": "b", "arm": "new", "prompt": "p@2"},
    ]
    armed = configuration(targets=entries, strategy="ab", prompt="p@1", fallbacks=[])
    of_new = call(target="two/b", arm={"name": "new", "propensity": 0.5}, template={"reference": "p@2", "hash": "x"})
    for change in (Change(), Change(pinned=False)):
        model = changed_model(armed, of_new, change)
        assert (targets(model), model.prompt, model.strategy.kind) == (["two/b"], "p@2", "priority")
    assert changed_model(armed, of_new, Change(template="p@3")).prompt == "p@3"


def test_the_template_is_the_calls_own_or_todays() -> None:
    templated = configuration(prompt="p@4", retrieval={"collection": "c", "top_k": 5})
    then = call(template={"reference": "p@3", "hash": "x"})
    assert changed_model(templated, then, Change()).prompt == "p@3"
    assert changed_model(templated, call(), Change()).prompt is None, "it had none"
    assert changed_model(templated, then, Change(pinned=False)).prompt == "p@4"


def test_retrieval_is_left_to_the_calls_passages_or_searched_with_other_settings() -> None:
    searching = configuration(prompt="p@4", retrieval={"collection": "c", "top_k": 5, "mode": "dense"})
    assert changed_model(searching, call(), Change()).retrieval is None
    again = changed_model(searching, call(), Change(retrieval={"top_k": 2})).retrieval
    assert again is not None
    assert (again.collection, again.top_k, again.mode) == ("c", 2, "dense")
    for wrong in ({"top_k": 0}, {"tops": 3}):
        with pytest.raises(ReplayFault, match="retrieval.top"):
            changed_model(searching, call(), Change(retrieval=wrong))
    with pytest.raises(ReplayFault, match="no retrieval"):
        changed_model(configuration(), call(), Change(retrieval={"top_k": 2}))


def test_guardrails_are_named_by_side() -> None:
    guarded = configuration(guardrails={"input": ["secrets"], "output": ["secrets"]})
    model = changed_model(guarded, call(), Change(input_guardrails=("strict",)))
    assert [rule.check for rule in (*model.guardrails.input, *model.guardrails.output)] == ["set", "secrets"]
    assert changed_model(guarded, call(), Change(output_guardrails=())).guardrails.output == []


def test_a_plain_target_needs_no_entry_and_one_that_is_gone_is_told() -> None:
    assert targets(changed_model(configuration(), call(model="two/z", target="two/z"), Change())) == ["two/z"]
    assert targets(changed_model(configuration(), call(model="gone"), Change(target="one/n"))) == ["one/n"]
    for model, target, told in (
        ("gone", None, "name a target"),
        ("m", "off/x", "api_key is empty"),
        ("m", "no/x", "no provider no"),
    ):
        with pytest.raises(ReplayFault, match=told):
            changed_model(configuration(), call(model=model), Change(target=target))
    assert changed_model(configuration(cache={"exact": {"ttl": "1h"}}), call(), Change()).cache is None


def test_a_difference_is_told_by_sentences() -> None:
    then = "It opens at nine. It closes at five.\nBring a ticket."
    assert unified(then, "It opens at nine.   It closes at five.\n\nBring a ticket.") == ""
    assert unified(then, "It opens at nine. It closes at six.\nBring a ticket.").splitlines()[2:] == [
        "@@ -1,3 +1,3 @@", " It opens at nine.", "-It closes at five.", "+It closes at six.", " Bring a ticket.",
    ]  # fmt: skip


def test_a_selection_is_read() -> None:
    selected = Selection.parse("last:7, model:m,max_score:0.5,template:p@2")
    assert (selected.last, selected.filter.model, selected.filter.max_score, selected.filter.template) == (
        7, "m", 0.5, "p@2",
    )  # fmt: skip
    assert Selection.parse("since:1h").filter.since is not None
    for wrong in ("500", "last:0", "last:many", "newest:1", "max_score:low", "since:soon", "model:"):
        with pytest.raises(ReplayFault):
            Selection.parse(wrong)
