"""`rag-gateway eval cache`: how often a semantic cache would serve, and how often wrongly, on pairs of questions."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.commands.configuration import fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.cache.evaluation import Pair

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # whoever wrote it: a terminal would obey


@click.command("cache")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='JSON a line: {"a": "…", "b": "…", "same": true}, where a\'s answer may serve b or may not.',
)  # fmt: skip
@click.option(
    "--threshold", type=click.FloatRange(0, 1), help="The least likeness; a configuration's default where not given."
)
@click.option(
    "--embeddings", default="all-MiniLM-L6-v2", show_default=True, help="The gateway's model that compares questions."
)
@click.option("--url", envvar="RAG_GATEWAY_URL", show_envvar=True, default="http://127.0.0.1:8080", show_default=True)
@click.option(
    "--api-key", envvar="RAG_GATEWAY_API_KEY", show_envvar=True, help="The gateway's key, where it asks for one."
)
@click.option("--examples", type=click.IntRange(0, 1000), default=5, show_default=True, help="Wrong hits shown.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def cache(
    data: Path,
    threshold: float | None,
    embeddings: str,
    url: str,
    api_key: str | None,
    examples: int,
    as_json: bool,
) -> None:
    """Hits and wrong hits over thresholds, by vectors alone and with the refusals; what was refused, and why."""
    from gateway.cache.evaluation import BadPairs, compare, read_pairs, report
    from gateway.commands.gateway_client import CallFailed
    from gateway.config.semantic_caching import SemanticCaching

    try:
        pairs = read_pairs(data)
    except (BadPairs, OSError, UnicodeDecodeError) as fault:
        fail(str(fault))
    try:
        cosines = asyncio.run(_cosines(pairs, url, api_key, embeddings))
    except CallFailed as failure:
        fail(_CONTROL.sub("", str(failure)))
    at = SemanticCaching().threshold if threshold is None else threshold
    told = report(compare(pairs, cosines), at, examples)
    if as_json:
        click.echo(json.dumps({"embeddings": embeddings, **told}, ensure_ascii=False, indent=2))
    else:
        _print(told, embeddings)


async def _cosines(pairs: Sequence[Pair], url: str, api_key: str | None, model: str) -> list[float]:
    """Raises CallFailed."""
    from gateway.cache.agreement import cosine
    from gateway.commands.gateway_client import GatewayClient

    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.a, pair.b)))
    async with GatewayClient(url, api_key) as gateway:
        await gateway.require(model, "--embeddings")
        vectors = dict(zip(texts, await gateway.embed(model, texts, None), strict=True))
    return [cosine(vectors[pair.a], vectors[pair.b]) for pair in pairs]


def _print(told: dict[str, Any], embeddings: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=120, highlight=False, soft_wrap=True)
    table = Table("threshold", box=None)
    for column in ("hits, vectors alone", "wrong", "hits, with refusals", "wrong"):
        table.add_column(column, justify="right")
    for point in told["curve"]:
        cells = [
            _percent(point[way][rate])
            for way in ("vectors_alone", "with_refusals")
            for rate in ("hit_rate", "false_hit_rate")
        ]
        mark = " *" if point["threshold"] == told["threshold"] else ""
        table.add_row(f"{point['threshold']:g}{mark}", *cells)
    console.print(table)
    different = told["pairs"] - told["same"]
    console.print(
        f"\n{told['pairs']} pairs by {embeddings}: {told['same']} mean the same, of which hits are the share that is "
        f"served; {different} do not, of which wrong ones are.",
        markup=False,
    )
    for kind, meant in (("same", "mean the same"), ("different", "do not")):
        if refused := told["refused"][kind]:
            reasons = ", ".join(f"{reason} {count}" for reason, count in refused.items())
            console.print(f"Alike enough at {told['threshold']:g} and refused, of those that {meant}: {reasons}.")
    for pair in told["wrong_hits"]:
        console.print(_CONTROL.sub("", f"wrong at {pair['likeness']:.3f}: {pair['a']}  |  {pair['b']}"), markup=False)


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2%}"
