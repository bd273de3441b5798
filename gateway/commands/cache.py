"""`rag-gateway cache`: what a running gateway has kept, and away with it."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.admin_client import api_key_option, ask
from gateway.commands.configuration import fail

_url = click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The gateway.")


@click.group()
def cache() -> None:
    """Kept answers: how many there are, and away with them."""


@cache.command()
@_url
@api_key_option
def show(url: str, api_key: str | None) -> None:
    """How many answers are kept, by store."""
    for store, size in ask("GET", url, "/admin/cache", api_key)["stores"].items():
        held = f", {size['bytes']:,} bytes" if size["bytes"] is not None else ""
        click.echo(f"{store}: {size['answers']:,} answers{held}")


@cache.command()
@click.option("--key", help="One answer, by the key that its call's record shows.")
@click.option("--model", help="What a public model answered.")
@click.option("--tenant", help="What a tenant's calls got.")
@click.option("--user", help="What was made for a user.")
@click.option("--collection", help="What was made of a collection's passages.")
@click.option("--document", help="What was made of a document, by its id.")
@click.option("--all", "everything", is_flag=True, help="All answers of all models and tenants.")
@click.option("--reason", default="", help="Kept in the audit log.")
@_url
@api_key_option
def purge(url: str, api_key: str | None, reason: str, everything: bool, **named: str | None) -> None:
    """Let go of kept answers, exact and semantic, in every worker. Those go that fit all that is named."""
    asked: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if not asked and not everything:
        fail("say which answers: --key, --model, --tenant, --user, --collection, --document, or --all of them")
    if everything:
        asked["everything"] = True
    gone = ask("POST", url, "/admin/cache/purge", api_key, json={**asked, "reason": reason})["purged"]
    click.echo(f"{gone:,} answers purged")
