"""Texts judged whole and streamed: the same verdict and the same words out, however the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.assembly import build_check
from guardrails.policy import Check, Policy, Rule
from guardrails.verdicts import Action

CHECKS: dict[str, Check] = {name: build_check(name, {}) for name in ("secrets", "pii")}
PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\nq8w3nV4fJc2==\n-----END RSA PRIVATE KEY-----"
SECRETS = {
    "aws_access_key": "AKIAIOSFODNN7EXAMPLE",
    "github_token": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "api_key": "sk-proj-4f8Jq2mZ7Lk0Xv5Tn9Rb3Wc6",
    "google_api_key": "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "slack_token": "xoxb-123456789012-1234567890123-4mt0t4l1yf3k3t0k3n",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "basic_auth": "postgresql://bob:hunter2hunter@db.example.org/x",
    "private_key": PRIVATE_KEY,
}
PERSONAL = {
    "EMAIL_ADDRESS": "jane.doe+x@example.co.uk",
    "CREDIT_CARD": "4111 1111 1111 1111",
    "IBAN_CODE": "DE89 3704 0044 0532 0130 00",
    "PHONE_NUMBER": "+1 212-555-2368",
    "CRYPTO": "16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ",
}


def policy(action: Action) -> Policy:
    return Policy([Rule(check, action) for check in CHECKS.values()])


def streamed(used: Policy, text: str, cuts: list[int]) -> tuple[str, object, bool]:
    stream = used.stream()
    out = ""
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        out += stream.feed(text[start:end])
    return out + stream.finish(), stream.verdicts, stream.blocked


@pytest.mark.parametrize(("kind", "text"), [*SECRETS.items(), *PERSONAL.items()])
def test_what_is_planted_is_found_and_named(kind: str, text: str) -> None:
    screened = policy("mask").screen(f"before {text} after")
    found = [finding for verdict in screened.verdicts for finding in verdict.findings]
    assert kind in [finding.kind for finding in found]
    assert screened.text.startswith("before ")
    assert screened.text.endswith(" after")
    assert text.split("@")[0][-12:] not in screened.text


@pytest.mark.parametrize(
    "text",
    [
        "listen on 127.0.0.1:8080 since 2026-11-20 23:54:10",
        "v0.28.1 took 250 ms, 1,000 calls, 2048 tokens, 99.9 %",
        "john.do said hello",
        "the key is in ${OPENAI_API_KEY}, e.g. sk-...",
        "https://user:password@host/db is how it looks",
        "sha256:0f1e2d",
    ],
)
def test_technical_prose_stays_as_it_is(text: str) -> None:
    screened = policy("mask").screen(text)
    assert (screened.text, screened.changed) == (text, False)


@pytest.mark.parametrize("action", ["mask", "block"])
@pytest.mark.parametrize("text", [*SECRETS.values(), *PERSONAL.values()], ids=[*SECRETS, *PERSONAL])
def test_nothing_of_it_leaves_at_any_cut(text: str, action: Action) -> None:
    secret = text.removeprefix("postgresql://").removesuffix("db.example.org/x")
    whole = f"so: {text} and on"
    for cut in range(len(whole) + 1):
        told, verdicts, blocked = streamed(policy(action), whole, [cut])
        assert blocked == (action == "block")
        assert secret[:6] not in told, f"cut at {cut}"
        assert secret[-6:] not in told, f"cut at {cut}"
        assert any(verdict.findings for verdict in verdicts)  # type: ignore[attr-defined]  # verdicts are a tuple


PIECES = st.one_of(
    st.sampled_from([*SECRETS.values(), *PERSONAL.values()]),
    st.text(max_size=30),
    st.sampled_from(
        [" ", "\n", "  ", "word", "12", "a1 b2", "-----BEGIN", "-----END X KEY-----", "\ud800", "日本", "🏔"]
    ),
    st.integers(1, 5).map(lambda n: "x1" * 700 * n),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join), st.data(), st.sampled_from(["mask", "flag", "block"]))
def test_any_split_gives_the_same_verdicts_and_words(text: str, data: st.DataObject, action: Action) -> None:
    used = policy(action)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    whole = used.stream()
    told = whole.feed(text) + whole.finish()
    assert streamed(used, text, cuts) == (told, whole.verdicts, whole.blocked)
    if action == "flag":
        assert told == text


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join))
def test_letter_by_letter_is_the_same_too(text: str) -> None:
    used = policy("mask")
    assert streamed(used, text, list(range(1, len(text))))[0] == used.screen(text).text


def test_prose_is_held_back_by_a_word_or_two() -> None:
    text = "Guardrails hold back what they must and no more, 12 characters or so, as anybody can count. " * 20
    stream = policy("mask").stream()
    fed = told = worst = 0
    for start in range(0, len(text), 4):
        piece = text[start : start + 4]
        fed += len(piece)
        told += len(stream.feed(piece))
        worst = max(worst, fed - told)
    assert worst <= 24


def test_each_character_is_looked_at_a_bounded_number_of_times() -> None:
    class Counting:
        name, version, default_action, seen = "counting", "1", "flag", 0

        def worth(self, run: str) -> bool:
            return True

        def find(self, run: str) -> list[object]:
            self.seen += len(run)
            return []

        def mask(self, kind: str) -> str:
            return kind

    check = Counting()
    text = "a1" * 40_000 + " words and 12 numbers " * 4_000
    stream = Policy([Rule(check, "flag")]).stream()  # type: ignore[arg-type]  # finds nothing, so types of findings do not matter
    for start in range(0, len(text), 7):
        stream.feed(text[start : start + 7])
    stream.finish()
    assert check.seen <= 1.5 * len(text)


def test_the_version_tells_policies_apart() -> None:
    versions = {policy("mask").version, policy("block").version, Policy([Rule(CHECKS["pii"], "mask")]).version}
    assert len(versions) == 3


def test_unknown_checks_and_entities_are_named() -> None:
    with pytest.raises(ValueError, match="there is no check `toxicity`"):
        build_check("toxicity", {})
    with pytest.raises(ValueError, match="there is no entity `SHOE_SIZE`"):
        build_check("pii", {"entities": ["SHOE_SIZE"]})
