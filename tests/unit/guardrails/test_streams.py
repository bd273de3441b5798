"""A stream is judged as its whole text would be, however it is cut, and holds back little."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.assembly import build_check
from guardrails.policy import Policy, Rule, StreamScreen
from guardrails.runs import LONGEST
from guardrails.verdicts import Action, Finding, Verdict

_BODY = "a1B2c3D4e5F6g7H8i9J0"
_TOKEN = "sk-" + "proj-" + _BODY * 3
_KEY_LINES = [
    "-----BEGIN RSA " + "PRIVATE KEY-----",
    *["MIIEpAIBAAKCAQEA7bq3+/x9"] * 12,
    "-----END RSA " + "PRIVATE KEY-----",
]
_KEY = "\n".join(_KEY_LINES)
_KEY_IN_JSON = "\\n".join(_KEY_LINES)
_PLANTED = {
    "token": _TOKEN,
    "connection": "postgres://app:" + "s3cr!t$pw@db.example.com/app",
    "key": _KEY,
    "key in JSON": _KEY_IN_JSON,
    "email": "jane.doe@example.com",
    "card": "4111 1111 1111 1111",
    "phone": "+44 20 7946 0958",
    "iban": "GB29 NWBK 6016 1331 9268 19",
    "ssn": "457-55-5462",
}


@functools.cache
def _policy(secrets: Action = "mask", pii: Action = "mask") -> Policy:
    return Policy([Rule(build_check("secrets", {}), secrets), Rule(build_check("pii", {}), pii)])


def _streamed(policy: Policy, pieces: Iterable[str]) -> tuple[str, StreamScreen]:
    stream = policy.stream()
    out = "".join([stream.feed(piece) for piece in pieces])
    return out + stream.finish(), stream


def _cut(text: str, sizes: list[int]) -> list[str]:
    pieces: list[str] = []
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(text):
            return pieces
        pieces.append(text[at : at + size])
        at += size
    return pieces


_PIECES = st.one_of(
    st.sampled_from(sorted(_PLANTED.values())),
    st.sampled_from(
        [
            "-----BEGIN ",
            "PRIVATE ",
            "KEY-----",
            "-----END",
            "sk-",
            "risk-",
            "12",
            "1 2 3 ",
            "GB29 ",
            "NWBK",
            "@",
            "://",
            ",",
        ]
    ),
    st.sampled_from([" ", "  ", "   ", "\n", "\u2003", "\x85", "\ud800", "\u0000", "é", "🙂"]),
    st.sampled_from(["x" * 700, "7" * 600, "12 " * 150, "a" * (LONGEST + 60), "sk-" + "A1b2" * 900]),
    st.text(max_size=12),
)
_ACTIONS = st.sampled_from(["flag", "mask", "block"])


@settings(max_examples=150, deadline=None)
@given(
    text=st.lists(_PIECES, max_size=12).map("".join),
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8),
    secrets=_ACTIONS,
    pii=_ACTIONS,
)
def test_any_split_of_any_text_gives_what_the_whole_text_gives(
    text: str, sizes: list[int], secrets: Action, pii: Action
) -> None:
    policy = _policy(secrets, pii)
    whole = policy.screen(text)

    out, stream = _streamed(policy, _cut(text, sizes))

    assert (out, stream.verdicts, stream.blocked) == (whole.text, whole.verdicts, whole.blocked)


@settings(max_examples=100, deadline=None)
@given(text=st.lists(_PIECES, max_size=12).map("".join))
def test_flagging_never_changes_a_text(text: str) -> None:
    assert _policy("flag", "flag").screen(text).text == text


@settings(max_examples=100, deadline=None)
@given(
    planted=st.lists(st.sampled_from(sorted(_PLANTED)), max_size=6),
    prose=st.sampled_from(
        [". And then: ", ', "', "\n\n", " é🙂 and \ud800 ", " " + "word " * 500, "\n" + "x" * 3_000 + '"']
    ),
)
def test_what_is_planted_anywhere_is_masked(planted: list[str], prose: str) -> None:
    masked = _policy().screen(prose.join(["", *(_PLANTED[kind] for kind in planted), ""])).text
    assert [kind for kind in planted if _PLANTED[kind] in masked] == []
    assert masked.count("<") == len(planted)


@pytest.mark.parametrize("action", ["mask", "block"])
@pytest.mark.parametrize("kind", _PLANTED)
def test_nothing_of_a_finding_leaves_wherever_the_stream_is_cut(kind: str, action: Action) -> None:
    policy, planted = _policy(action, action), _PLANTED[kind]
    text = f"Here it is: {planted} and that was it."
    expected = policy.screen(text)
    assert expected.blocked == (action == "block")
    secret = planted.removeprefix("postgres://app:").split("@db.")[0]
    for at in range(1, len(text)):
        stream = policy.stream()
        first = stream.feed(text[:at])
        assert not _shared(first.removeprefix("Here it is: "), secret)
        out = first + stream.feed(text[at:]) + stream.finish()
        assert out == expected.text
    assert expected.text == "Here it is: " if action == "block" else not _shared(expected.text, secret)


def _shared(out: str, secret: str) -> bool:
    """Whether four characters in a row of the secret are in `out`; fewer are in any text."""
    return any(secret[at : at + 4] in out for at in range(len(secret) - 3)) or (
        0 < len(out) < 4 and secret.startswith(out)
    )


def test_ordinary_prose_is_held_back_by_the_word_being_written() -> None:
    text = "A model is what callers name, and a target is where it runs; each may have several of the other. " * 40
    stream, held, sent = _policy().stream(), [], 0
    for at in range(0, len(text), 4):
        sent += len(stream.feed(text[at : at + 4]))
        held.append(min(at + 4, len(text)) - sent)
    longest_word = max(map(len, text.split()))
    assert max(held) <= longest_word
    assert sum(held) / len(held) < 5


@pytest.mark.parametrize(
    ("piece", "most"),
    [
        pytest.param("12.5 17.25 3.1 4 ", 300, id="a table of numbers"),
        pytest.param("2026-01-02,12.5,foo\n", 300, id="comma-separated values"),
        pytest.param("abcdefgh", LONGEST + 4, id="one word without end"),
        pytest.param("-----BEGIN ", 300, id="heads of keys that never come"),
    ],
)
def test_what_is_held_back_is_bounded(piece: str, most: int) -> None:
    text = piece * 1_000
    stream, sent = _policy().stream(), 0
    for at in range(0, len(text), 4):
        sent += len(stream.feed(text[at : at + 4]))
        assert min(at + 4, len(text)) - sent <= most


class _Counting:
    """A check that finds nothing and counts what it is shown."""

    name = "counting"
    version = "1"
    default_action: Action = "flag"

    def __init__(self) -> None:
        self.seen = 0
        self.longest = 0

    def worth(self, run: str) -> bool:
        return True

    def find(self, run: str) -> list[Finding]:
        self.seen += len(run)
        self.longest = max(self.longest, len(run))
        return []

    def mask(self, kind: str) -> str:
        return ""


@pytest.mark.parametrize("size", [4, 100_000])
@pytest.mark.parametrize(
    "piece", ["prose and more prose. ", "12.5 17.25 ", "abcdefgh", '{"a":1,"b":"c"},', "-----BEGIN "]
)
def test_cost_is_linear_and_each_look_is_short(piece: str, size: int) -> None:
    text = (piece * 100_000)[:100_000]
    check = _Counting()

    out, _ = _streamed(Policy([Rule(check, "flag")]), _cut(text, [size]))

    assert out == text
    assert check.seen <= 2 * len(text)
    assert check.longest <= 2 * LONGEST


def test_verdicts_hold_positions_in_the_original_text_and_never_the_text() -> None:
    text = f"Mail jane.doe@example.com, key {_TOKEN}."
    screened = _policy("flag", "mask").screen(text)
    secrets, pii = screened.verdicts
    assert screened.text == f"Mail <EMAIL_ADDRESS>, key {_TOKEN}."
    assert (secrets.check, secrets.action, pii.check, pii.action) == ("secrets", "flag", "pii", "mask")
    assert [text[f.start : f.end] for f in (*secrets.findings, *pii.findings)] == [_TOKEN, "jane.doe@example.com"]
    assert _TOKEN not in repr(screened.verdicts)


def test_a_text_without_findings_is_allowed_and_unchanged() -> None:
    screened = _policy().screen("How do I add a provider?")
    assert (screened.text, screened.changed, screened.blocked) == ("How do I add a provider?", False, False)
    assert [verdict.action for verdict in screened.verdicts] == ["allow", "allow"]


def test_blocking_wins_over_masking_and_nothing_follows() -> None:
    stream = _policy("block", "mask").stream()
    assert stream.feed(f"Mail jane.doe@example.com about {_TOKEN} today, and") == "Mail <EMAIL_ADDRESS> about "
    assert stream.blocked
    assert (stream.feed("more"), stream.finish()) == ("", "")


def test_findings_that_overlap_are_masked_as_one() -> None:
    assert (
        _policy().screen("at postgres://app:" + "s3cr!t@db.example.com/app").text == "at <SECRET:connection_string>/app"
    )


def test_what_stands_behind_a_private_key_is_judged_too() -> None:
    text = f"{_KEY},jane.doe@example.com,{_TOKEN} bye"
    assert _policy().screen(text).text == "<SECRET:private_key>,<EMAIL_ADDRESS>,<SECRET:api_key> bye"


def test_a_private_key_on_one_line_ends_where_it_ends() -> None:
    assert _policy().screen(f'{{"k": "{_KEY_IN_JSON}"}} and more').text == '{"k": "<SECRET:private_key>"} and more'


def test_a_flagged_private_key_hides_nothing_from_other_rules() -> None:
    text = f"{_KEY_LINES[0]} jane.doe@example.com {_KEY_LINES[-1]}"
    assert _policy("flag", "mask").screen(text).text == text.replace("jane.doe@example.com", "<EMAIL_ADDRESS>")


def test_a_private_key_that_never_ends_is_left_out_up_to_a_bound() -> None:
    out = _policy().screen(f"{_KEY_LINES[0]} " + "abcd " * 6_000 + "The end.").text
    assert out.startswith("<SECRET:private_key>")
    assert out.endswith("The end.")
    assert len(out) < 15_000


@pytest.mark.parametrize("before", ["", "key=", '{"key":"', "x" * 1500 + '"', "1 2 3 "])
def test_a_token_longer_than_any_run_is_masked_to_its_end(before: str) -> None:
    text = f"{before}sk-" + "A1b2C3d4" * 1_500 + '" end'
    assert _policy().screen(text).text == before + '<SECRET:api_key>" end'


@pytest.mark.parametrize("before", range(1400, 1600, 10))
def test_a_long_token_in_minified_json_is_found_wherever_it_stands(before: int) -> None:
    token = "eyJ" + "hbGciOiJI" * 80 + ".eyJ" + "zdWIiOiIx" * 20 + "." + "s1gNaTuRe" * 5
    text = '{"x":"' + "x" * before + f'","t":"{token}"}}'
    assert _policy().screen(text).text == text.replace(token, "<SECRET:jwt>")


def test_a_policys_version_tells_checks_settings_and_actions_apart() -> None:
    def rule(name: str, action: Action, **told: object) -> Rule:
        return Rule(build_check(name, told), action)

    policies = [
        [rule("secrets", "mask")],
        [rule("secrets", "block")],
        [rule("pii", "mask")],
        [rule("pii", "mask", entities=["EMAIL_ADDRESS"])],
        [rule("pii", "mask", min_score=0.9)],
        [rule("secrets", "mask"), rule("pii", "mask")],
    ]
    assert len({Policy(rules).version for rules in policies}) == len(policies)
    assert Policy([rule("pii", "mask")]).version == Policy([rule("pii", "mask")]).version


@pytest.mark.parametrize("text", ["my card is 4111 1111 1111 1111", "nothing", ""])
def test_each_rule_is_told_once_for_a_text_how_long_its_check_took(text: str) -> None:
    took: dict[str, list[int]] = {"secrets": [], "pii": []}
    policy = Policy([Rule(build_check(name, {}), "mask", took=told.append) for name, told in took.items()])
    _, screen = _streamed(policy, text)
    screen.finish()
    assert [len(told) for told in took.values()] == [1, 1]
    assert (took["pii"][0] > 0) == ("card" in text)
    blocked: list[int] = []
    screen = Policy([Rule(build_check("pii", {}), "block", took=blocked.append)]).stream()
    screen.feed(text + " and more ")
    assert len(blocked) == ("card" in text)  # what is cut off half-way is not told of


def test_a_policy_without_rules_passes_everything() -> None:
    screened = Policy([]).screen(_TOKEN)
    assert (screened.text, screened.verdicts) == (_TOKEN, ())


def test_a_verdict_is_one_for_each_rule() -> None:
    assert _policy().screen("fine").verdicts == tuple(
        Verdict(rule.check.name, "allow", (), rule.check.version) for rule in _policy().rules
    )
