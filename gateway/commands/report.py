"""`rag-gateway report`: how it went, as a page with plots; and what the record store proves."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

import click

from gateway.commands.configuration import config_option, fail, load_configuration, open_records


@click.group(invoke_without_command=True)
@click.option("--since", default="7d", show_default=True, help="How far back: 12h, 7d, 30d.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("report.html"), show_default=True,
    help="The file to write.",
)  # fmt: skip
@click.option("--title", default="rag-gateway", show_default=True, help="What stands on top of it.")
@config_option
@click.pass_context
def report(context: click.Context, since: str, out: Path, title: str, config: Path | None) -> None:
    """Write a report of the last days: one HTML file with traffic, cost, latency, errors, cache, guardrails, feedback,
    retrieval and drift. From the lake where the configuration has one, else from the record store.
    """
    if context.invoked_subcommand is None:
        _write(_seconds(since), out, title, config)


def _write(seconds: float, out: Path, title: str, config: Path | None) -> None:
    loaded = load_configuration(config)
    try:
        from gateway.commands.reporting import html
        from gateway.lake.query import WrongQuery
        from gateway.lake.storage import LakeUnavailable
    except ImportError as error:
        fail(f"reports need {error.name}: pip install 'rag-gateway[lake]'")
    with open_records(loaded) as database:
        try:
            text = html(loaded.configuration, database, seconds, title)
        except (WrongQuery, LakeUnavailable, ValueError) as fault:
            fail(str(fault))
    out.write_text(text, "utf-8")
    click.echo(f"{out}: {len(text) // 1000:,} kB")


def _seconds(since: str) -> float:
    from gateway.config.quantities import duration

    try:
        return duration(since)
    except ValueError as fault:
        fail(f"--since: {fault}")


@report.command()
@click.option("--since", default="30d", show_default=True, help="How far back: 12h, 7d, 30d.")
@config_option
def residency(since: str, config: Path | None) -> None:
    """Prove that no call whose label keeps it on the premises was sent elsewhere; exit status 1 if one was."""
    from rich.console import Console
    from rich.table import Table

    from gateway.records.audit import Sent, labelled

    loaded = load_configuration(config)
    asked = loaded.configuration.residency
    if asked is None:
        fail(f"{loaded.path} has no `residency` section: calls carry no label")
    seconds = _seconds(since)
    stays = set(asked.labels[asked.labels.index(asked.stays) :])
    counted: Counter[tuple[str, str]] = Counter()
    left: list[Sent] = []
    with open_records(loaded) as database:
        for sent in labelled(database, int((time.time() - seconds) * 1e9)):
            counted[sent.label, sent.residency] += 1
            if sent.label in stays and sent.residency != "on_premises":
                left.append(sent)
    table = Table("label", "sent to", "tries", box=None)
    for label in [*asked.labels, *sorted({label for label, _ in counted} - set(asked.labels))]:
        for where in ("on_premises", "external", "unknown"):
            if counted[label, where]:
                table.add_row(label, where, str(counted[label, where]))
    Console().print(table)
    for sent in left:
        click.echo(f"{sent.call_id}: labelled {sent.label}, sent to {sent.target}", err=True)
    click.echo(f"{len(left)} of {counted.total()} tries left the premises against their label")
    sys.exit(1 if left else 0)
