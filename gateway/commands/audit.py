"""`rag-gateway audit`: who did what to the gateway."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import click

from gateway.commands.key_directory import key_directory
from gateway.commands.key_options import check_moment, json_option, plain, where_option


@click.command()
@click.option("--action", help="Like keys.create; or keys, for all that is done to them.")
@click.option("--key", help="What was done with this key, by its id.")
@click.option("--target", help="What was done to this one, by its id.")
@click.option("--tenant", help="What was done in this tenant.")
@click.option("--outcome", type=click.Choice(["done", "refused", "failed"]))
@click.option("--since", metavar="TIME", help="A date or time, like 2027-01-31.")
@click.option("--until", metavar="TIME")
@click.option("--before", type=click.IntRange(min=1), help="Go on before this entry.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@json_option
@where_option
def audit(as_json: bool, url: str | None, api_key: str | None, config: Path | None, **asked: Any) -> None:
    """What was done with the admin API and these commands, newest first: who, what, when, and whether it was allowed."""
    for name in ("since", "until"):
        if asked[name] is not None:
            check_moment(asked[name], f"--{name}")
    with key_directory(url, api_key, config) as directory:
        entries = directory.audit({name: value for name, value in asked.items() if value is not None})
    if as_json:
        click.echo(json.dumps(entries))
        return
    for entry in entries:
        at = datetime.datetime.fromtimestamp(entry["at"], datetime.UTC).isoformat(" ", "seconds")
        who = f"{entry['actor']['key_name']} ({entry['actor']['address']})"
        click.echo(plain(f"{entry['id']}  {at}  {entry['action']} {entry['target']}  by {who}: {entry['outcome']}"))
        if entry["reason"]:
            click.echo(plain(f"    {entry['reason']}"))
        for name, before, after in differences(entry["before"] or {}, entry["after"] or {}):
            click.echo(plain(f"    {name}: {json.dumps(before)} -> {json.dumps(after)}"))


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """What a change changed; nothing where all of it is new, which the entry's own words say."""
    if not before:
        return []
    return [(name, before.get(name), after[name]) for name in after if before.get(name) != after[name]]
