"""What fills a template is read by guardrails, whatever it is written as."""

from __future__ import annotations

from gateway.stages.variables import strings_of


def test_a_number_that_may_be_somebodys_is_read_and_rewritten_like_a_text() -> None:
    given = {"card": 4111111111111111, "list": [5, 123456789.5, "x", True], "deep": {"iban": 12345678, "small": 99}}
    told = list(strings_of(given, names=False))
    assert [holder[key] for holder, key in told] == [
        "4111111111111111", "123456789.5", "x", "12345678", "iban", "small",
    ]  # fmt: skip
    for holder, key in told:  # as guardrails put back what they have read
        holder[key] = "[card]" if holder[key] == "4111111111111111" else holder[key]
    assert given == {"card": "[card]", "list": [5, 123456789.5, "x", True], "deep": {"iban": 12345678, "small": 99}}
