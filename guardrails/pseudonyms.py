"""Reversible masks: each value gets a placeholder of its own, which is turned back into it in the answer.

The same value always gets the same placeholder within a call, and calls about equally many values get equal ones, so
that what is kept of one call's answer fits another's with its own values. Nothing is stored here: who holds the call
holds the values. Whoever keeps them for a call's successors names the placeholders, and hands them in again.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping

# Not to be guessed, so that what a user writes is never taken for a placeholder of ours.
_MARK = secrets.token_hex(3)
_PLACEHOLDER = re.compile("<[^<>]+>")


class Pseudonyms:
    """The values of one call and their placeholders, such as `<EMAIL_ADDRESS_1_3fa9c2>`."""

    def __init__(
        self, known: Iterable[tuple[str, str, str]] = (), name: Callable[[str, str], str] | None = None
    ) -> None:
        """`known`: (placeholder, kind, value) of earlier calls. `name` makes the placeholder of a kind and a value:
        `<`, anything but angle brackets, `>`; they are numbered where it is left out."""
        self._placeholders: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._name = name
        self._new: list[tuple[str, str, str]] = []
        for placeholder, kind, value in known:
            self._placeholders[kind, value] = placeholder
            self._values[placeholder] = value

    def __bool__(self) -> bool:
        return bool(self._values)

    def of(self, kind: str, value: str) -> str:
        """The placeholder of `value`; a new one where it has none yet."""
        known = self._placeholders.get((kind, value))
        if known is not None:
            return known
        placeholder = self._name(kind, value) if self._name is not None else ""
        if not placeholder or placeholder in self._values:  # a name that two values share would be neither's
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            placeholder = f"<{kind}_{number}_{_MARK}>"
        self._placeholders[kind, value] = placeholder
        self._values[placeholder] = value
        self._new.append((placeholder, kind, value))
        return placeholder

    def take_new(self) -> list[tuple[str, str, str]]:
        """(placeholder, kind, value) of those that were made since this was last asked."""
        new, self._new = self._new, []
        return new

    def restorer(self, *, in_json: bool) -> Restorer:
        """For one text of the answer; `in_json`: it is JSON, so values are put back escaped."""
        return Restorer(self._values, in_json=in_json)


class Restorer:
    """Puts values back into a text that comes in pieces, cut anywhere; at most one placeholder's length is held."""

    def __init__(self, values: Mapping[str, str], *, in_json: bool = False) -> None:
        self._values = values
        self._in_json = in_json
        self._longest = max(map(len, values))
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be told now."""
        text = _PLACEHOLDER.sub(self._restored, self._held + text)
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

    def _restored(self, found: re.Match[str]) -> str:
        value = self._values.get(found[0])
        if value is None:
            return found[0]
        return json.dumps(value, ensure_ascii=False)[1:-1] if self._in_json else value
