"""Suites: what is asserted of answers, promptfoo's files, and what CI is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any
from xml.etree import ElementTree

import pytest

from gateway.commands.gateway_client import CallFailed
from gateway.commands.prompt_report import summary
from gateway.commands.prompt_runs import read_grade
from gateway.prompts.suites.assertions import KINDS, NOT_SUPPORTED, Answer, Verdict, judged
from gateway.prompts.suites.junit import junit
from gateway.prompts.suites.results import CaseResult, whole
from gateway.prompts.suites.suite import Check, SuiteFault, read_suite

SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
TEXT = 'Yes, {"a": 1} it costs 9 euros.'
BLOCKED = ({"check": "pii", "action": "mask"}, {"check": "secrets", "action": "pass"})


def answer(text: str = TEXT, **more: Any) -> Answer:
    return Answer(text, **more)


@pytest.mark.parametrize(
    ("kind", "value", "threshold", "given", "holds"),
    [
        ("equals", "Yes", None, answer(" Yes\n"), True),
        ("equals", {"a": 1}, None, answer('{"a": 1}'), True),
        ("equals", "yes", None, answer("Yes"), False),
        ("contains", "9 euros", None, answer(), True),
        ("contains", "9 EUROS", None, answer(), False),
        ("icontains", "9 EUROS", None, answer(), True),
        ("contains-all", ["Yes", "9"], None, answer(), True),
        ("contains-all", "Yes, 10", None, answer(), False),
        ("contains-any", ["no", "9"], None, answer(), True),
        ("contains-any", ["no", "nope"], None, answer(), False),
        ("icontains-all", ["yes", "EUROS"], None, answer(), True),
        ("icontains-any", ["YES", "NO"], None, answer(), True),
        ("starts-with", "Yes", None, answer(), True),
        ("starts-with", "yes", None, answer(), False),
        ("regex", r"\b\d+ euros?\b", None, answer(), True),
        ("regex", r"\d{5}", None, answer(), False),
        ("is-json", None, None, answer('{"a": 1}'), True),
        ("is-json", None, None, answer(), False),
        ("is-json", SCHEMA, None, answer('{"a": 1}'), True),
        ("is-json", SCHEMA, None, answer('{"a": "x"}'), False),
        ("is-json", SCHEMA, None, answer("[]"), False),
        ("contains-json", SCHEMA, None, answer(), True),
        ("contains-json", SCHEMA, None, answer('{"b": 1} {"a": "x"}'), False),
        ("contains-json", None, None, answer("none {"), False),
        ("levenshtein", "kitten", 3, answer("sitting"), True),
        ("levenshtein", "kitten", 2, answer("sitting"), False),
        ("word-count", 6, None, answer(), False),
        ("word-count", {"min": 5, "max": 7}, None, answer(), True),
        ("finish-reason", "stop", None, answer(finish_reason="stop"), True),
        ("finish-reason", "stop", None, answer(finish_reason="length"), False),
        ("cost", None, 0.01, answer(cost=0.009), True),
        ("cost", None, 0.01, answer(cost=0.02), False),
        ("cost", None, 0.01, answer(), False),
        ("latency", None, 500, answer(seconds=0.4), True),
        ("latency", None, 500, answer(seconds=0.6), False),
        ("tokens", None, 100, answer(tokens=100), True),
        ("tokens", None, 100, answer(tokens=101), False),
        ("is-refusal", None, None, answer(refused=True), True),
        ("is-refusal", None, None, answer(), False),
        ("guardrails", None, None, answer(), True),
        ("guardrails", None, None, answer(verdicts=BLOCKED), False),
        ("guardrails", None, None, answer(refused=True), False),
        ("guardrails", "pii", None, answer(verdicts=BLOCKED), True),
        ("guardrails", {"check": "pii", "action": "block"}, None, answer(verdicts=BLOCKED), False),
    ],
)
def test_what_is_asserted_holds_or_not(
    kind: str, value: Any, threshold: float | None, given: Answer, holds: bool
) -> None:
    passed, reason = judged(kind, value, threshold, given)
    assert passed is holds
    assert passed or reason


def suite(tmp_path: Path, text: str) -> Any:
    (tmp_path / "suite.yaml").write_text(dedent(text))
    return read_suite(tmp_path / "suite.yaml")


def test_a_suite_of_promptfoos_is_one_of_ours(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    read = suite(
        tmp_path,
        """\
        description: A suite
        prompts: [file://prompt.txt]
        providers:
          - openai:gpt-4.1-mini
          - id: anthropic:messages:claude-haiku-4-5
            config: {temperature: 0}
        defaultTest:
          options: {provider: openai:chat:gpt-4.1}
          assert: [{type: latency, threshold: 3000}]
        tests:
          - description: it costs what it costs
            vars: {product: Moon, question: "What does {{product}} cost?"}
            threshold: 0.5
            assert:
              - {type: contains, value: "{{product}}"}
              - {type: not-icontains, value: sorry, weight: 2}
              - {type: is-json, value: file://schema.json}
              - {type: llm-rubric, value: It names a price, threshold: 0.8}
              - type: assert-set
                threshold: 0.5
                assert: [{type: regex, value: "\\\\d+"}, {type: starts-with, value: It}]
        """,
    )
    assert read.targets == ("openai/gpt-4.1-mini", "anthropic/claude-haiku-4-5")
    assert read.judge == "openai/gpt-4.1"
    assert read.notices == ("`prompts` is promptfoo's own, and passed over",)
    (case,) = read.cases
    assert (case.name, case.threshold) == ("it costs what it costs", 0.5)
    assert case.checks == (
        Check("contains", "Moon"),
        Check("icontains", "sorry", None, 2.0, True),
        Check("is-json", {"type": "object"}),
        Check("llm-rubric", "It names a price", 0.8),
        Check("assert-set", None, 0.5, 1.0, False, (Check("regex", "\\d+"), Check("starts-with", "It"))),
        Check("latency", None, 3000.0),
    )
    # A variable that the template does not have, by a usual name, is what the user says.
    assert case.asked(frozenset({"product"})) == (
        {"product": "Moon"},
        [{"role": "user", "content": "What does {{product}} cost?"}],
    )
    assert case.asked(frozenset({"product", "question"}))[1] == []
    assert case.asked(frozenset())[0] == {"product": "Moon"}  # so that the gateway says its name


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tests: []", "suite.yaml:1:1: tests: is a list of cases"),
        ("test: [{}]", "suite.yaml:1:1: test: is not a setting; did you mean `tests`?"),
        ("tests: [{vars: {}}]", "suite.yaml:1:9: tests[0]: asserts nothing: it would pass whatever is answered"),
        (
            "tests:\n - vars: {}\n   assert:\n    - {type: javascript, value: 'output.length'}",
            "suite.yaml:4:8: tests[0].assert[0].type: `javascript` runs code of yours, which the gateway does not: write "
            "it as a regex, a JSON schema or a rubric",
        ),
        (
            "tests: [{assert: [{type: containz, value: x}]}]",
            "suite.yaml:1:20: tests[0].assert[0].type: there is no assertion `containz`; did you mean `contains`?",
        ),
        ("tests: [{assert: [{type: contains}]}]", "suite.yaml:1:19: tests[0].assert[0]: `contains` needs a `value`"),
        ("tests: [{assert: [{type: cost}]}]", "suite.yaml:1:19: tests[0].assert[0]: `cost` needs a `threshold`"),
        (
            "tests: [{assert: [{type: regex, value: '('}]}]",
            "suite.yaml:1:19: tests[0].assert[0]: is not a regular expression: missing ), unterminated subpattern at position 0",
        ),
        (
            "tests: [{assert: [{type: equals, value: file:///etc/hostname}]}]",
            "suite.yaml:1:34: tests[0].assert[0].value: names a file outside the suite's folder",
        ),
        (
            "tests: [{assert: [{type: equals, value: x, transform: output.trim()}]}]",
            "suite.yaml:1:19: tests[0].assert[0]: `transform` runs code, which a suite has none of here",
        ),
        ("a: [", "suite.yaml:1:5: not valid YAML: expected the node content, but found '<stream end>'"),
    ],
)
def test_what_is_no_suite_is_told_before_anything_is_asked(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(SuiteFault) as raised:
        suite(tmp_path, text)
    assert str(raised.value) == fault


def test_the_shipped_suite_is_one() -> None:
    assert len(read_suite(Path(__file__).parents[4] / "configs" / "prompts" / "suites" / "handbook.yaml").cases) == 2


def test_every_kind_is_either_judged_or_refused_with_a_reason() -> None:
    assert not KINDS.keys() & NOT_SUPPORTED.keys()
    assert all(reason for reason in NOT_SUPPORTED.values())


RESULTS = [
    CaseResult("one", "m", (Verdict("contains", True, 1.0),), "yes", 0.5, 0.01),
    CaseResult("two", "m", (Verdict("contains", False, 0.0, "not \x00 there"), Verdict("cost", True, 1.0)), "no \x1b[31m", 1.5),
    CaseResult("three", "n", error="HTTP 503: away"),
    CaseResult("four", "n", (Verdict("a", False, 0.0, "x", 1.0), Verdict("b", True, 1.0, "", 3.0)), "", 0.1, threshold=0.7),
]  # fmt: skip


def test_junit_is_what_ci_reads() -> None:
    root = ElementTree.fromstring(junit("t@1", RESULTS))
    assert {name: root.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "4", "failures": "1", "errors": "1",
    }  # fmt: skip
    suites = {each.get("name"): each for each in root}
    assert [case.get("name") for case in suites["m"]] == ["one", "two"]
    failure = suites["m"].find("testcase[@name='two']/failure")
    assert failure is not None
    assert failure.get("message") == "contains: not \ufffd there"
    assert suites["n"].find("testcase[@name='three']/error") is not None
    assert suites["n"].find("testcase[@name='four']/failure") is None


def test_a_share_of_the_weights_may_be_enough() -> None:
    assert [result.outcome for result in RESULTS] == ["passed", "failed", "error", "passed"]
    assert RESULTS[3].score == 0.75
    told = summary(RESULTS)
    assert (told["passed"], told["failed"], told["errors"], told["cost"]) == (2, 1, 1, 0.01)
    assert told["targets"]["n"]["cases"] == 2
    assert not whole(RESULTS)
    assert not whole([])
    assert whole([RESULTS[0]])


@pytest.mark.parametrize(
    ("said", "threshold", "expected"),
    [
        ('{"pass": true, "score": 0.9, "reason": "fine"}', None, (True, 0.9, "fine")),
        ('Sure: ```json\n{"pass": false, "score": 0.9}\n```', None, (False, 0.9, "the judge gave no reason")),
        ('{"score": 0.7}', 0.8, (False, 0.7, "the judge gave no reason")),
        ('{"score": 7}', None, (True, 1.0, "the judge gave no reason")),
        ('{"pass": true}', 0.8, (True, 1.0, "the judge gave no reason")),
    ],
)
def test_a_judges_grade(said: str, threshold: float | None, expected: tuple[bool, float, str]) -> None:
    assert read_grade(said, threshold) == expected


@pytest.mark.parametrize("said", ["", "pass", "{}", "{not json}", "[1]"])
def test_what_is_no_grade_is_none(said: str) -> None:
    with pytest.raises(CallFailed, match="no grade"):
        read_grade(said, None)


def test_a_gateway_without_templates_loads_no_jinja() -> None:
    code = "import gateway.assembly, gateway.server, gateway.prompts.shelf, sys; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
