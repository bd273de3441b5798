"""Milvus' filter language, as far as this library writes it: literals that can't end early, and tokens for names.

A name that a user has a hand in goes into an expression as a token, which is hexadecimal only, wherever equality is
all that is asked; a literal is quoted. Nothing else is ever put into an expression.
https://milvus.io/docs/boolean.md
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable

_HELD = re.compile(r'(\w+) like "%\|(\w+)\|%"')
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def quoted(text: str) -> str:
    """A string literal of Milvus' filter language: what stands inside can't end it.

    The language knows no `\\u`, so all but these few characters stand for themselves.
    """
    plain = text.encode("utf-8", "replace").decode()
    return '"' + plain.translate(_ESCAPES) + '"'


def any_of(texts: Iterable[str]) -> str:
    return "[" + ", ".join(map(quoted, texts)) + "]"


def token(*parts: str | float | bool) -> str:
    """32 hexadecimal digits for these parts, told apart by type and place."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def token_set(tokens: Iterable[str]) -> str:
    """A set of tokens as one text, in which `holds` finds each. The text of the empty set holds none."""
    return "|" + "".join(f"{each}|" for each in sorted(set(tokens)))


def holds(field: str, each: str) -> str:
    """Whether the token set in `field` has this token.

    As a part of a text, which Milvus Lite finds in under a millisecond per ten thousand rows; its arrays and its JSON
    take more than a hundred.
    """
    assert each.isalnum(), "a token has no character that LIKE or a literal reads as its own"
    return f'{field} like "%|{each}|%"'


def in_arrays(clause: str) -> str:
    """The clause for a collection whose token sets are arrays.

    No literal is taken for what `holds` wrote: a quotation mark inside one comes after a backslash, and the one that
    ends it comes before no `%`.
    """
    return _HELD.sub(r'array_contains(\1, "\2")', clause)
