"""Which personal data is found, and that technical text is left alone."""

from __future__ import annotations

import functools
import socket
from pathlib import Path

import pytest

from guardrails.assembly import build_check
from guardrails.policy import Policy, Rule

_DOCS = sorted((Path(__file__).parents[4] / "docs").rglob("*.md"))


@functools.cache
def _policy(*entities: str) -> Policy:
    return Policy([Rule(build_check("pii", {"entities": entities} if entities else {}), "mask")])


@pytest.mark.parametrize(
    ("kind", "datum"),
    [
        ("EMAIL_ADDRESS", "jane.doe@example.com"),
        ("EMAIL_ADDRESS", "jane+news@mail.example.co.uk"),
        ("CREDIT_CARD", "4111111111111111"),
        ("CREDIT_CARD", "4111 1111 1111 1111"),
        ("CREDIT_CARD", "4111-1111-1111-1111"),
        ("CREDIT_CARD", "3782 822463 10005"),
        ("CREDIT_CARD", "2223003100000000"),
        ("CREDIT_CARD", "2720999999999996"),
        ("CREDIT_CARD", "213100000000001"),
        ("CREDIT_CARD", "180012345678905"),
        ("CREDIT_CARD", "4300000000000000000"),
        ("CREDIT_CARD", "6200000000000000000"),
        ("CREDIT_CARD", "501800000009"),
        ("CREDIT_CARD", "6761000000000006"),
        ("IBAN_CODE", "DE89370400440532013000"),
        ("IBAN_CODE", "DE89 3704 0044 0532 0130 00"),
        ("IBAN_CODE", "GB29 NWBK 6016 1331 9268 19"),
        ("IBAN_CODE", "NL91 ABNA 0417 1643 00"),
        ("US_SSN", "457-55-5462"),
        ("US_SSN", "457 55 5462"),
        ("PHONE_NUMBER", "+1 212 555 0123"),
        ("PHONE_NUMBER", "(212) 555-0123"),
        ("PHONE_NUMBER", "212-555-0123"),
        ("PHONE_NUMBER", "+49 30 901820"),
        ("PHONE_NUMBER", "+44 20 7946 0958"),
        ("CRYPTO", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"),
        ("CRYPTO", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "It is {} here.", '{{"value": "{}"}}', '["{}"],', "\ud800 {}"])
def test_personal_data_is_masked_by_its_kind(kind: str, datum: str, around: str) -> None:
    assert _policy().screen(around.format(datum)).text == around.format(f"<{kind}>")


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8080 and 0.0.0.0:443",
        "version 2.2.366, Python 3.11.9, torch==2.13.0+cpu",
        "2026-01-15 10:30:00 and 2026-01-15T10:30:00.123456Z",
        "timeouts of 250ms, 5s, 10m, 1h and 30d",
        "at most 64_000_000 bytes, 4,194,304 pages, 1 000 000 rows",
        "scores 0.55 1.25 3.55 2.45 0.93",
        "the time 1716239022 or 1716239022123 in milliseconds",
        "issues #25762, #16866, #34241 and #2187",
        "550e8400-e29b-41d4-a716-446655440000",
        "ISBN 978-3-16-148410-0",
        "john.do and john@localhost and git@host:path",
        "@decorator, @pytest.mark.parametrize and user@",
        "４111 is not a card",
    ],
)
def test_technical_text_is_left_alone(text: str) -> None:
    assert _policy().screen(text).text == text


@pytest.mark.parametrize("document", _DOCS, ids=lambda path: path.name)
def test_the_projects_own_documents_pass_both_checks(document: Path) -> None:
    policy = Policy([Rule(build_check("secrets", {}), "block"), Rule(build_check("pii", {}), "mask")])
    text = document.read_text(encoding="utf-8")
    assert [(f.kind, text[f.start : f.end]) for v in policy.screen(text).verdicts for f in v.findings] == []


def test_only_the_entities_asked_for_are_looked_for() -> None:
    text = "jane.doe@example.com at 192.168.1.20, card 4111111111111111"
    assert _policy("IP_ADDRESS").screen(text).text == text.replace("192.168.1.20", "<IP_ADDRESS>")
    assert _policy("EMAIL_ADDRESS").screen(text).text == text.replace("jane.doe@example.com", "<EMAIL_ADDRESS>")


def test_what_is_less_sure_than_min_score_is_left_alone() -> None:
    """Presidio gives a phone number 0.4, and an address whose domain exists 1.0."""
    policy = Policy([Rule(build_check("pii", {"min_score": 0.5}), "mask")])
    assert policy.screen("212-555-0123 jane.doe@example.com").text == "212-555-0123 <EMAIL_ADDRESS>"


def test_looking_for_addresses_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    policy = Policy([Rule(build_check("pii", {"entities": ["EMAIL_ADDRESS"]}), "mask")])
    assert policy.screen("jane@example.co.uk").text == "<EMAIL_ADDRESS>"
