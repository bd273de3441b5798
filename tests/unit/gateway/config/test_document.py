"""YAML as plain values with their lines, variables expanded afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.document import Document, key_of, parse
from gateway.config.faults import ConfigError


def values(text: str, **env: str) -> Any:
    document = parse(text, "f.yaml", env)
    assert document.faults == []
    return document.values


def messages(document: Document) -> list[str]:
    return [str(fault) for fault in document.faults]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: ${X}", {"a": "1"}),
        ("a: '${X}'", {"a": "1"}),
        ("{a: ${X}, b: 2}", {"a": "1", "b": 2}),
        ("a: pre-${X}-post ${X}", {"a": "pre-1-post 1"}),
        ("a: ${Y:-two words}", {"a": "two words"}),
        ("a: ${Y:-}", {"a": ""}),
        ("a: ${EMPTY:-default}", {"a": "default"}),
        ("a: ${EMPTY}", {"a": ""}),
        ("a: $${X}", {"a": "${X}"}),
        ("a: $X costs $5", {"a": "$X costs $5"}),
        ("a: >-\n  one\n  ${X}\n", {"a": "one 1"}),
        ("# ${NOT_SET}\na: 1", {"a": 1}),
    ],
)
def test_variables_stand_in_values(text: str, expected: object) -> None:
    assert values(text, X="1", EMPTY="") == expected


@pytest.mark.parametrize(
    "secret", ["007", "1e5", "true", "null", "~", "0x10", "{a: b}", "a: b", "x\ny: z", "#c", "*a", "${X}"]
)
def test_a_variables_value_stays_the_text_that_it_is(secret: str) -> None:
    assert values("{a: ${S}, b: ${S}}", S=secret) == {"a": secret, "b": secret}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_value_of_a_variable_can_change_the_structure(secret: str) -> None:
    assert values("a: ${S}\nb: [x, ${S}]", S=secret) == {"a": secret, "b": ["x", secret]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: ${NOPE}",
            ["f.yaml:1:4: a: the environment variable NOPE is not set; write ${NOPE:-} to do without"],
        ),
        (
            "b: [1, ${NO}]",
            ["f.yaml:1:8: b[1]: the environment variable NO is not set; write ${NO:-} to do without"],
        ),
        (
            "a: ${OPENAI-API-KEY}",
            [
                "f.yaml:1:4: a: `${` begins a variable, ${NAME} or ${NAME:-default}; write $${ for the characters "
                "themselves"
            ],
        ),
        ("${X}: 1", ["f.yaml:1:1: ?: a key is a plain word, and no variable stands in it"]),
        ("? [a]\n: 1", ["f.yaml:1:3: ?: a key is a plain word, and no variable stands in it"]),
        ("a: 1\nb: 2\na: 3", ["f.yaml:3:1: a: is written twice"]),
        ("a: {b: 1, b: 2}", ["f.yaml:1:11: a.b: is written twice"]),
        ("a: !!int x", ["f.yaml:1:4: a: can't be read as int"]),
        ("a: !!bool x", ["f.yaml:1:4: a: can't be read as bool"]),
        ("a: " + "1" * 5000, ["f.yaml:1:4: a: can't be read as int"]),
    ],
)
def test_faults_have_their_place(text: str, expected: list[str]) -> None:
    assert messages(parse(text, "f.yaml", {"X": "1"})) == expected


def test_only_true_and_false_are_booleans() -> None:
    text = "[true, false, on, off, yes, no, y, n, 2024-01-01, null, 1, 1.5]"
    assert values(text) == [True, False, "on", "off", "yes", "no", "y", "n", "2024-01-01", None, 1, 1.5]


def test_what_is_written_goes_before_what_is_merged_in() -> None:
    text = "base: &b {x: 1, y: 1}\nmore: &m {y: 2, z: 2}\nout:\n  y: 3\n  <<: [*b, *m]\n"
    assert values(text)["out"] == {"x": 1, "y": 3, "z": 2}


@pytest.mark.parametrize("line", ["x{0}: &x{0} {{a: 1, <<: [{1}]}}", "x{0}: &x{0} [{1}]"])
def test_aliases_cannot_unfold_without_bound(line: str) -> None:
    text = "x0: &x0 {a: 1}\n"
    text += "\n".join(line.format(order, ", ".join([f"*x{order - 1}"] * 9)) for order in range(1, 12))
    with pytest.raises(ConfigError, match="aliases unfold to too many values"):
        parse(text, "f.yaml", {})


def test_a_placeholder_written_as_an_escape_is_no_variable() -> None:
    assert values('a: "\\ue100\\ue001 \\ue105\\ue001"\n') == {"a": "\ue100\ue001 \ue105\ue001"}


def test_a_path_reads_as_in_a_program() -> None:
    assert key_of(("models", "handbook", "targets", 0, "provider")) == "models.handbook.targets[0].provider"
