"""Whether an answer is JSON, and as a JSON Schema says (Draft 2020-12, or the one that `$schema` names).

https://json-schema.org/draft/2020-12/json-schema-core. Formats are not asserted. References lead only within the
schema: nothing is fetched.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from guardrails.text_checks import Context, Cost
from guardrails.verdicts import Action, Finding

_RULES = 1  # counts up when the same text may be judged otherwise
_MOST = 20  # faults that are told of one text
_LONGEST = 2_000_000  # characters that are read
_FENCE = re.compile(r"\A\s*```(?:json|JSON)?[ \t]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class JsonSchema:
    name = "schema"
    default_action: Action = "block"
    cost: Cost = "cheap"

    def __init__(self, schema: Mapping[str, Any] | None = None, fenced: bool = True) -> None:
        """Without a `schema` any JSON will do. `fenced`: JSON in one fence of Markdown, and nothing around it, counts.
        Raises ValueError for a schema that is none."""
        self._validator = validator(schema if schema is not None else {})
        self._fenced = fenced
        told = json.dumps(schema, sort_keys=True, default=str)
        self.version = f"{_RULES} {int(fenced)} {hashlib.sha256(told.encode()).hexdigest()[:16]}"

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        """Kinds: `schema.json` (it is none) and `schema.<keyword>`; `faults` says where."""
        return [
            tuple(Finding(f"schema.{keyword}", 0, len(text), 1.0) for keyword in _once(self.faults(text)))
            for text in texts
        ]

    def faults(self, text: str) -> list[tuple[str, str]]:
        """Each fault as (keyword, where), for asking the model again: `("required", "$.items[2]")`.

        Nothing of the text is in it but names of properties that the schema knows.
        """
        fenced = _FENCE.match(text) if self._fenced else None
        try:
            document = parsed(fenced[1] if fenced else text)
        except ValueError:
            return [("json", "$")]
        return broken(self._validator, document)


def validator(schema: Mapping[str, Any]) -> Validator:
    """Raises ValueError with what is wrong, and where."""
    try:
        plain = dict(schema)
        kind = validator_for(plain, default=Draft202012Validator)
        kind.check_schema(plain)
    except SchemaError as fault:
        raise ValueError(f"the JSON Schema is wrong at {fault.json_path}: {fault.message[:200]}") from None
    except RecursionError:
        raise ValueError("the JSON Schema is nested too deeply") from None
    return kind(plain, registry=Registry())  # which fetches nothing


def parsed(text: str) -> Any:
    """JSON to the letter: no NaN, no name twice. Raises ValueError."""
    if len(text) > _LONGEST:
        raise ValueError("it is too long")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def broken(check: Validator, document: Any) -> list[tuple[str, str]]:
    """What of a schema a document breaks, as (keyword, where)."""
    try:
        faults: Iterable[ValidationError] = islice(check.iter_errors(document), _MOST)
        return [(str(fault.validator), _place(fault, check.schema)) for fault in faults]
    except RecursionError:
        return [("json", "$")]
    except Unresolvable:
        return [("$ref", "$")]


def _place(fault: ValidationError, schema: Any) -> str:
    """The way to what is wrong, without names that the schema does not know: those may be anything."""
    told = json.dumps(schema, default=str)
    return "$" + "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" if f'"{step}"' in told and _NAME.fullmatch(step) else ".*"
        for step in fault.absolute_path
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _once(faults: Iterable[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys(keyword for keyword, _ in faults))
