"""`rag-gateway report`: what the record store proves."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

import click

from gateway.commands.configuration import config_option, fail, load_configuration, open_records


@click.group()
def report() -> None:
    """Reports from the call log."""


@report.command()
@click.option("--since", default="30d", show_default=True, help="How far back: 12h, 7d, 30d.")
@config_option
def residency(since: str, config: Path | None) -> None:
    """Prove that no call whose label keeps it on the premises was sent elsewhere; exit status 1 if one was."""
    from rich.console import Console
    from rich.table import Table

    from gateway.config.quantities import duration
    from gateway.records.audit import Sent, labelled

    loaded = load_configuration(config)
    asked = loaded.configuration.residency
    if asked is None:
        fail(f"{loaded.path} has no `residency` section: calls carry no label")
    try:
        seconds = duration(since)
    except ValueError as fault:
        fail(f"--since: {fault}")
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
