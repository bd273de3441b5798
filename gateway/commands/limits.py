"""`rag-gateway limits`: what is left of limits and budgets, at a running gateway."""

from __future__ import annotations

import json

import click

from gateway.commands.admin_client import api_key_option, ask


@click.command()
@click.option("--key", help="Only of the key with this id.")
@click.option("--user", help="Only of this user.")
@click.option("--tenant", help="Only of this tenant.")
@click.option("--model", help="Only of rules that count this model by itself.")
@click.option("--own", is_flag=True, help="What holds for the key that asks, used or not; needs no role.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer instead of a table.")
@click.option(
    "--url", envvar="RAG_GATEWAY_URL", show_envvar=True, default="http://127.0.0.1:8080", show_default=True,
    help="The gateway.",
)  # fmt: skip
@api_key_option
def limits(
    key: str | None,
    user: str | None,
    tenant: str | None,
    model: str | None,
    own: bool,
    as_json: bool,
    url: str,
    api_key: str | None,
) -> None:
    """What is used and left of every limit and budget that is in use."""
    asked = {"key": key, "user": user, "tenant": tenant, "model": model}
    params = {name: value for name, value in asked.items() if value is not None}
    told = ask("GET", url, "/v1/limits" if own else "/admin/limits", api_key, params=params)
    if as_json:
        click.echo(json.dumps(told))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("limit", "of", "most", "used", "reserved", "left", box=None)
    for row in told["data"]:
        of = ", ".join(f"{name} {value}" for name, value in row["of"].items()) or "all"
        only = "; ".join(f"{name} {' or '.join(values)}" for name, values in row["when"].items())
        figures = (f"{row[name]:,.6g}" for name in ("most", "used", "reserved", "left"))
        table.add_row(row["limit"], f"{of} ({only})" if only else of, *figures)
    Console().print(table)
