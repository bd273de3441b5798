"""`rag-gateway users`: all that a running gateway holds of a user, handed over or erased."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from gateway.commands.admin_client import api_key_option, ask, lines

_url = click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The gateway.")
_tenant = click.option("--tenant", default="default", show_default=True, help="Whose user.")
_reason = click.option("--reason", default="", help="Kept in the audit log.")


@click.group()
def users() -> None:
    """What is held of a user: hand it over, or erase it."""


@users.command()
@click.argument("user")
@_tenant
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False, writable=True), required=True, help="The file to write."
)
@_reason
@_url
@api_key_option
def export(user: str, tenant: str, out: Path, reason: str, url: str, api_key: str | None) -> None:
    """Write all that is held of USER to a file of JSON lines."""
    count = 0
    about = {"user": user, "tenant": tenant, "reason": reason}
    with out.open("xb") as file:
        out.chmod(0o600)
        for line in lines(url, "/admin/exports", api_key, about):
            file.write(line + b"\n")
            count += 1
    click.echo(f"{count:,} things of {user} in {out}")


@users.command()
@click.argument("user")
@_tenant
@_reason
@click.option("--yes", is_flag=True, help="Do not ask.")
@_url
@api_key_option
def erase(user: str, tenant: str, reason: str, yes: bool, url: str, api_key: str | None) -> None:
    """Erase all that is held of USER, and print the receipt."""
    if not yes:
        click.confirm(f"Erase all that is held of {user} in the tenant {tenant}? It can't be brought back", abort=True)
    about = {"user": user, "tenant": tenant, "reason": reason}
    receipt: dict[str, Any] = ask("POST", url, "/admin/erasures", api_key, json=about, timeout=120)
    click.echo(json.dumps(receipt, indent=2))
