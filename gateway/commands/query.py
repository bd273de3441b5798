"""`rag-gateway calls query`: SQL over the lake of finished calls."""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.commands.configuration import config_option, fail, load_configuration, open_records

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_SHOWN = 1_000  # rows of a table for people


@click.command()
@click.argument("sql")
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True,
    help="How rows are written: json is one object a line.",
)  # fmt: skip
@config_option
def query(sql: str, form: str, config: Path | None) -> None:
    """Ask the lake: SQL (DuckDB's) over the tables calls, feedback, quality, contents and vectors.

    Nothing else can be read, and nothing written: no file, no network, no extension.
    """
    loaded = load_configuration(config)
    if loaded.configuration.lake is None:
        fail(f"{loaded.path} has no `lake` section: there is nothing to query")
    try:
        from gateway.lake.opened import queries
        from gateway.lake.query import WrongQuery
        from gateway.lake.settings import lake_options, lake_url
    except ImportError as error:
        fail(f"queries need {error.name}: pip install 'rag-gateway[lake]'")
    with open_records(loaded) as database:
        try:
            asked = queries(database, lake_url(loaded.configuration), lake_options(loaded.configuration))
            found = asked.run(sql)
        except (WrongQuery, ValueError) as fault:
            fail(str(fault))
    {"table": _print_table, "json": _print_json, "csv": _print_csv}[form](found)


def _print_table(found: pa.Table) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False)
    for name, type_ in zip(found.schema.names, found.schema.types, strict=True):
        shown.add_column(Text(name), justify="right" if _is_number(type_) else "left", overflow="fold")
    for row in found.slice(0, _MOST_SHOWN).to_pylist():
        shown.add_row(*[Text(_cell(value)) for value in row.values()])
    Console(highlight=False).print(shown)
    if found.num_rows > _MOST_SHOWN:
        click.echo(f"{found.num_rows - _MOST_SHOWN:,} more rows: --format csv or json has them all", err=True)


def _print_json(found: pa.Table) -> None:
    for batch in found.to_batches():
        for row in batch.to_pylist():
            click.echo(json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False))


def _print_csv(found: pa.Table) -> None:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(found.schema.names)
    for batch in found.to_batches():
        for row in batch.to_pylist():
            writer.writerow(["" if value is None else _text(value) for value in row.values()])
    click.echo(lines.getvalue(), nl=False)


def _is_number(type_: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_))


def _cell(value: Any) -> str:
    """What a terminal would obey is shown as what it is."""
    text = "" if value is None else _text(value)
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _text(value: Any) -> str:
    value = _plain(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.decode() if _is_text(value) else base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _is_text(value: bytes) -> bool:
    try:
        return value.decode().isprintable()
    except UnicodeDecodeError:
        return False
