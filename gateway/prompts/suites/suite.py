"""A suite of cases for a template, from YAML: its own form, and promptfoo's as far as both mean the same.

targets: [handbook, openai/gpt-4.1-mini]
tests:
  - description: says what the plan costs
    vars: {product: Moon}
    question: What does it cost?
    assert: [{type: contains, value: "9 euros"}, {type: latency, threshold: 5000}]

https://www.promptfoo.dev/docs/configuration/expected-outputs/
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.config.document import Document, parse
from gateway.config.document import Path as Place
from gateway.config.faults import ConfigError, nearest
from gateway.prompts.suites.assertions import KINDS, NOT_SUPPORTED

_MOST = 2_000_000  # bytes of a suite, and of a file that it names
_TOP = ("description", "targets", "judge", "embeddings", "defaultTest", "tests")
_PROMPTFOO = (
    "prompts", "providers", "env", "evaluateOptions", "outputPath", "scenarios", "sharing", "tags", "metadata",
    "commandLineOptions", "$schema", "derivedMetrics", "extensions", "nunjucksFilters",
)  # fmt: skip
_CASE = (
    "description",
    "vars",
    "question",
    "messages",
    "user",
    "assert",
    "threshold",
    "options",
    "metadata",
    "features",
)
_CHECK = (
    "type",
    "value",
    "threshold",
    "weight",
    "metric",
    "provider",
    "transform",
    "config",
    "contextTransform",
    "assert",
)
_ASKS = ("question", "query", "message", "input", "prompt")  # what suites call the user's words
_VARIABLE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


class SuiteFault(Exception):
    """A suite that can't be run: file, line, key, and why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One assertion. `negated`: it holds where the other one does not. `parts` are those of an `assert-set`."""

    kind: str
    value: Any = None
    threshold: float | None = None
    weight: float = 1.0
    negated: bool = False
    parts: tuple[Check, ...] = ()

    @property
    def name(self) -> str:
        return f"not-{self.kind}" if self.negated else self.kind


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked, and what has to hold of the answer. `threshold`: the weighted share of checks that is enough."""

    name: str
    variables: Mapping[str, Any]
    messages: Sequence[Mapping[str, Any]]
    checks: tuple[Check, ...]
    threshold: float | None = None
    user: str | None = None

    def asked(self, declared: frozenset[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The variables that a template declares, and the messages: another variable with a question is the question."""
        variables = {name: value for name, value in self.variables.items() if name in declared}
        messages = [dict(message) for message in self.messages]
        others = [name for name in _ASKS if name in self.variables and name not in declared]
        if not messages and others:
            messages = [{"role": "user", "content": str(self.variables[others[0]])}]
        used = {*declared, *others[:1]}
        variables |= {name: value for name, value in self.variables.items() if name not in used}  # refused by name
        return variables, messages


@dataclass(frozen=True, slots=True)
class Suite:
    file: str
    digest: str
    cases: tuple[Case, ...]
    targets: tuple[str, ...] = ()
    judge: str | None = None
    embeddings: str | None = None
    notices: tuple[str, ...] = field(default=())


def read_suite(file: Path) -> Suite:
    """Raises SuiteFault for the first thing that is wrong: also for an assertion that nothing here can judge."""
    try:
        if file.stat().st_size > _MOST:
            raise SuiteFault(f"{file.name}: larger than {_MOST} bytes")
        text = file.read_text("utf-8")
    except UnicodeDecodeError:
        raise SuiteFault(f"{file.name}: is not UTF-8") from None
    except OSError as error:
        raise SuiteFault(f"{file}: can't be read: {error.strerror}") from None
    try:
        document = parse(text.replace("${", "$${"), file.name, {})
    except ConfigError as error:
        raise SuiteFault(str(error.faults[0])) from None
    if document.faults:
        raise SuiteFault(str(document.faults[0]))
    return _Reading(file, text, document).suite()


class _Reading:
    def __init__(self, file: Path, text: str, document: Document) -> None:
        self._file = file
        self._text = text
        self._document = document
        self._notices: list[str] = []

    def suite(self) -> Suite:
        values = self._document.values
        if not isinstance(values, dict):
            raise self._fault((), "a suite is a mapping that has at least `tests`")
        for key in values:
            if key in _PROMPTFOO and key not in ("providers",):
                self._notices.append(f"`{key}` is promptfoo's own, and passed over")
            elif key not in (*_TOP, "providers"):
                near = nearest(key, _TOP)
                raise self._fault((key,), f"is not a setting{f'; did you mean `{near}`?' if near else ''}")
        default = values.get("defaultTest") or {}
        if not isinstance(default, dict):
            raise self._fault(("defaultTest",), "is a mapping like an entry of `tests`")
        tests = values.get("tests")
        if not isinstance(tests, list) or not tests:
            raise self._fault(("tests",), "is a list of cases")
        judge = values.get("judge") or self._grader(default)
        cases = tuple(self._case(order, test, default) for order, test in enumerate(tests))
        digest = hashlib.sha256(self._text.encode("utf-8", "replace")).hexdigest()[:16]
        return Suite(
            self._file.name, digest, cases, self._targets(values), judge, values.get("embeddings"), tuple(self._notices)
        )

    def _targets(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        targets = values.get("targets") or values.get("providers") or []
        if isinstance(targets, str):
            targets = [targets]
        if not isinstance(targets, list):
            raise self._fault(("targets",), "is a list of models")
        found = []
        for order, target in enumerate(targets):
            name = target.get("id") if isinstance(target, dict) else target
            if not isinstance(name, str):
                raise self._fault(("targets", order), "is the name of a model")
            found.append(_model(name))
        return tuple(found)

    def _grader(self, default: Mapping[str, Any]) -> str | None:
        options = default.get("options")
        provider = options.get("provider") if isinstance(options, dict) else None
        provider = provider.get("text") if isinstance(provider, dict) else provider
        provider = provider.get("id") if isinstance(provider, dict) else provider
        return _model(provider) if isinstance(provider, str) else None

    def _case(self, order: int, test: Any, default: Mapping[str, Any]) -> Case:
        place: Place = ("tests", order)
        if not isinstance(test, dict):
            raise self._fault(place, "is a case: a mapping with `vars` or a `question`, and `assert`")
        for key in test:
            if key not in _CASE:
                near = nearest(key, _CASE)
                raise self._fault((*place, key), f"is not a setting{f'; did you mean `{near}`?' if near else ''}")
        variables = {**(default.get("vars") or {}), **(test.get("vars") or {})}
        variables = {str(name): self._file_of((*place, "vars", name), value) for name, value in variables.items()}
        messages = test.get("messages") or default.get("messages") or []
        question = test.get("question") or default.get("question")
        if question is not None:
            messages = [*messages, {"role": "user", "content": _filled(str(question), variables)}]
        checks = [
            *self._checks((*place, "assert"), test.get("assert"), variables),
            *self._checks(("defaultTest", "assert"), default.get("assert"), variables),
        ]
        if not checks:
            raise self._fault(place, "asserts nothing: it would pass whatever is answered")
        threshold = test.get("threshold", default.get("threshold"))
        return Case(
            name=str(test.get("description") or f"case {order + 1}"),
            variables=variables,
            messages=messages,
            checks=tuple(checks),
            threshold=self._number((*place, "threshold"), threshold),
            user=test.get("user"),
        )

    def _checks(self, place: Place, written: Any, variables: Mapping[str, Any]) -> list[Check]:
        if written is None:
            return []
        if not isinstance(written, list):
            raise self._fault(place, "is a list of assertions, each with a `type`")
        return [self._check((*place, order), one, variables) for order, one in enumerate(written)]

    def _check(self, place: Place, written: Any, variables: Mapping[str, Any]) -> Check:
        if not isinstance(written, dict) or not isinstance(written.get("type"), str):
            raise self._fault(place, "is an assertion with a `type`, like {type: contains, value: …}")
        for key in written:
            if key not in _CHECK:
                raise self._fault((*place, key), "is not a setting of an assertion")
        kind = written["type"]
        negated, kind = kind.startswith("not-"), kind.removeprefix("not-")
        if kind in NOT_SUPPORTED:
            raise self._fault((*place, "type"), f"`{kind}` {NOT_SUPPORTED[kind]}")
        if kind not in KINDS and kind != "assert-set":
            near = nearest(kind, KINDS)
            raise self._fault(
                (*place, "type"), f"there is no assertion `{kind}`{f'; did you mean `{near}`?' if near else ''}"
            )
        if "transform" in written or "contextTransform" in written:
            raise self._fault(place, "`transform` runs code, which a suite has none of here")
        threshold = self._number((*place, "threshold"), written.get("threshold"))
        weight = self._number((*place, "weight"), written.get("weight"))
        value = self._file_of((*place, "value"), written.get("value"))
        check = Check(
            kind,
            _filled_in(value, variables),
            threshold,
            1.0 if weight is None else weight,
            negated,
            tuple(self._checks((*place, "assert"), written.get("assert"), variables)) if kind == "assert-set" else (),
        )
        if fault := _unfit(check):
            raise self._fault(place, fault)
        return check

    def _number(self, place: Place, value: Any) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._fault(place, "is a number")
        return float(value)

    def _file_of(self, place: Place, value: Any) -> Any:
        """What a `file://` names, within the suite's own folder; JSON and YAML as values."""
        if not isinstance(value, str) or not value.startswith("file://"):
            return value
        folder = self._file.resolve().parent
        file = (folder / value.removeprefix("file://")).resolve()
        if not file.is_relative_to(folder):
            raise self._fault(place, "names a file outside the suite's folder")
        if file.suffix in (".js", ".py", ".ts", ".mjs", ".rb"):
            raise self._fault(place, "names code, which a suite does not run here")
        try:
            if file.stat().st_size > _MOST:
                raise self._fault(place, f"names a file larger than {_MOST} bytes")
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self._fault(place, f"names a file that can't be read: {error}") from None
        if file.suffix not in (".json", ".yaml", ".yml"):
            return text
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            raise self._fault(place, "names a file that is neither JSON nor YAML") from None

    def _fault(self, place: Place, message: str) -> SuiteFault:
        return SuiteFault(str(self._document.fault(place, message)))


def _unfit(check: Check) -> str | None:
    """What is wrong with an assertion's own value, before anything is asked."""
    wanted = KINDS.get(check.kind)
    if check.kind == "assert-set":
        return None if check.parts else "is a set of assertions: name some in its `assert`"
    assert wanted is not None
    if wanted == "value" and check.value is None:
        return f"`{check.name}` needs a `value`"
    if wanted == "list" and not isinstance(check.value, (list, str)):
        return f"`{check.name}` needs a list as its `value`"
    if wanted == "threshold" and check.threshold is None:
        return f"`{check.name}` needs a `threshold`"
    if check.kind == "regex":
        try:
            re.compile(str(check.value))
        except re.error as fault:
            return f"is not a regular expression: {fault}"
    return None


def _model(name: str) -> str:
    """`openai:gpt-4.1-mini` and `openai:chat:gpt-4.1-mini` of promptfoo, as `openai/gpt-4.1-mini`."""
    parts = name.split(":")
    if len(parts) < 2 or "/" in parts[0]:
        return name
    if len(parts) > 2 and parts[1] in ("chat", "messages", "responses", "completion"):
        parts = [parts[0], *parts[2:]]
    return f"{parts[0]}/{':'.join(parts[1:])}"


def _filled(text: str, variables: Mapping[str, Any]) -> str:
    return _VARIABLE.sub(lambda found: str(variables.get(found[1], found[0])), text)


def _filled_in(value: Any, variables: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return _filled(value, variables)
    if isinstance(value, list):
        return [_filled_in(each, variables) for each in value]
    return value
