"""`rag-gateway eval retrieval`: how good a collection's search is, on questions whose answers are known."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.configuration import config_option, fail, load_configuration
from gateway.commands.knowledge import collection_entry, collection_option

if TYPE_CHECKING:
    from retrieval.evaluation import Evaluation, Question
    from retrieval.knowledge import KnowledgeSettings
    from retrieval.questions import SearchSettings

_TITLES = {
    "recall": "recall@{k}", "mrr": "MRR@{k}", "ndcg": "nDCG@{k}", "span_recall": "span recall",
    "token_precision": "token precision", "token_iou": "token IoU",
}  # fmt: skip


@click.command("retrieval")
@collection_option
@click.option(
    "--questions", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='JSON a line: {"question": "…", "documents": ["…"], "spans": ["…"]}.',
)  # fmt: skip
@click.option("--top-k", type=click.IntRange(1, 50), default=5, show_default=True, help="Passages that count.")
@click.option("--mode", type=click.Choice(["hybrid", "dense", "keyword"]), default="hybrid", show_default=True)
@click.option("--compare", is_flag=True, help="All modes and fusions side by side, with significance.")
@click.option("--tenant", default="default", show_default=True, help="Whose rights the questions are asked with.")
@click.option("--user", help="And as which user.")
@config_option
def retrieval(
    collection: str,
    questions: Path,
    top_k: int,
    mode: str,
    compare: bool,
    tenant: str,
    user: str | None,
    config: Path | None,
) -> None:
    """Recall, MRR, nDCG, the words that were found, and the time that it took."""
    loaded = load_configuration(config)
    collection_entry(loaded, collection)
    try:
        from retrieval.evaluation import BadQuestions, read_questions
    except ImportError as error:
        fail(f"this command needs {error.name}: pip install 'rag-gateway[retrieval]'")
    from gateway.knowledge_service import knowledge_settings

    try:
        asked = read_questions(questions)
    except (BadQuestions, OSError, UnicodeDecodeError) as fault:
        fail(str(fault))
    variants = {name: settings for name, settings in _variants().items() if compare or name == mode}
    settings = knowledge_settings(loaded.configuration)
    evaluations = asyncio.run(_run(settings, collection, asked, variants, top_k, tenant, user))
    _print(evaluations, len(asked), top_k)


def _variants() -> dict[str, SearchSettings]:
    """By name; the first is what the others are compared with."""
    from retrieval.questions import SearchSettings

    return {
        "dense": SearchSettings(mode="dense"),
        "keyword": SearchSettings(mode="keyword"),
        "hybrid": SearchSettings(mode="hybrid"),
        "hybrid, rrf": SearchSettings(mode="hybrid", fusion="rrf"),
        "hybrid, 0.4 dense": SearchSettings(mode="hybrid", dense_weight=0.4),
        "hybrid, 0.8 dense": SearchSettings(mode="hybrid", dense_weight=0.8),
    }


async def _run(
    settings: KnowledgeSettings,
    collection: str,
    questions: list[Question],
    variants: dict[str, SearchSettings],
    top_k: int,
    tenant: str,
    user: str | None,
) -> list[Evaluation]:
    from rich.console import Console
    from rich.progress import Progress

    from retrieval.evaluation import evaluate
    from retrieval.knowledge import Knowledge
    from retrieval.passages import Passage, RetrievalUnavailable

    try:
        with Progress(console=Console(stderr=True)) as progress:
            async with Knowledge.open(settings) as knowledge:
                evaluations = []
                for name, chosen in variants.items():
                    task = progress.add_task(name, total=len(questions))

                    async def find(question: str, chosen: SearchSettings = chosen) -> list[Passage]:
                        return await knowledge.find(
                            question, collection=collection, tenant=tenant, user=user, top_k=top_k, settings=chosen
                        )

                    evaluations.append(
                        await evaluate(
                            name,
                            find,
                            questions,
                            top_k,
                            lambda done, task=task: progress.update(task, completed=done),  # type: ignore[misc]  # the default binds the loop's value
                        )
                    )
                return evaluations
    except RetrievalUnavailable as failure:
        fail(f"the knowledge store is unavailable: {failure}")


def _print(evaluations: list[Evaluation], count: int, k: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from retrieval.evaluation import significance

    first = evaluations[0]
    table = Table("setting", box=None)
    shown = [measure for measure in _TITLES if measure in first.values]
    for measure in shown:
        table.add_column(_TITLES[measure].format(k=k), justify="right")
    table.add_column("p50 ms", justify="right")
    table.add_column("p95 ms", justify="right")
    for evaluation in evaluations:
        cells = []
        for measure in shown:
            cell = f"{evaluation.mean(measure):.4f}"
            if evaluation is not first:
                p = significance(evaluation.values[measure], first.values[measure])
                cell += "**" if p < 0.01 else "*" if p < 0.05 else ""
            cells.append(cell)
        table.add_row(evaluation.name, *cells, f"{evaluation.p50 * 1000:.1f}", f"{evaluation.p95 * 1000:.1f}")
    console = Console(width=160)
    console.print(table)
    console.print(f"\n{count} questions, the first {k} passages of each.", highlight=False)
    if len(evaluations) > 1:
        note = f"* p < 0.05, ** p < 0.01 against {first.name}: a paired randomisation test, two-sided."
        console.print(note, highlight=False)
