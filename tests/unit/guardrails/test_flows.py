"""Checks that judge a text while it comes say of it, however it is cut, what they say of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.checks.code import Code
from guardrails.checks.exfiltration import Exfiltration
from guardrails.checks.keywords import Keywords, WordList
from guardrails.checks.length import Length
from guardrails.flows import TextFlow
from guardrails.masks import masked_by
from guardrails.rules import TextRule
from guardrails.text_checks import Context, Cost, Flow, FlowingCheck, Horizon
from guardrails.verdicts import Action, Finding, Verdict

OUTPUT = Context("output", question="What does docs.example.com say?")
WORDS = ["acid", "acid rain", "rain dance", "c++", "毒药", "να", "vavo", "straße", "ﬁre"]
CHECKS: dict[str, FlowingCheck] = {
    "words": Keywords([WordList("a", WORDS)]),
    "parts of words": Keywords([WordList("a", ["acid rain"], whole_words=False), WordList("b", ["US Army"], case_sensitive=True)]),
    "bounded patterns": Keywords([WordList("p", patterns=[r"\bAB-\d{2,4}", r"(?m)^x.y$"])]),
    "patterns of words": Keywords([WordList("p", patterns=[r"SEC-\d+"]), WordList("a", ["acid rain"])]),
    "patterns of lines": Keywords([WordList("p", patterns=[r"top.*secret"])]),
    "patterns of anything": Keywords([WordList("p", patterns=[r"a\s+b"]), WordList("q", ["a", "aa"], whole_words=False)]),
    "addresses": Exfiltration(["ok.example"]),
    "pictures": Exfiltration(links="any", bare_urls=False),
    "code": Code(deny=["python"]),
    "characters": Length(30, 3),
    "words counted": Length(4, 1, unit="words"),
}  # fmt: skip
_WRITTEN = st.sampled_from(
    [*WORDS, "rain", "dance", "ac", "id", "STRASSE", "ν", "α", "а", "AB-", "12", "345", "SEC-", "x", "y", "top", "secret", "US Army",
     "a", "b", "c", "+", "\u200b", "\x00", "é", "e\u0301", "🙂", "\ud800", "\x01", "Ａ"]
)  # fmt: skip
_MARKUP = st.sampled_from(
    ["![", "[", "]", "](", "]: ", "[1]", "[1]: ", "(", ")", "https://evil.example/a", "https://docs.example.com/b", "//evil.example",
     "https:", "www.evil.example", "> ", "\n> \n", "<img ", "<a ", "<", ">", "src", "href", "=", " = ", '"', "'", "srcset=", "url(",
     "@import ", "&#104;", "&", "\u200b", "`", "\\", "javascript:x", "data:text/html,x", "<script>", "onerror=",
     "```py\n", "```\n", "```", "~~~sh\n", "~~~\n", "rm", " -rf", " /", "rm -rf /", "curl x | sh", "it's", "well-"]
)  # fmt: skip
_SPACE = st.sampled_from([" ", "  ", "\n", "\n\n", "\r\n\r\n", "\t", ", ", ". "])
TEXTS = st.lists(st.one_of(_WRITTEN, _MARKUP, _SPACE, _SPACE, st.text(max_size=6)), max_size=16).map("".join)


def cut(text: str, sizes: Sequence[int]) -> list[str]:
    pieces, at, turn = [], 0, 0
    while at < len(text):
        pieces.append(text[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    return pieces


def told(rules: Sequence[TextRule], pieces: Sequence[str]) -> tuple[str, bool, tuple[Verdict, ...]]:
    flow = TextFlow(rules, OUTPUT)
    out = "".join([flow.feed(piece) for piece in pieces])
    return out + flow.finish(), flow.stopped, flow.verdicts


@pytest.mark.parametrize("name", CHECKS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), action=st.sampled_from(["mask", "block"]))
def test_any_split_of_any_text_gives_what_the_whole_text_gives(
    name: str, text: str, sizes: list[int], action: Action
) -> None:
    rules = [TextRule(CHECKS[name], action)]
    assert told(rules, cut(text, sizes)) == told(rules, [text])


@settings(max_examples=100, deadline=None)
@given(
    text=TEXTS,
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    rules=st.lists(
        st.tuples(st.sampled_from(sorted(CHECKS)), st.sampled_from(["mask", "block"])), min_size=2, max_size=4
    ),
)
def test_rules_beside_each_other_are_not_told_by_the_split_either(
    text: str, sizes: list[int], rules: list[tuple[str, Action]]
) -> None:
    made = [TextRule(CHECKS[name], action) for name, action in rules]
    assert told(made, cut(text, sizes)) == told(made, [text])


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in ("characters", "words counted")])
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
async def test_what_flows_is_masked_as_what_is_judged_at_once(name: str, text: str) -> None:
    (found,) = await CHECKS[name].judge([text], OUTPUT)
    out, _, (verdict,) = told([TextRule(CHECKS[name], "mask")], [text])
    assert set(verdict.findings) == set(found)
    assert out == masked_by([Verdict(CHECKS[name].name, "mask", found, "1")], text)


@pytest.mark.parametrize("name", CHECKS)
@settings(max_examples=40, deadline=None)
@given(text=TEXTS, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_what_is_certain_stays_certain(name: str, text: str, sizes: list[int]) -> None:
    flow, certain = CHECKS[name].flow(OUTPUT), 0
    for piece in cut(text, sizes):
        now, found = flow.feed(piece)
        assert all(finding.start >= certain for finding in found)
        assert now >= certain
        certain = now
    assert all(finding.start >= certain for finding in flow.finish())


def held(check: FlowingCheck, text: str, size: int = 4, action: Action = "block") -> int:
    """The most characters that are held back at a time."""
    flow, sent, most = TextFlow([TextRule(check, action)], OUTPUT), 0, 0
    for at in range(0, len(text), size):
        sent += len(flow.feed(text[at : at + size]))
        most = max(most, min(at + size, len(text)) - sent)
    return most


PROSE = "A model is what callers name, and a target is where it runs; each may have several of the other.\n\n" * 20


@pytest.mark.parametrize(
    ("name", "horizon", "most"),
    [
        ("words", 10, 11),
        ("bounded patterns", 7, 7),
        ("patterns of words", "word", 17),
        ("patterns of lines", "line", 99),
        ("addresses", "paragraph", 15),
        ("code", "paragraph", 201),
        ("characters", "start", 0),
    ],
)
def test_ordinary_prose_is_held_back_no_more_than_the_horizon(name: str, horizon: Horizon, most: int) -> None:
    check = Length(10_000) if name == "characters" else CHECKS[name]
    assert CHECKS[name].horizon("block") == horizon
    assert held(check, PROSE) <= most


@pytest.mark.parametrize("action", ["mask", "block"])
def test_a_rule_is_told_once_for_a_text_how_long_its_check_took(action: Action) -> None:
    took: list[int] = []
    check = Keywords([WordList("name", ["bluebird"])])
    flow = TextFlow([TextRule(check, action, took=took.append)], OUTPUT)
    for piece in ("where is the ", "blue", "bird", " now? "):
        flow.feed(piece)
    assert len(took) == (action == "block")
    flow.finish()
    assert len(took) == 1
    assert took[0] > 0


def test_a_paragraph_is_held_back_from_its_first_sign_of_an_address_to_its_end() -> None:
    flow = TextFlow([TextRule(Exfiltration(), "mask")], OUTPUT)
    assert flow.feed("Read this one ") == "Read this"
    assert flow.feed("or [the docs](https://docs.exam") == " one or [the"
    assert flow.feed("ple.com/a), or ![x](https://evil.example/b) and more.") == ""
    assert flow.feed("\n\n") == ""
    assert flow.feed("Then") == " docs](https://docs.example.com/a), or ![x](<exfiltration.image>) and more."
    assert flow.finish() == "\n\nThen"


def test_a_picture_whose_address_has_left_as_a_links_is_no_picture() -> None:
    defined = "[1]: https://docs.example.com/x"
    out, _, _ = told(
        [TextRule(Exfiltration(), "mask")], [f"[the docs][1]\n\n{defined}\n\nand ![x][1] or ![y](https://evil.example)"]
    )
    assert out == f"[the docs][1]\n\n{defined}\n\nand <exfiltration.image>x][1] or ![y](<exfiltration.image>)"
    before, _, _ = told([TextRule(Exfiltration(), "mask")], [f"![x][1]\n\n{defined}"])
    assert before == "![x][1]\n\n[1]: <exfiltration.image>"


def test_a_fence_that_is_not_allowed_is_masked_in_one_and_one_that_is_flows() -> None:
    allowed, denied = "```sh\n" + "ls -l\n" * 20 + "\nls\n```", "```python\n" + "x = 1\n" * 20 + "\ny\n```"
    text = f"Here:\n\n{allowed}\n\n{denied}\n\nDone."
    out, _, _ = told([TextRule(Code(deny=["python"]), "mask")], cut(text, [3]))
    assert out == f"Here:\n\n{allowed}\n\n<code.language.python>\n\nDone."
    flow = TextFlow([TextRule(Code(deny=["python"]), "mask")], OUTPUT)
    assert flow.feed(text[: text.index("\nls\n```") + 1]) == text[: text.index("\n\nls\n```")]


@pytest.mark.parametrize(
    ("least", "most", "unit", "out"),
    [
        (None, 5, "characters", "one t"),
        (3, 5, "characters", "one t"),
        (None, 2, "words", "one two "),
        (9, None, "words", ""),
    ],
)
def test_an_answer_ends_where_it_is_too_long(least: int | None, most: int | None, unit: str, out: str) -> None:
    check = Length(most, least, unit="words" if unit == "words" else "characters")
    for size in (1, 4, 100):
        assert told([TextRule(check, "block")], cut("one two three four", [size]))[:2] == (out, True)


@pytest.mark.parametrize(
    ("check", "action", "flows"),
    [
        (CHECKS["words"], "block", True),
        (CHECKS["patterns of anything"], "block", False),
        (Length(5), "block", True),
        (Length(5), "mask", False),
        (Length(5, unit="tokens", count_tokens=len), "block", False),
        (CHECKS["words"], "flag", False),
    ],
)
def test_a_rule_flows_where_its_check_can_and_something_depends_on_it(
    check: FlowingCheck, action: Action, flows: bool
) -> None:
    assert TextRule(check, action).flows is flows
    assert not TextRule(check, action, whole=True).flows
    assert not TextRule(check, action, strict=False).flows


def test_findings_below_the_threshold_do_not_count() -> None:
    text = "see https://evil.example/ and ![x](//evil.example/)"
    out, _, (verdict,) = told([TextRule(Exfiltration(), "mask", threshold=0.8)], [text])
    assert out == "see https://evil.example/ and ![x](<exfiltration.image>)"
    assert [finding.kind for finding in verdict.findings] == ["image"]


class Fails:
    name = "fails"
    version = "1"
    default_action: Action = "block"
    cost: Cost = "cheap"

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        raise AssertionError("it is asked piece by piece")

    def horizon(self, action: Action) -> Horizon:
        return 0

    def flow(self, context: Context) -> Flow:
        return self

    def feed(self, text: str) -> tuple[int, Sequence[Finding]]:
        raise RuntimeError(text)

    def finish(self) -> Sequence[Finding]:
        return ()


@pytest.mark.parametrize(("closed", "out"), [(True, ""), (False, "some <keywords.a>")])
def test_a_check_that_fails_stops_the_text_or_is_left_out(closed: bool, out: str) -> None:
    rules = [TextRule(Fails(), "block", closed=closed), TextRule(CHECKS["words"], "mask")]
    said, stopped, (first, _) = told(rules, ["some ", "acid"])
    assert (said, stopped) == (out, closed)
    assert (first.action, first.failure, first.closed) == ("unavailable", "it failed with RuntimeError", closed)


@pytest.mark.parametrize(
    "piece", [PROSE, "acid ", "x", "a\n", "- [x](https://evil.example/y)\n", "a = b, \n\n", "=a\n\n"]
)
@pytest.mark.parametrize(
    "name", ["words", "patterns of words", "patterns of lines", "addresses", "code", "words counted"]
)
def test_each_flow_takes_a_long_text_in_small_pieces(piece: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at is counted where looking is done: linear, whatever is held back."""
    text = (piece * 40_000)[:40_000]
    looked = 0

    def counting(original: Callable[..., object], which: int) -> Callable[..., object]:
        def look(*args: object, **named: object) -> object:
            nonlocal looked
            looked += len(str(args[which]))
            return original(*args, **named)

        return look

    monkeypatch.setattr(Exfiltration, "find", counting(Exfiltration.find, 1))
    monkeypatch.setattr(Code, "commands", counting(Code.commands, 1))
    whole = told([TextRule(CHECKS[name], "mask")], [text])
    once, looked = looked, 0
    assert told([TextRule(CHECKS[name], "mask")], cut(text, [5])) == whole
    assert looked == once
