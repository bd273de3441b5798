"""Two versions on the same calls: who wins, what it costs, and how sure that is."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.commands.prompt_comparison import Unable, report
from gateway.commands.prompt_report import print_comparison
from gateway.replay.changes import Change
from gateway.replay.outcomes import Quality, Replayed, Run
from gateway.replay.stored import StoredCall


def replayed(n: int, answer: str | None, cost: float | None = None, failure: str | None = None, **measures: float) -> Replayed:  # fmt: skip
    call = StoredCall(f"call_{n}", "chat.completions", "t", None, "k", "m", None, None, None, None, [], None, {})

    def run(outcome: str) -> Run:
        return Run("r", answer, outcome, None, None, None, (), (), "stop", 10, 5, cost, 12.0)

    again = None if failure is not None else run("ok" if answer is not None else "error")
    return Replayed(call, Change(), run("ok"), again, quality=Quality(again=measures), failure=failure)


def compared(one: list[Replayed], other: list[Replayed], preferred: dict[str, float] | None = None) -> dict[str, Any]:
    return report("t@1", "t@2", one, other, preferred or {}, 0.95)


def test_a_difference_is_shown_where_its_interval_leaves_nothing_out(capsys: pytest.CaptureFixture[str]) -> None:
    one = [replayed(n, f"a{n}", 0.002, groundedness=0.5) for n in range(40)]
    other = [replayed(n, f"b{n}", 0.001, groundedness=0.5 + (0.2 if n % 4 else -0.1)) for n in range(40)]
    told = compared(one, other, {f"call_{n}": 1.0 if n % 3 else -1.0 for n in range(40)})
    grounded = told["measures"]["groundedness"]
    assert (grounded["wins"], grounded["losses"], grounded["ties"]) == (30, 10, 0)
    assert grounded["difference"] == pytest.approx(0.125)
    least, most = grounded["interval"]
    assert 0 < least < 0.125 < most < 0.2
    assert grounded["p"] < 0.01
    assert told["cost"]["ratio"] == pytest.approx(0.5)
    assert told["cost"]["interval"] == [pytest.approx(-0.001)] * 2
    assert "t@2 does better in groundedness" in told["verdict"]
    print_comparison(told)
    assert "t@2 is better in 30, t@1 in 10, 0 alike" in capsys.readouterr().out


def test_where_chance_may_have_done_it_nothing_is_shown() -> None:
    one = [replayed(n, "same", groundedness=0.5) for n in range(6)]
    other = [replayed(n, "same", groundedness=0.5 + (0.3 if n % 2 else -0.3)) for n in range(6)]
    told = compared(one, other)
    assert (told["same"], told["compared"], told["cost"]) == (6, 6, None)
    assert told["verdict"] == "No difference between t@1 and t@2 is shown on these calls."


def test_answers_that_one_does_not_give_count_against_it() -> None:
    one = [replayed(n, "yes") for n in range(10)]
    other = [replayed(n, None if n < 8 else "yes") for n in range(10)]
    told = compared(one, other)
    assert (told["measures"]["answered"]["losses"], told["compared"]) == (8, 2)
    assert told["verdict"] == "t@1 does better in answered"


def test_where_nothing_could_be_run_it_is_said_why() -> None:
    gone = [replayed(1, None, failure="what was said was not kept")]
    with pytest.raises(Unable, match="what was said was not kept"):
        compared(gone, gone)
