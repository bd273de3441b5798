"""Values leave as placeholders and come back as themselves, however the answer is cut."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from guardrails.assembly import build_check
from guardrails.policy import Policy, Rule
from guardrails.pseudonyms import Pseudonyms

JANE, JOHN = "jane.doe@example.org", "john@example.com"


def both() -> tuple[Pseudonyms, str, str]:
    pseudonyms = Pseudonyms()
    return pseudonyms, pseudonyms.of("EMAIL_ADDRESS", JANE), pseudonyms.of("EMAIL_ADDRESS", JOHN)


def test_each_value_has_one_placeholder_of_its_own() -> None:
    pseudonyms, jane, john = both()
    assert jane != john
    assert pseudonyms.of("EMAIL_ADDRESS", JANE) == jane
    assert jane.startswith("<EMAIL_ADDRESS_1_")


def test_calls_about_equally_many_values_have_equal_placeholders() -> None:
    """So that what a cache keeps of one fits the other, with its own values."""
    _, jane, _ = both()
    assert Pseudonyms().of("EMAIL_ADDRESS", "somebody@example.net") == jane


@given(st.lists(st.sampled_from([0, 1, "<", ">", " hello ", "<EMAIL_ADDRESS_1_", "1"]), max_size=12), st.data())
def test_any_cut_of_any_answer_is_restored_alike(parts: list[int | str], data: st.DataObject) -> None:
    pseudonyms, jane, john = both()
    told = "".join((jane, john)[part] if isinstance(part, int) else part for part in parts)
    expected = told.replace(jane, JANE).replace(john, JOHN)
    restorer = pseudonyms.restorer(in_json=False)
    out, rest = "", told
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        out += restorer.feed(rest[:size])
        rest = rest[size:]
    assert out + restorer.finish() == expected


def test_a_value_in_json_is_escaped() -> None:
    pseudonyms = Pseudonyms()
    name = pseudonyms.of("X", 'say "hi"\\')
    restorer = pseudonyms.restorer(in_json=True)
    assert json.loads(restorer.feed(f'{{"a": "{name}"}}')) == {"a": 'say "hi"\\'}


def test_a_placeholder_that_nobody_gave_out_stays() -> None:
    pseudonyms, _, _ = both()
    restorer = pseudonyms.restorer(in_json=False)
    assert restorer.feed("<EMAIL_ADDRESS_1_000000> and <EMAIL_ADDRESS_9>") + restorer.finish() == (
        "<EMAIL_ADDRESS_1_000000> and <EMAIL_ADDRESS_9>"
    )


def test_a_policy_replaces_what_it_finds() -> None:
    policy = Policy([Rule(build_check("pii", {}), "pseudonymise")])
    pseudonyms = Pseudonyms()
    screened = policy.screen(f"from {JANE} to {JOHN}, cc {JANE}", pseudonyms)
    jane, john = pseudonyms.of("EMAIL_ADDRESS", JANE), pseudonyms.of("EMAIL_ADDRESS", JOHN)
    assert screened.text == f"from {jane} to {john}, cc {jane}"
    assert [(verdict.action, len(verdict.findings)) for verdict in screened.verdicts] == [("pseudonymise", 3)]
