"""Messages of a template: parts by condition, few-shot pairs, whose words they are; and what goes where there is no room."""

from __future__ import annotations

from typing import Any

import pytest

from features.definitions import Feature
from features.vector import FeatureVector
from gateway.prompts.library import read_template
from gateway.prompts.template import PromptTooLong, Template
from gateway.values import PromptPart
from retrieval.passages import Passage


def template(text: str) -> Template:
    return read_template(text, "t", 1, "t@1.yaml", {})


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def passage(n: int, words: int) -> Passage:
    return Passage(f"doc{n}", "v", f"doc{n}#0", "c", 1.0 / n, "title", "u", "word " * words)


FULL = """
inputs: {product: {}, formal: {type: boolean, default: false}}
features: {plan: free}
few_shot:
  - {user: "What is it?", assistant: A thing.}
messages:
  - {role: system, content: "About {{ product }} ({{ user.plan }}). {{ passages }}"}
  - {role: developer, content: Be formal., when: formal}
  - few_shot
  - conversation
  - {role: user, content: "Again: {{ question }}"}
"""


def test_a_prompt_is_messages_and_each_tells_whose_words_it_has() -> None:
    features = FeatureVector("s", {}, {"plan": "team"})
    made = template(FULL).render([user("Why?")], features, [passage(1, 2)], {"product": "Moon"})
    assert [message["role"] for message in made.messages] == ["system", "user", "assistant", "user", "user"]
    assert [message["content"] for message in made.messages[1:]] == ["What is it?", "A thing.", "Why?", "Again: Why?"]
    assert made.parts == (
        PromptPart(0, "template", 11),
        PromptPart(0, "input", 4),
        PromptPart(0, "feature", 4),
        PromptPart(0, "passage", len(made.messages[0]["content"]) - 19),
        PromptPart(1, "template", 11),
        PromptPart(2, "template", 8),
        PromptPart(3, "conversation", 4),
        PromptPart(4, "template", 7),
        PromptPart(4, "conversation", 4),
    )


def test_a_message_is_there_where_its_condition_holds() -> None:
    made = template(FULL).render([user("Why?")], None, [], {"product": "Moon", "formal": True})
    assert made.messages[1] == {"role": "developer", "content": "Be formal."}


def test_facts_are_features_with_their_units() -> None:
    storage = Feature("storage", "Int64", "usage", "used\nspace", "GB")
    text = "messages: [{role: system, content: '{% for f in facts %}{{ f.name }}: {{ f.value }} {{ f.unit }} ({{ f.description }}){% endfor %}'}, conversation]"
    made = template(text).render(
        [user("q")], FeatureVector("s", {}, {"storage": 40}, named=(("storage", storage),)), []
    )
    assert made.messages[0]["content"] == "storage: 40 GB (used space)"
    assert {part.origin for part in made.parts if part.message == 0} == {"feature", "template"}


ORDER = """
max_prompt_tokens: 260
trim: {order}
few_shot:
  - {{user: one, assistant: "{shot}"}}
  - {{user: two, assistant: "{shot}"}}
messages:
  - {{role: system, content: "{{{{ passages }}}}"}}
  - few_shot
  - conversation
"""


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ("[passages, conversation, few_shot]", "passage doc2#0"),
        ("[conversation, passages, few_shot]", "2 messages of an early turn"),
        ("[few_shot, conversation]", "few-shot pair 2"),
    ],
)
def test_what_goes_first_is_as_the_template_declares(order: str, first: str) -> None:
    turns = [user("old " * 40), assistant("answer " * 20), user("new")]
    made = template(ORDER.format(order=order, shot="word " * 30)).render(turns, None, [passage(1, 40), passage(2, 40)])
    assert made.trimmed[0] == first
    assert made.tokens <= 260
    assert made.messages[-1] == user("new")


def test_what_is_not_declared_stays() -> None:
    turns = [user("old " * 300), user("new")]
    with pytest.raises(PromptTooLong):
        template(ORDER.format(order="[passages]", shot="x")).render(turns, None, [])


def test_each_part_has_a_budget_of_its_own() -> None:
    text = """
budget: {passages: 60, conversation: 50}
messages:
  - {role: system, content: "{{ passages }}"}
  - conversation
"""
    turns = [user("old " * 40), assistant("a"), user("newer"), user("new")]
    made = template(text).render(turns, None, [passage(1, 40), passage(2, 40)])
    assert made.trimmed == ("passage doc2#0", "2 messages of an early turn")
    assert made.dropped == tuple(turns[:2])
    assert [each.document_id for each in made.passages] == ["doc1"]


def test_a_summary_stands_where_turns_went() -> None:
    text = "budget: {conversation: 50}\nmessages: [{role: system, content: Hi}, conversation]"
    turns = [{"role": "system", "content": "Be kind."}, user("old " * 40), user("new")]
    made = template(text).render(turns, None, [], None, "They asked about the old.")
    assert [message["role"] for message in made.messages] == ["system", "system", "user", "user"]
    assert made.messages[2]["content"].endswith("They asked about the old.")
    assert all(part.origin == "conversation" for part in made.parts if part.message > 0)


def test_a_template_without_conversation_is_filled_alone() -> None:
    text = "inputs: {text: {}}\nmessages: [{role: user, content: 'Translate: {{ text }}'}]"
    made = template(text).render([], None, [], {"text": "{{ x }}"})
    assert made.messages == [user("Translate: {{ x }}")]
