"""`rag-gateway eval answers`: how good a running gateway's answers are, on questions whose answers are known."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.configuration import fail

if TYPE_CHECKING:
    from gateway.commands.answer_outcomes import Outcome, Settings
    from retrieval.answer_evaluation import AnswerQuestion

_TITLES = {
    "citation_validity": "citations: marks that name a source",
    "citation_coverage": "citations: sentences with a mark",
    "citation_annotation": "citations: marks whose annotation is right",
    "citation_support": "citations: cited sentences that their sources support",
    "document_precision": "citations: cited documents that should be",
    "document_recall": "citations: documents cited that should be",
    "groundedness": "groundedness: sentences that any source supports",
    "judged_groundedness": "groundedness: sentences that the judge calls grounded",
    "exact_match": "match: exact",
    "token_f1": "match: token F1",
    "containment": "match: an accepted answer is contained",
}  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # whoever wrote it: a terminal would obey
_SHOWN = 5  # failures that are told one by one


@click.command("answers")
@click.option("--model", required=True, help="The public model that answers, or provider/model.")
@click.option(
    "--questions", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='JSON a line: {"question": "…", "answers": ["…"], "documents": ["…"]}; the lists where they are known.',
)  # fmt: skip
@click.option("--url", envvar="RAG_GATEWAY_URL", show_envvar=True, default="http://127.0.0.1:8080", show_default=True)
@click.option(
    "--api-key", envvar="RAG_GATEWAY_API_KEY", show_envvar=True, help="The gateway's key, where it asks for one."
)
@click.option("--user", help="Ask for this user; believed from keys that may speak for users.")
@click.option(
    "--embeddings", default="all-MiniLM-L6-v2", show_default=True, help="The gateway's model that compares texts."
)
@click.option("--no-embeddings", is_flag=True, help="Leave out what embeddings measure.")
@click.option(
    "--threshold", type=click.FloatRange(-1, 1), default=0.6, show_default=True,
    help="The least cosine similarity at which a source supports a sentence.",
)  # fmt: skip
@click.option("--judge", help="A model of the gateway that says which sentences are grounded.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=4, show_default=True, help="Questions at once.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every answer.")
def answers(
    model: str,
    questions: Path,
    url: str,
    api_key: str | None,
    user: str | None,
    embeddings: str,
    no_embeddings: bool,
    threshold: float,
    judge: str | None,
    concurrency: int,
    as_json: bool,
) -> None:
    """Citations, groundedness, match with accepted answers, refusals, errors, time and cost."""
    try:
        from gateway.commands.answer_outcomes import Settings, report
        from retrieval.answer_evaluation import BadAnswerQuestions, read_answer_questions
    except ImportError as error:
        fail(f"this command needs {error.name}: pip install 'rag-gateway[retrieval]'")
    from gateway.commands.gateway_client import CallFailed

    try:
        asked = read_answer_questions(questions)
    except (BadAnswerQuestions, OSError) as fault:
        fail(str(fault))
    settings = Settings(model, None if no_embeddings else embeddings, judge, threshold, user)
    try:
        outcomes = asyncio.run(_run(url, api_key, asked, settings, concurrency))
    except CallFailed as failure:
        fail(_CONTROL.sub("", str(failure)))
    if as_json:
        click.echo(json.dumps(report(outcomes, settings), ensure_ascii=False, indent=2))
    else:
        _print(outcomes, settings)
    _tell_failures(outcomes)
    if not any(outcome.told for outcome in outcomes):
        sys.exit(1)


async def _run(
    url: str, api_key: str | None, questions: Sequence[AnswerQuestion], settings: Settings, concurrency: int
) -> list[Outcome]:
    """Every question's outcome, in the file's order. Raises CallFailed while nothing has been asked yet."""
    from rich.console import Console
    from rich.progress import Progress

    from gateway.commands.answer_outcomes import Embedded, Outcome, ask, weigh
    from gateway.commands.gateway_client import GatewayClient

    outcomes = [Outcome(question) for question in questions]
    async with GatewayClient(url, api_key) as gateway:
        await gateway.require(settings.model, "--model")
        if settings.embeddings is not None:
            await gateway.require(settings.embeddings, "--embeddings (or --no-embeddings)")
        if settings.judge is not None:
            await gateway.require(settings.judge, "--judge")
        embedded = Embedded(gateway, settings.embeddings) if settings.embeddings is not None else None
        # First all answers, then what they are worth: the embedder that compares may be the one that searches, and
        # whoever waits for it is not as quick as it is for a user.
        with Progress(console=Console(stderr=True)) as progress:

            async def each(step: str, work: Callable[[Outcome], Awaitable[None]]) -> None:
                task = progress.add_task(step, total=len(outcomes))
                places = asyncio.Semaphore(concurrency)

                async def one(outcome: Outcome) -> None:
                    async with places:
                        await work(outcome)
                        progress.advance(task)

                async with asyncio.TaskGroup() as group:
                    for outcome in outcomes:
                        group.create_task(one(outcome))

            await each("asking", lambda outcome: ask(outcome, gateway, settings))
            await each(
                "measuring", lambda outcome: weigh(outcome, gateway, embedded, settings.judge, settings.threshold)
            )
    return outcomes


def _print(outcomes: Sequence[Outcome], settings: Settings) -> None:
    from rich.console import Console
    from rich.table import Table

    from gateway.commands.answer_outcomes import report

    told = report(outcomes, settings)
    console = Console(width=160, highlight=False, soft_wrap=True)
    if told["measures"]:
        table = Table("measure", box=None)
        table.add_column("mean", justify="right")
        table.add_column("questions", justify="right")
        for name, mean in told["measures"].items():
            table.add_row(_TITLES[name], f"{mean['mean']:.3f}", str(mean["questions"]))
        console.print(table)
        console.print()
    total, answered = told["questions"], told["answered"]
    console.print(f"{total} questions to {settings.model}: {answered} answered, {told['failed']} failed.", markup=False)
    if answered:
        shares = ("refused", "without_passages", "empty", "degraded")
        console.print(
            "Of the answered: "
            + ", ".join(f"{told[name]} {name.replace('_', ' ')} ({told[name] / answered:.1%})" for name in shares)
            + "."
        )
        console.print(f"Seconds: p50 {told['seconds']['p50']:.2f}, p95 {told['seconds']['p95']:.2f}.")
    if cost := told["cost_usd"]:
        console.print(f"Cost: ${cost['sum']:.4f}, ${cost['mean']:.6f} an answer ({cost['answers']} told theirs).")
    if told["with_sources"]:
        if settings.embeddings is not None:
            how = f"A sentence is supported from a cosine of {settings.threshold:g} on, by {settings.embeddings}"
            console.print(f"{how}.", markup=False)
        short = told["with_sources"] - told["with_whole_passages"]
        if short and (settings.embeddings is not None or settings.judge is not None):
            console.print(
                f"{short} of {told['with_sources']} answers were compared with the beginnings of their passages only: "
                "`record_content: true` lets the call log tell them whole."
            )


def _tell_failures(outcomes: Sequence[Outcome]) -> None:
    """To stderr, the first few with their lines, and how many more there are."""
    told = [(outcome.question.line, outcome.failure) for outcome in outcomes if outcome.failure is not None]
    told += [(outcome.question.line, fault) for outcome in outcomes for fault in outcome.faults]
    for line, what in told[:_SHOWN]:
        click.echo(_CONTROL.sub("", f"line {line}: {what}"), err=True)
    if len(told) > _SHOWN:
        click.echo(f"… and {len(told) - _SHOWN} more; --json tells them all", err=True)
