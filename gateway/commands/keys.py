"""`rag-gateway keys`: who may use the gateway, and for what."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import click

from gateway.commands.configuration import fail
from gateway.commands.key_directory import key_directory
from gateway.commands.key_options import (
    asked,
    check_duration,
    json_option,
    limit_options,
    limited,
    plain,
    print_table,
    where_option,
)


@click.group()
def keys() -> None:
    """Virtual keys: who may use the gateway, and for what."""


@keys.command("create")
@click.option("--name", help="What records and metrics call this key; its first characters where not given.")
@click.option("--models", help="What it may use, separated by commas; everything where not given.")
@click.option(
    "--endpoints", help="Parts of the API that it may call, like chat.completions,embeddings; all if not given."
)
@click.option(
    "--prompts",
    help="Prompt templates that its calls may name, separated by commas; all there are for it if not given.",
)
@click.option("--tenant", help="Whose calls, cache and documents it shares; `default` where not given.")
@click.option("--user", help="The user that it always speaks for.")
@click.option("--speaks-for-users", is_flag=True, help="Its requests may name the user.")
@click.option("--groups", help="For documents that name them as readers, separated by commas.")
@click.option("--networks", help="Where it may be used from, like 10.0.0.0/8,2001:db8::/32; everywhere if not given.")
@click.option("--sensitivity", help="The label that all of its calls have.")
@click.option(
    "--priority",
    type=click.Choice(["high", "normal", "low"]),
    help="Where calls wait for a server; normal if not given.",
)
@click.option(
    "--front-end", type=click.Choice(["open_webui"]), help="The chat front end behind it, whose dialect is spoken."
)
@click.option("--role", type=click.Choice(["viewer", "operator", "admin"]), help="What it may do in the admin API.")
@click.option(
    "--scope", type=click.Choice(["tenant", "organisation", "gateway"]), help="Over whom; its tenant if not given."
)
@click.option("--admin", is_flag=True, help="Short for --role admin --scope gateway.")
@limit_options
@click.option("--expires", metavar="TIME", help="30d, 12h; or when, like 2027-01-31.")
@click.option("--print", "print_entry", is_flag=True, help="Store nothing: print an entry for the configuration file.")
@json_option
@where_option
def create(
    print_entry: bool, as_json: bool, url: str | None, api_key: str | None, config: Path | None, **options: Any
) -> None:
    """Make a key. It is shown once; its hash is all that is kept of it."""
    body = asked(options)
    if not 0 < len(body.get("name", "-")) <= 100:
        fail("--name: a key's name has 1 to 100 characters")
    if print_entry:
        _print_entry(body, as_json)
        return
    with key_directory(url, api_key, config) as directory:
        told = directory.create_key(body)
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"{told['key']}\n")
    click.echo(plain(f"It is shown this once, and works now. Its id is {told['id']}, its name {told['name']}."))


@keys.command("list")
@click.option("--tenant", help="Of this tenant alone.")
@json_option
@where_option
def list_keys(tenant: str | None, as_json: bool, url: str | None, api_key: str | None, config: Path | None) -> None:
    """All keys, those of the configuration file first: names and rights, never the keys themselves."""
    with key_directory(url, api_key, config) as directory:
        found = directory.keys(tenant)
    if as_json:
        click.echo(json.dumps(found))
    elif not found:
        click.echo("There is no key. Make one with `rag-gateway keys create --name NAME`.")
    else:
        print_table(
            ("id", "name", "key", "status", "models", "tenant", "user", "rights"),
            [
                (
                    key["id"],
                    key["name"],
                    key["prefix"] or "configured",
                    key["status"],
                    "all" if key["models"] is None else ", ".join(key["models"]) or "none",
                    key["tenant"],
                    key["user"] or "",
                    _rights(key),
                )
                for key in found
            ],
        )


@keys.command("show")
@click.argument("key_id")
@where_option
def show(key_id: str, url: str | None, api_key: str | None, config: Path | None) -> None:
    """One key: what it may do, and what became of it."""
    with key_directory(url, api_key, config) as directory:
        click.echo(json.dumps(directory.key(key_id), indent=2))


@keys.command("revoke")
@click.argument("key_id")
@json_option
@where_option
def revoke(key_id: str, as_json: bool, url: str | None, api_key: str | None, config: Path | None) -> None:
    """Make a key useless, for good; in every worker within a second."""
    with key_directory(url, api_key, config) as directory:
        told = directory.revoke(key_id)
    click.echo(json.dumps(told) if as_json else plain(f"{told['id']} ({told['name']}) is revoked."))


@keys.command("rotate")
@click.argument("key_id")
@click.option("--overlap", default="1h", show_default=True, help="How long the key before works on; 0s for not at all.")
@json_option
@where_option
def rotate(key_id: str, overlap: str, as_json: bool, url: str | None, api_key: str | None, config: Path | None) -> None:
    """A new key in place of one, with the same id and rights. It is shown once."""
    check_duration(overlap, "--overlap")
    with key_directory(url, api_key, config) as directory:
        told = directory.rotate(key_id, overlap)
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"{told['key']}\n\nIt is shown this once, and works now. The one before works for {overlap} more.")


def _print_entry(body: dict[str, Any], as_json: bool) -> None:
    """An entry for access.keys of the configuration file, and the key whose hash it has."""
    import time

    import yaml
    from pydantic import ValidationError

    from gateway.access.keys import create_key, hash_key
    from gateway.config.access import Key
    from gateway.config.quantities import duration

    key = create_key()
    entry: dict[str, Any] = {"name": body.pop("name", "key"), "hash": hash_key(key)}
    if (lasts := body.pop("expires_in", None)) is not None:
        end = datetime.datetime.fromtimestamp(int(time.time() + duration(lasts)), datetime.UTC)
        body["expires_at"] = end.isoformat()
    if (body.get("role"), body.get("scope")) == ("admin", "gateway"):
        del body["role"], body["scope"]
        body["admin"] = True
    entry |= body
    try:
        Key.model_validate(entry)
    except ValidationError as error:
        fail("; ".join(f"--{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()))
    if as_json:
        click.echo(json.dumps({"key": key, **entry}))
        return
    text = yaml.safe_dump([entry], sort_keys=False, allow_unicode=True, width=1000)
    click.echo(f"{key}\n")
    click.echo("It is shown this once. Add to access.keys of the configuration, then send the gateway SIGHUP:\n")
    click.echo("".join(f"    {line}\n" for line in text.splitlines()), nl=False)


def _rights(key: dict[str, Any]) -> str:
    rights = [f"{key['role']} of the {key['scope']}"] if key["role"] else []
    rights += ["speaks for users"] if key["speaks_for_users"] else []
    rights += [f"only {', '.join(key['endpoints'])}"] if key["endpoints"] else []
    rights += [f"from {', '.join(key['networks'])}"] if key["networks"] else []
    return "; ".join([*rights, *([limited(key["limits"])] if key["limits"] else [])])
