"""Rules over whole texts: the cheap ones first, nothing dearer once a text is stopped, and absence is no consent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from guardrails.judging import Batch, Judges
from guardrails.policy import Policy
from guardrails.rules import TextRule
from guardrails.text_checks import CheckUnavailable, Context, Cost
from guardrails.verdicts import Action, Finding, Verdict

INPUT = Context("input", "a question")


class Finds:
    """Finds its word, wherever it stands, and remembers what it was asked."""

    version = "1"
    default_action: Action = "block"

    def __init__(self, word: str, cost: Cost = "cheap", score: float = 1.0) -> None:
        self.name = f"finds-{word}"
        self.cost: Cost = cost
        self.asked: list[list[str]] = []
        self._word = word
        self._score = score

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        self.asked.append(list(texts))
        return [self._found(text) for text in texts]

    def _found(self, text: str) -> tuple[Finding, ...]:
        at = text.find(self._word)
        return () if at < 0 else (Finding("word", at, at + len(self._word), self._score),)


class Fails:
    name = "fails"
    version = "1"
    default_action: Action = "block"
    cost: Cost = "remote"

    def __init__(self, how: Callable[[], Any]) -> None:
        self._how = how

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        answer = self._how()
        return await answer if asyncio.iscoroutine(answer) else answer  # type: ignore[no-any-return]  # a test's own


def judges(*rules: TextRule, within: float = 5.0) -> Judges:
    return Judges(rules, within)


async def verdicts(made: Judges, *texts: str, context: Context = INPUT, each: bool = False) -> list[list[str]]:
    (told,) = await made.screen([Batch(texts, context)], each=each)
    return [[verdict.action for verdict in one.verdicts] for one in told]


async def test_what_a_cheap_check_blocks_no_dear_one_is_asked_about() -> None:
    cheap, local, remote = Finds("a"), Finds("b", "local"), Finds("c", "remote")
    made = judges(TextRule(remote, "block"), TextRule(local, "block"), TextRule(cheap, "block"))
    assert await verdicts(made, "abc", "x") == [["block"], ["allow"]]
    assert (local.asked, remote.asked) == ([], [])
    assert await verdicts(made, "bc") == [["allow", "block"]]
    assert (local.asked, remote.asked) == ([["bc"]], [])
    assert await verdicts(made, "c") == [["allow", "allow", "block"]]


async def test_a_rule_is_told_how_long_its_check_took_each_time_it_was_asked() -> None:
    async def slow() -> None:
        await asyncio.sleep(0.02)
        raise CheckUnavailable("it is away")

    took: dict[str, list[int]] = {"finds": [], "fails": []}
    made = judges(
        TextRule(Finds("b", "remote"), "flag", took=took["finds"].append),
        TextRule(Fails(slow), "flag", closed=False, took=took["fails"].append),
    )
    assert await verdicts(made, "a", "b") == [["allow", "unavailable"], ["flag", "unavailable"]]
    assert len(took["finds"]) == len(took["fails"]) == 1  # both texts were one question
    assert took["fails"][0] >= 15_000_000 > took["finds"][0] > 0
    assert made.rules[0] == TextRule(made.rules[0].check, "flag")  # who is told decides about no text


async def test_where_each_text_stands_for_itself_only_its_own_block_counts() -> None:
    cheap, remote = Finds("a"), Finds("c", "remote")
    made = judges(TextRule(cheap, "block"), TextRule(remote, "block"))
    assert await verdicts(made, "a", "b", "c", each=True) == [["block"], ["allow", "allow"], ["allow", "block"]]
    assert remote.asked == [["b", "c"]]


async def test_checks_of_one_class_are_asked_side_by_side() -> None:
    both = asyncio.Barrier(2)

    async def meets() -> list[tuple[Finding, ...]]:
        await both.wait()
        return [()]

    made = judges(TextRule(Fails(meets), "block"), TextRule(Fails(meets), "block"))
    assert await verdicts(made, "x") == [["allow", "allow"]]


async def test_a_dear_check_is_not_asked_again_about_what_it_has_just_judged() -> None:
    dear, cheap, surrounded = Finds("c", "remote"), Finds("a"), Finds("b", "remote")
    made = judges(TextRule(dear, "block"), TextRule(cheap, "block"), TextRule(surrounded, "block", alone=False))
    assert await verdicts(made, "x", "x", "y") == [["allow"] * 3] * 3
    assert await verdicts(made, "x", "y", "z") == [["allow"] * 3] * 3
    assert await verdicts(made, "z", "xc") == [["allow", "allow", "allow"], ["allow", "block", "allow"]]
    assert dear.asked == [["x", "y"], ["z"], ["xc"]]
    assert cheap.asked == surrounded.asked == [["x", "x", "y"], ["x", "y", "z"], ["z", "xc"]]
    await verdicts(made, "z", context=Context("tools"))
    assert dear.asked[-1] == ["z"], "another road may be judged otherwise"


async def test_a_mask_takes_the_place_of_what_was_found() -> None:
    made = judges(TextRule(Finds("two"), "mask"), TextRule(Finds("two three", "local"), "mask"))
    ((told,),) = await made.screen([Batch(("one two three four",), INPUT)])
    assert (told.text, told.changed, told.blocked) == ("one <finds-two_three.word> four", True, False)


async def test_a_rule_looks_only_where_it_should() -> None:
    made = judges(TextRule(Finds("a"), "block", roads=frozenset(("tools",))))
    assert await verdicts(made, "a") == [[]]
    assert await verdicts(made, "a", context=Context("tools")) == [["block"]]


async def test_findings_below_the_threshold_do_not_count() -> None:
    assert await verdicts(judges(TextRule(Finds("a", score=0.4), "block", threshold=0.5)), "a") == [["allow"]]
    assert await verdicts(judges(TextRule(Finds("a", score=0.5), "block", threshold=0.5)), "a") == [["block"]]


async def test_a_rule_that_only_watches_says_what_it_would_have_done() -> None:
    ((told,),) = await judges(TextRule(Finds("a"), "block", monitor=True)).screen([Batch(("a",), INPUT)])
    assert told.verdicts == (Verdict("finds-a", "flag", (Finding("word", 0, 1, 1.0),), "1", would="block"),)
    assert not told.blocked


def _raise(failure: Exception) -> Callable[[], Any]:
    def how() -> Any:
        raise failure

    return how


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (_raise(CheckUnavailable("it is away")), "it is away"),
        (_raise(KeyError("the words themselves")), "it failed with KeyError"),
        (lambda: [], "it did not say something of each text"),
        (lambda: asyncio.Event().wait(), "it took too long"),
    ],
    ids=["away", "broken", "short", "slow"],
)
async def test_a_check_that_can_not_judge_stops_the_text_unless_told_to_go_on(how: Callable[[], Any], why: str) -> None:
    ((closed,),) = await judges(TextRule(Fails(how), "block"), within=0.01).screen([Batch(("a",), INPUT)])
    assert closed.blocked
    assert closed.verdicts == (Verdict("fails", "unavailable", (), "1", failure=why, closed=True),)
    ((opened,),) = await judges(TextRule(Fails(how), "block", closed=False), within=0.01).screen([Batch(("a",), INPUT)])
    assert not opened.blocked
    ((watched,),) = await judges(TextRule(Fails(how), "block", monitor=True), within=0.01).screen(
        [Batch(("a",), INPUT)]
    )
    assert not watched.blocked


async def test_long_texts_are_judged_beside_the_loop() -> None:
    """And no otherwise than short ones."""
    text = "x" * 100_000 + "a"
    assert await verdicts(judges(TextRule(Finds("a"), "block")), text) == [["block"]]


def test_a_sample_is_decided_once_a_call_and_has_its_share() -> None:
    policy = Policy([], judges(TextRule(Finds("a"), "block", sample=0.25)))
    looks = {n: policy.for_call(f"call_{n}").judges is not None for n in range(4_000)}
    assert 850 <= sum(looks.values()) <= 1_150
    assert looks == {n: policy.for_call(f"call_{n}").judges is not None for n in range(4_000)}


def test_a_version_changes_with_whatever_decides() -> None:
    check = Finds("a")
    rules = [
        TextRule(check, "block"), TextRule(check, "mask"), TextRule(check, "block", monitor=True),
        TextRule(check, "block", threshold=0.5), TextRule(check, "block", sample=0.5),
        TextRule(check, "block", closed=False), TextRule(check, "block", strict=False),
        TextRule(check, "block", message="no"), TextRule(check, "block", roads=frozenset(("input",))),
        TextRule(Finds("b"), "block"),
    ]  # fmt: skip
    assert len({Policy([], judges(rule)).version for rule in rules}) == len(rules)
