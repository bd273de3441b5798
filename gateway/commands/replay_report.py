"""What replays came to: one object for `--json`, what of it breaks a rule, and side by side for people."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.replay.differences import summary

if TYPE_CHECKING:
    from gateway.replay.changes import Change
    from gateway.replay.outcomes import Replayed, Run

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # whoever wrote it: a terminal would obey
_SHOWN = 20  # calls that are told one by one
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def report(replayed: Sequence[Replayed], change: Change) -> dict[str, Any]:
    """All that there is to say. `calls` are in the order in which they were selected, `cost` is in USD."""
    ran = [one for one in replayed if one.again is not None]
    pairs = [(one.then, one.again) for one in ran if one.again is not None]
    similar = [one.quality.similarity for one in ran if one.quality.similarity is not None]
    measures: dict[str, dict[str, float]] = {}
    for name in sorted({name for one in ran for name in one.quality.again}):
        both = [one.quality for one in ran if name in one.quality.again and name in one.quality.then]
        if both:  # the same calls on either side
            then, again = fmean(q.then[name] for q in both), fmean(q.again[name] for q in both)
            measures[name] = {"then": round(then, 4), "again": round(again, 4), "calls": len(both)}
    priced = [(then, again) for then, again in pairs if then.cost is not None and again.cost is not None]
    return {
        "change": change.told(),
        "calls": len(replayed),
        "run": len(ran),
        "not_run": len(replayed) - len(ran),
        "failed": sum(_fails(then, again) for then, again in pairs),
        "unblocked": sum(then.outcome == "blocked" and again.outcome == "ok" for then, again in pairs),
        "same": sum(not one.differences for one in ran),
        "text_changed": sum(bool(one.differences.text) for one in ran),
        "passages_changed": sum(bool(one.differences.passages_gained or one.differences.passages_lost) for one in ran),
        "verdicts_changed": sum(bool(one.differences.verdicts_gained or one.differences.verdicts_lost) for one in ran),
        "similarity": {"mean": round(fmean(similar), 4), "least": round(min(similar), 4), "calls": len(similar)}
        if similar
        else None,
        "measures": measures,
        "cost": {
            "then": sum(then.cost or 0 for then, _ in priced),
            "again": sum(again.cost or 0 for _, again in priced),
            "calls": len(priced),
        }
        if priced
        else None,
        "then": summary([then for then, _ in pairs]),
        "again": summary([again for _, again in pairs]),
        "replays": [one.told() for one in replayed],
    }


def broken(
    replayed: Sequence[Replayed],
    told: Mapping[str, Any],
    fail_on: Sequence[str],
    min_similarity: float | None,
    max_cost_ratio: float | None,
) -> list[str]:
    """What does not hold of what was asked, a line each."""
    faults = []
    for kind, name in (
        ("error", "failed"), ("text", "text_changed"), ("passages", "passages_changed"), ("verdicts", "verdicts_changed"),
    ):  # fmt: skip
        if kind in fail_on and told[name]:
            faults.append(f"{told[name]} of {told['run']} calls differ in: {kind}")
    if min_similarity is not None:
        similarity = told["similarity"]
        if similarity is None:
            faults.append("the similarity of the answers could not be measured")
        elif similarity["mean"] < min_similarity:
            faults.append(f"the mean similarity is {similarity['mean']:.4f}, less than {min_similarity:g}")
    if max_cost_ratio is not None:
        cost = told["cost"]
        if cost is None:
            faults.append("what the calls cost is not known")
        elif cost["again"] > max_cost_ratio * cost["then"]:
            faults.append(
                f"they cost {cost['again']:.6f} USD, more than {max_cost_ratio:g} times the {cost['then']:.6f} before"
            )
    return faults


def print_replays(replayed: Sequence[Replayed], told: Mapping[str, Any]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    shown = [one for one in replayed if one.failure is not None or one.differences or len(replayed) == 1]
    for one in shown[:_SHOWN]:
        _print_one(console, one)
    if len(shown) > _SHOWN:
        console.print(f"… and {len(shown) - _SHOWN} more that differ; --json tells them all\n")
    if len(replayed) > 1:
        _print_sums(console, told)


def _print_one(console: Console, one: Replayed) -> None:
    console.print(Text(f"{one.call.id}  {_plain(one.call.model or '')}", style="bold"))
    if one.call.question:
        console.print(f"  {_plain(one.call.question)[:160]}", style="dim")
    if one.again is None:
        console.print(f"  not run: {_plain(one.failure or '')}\n", style="red")
        return
    table = Table("", "then", "again", box=None, pad_edge=True)
    then, again = one.then, one.again
    for name, before, after in (
        ("outcome", _outcome(then), _outcome(again)),
        ("target", then.target or "", again.target or ""),
        ("template", then.template or "", again.template or ""),
        ("passages", str(len(then.passages)), str(len(again.passages))),
        ("tokens out", _number(then.completion_tokens), _number(again.completion_tokens)),
        ("USD", _usd(then.cost), _usd(again.cost)),
        ("ms", f"{then.ms:.0f}", f"{again.ms:.0f}"),
        *((name, _share(one.quality.then.get(name)), _share(value)) for name, value in one.quality.again.items()),
    ):
        if before or after:
            table.add_row(name, _plain(before), _plain(after), style="yellow" if _moved(name, before, after) else None)
    console.print(table)
    if one.quality.similarity is not None:
        console.print(f"  similarity of the answers: {one.quality.similarity:.3f}")
    differences = one.differences
    for sign, names in (
        ("-", [f"passage {name}" for name in differences.passages_lost]),
        ("+", [f"passage {name}" for name in differences.passages_gained]),
        ("-", [f"guardrail {name}" for name in differences.verdicts_lost]),
        ("+", [f"guardrail {name}" for name in differences.verdicts_gained]),
    ):
        for name in names:
            console.print(f"  {sign} {_plain(name)}", style=_COLOURS[sign])
    if then.answer is None and then.outcome == "ok" and again.answer is not None:
        console.print("  the answer then was not kept")
    for line in differences.text.splitlines():
        console.print(f"  {_plain(line)}", style=_COLOURS.get(line[:1]))
    if not differences:
        console.print("  no difference", style="dim")
    for note in (*one.notes, *one.quality.faults):
        console.print(f"  note: {_plain(note)}", style="dim")
    console.print()


def _print_sums(console: Console, told: Mapping[str, Any]) -> None:
    console.print(
        f"{told['calls']} calls: {told['run']} run, {told['not_run']} not; {told['same']} as before, "
        f"{told['text_changed']} with another answer, {told['passages_changed']} with other passages, "
        f"{told['verdicts_changed']} with other verdicts, {told['failed']} that failed and did not before"
        + (f", {told['unblocked']} no longer blocked." if told["unblocked"] else ".")
    )
    table = Table("", box=None)
    for name in ("then", "again", "calls"):
        table.add_column(name, justify="right")
    if cost := told["cost"]:
        table.add_row("USD", _usd(cost["then"]), _usd(cost["again"]), str(cost["calls"]))
    if told["run"]:
        table.add_row("p50 ms", f"{told['then']['p50_ms']:.0f}", f"{told['again']['p50_ms']:.0f}", str(told["run"]))
        tokens = [str(told[when]["completion_tokens"]) for when in ("then", "again")]
        table.add_row("tokens out", *tokens, str(told["run"]))
    for name, mean in told["measures"].items():
        table.add_row(name, _share(mean["then"]), _share(mean["again"]), str(mean["calls"]))
    console.print(table)
    if similarity := told["similarity"]:
        console.print(f"Similarity of the answers: mean {similarity['mean']:.3f}, least {similarity['least']:.3f}.")


def _fails(then: Run, again: Run) -> bool:
    return then.outcome == "ok" and again.outcome != "ok"


def _moved(name: str, before: str, after: str) -> bool:
    return name in ("outcome", "target", "template") and before != after


def _outcome(run: Run) -> str:
    return run.outcome if run.error is None else f"{run.outcome} ({run.error})"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _usd(cost: float | None) -> str:
    return "" if cost is None else f"{cost:.6f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _plain(text: str) -> str:
    return _CONTROL.sub("", text)
