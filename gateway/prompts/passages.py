"""What others have said, as a prompt shows it: passages between marks that nobody can foretell, features on one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from features.vector import FeatureScalar, FeatureValue, FeatureVector
from gateway.prompts.fences import fence_word
from retrieval.passages import Passage

_LONGEST_FEATURE = 200
_MOST_OF_A_LIST = 50


def fenced(passages: Sequence[Passage]) -> str:
    """The passages as data: numbered, each between marks that carry a secret word."""
    if not passages:
        return ""
    word = fence_word(passages)
    return "\n".join(
        f"<passage {word} [{n}] title={one_line(passage.title)!r}>\n{passage.text}\n</passage {word}>"
        for n, passage in enumerate(passages, 1)
    )


def one_line(value: FeatureValue) -> FeatureValue:
    """A feature is data too: no line breaks, no control characters, no length that pushes the prompt aside."""
    if isinstance(value, list):
        return [_line(each) for each in value[:_MOST_OF_A_LIST]]
    return _line(value) if value is not None else None


def described(features: FeatureVector) -> list[dict[str, Any]]:
    """Each feature with what the feature store's own metadata says of it, on one line each."""
    return [
        {
            "name": one_line(fact.name),
            "value": one_line(fact.value),
            "type": one_line(fact.type),
            "unit": one_line(fact.unit),
            "description": one_line(fact.description),
        }
        for fact in features.described
    ]


def _line(value: FeatureScalar) -> FeatureScalar:
    if not isinstance(value, str):
        return value
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())[:_LONGEST_FEATURE]
