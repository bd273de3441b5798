"""A template's file: each fault with its line and key; and what callers give, held against what it declares."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from gateway.prompts.front_matter import Input, TemplateFault
from gateway.prompts.inputs import BadInput, filled
from gateway.prompts.library import TemplateLibrary, read_template, whole_source

MESSAGES = "messages:\n  - {role: system, content: Hi}\n  - conversation\n"


def fault_of(source: str) -> str:
    with pytest.raises(TemplateFault) as raised:
        read_template(dedent(source), "t", 1, "t@1.yaml", {})
    return str(raised.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("descripton: x\n" + MESSAGES, "t@1.yaml:1: descripton: is not a setting; did you mean `description`?"),
        (
            "description: x\ninputs:\n  a: {type: strng}\n" + MESSAGES,
            "t@1.yaml:3: inputs.a.type: input should be 'string', 'number', 'integer', 'boolean', 'array' or 'object'",
        ),
        ("inputs:\n  a: {typ: string}\n" + MESSAGES, "t@1.yaml:2: inputs.a.typ: is not a setting; did you mean `type`?"),
        ("inputs:\n  passages: {}\n" + MESSAGES, "t@1.yaml:1: inputs: `passages` has a meaning of its own; choose another name"),
        ("max_prompt_tokens: 5\n" + MESSAGES, "t@1.yaml:1: max_prompt_tokens: input should be greater than or equal to 100"),
        ("a: 1\na: 2\n" + MESSAGES, "t@1.yaml:2: a: is written twice"),
        ("a: [\n", "t@1.yaml:2: not valid YAML: expected the node content, but found '<stream end>'"),
        ("- a\n", "t@1.yaml:1: a template is a mapping that has at least `messages`"),
        ("description: x\n", "t@1.yaml:1: messages: is missing"),
        (
            "messages:\n  - conversatoin\n",
            "t@1.yaml:2: messages[0]: is `conversation`, `few_shot`, or a message with `role` and `content`",
        ),
        ("messages:\n  - {role: sytem, content: x}\n  - conversation\n", "t@1.yaml:2: messages[0].role: "
         "input should be 'system', 'developer', 'user' or 'assistant'"),
        ("messages:\n  - {role: system, content: x}\n", "t@1.yaml:1: messages: `conversation` must stand there exactly "
         "once, or a message of the user in its place"),
        ("few_shot: [{user: a, assistant: b}]\n" + MESSAGES, "t@1.yaml:2: messages: `few_shot` stands there once, where "
         "the pairs of `few_shot` go"),
        (
            """\
            messages:
              - role: system
                content: |
                  one
                  two
                  {% if %}
              - conversation
            """,
            "t@1.yaml:6: messages[0].content: Jinja: Expected an expression, got 'end of statement block'",
        ),
        (
            "messages:\n  - {role: system, content: x, when: passages and}\n  - conversation\n",
            "t@1.yaml:2: messages[0].when: Jinja: unexpected ')'",
        ),
        (
            "inputs: {a: {type: integer}}\nexamples:\n  - inputs: {a: many}\n" + MESSAGES,
            "t@1.yaml:3: examples[0].inputs.a: expected a whole number, got a text",
        ),
        (
            "inputs: {a: {type: object}}\n" + MESSAGES,
            "t@1.yaml:1: examples: a template with objects among its inputs needs an example to be tried with",
        ),
        (
            "features: {plan: free}\nmessages:\n  - {role: system, content: '{{ user.plam }}'}\n  - conversation\n",
            "t@1.yaml:2: messages: Jinja: 'dict object' has no attribute 'plam'; features need a default under `features`",
        ),
    ],
)  # fmt: skip
def test_a_fault_says_where_and_what(source: str, expected: str) -> None:
    assert fault_of(source) == expected


def test_a_dollar_brace_is_what_it_is() -> None:
    source = "messages: [{role: system, content: 'echo ${HOME} {{ question }}'}, conversation]"
    template = read_template(source, "t", 1, "t@1.yaml", {})
    assert template.render([{"role": "user", "content": "q"}], None, []).messages[0]["content"] == "echo ${HOME} q"


def test_a_shared_partial_is_part_of_the_version(tmp_path: Path) -> None:
    source = "messages: [{role: system, content: '{% include \"tone\" %}'}, conversation]\n"
    (tmp_path / "partials").mkdir()
    (tmp_path / "t@1.yaml").write_text(source)
    hashes = []
    for words in ("Be kind.", "Be brief."):
        (tmp_path / "partials" / "tone.jinja").write_text(words)
        library = TemplateLibrary.load(tmp_path)
        template = library.get("t@1")
        assert template.render([], None, []).messages[0]["content"] == words
        hashes.append(template.content_hash)
        frozen = whole_source(source, library.partials)
        assert read_template(frozen, "t", 1, "t@1", {}).render([], None, []).messages[0]["content"] == words
    assert len(set(hashes)) == 2
    with pytest.raises(TemplateFault, match="there is no partial `tone`"):
        read_template(source, "t", 1, "t@1", {})


def test_a_label_is_one_versions_own(tmp_path: Path) -> None:
    for version in (1, 2):
        (tmp_path / f"t@{version}.yaml").write_text("labels: [production]\n" + MESSAGES)
    with pytest.raises(TemplateFault, match=r"t@2.yaml: labels: `production` is a label of t@1.yaml too"):
        TemplateLibrary.load(tmp_path)


def declared(**more: Any) -> dict[str, Input]:
    return {"a": Input(**more)}


@pytest.mark.parametrize(
    ("more", "given", "expected"),
    [
        ({}, "x", "x"),
        ({}, 7, "7"),
        ({}, {"type": "input_text", "text": "x"}, "x"),
        ({"type": "integer"}, "7", 7),
        ({"type": "integer"}, 7.0, 7),
        ({"type": "number"}, "7.5", 7.5),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, False, False),
        ({"type": "array"}, ["x", 1], ["x", "1"]),
        ({"type": "array", "items": "integer"}, [1, "2"], [1, 2]),
        ({"type": "object"}, {"x": [1]}, {"x": [1]}),
        ({"default": "d"}, None, "d"),
        ({"enum": ["x", "y"]}, "y", "y"),
    ],
)
def test_values_of_a_type(more: dict[str, Any], given: Any, expected: Any) -> None:
    assert filled(declared(**more), {"a": given}) == {"a": expected}


@pytest.mark.parametrize(
    ("more", "given", "fault"),
    [
        ({}, {"b": "x", "a": "x"}, "no such variable"),
        ({}, {}, "the template needs it"),
        ({}, {"a": None}, "the template needs it"),
        ({"description": "the product"}, {}, r"needs it \(the product\)"),
        ({}, {"a": ["x"]}, "expected a text, got a list"),
        ({}, {"a": {"type": "input_image", "image_url": "x"}}, "input_image can't be a variable"),
        ({}, {"a": {"x": 1}}, "expected a text, got an object"),
        ({"type": "integer"}, {"a": "many"}, "expected a whole number"),
        ({"type": "integer"}, {"a": 1.5}, "expected a whole number"),
        ({"type": "integer"}, {"a": True}, "expected a whole number, got a boolean"),
        ({"type": "number"}, {"a": "nan"}, "expected a number"),
        ({"type": "number"}, {"a": 1e300}, "expected a number"),
        ({"type": "boolean"}, {"a": "yes please"}, "expected true or false"),
        ({"type": "array", "items": "integer"}, {"a": [1, "x"]}, r"expected a whole number at a\[1\]"),
        ({"type": "array", "max_items": 1}, {"a": ["x", "y"]}, "at most 1 items, got 2"),
        ({"max_length": 3}, {"a": "xxxx"}, "at most 3 characters, got 4"),
        ({"type": "array", "max_length": 3}, {"a": ["xx", "xx"]}, "at most 3 characters"),
        ({"type": "object", "max_length": 3}, {"a": {"xx": "xx"}}, "at most 3 characters"),
        ({"type": "object"}, {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}, "nested too deeply"),
        ({"enum": ["x"]}, {"a": "y"}, "expected one of x"),
    ],
)
def test_a_wrong_value_is_named(more: dict[str, Any], given: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadInput, match=fault) as raised:
        filled(declared(**more), given)
    assert raised.value.name in ("a", "b")
