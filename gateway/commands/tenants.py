"""`rag-gateway tenants`: projects, whose keys have limits together."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from gateway.commands.configuration import fail
from gateway.commands.key_directory import key_directory
from gateway.commands.key_options import asked, json_option, limit_options, limited, print_table, where_option


@click.group()
def tenants() -> None:
    """Tenants: whose keys share calls, cached answers, documents and limits."""


@tenants.command("create")
@click.argument("tenant_id", metavar="ID")
@click.option("--name", help="What people call it.")
@click.option("--organisation", help="The organisation that it belongs to; it has to be there.")
@click.option("--models", help="What its keys may use at most, separated by commas.")
@limit_options
@json_option
@where_option
def create_tenant(
    tenant_id: str, as_json: bool, url: str | None, api_key: str | None, config: Path | None, **options: Any
) -> None:
    """Make the tenant ID; its limits are what all of its keys may use up together."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", tenant_id) is None:
        fail(f"{tenant_id}: an id is 1 to 64 letters, digits, `-` or `_`")
    body = {"id": tenant_id, **asked(options)}
    with key_directory(url, api_key, config) as directory:
        told = directory.create_tenant(body)
    click.echo(json.dumps(told) if as_json else f"The tenant {told['id']} is there.")


@tenants.command("list")
@json_option
@where_option
def list_tenants(as_json: bool, url: str | None, api_key: str | None, config: Path | None) -> None:
    """All tenants; also those that only the configuration file's keys name."""
    with key_directory(url, api_key, config) as directory:
        found = directory.tenants()
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (
            one["id"],
            one.get("name") or "",
            one.get("organisation") or "",
            "suspended" if one.get("suspended_at") else "configured" if one.get("source") else "active",
            limited(one.get("limits")),
        )
        for one in found
    ]
    print_table(("id", "name", "organisation", "status", "limits"), rows)
