"""Too long and too short, in characters, words and tokens."""

from __future__ import annotations

from typing import Any

import pytest

from guardrails.checks.length import Length
from guardrails.text_checks import Context


async def _found(text: str, **settings: Any) -> list[tuple[str, int, int]]:
    (found,) = await Length(**settings).judge([text], Context("input"))
    return [(finding.kind, finding.start, finding.end) for finding in found]


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


@pytest.mark.parametrize(
    ("settings", "text", "found"),
    [
        ({"most": 5}, "12345", []),
        ({"most": 5}, "123456", [("too_long", 5, 6)]),
        ({"least": 2}, "ab", []),
        ({"least": 2}, "a", [("too_short", 0, 1)]),
        ({"least": 1}, "", [("too_short", 0, 0)]),
        ({"most": 2, "unit": "words"}, "it's well-made!", []),
        ({"most": 2, "unit": "words"}, "one, two three four", [("too_long", 9, 19)]),
        ({"most": 3, "least": 3, "unit": "words"}, "one two", [("too_short", 0, 7)]),
        ({"most": 3, "unit": "tokens", "count_tokens": _letters}, "a b c", []),
        ({"most": 3, "unit": "tokens", "count_tokens": _letters}, "a b c d", [("too_long", 0, 7)]),
    ],
)
async def test_a_length_is_measured(settings: dict[str, Any], text: str, found: list[tuple[str, int, int]]) -> None:
    assert await _found(text, **settings) == found


@pytest.mark.parametrize("settings", [{}, {"most": 1, "least": 2}, {"least": -1}, {"most": 1, "unit": "tokens"}])
def test_bounds_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="length|least|tokenizer"):
        Length(**settings)


def test_the_version_follows_the_settings() -> None:
    checks = [
        Length(1),
        Length(2),
        Length(2, 1),
        Length(2, unit="words"),
        Length(2, unit="tokens", count_tokens=_letters),
    ]
    assert len({check.version for check in checks}) == 5
