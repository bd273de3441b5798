"""`rag-gateway eval guardrails`: what a check finds and misses, on texts whose truth is known."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

from gateway.commands.configuration import fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.commands.gateway_client import GatewayClient
    from guardrails.evaluation import Judge, Judged, Sample
    from guardrails.outside import Complete, Embed, Outside

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # whoever wrote it: a terminal would obey
_LOCAL = "all-MiniLM-L6-v2"  # what a gateway calls the embedder that a configuration calls `local`
_RATES = ("precision", "recall", "f1", "fpr")


@click.command("guardrails")
@click.option("--check", "name", required=True, help="The check, by the name that a configuration gives it.")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='JSON a line: {"text": "…", "label": true, "kind": "…"}, or "spans": [{"start", "end", "kind"}] for the label.',
)  # fmt: skip
@click.option(
    "--threshold", type=click.FloatRange(0, 1),
    help="The score from which a finding counts; the check's own where not given.",
)  # fmt: skip
@click.option("--settings", default="{}", help="The check's settings as a JSON object, as a configuration has them.")
@click.option(
    "--road", type=click.Choice(["input", "passages", "tools", "output"]), default="input", show_default=True,
    help="Where the check is told that the texts come from.",
)  # fmt: skip
@click.option(
    "--url", envvar="RAG_GATEWAY_URL", show_envvar=True, default="http://127.0.0.1:8080", show_default=True,
    help="The gateway whose models a check asks, where its settings name some: embeddings, judge.",
)  # fmt: skip
@click.option(
    "--api-key", envvar="RAG_GATEWAY_API_KEY", show_envvar=True, help="The gateway's key, where it asks for one."
)
@click.option(
    "--examples", type=click.IntRange(0, 1000), default=5, show_default=True, help="Mistakes shown of each kind."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def guardrails(
    name: str,
    data: Path,
    threshold: float | None,
    settings: str,
    road: Literal["input", "passages", "tools", "output"],
    url: str,
    api_key: str | None,
    examples: int,
    as_json: bool,
) -> None:
    """Precision, recall, F1, false positives, the curve over thresholds, the time per kilobyte, and mistakes."""
    try:
        from guardrails.evaluation import BadSamples, read_samples, report
        from guardrails.text_checks import CheckUnavailable
    except ImportError as error:
        fail(f"this command needs {error.name}: pip install 'rag-gateway[guardrails]'")
    try:
        given = json.loads(settings)
        if not isinstance(given, dict):
            raise ValueError("not an object")
    except ValueError as fault:
        fail(f'--settings: {fault}; it should be like {{"entities": ["EMAIL_ADDRESS"]}}')
    try:
        samples = read_samples(data)
    except (BadSamples, OSError, UnicodeDecodeError) as fault:
        fail(str(fault))
    from gateway.commands.gateway_client import CallFailed, GatewayClient

    try:
        gateway = GatewayClient(url, api_key)
        judge, own = _judge(name, given, road, gateway)
        judged = asyncio.run(_run(judge, samples, name, gateway))
    except (CheckUnavailable, CallFailed) as failure:
        fail(f"the check `{name}` could not judge: {failure}")
    told = {"check": name, **report(judged, own if threshold is None else threshold, examples)}
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        _print(told)


def _judge(
    name: str,
    settings: dict[str, Any],
    road: Literal["input", "passages", "tools", "output"],
    gateway: GatewayClient,
) -> tuple[Judge, float]:
    """How the check judges a text, and the threshold that is its own.

    A check with a threshold is made to tell every score, so that the curve can be drawn below it.
    """
    try:
        from guardrails.assembly import build_check
        from guardrails.evaluation import judge_of
        from guardrails.text_checks import Context

        outside = _outside(gateway)
        check = build_check(name, settings, outside)
        own = getattr(check, "threshold", None)
        if own is not None:
            check = build_check(name, {**settings, "threshold": 0.0}, outside)
    except ImportError as error:
        fail(f"the check `{name}` needs {error.name}: pip install 'rag-gateway[guardrails]'")
    except (ValueError, KeyError) as fault:
        fail(f"--check {name}: {fault}")
    return judge_of(check, Context(road)), 0.0 if own is None else float(own)


def _outside(gateway: GatewayClient) -> Outside:
    """What a check asks of models, asked of a running gateway."""
    from gateway.commands.gateway_client import CallFailed
    from guardrails.outside import Outside
    from guardrails.text_checks import CheckUnavailable

    def embed(target: str) -> Embed:
        async def vectors(texts: Sequence[str]) -> list[list[float]]:
            try:
                return await gateway.embed(_LOCAL if target == "local" else target, texts, None)
            except CallFailed as failure:
                raise CheckUnavailable(str(failure)) from None

        return vectors

    def complete(target: str) -> Complete:
        async def answer(messages: list[dict[str, str]]) -> str:
            try:
                return await gateway.complete(target, messages, None)
            except CallFailed as failure:
                raise CheckUnavailable(str(failure)) from None

        return answer

    def post(*_: object) -> NoReturn:
        raise ValueError("a check by webhook is measured where it runs, not here")

    return Outside(embed, complete, post)


async def _run(judge: Judge, samples: list[Sample], name: str, gateway: GatewayClient) -> list[Judged]:
    from rich.console import Console
    from rich.progress import Progress

    from guardrails.evaluation import evaluate

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=len(samples))
        async with gateway:
            return await evaluate(judge, samples, lambda done: progress.update(task, completed=done))


def _print(told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=160, highlight=False, soft_wrap=True)
    whole = f"{told['samples']} samples, counted by {told['counted']}, at the threshold {told['threshold']:g}"
    console.print(f"{told['check']}: {whole}\n", markup=False)
    table = Table("", box=None)
    for title in ("precision", "recall", "F1", "FPR", "found", "false alarms", "missed"):
        table.add_column(title, justify="right")
    table.add_row("all", *_cells(told))
    if told["counted"] == "spans":
        for kind, rates in told["kinds"].items():
            table.add_row(_plain(kind), *_cells(rates))
    console.print(table)
    if told["counted"] == "texts" and told["kinds"]:
        kinds = Table("\nkind", box=None)
        for title in ("\nsamples", "\nto be found", "\nfound"):
            kinds.add_column(title, justify="right")
        for kind, one in told["kinds"].items():
            kinds.add_row(_plain(kind), str(one["samples"]), f"{one['expected']:.1%}", f"{one['found']:.1%}")
        console.print(kinds)
    curve = Table("\nthreshold", box=None)
    for title in ("precision", "recall", "F1", "FPR"):
        curve.add_column(f"\n{title}", justify="right")
    for point in told["curve"]:
        curve.add_row(f"{point['threshold']:g}", *_cells(point)[:4])
    console.print(curve)
    if (fixed := told.get("at_fpr_1_percent")) is not None:
        console.print(f"\nRecall at an FPR of 1 %: {fixed['recall']:.3f}, at the threshold {fixed['threshold']:.3f}.")
    console.print(f"\nMilliseconds per kB: p50 {told['ms_per_kb']['p50']:.2f}, p99 {told['ms_per_kb']['p99']:.2f}.")
    for title, key in (("False alarms", "false_alarm_examples"), ("Missed", "missed_examples")):
        if told[key]:
            console.print(f"\n{title}:")
            for one in told[key]:
                console.print(_plain(f"  line {one['line']} ({one['score']:.3f}): {one['text']}"), markup=False)


def _cells(rates: dict[str, Any]) -> list[str]:
    shares = ["-" if rates[name] is None else f"{rates[name]:.3f}" for name in _RATES]
    return [*shares, *(str(rates[name]) for name in ("true_positives", "false_positives", "false_negatives"))]


def _plain(text: str) -> str:
    return _CONTROL.sub(" ", text)
