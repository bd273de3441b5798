"""What can be asserted of an answer without asking anybody: each kind by the name that promptfoo gives it.

https://www.promptfoo.dev/docs/configuration/expected-outputs/deterministic/
What needs a model (`llm-rubric`, `similar`) is judged by whoever runs the suite.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS: dict[str, str] = {
    "equals": "value", "contains": "value", "icontains": "value", "starts-with": "value", "regex": "value",
    "contains-all": "list", "contains-any": "list", "icontains-all": "list", "icontains-any": "list",
    "is-json": "", "contains-json": "", "levenshtein": "value", "word-count": "value", "finish-reason": "value",
    "cost": "threshold", "latency": "threshold", "tokens": "threshold", "is-refusal": "", "guardrails": "",
    "similar": "value", "llm-rubric": "value", "model-graded-closedqa": "value",
}  # fmt: skip
"""Each assertion's name, and what it can't do without: a value, a list, a threshold, or nothing."""

JUDGED = frozenset({"similar", "llm-rubric", "model-graded-closedqa"})
"""Those that a model has a say in."""

_CODE = "runs code of yours, which the gateway does not: write it as a regex, a JSON schema or a rubric"
NOT_SUPPORTED: dict[str, str] = {
    "javascript": _CODE, "python": _CODE, "ruby": _CODE, "webhook": "asks another server, which the gateway does not",
    "agent-rubric": "needs an agent: use llm-rubric", "classifier": "needs a classifier of Hugging Face's",
    "perplexity": "needs log probabilities", "perplexity-score": "needs log probabilities",
    "moderation": "is a guardrail here: use guardrails", "select-best": "compares several answers: `prompts compare` does",
    "max-score": "compares several answers: `prompts compare` does", "human": "waits for somebody",
    "pi": "asks a service of another company",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What came, and what it took. `verdicts` are those of guardrails, as the call's record has them; `cost` in USD."""

    text: str
    seconds: float = 0.0
    cost: float | None = None
    tokens: int | None = None
    finish_reason: str | None = None
    refused: bool = False
    verdicts: tuple[Mapping[str, Any], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one assertion. `score` is 0 to 1."""

    name: str
    passed: bool
    score: float
    reason: str = ""
    weight: float = 1.0


def judged(kind: str, value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    """Whether an assertion that asks nobody holds, and why not."""
    return _CHECKS[kind](value, threshold, answer)


def _equals(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    if isinstance(value, (dict, list)):
        found = _json_of(answer.text)
        return found == value, f"got {_short(answer.text)}"
    return answer.text.strip() == str(value).strip(), f"got {_short(answer.text)}"


def _contains(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    return str(value) in answer.text, f"'{value}' is not in {_short(answer.text)}"


def _icontains(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    return str(value).casefold() in answer.text.casefold(), f"'{value}' is not in {_short(answer.text)}"


def _starts_with(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    return answer.text.startswith(str(value)), f"it begins with {_short(answer.text)}"


def _regex(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    return re.search(str(value), answer.text) is not None, f"nothing in {_short(answer.text)} matches {value}"


def _listed(every: bool, cased: bool) -> Callable[[Any, float | None, Answer], tuple[bool, str]]:
    def check(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
        wanted = (
            [part.strip() for part in value.split(",")] if isinstance(value, str) else [str(each) for each in value]
        )
        text = answer.text if cased else answer.text.casefold()
        missing = [each for each in wanted if (each if cased else each.casefold()) not in text]
        holds = not missing if every else len(missing) < len(wanted)
        return holds, f"not there: {', '.join(missing)}"

    return check


def _is_json(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    found = _json_of(answer.text)
    if found is _NONE:
        return False, f"{_short(answer.text)} is not JSON"
    return _fits(found, value)


def _contains_json(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    decoder = json.JSONDecoder()
    reason = f"there is no JSON in {_short(answer.text)}"
    for at, character in enumerate(answer.text):
        if character in "{[":
            try:
                found, _ = decoder.raw_decode(answer.text, at)
            except (ValueError, RecursionError):
                continue
            holds, reason = _fits(found, value)
            if holds:
                return True, ""
    return False, reason


def _fits(found: Any, schema: Any) -> tuple[bool, str]:
    if schema is None:
        return True, ""
    try:
        import jsonschema
    except ImportError:
        return False, "a JSON schema needs `pip install 'rag-gateway[guardrails]'`"
    if isinstance(schema, str):
        schema = json.loads(schema)
    errors = sorted(
        jsonschema.Draft202012Validator(schema).iter_errors(found), key=lambda error: list(error.absolute_path)
    )
    if not errors:
        return True, ""
    where = "/".join(str(part) for part in errors[0].absolute_path) or "it"
    return False, f"{where}: {errors[0].message}"


def _levenshtein(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    most = 5 if threshold is None else threshold
    distance = _distance(str(value)[:5_000], answer.text[:5_000])
    return distance <= most, f"{distance} letters differ, {most:g} may"


def _word_count(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    words = len(answer.text.split())
    if isinstance(value, Mapping):
        least, most = value.get("min", 0), value.get("max", 10**9)
    else:
        least = most = int(value)
    return least <= words <= most, f"it has {words} words"


def _finish_reason(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    return answer.finish_reason == value, f"it ended with {answer.finish_reason}"


def _cost(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    if answer.cost is None:
        return False, "what it cost is not known: the target has no price"
    assert threshold is not None
    return answer.cost <= threshold, f"it cost ${answer.cost:.6f}"


def _latency(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    """`threshold` in milliseconds."""
    assert threshold is not None
    return answer.seconds * 1_000 <= threshold, f"it took {answer.seconds * 1_000:.0f} ms"


def _tokens(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    if answer.tokens is None:
        return False, "how many tokens it had is not known"
    assert threshold is not None
    return answer.tokens <= threshold, f"it had {answer.tokens} tokens"


def _is_refusal(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    return answer.refused, "it is no refusal"


def _guardrails(value: Any, threshold: float | None, answer: Answer) -> tuple[bool, str]:
    """That no guardrail found anything; with a `value`, {check: pii, action: block}, that one found just that."""
    found = [verdict for verdict in answer.verdicts if verdict.get("action") not in (None, "pass", "allow")]
    if value is None:
        said = ", ".join(f"{verdict.get('check')} ({verdict.get('action')})" for verdict in found)
        return not found and not answer.refused, f"guardrails: {said or 'refused'}"
    wanted = {"check": value} if isinstance(value, str) else dict(value)
    told = any(all(verdict.get(name) == each for name, each in wanted.items()) for verdict in found)
    return told, f"no guardrail said {wanted}"


def _distance(one: str, other: str) -> int:
    """https://en.wikipedia.org/wiki/Levenshtein_distance#Iterative_with_two_matrix_rows"""
    row = list(range(len(other) + 1))
    for n, letter in enumerate(one, 1):
        before, row[0] = row[0], n
        for m, its in enumerate(other, 1):
            before, row[m] = row[m], min(row[m] + 1, row[m - 1] + 1, before + (letter != its))
    return row[-1]


_NONE = object()


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NONE


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f"'{line[:160]}…'" if len(line) > 160 else f"'{line}'"


_CHECKS: dict[str, Callable[[Any, float | None, Answer], tuple[bool, str]]] = {
    "equals": _equals, "contains": _contains, "icontains": _icontains, "starts-with": _starts_with, "regex": _regex,
    "contains-all": _listed(True, True), "contains-any": _listed(False, True), "icontains-all": _listed(True, False),
    "icontains-any": _listed(False, False), "is-json": _is_json, "contains-json": _contains_json,
    "levenshtein": _levenshtein, "word-count": _word_count, "finish-reason": _finish_reason, "cost": _cost,
    "latency": _latency, "tokens": _tokens, "is-refusal": _is_refusal, "guardrails": _guardrails,
}  # fmt: skip
