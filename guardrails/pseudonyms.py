"""Reversible masks: each value gets a placeholder of its own, which is turned back into it in the answer.

The same value always gets the same placeholder within a call, and calls about equally many values get equal ones, so
that what is kept of one call's answer fits another's with its own values. Nothing is stored: who holds the call holds
the values.
"""

from __future__ import annotations

import json
import re
import secrets

# Not to be guessed, so that what a user writes is never taken for a placeholder of ours.
_MARK = secrets.token_hex(3)


class Pseudonyms:
    """The values of one call and their placeholders, such as `<EMAIL_ADDRESS_1_3fa9c2>`."""

    def __init__(self) -> None:
        self._placeholders: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._values)

    def of(self, kind: str, value: str) -> str:
        """The placeholder of `value`; a new one where it has none yet."""
        known = self._placeholders.get((kind, value))
        if known is not None:
            return known
        number = self._counts[kind] = self._counts.get(kind, 0) + 1
        placeholder = f"<{kind}_{number}_{_MARK}>"
        self._placeholders[kind, value] = placeholder
        self._values[placeholder] = value
        return placeholder

    def restorer(self, *, in_json: bool) -> Restorer:
        """For one text of the answer; `in_json`: it is JSON, so values are put back escaped."""
        values = self._values
        if in_json:
            values = {name: json.dumps(value, ensure_ascii=False)[1:-1] for name, value in values.items()}
        return Restorer(values)


class Restorer:
    """Puts values back into a text that comes in pieces, cut anywhere; at most one placeholder's length is held."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values
        self._pattern = re.compile("|".join(re.escape(name) for name in values))
        self._longest = max(map(len, values))
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be told now."""
        text = self._pattern.sub(lambda found: self._values[found[0]], self._held + text)
        begin = text.find("<", max(0, len(text) - self._longest + 1))
        while begin >= 0:
            tail = text[begin:]
            if any(name.startswith(tail) for name in self._values):
                self._held = tail
                return text[:begin]
            begin = text.find("<", begin + 1)
        self._held = ""
        return text

    def finish(self) -> str:
        """The rest, once no more text will come."""
        held, self._held = self._held, ""
        return held
