"""What suites and comparisons of templates came to, for a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import click

from gateway.prompts.suites.results import CaseResult

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def summary(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Counts over all targets, and by target; `cost` in USD, `seconds` the mean of one answer."""
    told: dict[str, Any] = _counted(results)
    targets = dict.fromkeys(result.target for result in results)
    told["targets"] = {target: _counted([r for r in results if r.target == target]) for target in targets}
    return told


def _counted(results: Sequence[CaseResult]) -> dict[str, Any]:
    costs = [result.cost for result in results if result.cost is not None]
    answered = [result for result in results if result.error is None]
    return {
        "cases": len(results),
        "passed": sum(result.outcome == "passed" for result in results),
        "failed": sum(result.outcome == "failed" for result in results),
        "errors": sum(result.outcome == "error" for result in results),
        "score": round(fmean(result.score for result in answered), 4) if answered else None,
        "seconds": round(fmean(result.seconds for result in answered), 3) if answered else None,
        "cost": sum(costs) if costs else None,
    }


def print_results(template: str, results: Sequence[CaseResult]) -> None:
    """Each case that did not pass with its reasons, then a line a target."""
    for result in results:
        if result.outcome == "passed":
            continue
        click.secho(f"{result.outcome.upper()}  {_plain(result.target)}  {_plain(result.case)}", fg="red")
        if result.error is not None:
            click.echo(f"  {_plain(result.error)}")
        for verdict in result.verdicts:
            if not verdict.passed:
                click.echo(f"  {verdict.name}: {_plain(verdict.reason)}")
        if result.call_id:
            click.echo(f"  GET /v1/calls/{result.call_id}")
    for target, told in summary(results)["targets"].items():
        cost = f", ${told['cost']:.6f}" if told["cost"] is not None else ""
        seconds = f", {told['seconds']:.2f} s an answer" if told["seconds"] is not None else ""
        errors = f", {told['errors']} without an answer" if told["errors"] else ""
        line = f"{template} on {_plain(target)}: {told['passed']} of {told['cases']} passed{errors}{seconds}{cost}"
        click.secho(line, fg="green" if told["passed"] == told["cases"] else "red")


def print_comparison(told: Mapping[str, Any]) -> None:
    one, other = told["one"], told["other"]
    click.echo(
        f"{told['calls']} recorded calls through {one} and {other}: {told['compared']} answered by both, "
        f"{told['same']} with the same answer."
    )
    for name, found in told["measures"].items():
        wins, losses, ties = found["wins"], found["losses"], found["ties"]
        least, most = found["interval"]
        click.echo(
            f"{name}: {other} is better in {wins}, {one} in {losses}, {ties} alike; difference {found['difference']:+.4f} "
            f"({told['confidence']:.0%} interval {least:+.4f} to {most:+.4f}, p = {found['p']:.3f})"
        )
    if (cost := told["cost"]) is not None:
        least, most = cost["interval"]
        ratio = f", {cost['ratio']:.2f} times as much" if cost["ratio"] is not None else ""
        click.echo(
            f"cost: ${cost['one']:.6f} and ${cost['other']:.6f} a call{ratio}; difference {cost['difference']:+.6f} "
            f"({least:+.6f} to {most:+.6f})"
        )
    click.echo(f"time: {told['ms']['one']:.0f} ms and {told['ms']['other']:.0f} ms a call")
    click.echo(told["verdict"])
    for fault in told["faults"]:
        click.echo(_plain(fault), err=True)


def _plain(text: str) -> str:
    return _CONTROL.sub(" ", text)
