"""`rag-gateway prompts`: the templates of a running gateway, shown, made, released, labelled, rolled back, tested."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import click

from gateway.commands.admin_client import ask
from gateway.commands.configuration import fail
from gateway.commands.prompt_naming import (
    gateway_options,
    json_option,
    number_of,
    plain,
    print_json,
    split,
    version_of,
    whose,
)
from gateway.commands.prompt_tests import compare, test

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_reason = click.option("--reason", default="", help="Kept in the history and in the audit log.")


@click.group()
def prompts() -> None:
    """Prompt templates: versions, labels, history, suites."""


@prompts.command("list")
@json_option
@gateway_options
def list_(as_json: bool, url: str, api_key: str | None, tenant: str | None) -> None:
    """Every template, its newest version, its drafts, and where its labels point."""
    told = ask("GET", url, "/admin/prompts", api_key, params=whose(tenant))
    if as_json:
        print_json(told)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "latest", "labels", "drafts", "clients", "tenant", "description", box=None)
    for one in told["data"]:
        labels = ", ".join(f"{label} → {version}" for label, version in one["labels"].items())
        table.add_row(
            one["name"], str(one["latest"] or "-"), labels or "-", ", ".join(map(str, one["drafts"])) or "-",
            "yes" if one["direct"] or one["tenant"] else "no", one["tenant"] or "-", plain(one["description"]),
        )  # fmt: skip
    Console(highlight=False).print(table)


@prompts.command()
@click.argument("name", metavar="NAME[@VERSION]")
@json_option
@gateway_options
def show(name: str, as_json: bool, url: str, api_key: str | None, tenant: str | None) -> None:
    """A template's versions, labels and models; or the text of one version."""
    base, which = split(name)
    if which is None:
        told = ask("GET", url, f"/admin/prompts/{base}", api_key, params=whose(tenant))
        if as_json:
            print_json(told)
            return
        click.echo(f"{base}: {plain(told['description']) or 'no description'}")
        for label, version in told["labels"].items():
            click.echo(f"  {label} → {version}")
        for version in told["versions"]:
            since = (
                f" {_time(version['created_at'])} by {plain(version['created_by'])}" if "created_at" in version else ""
            )
            note = f"  {plain(version['notes'])}" if version.get("notes") else ""
            shadowed = " (a file of the same number goes before it)" if version.get("shadowed") else ""
            place = "file" if version["from"] == "file" else "store"
            click.echo(
                f"  {base}@{version['version']}  {version['status']}  {version['hash']}  {place}{since}{note}{shadowed}"
            )
        for model in told["models"]:
            click.echo(f"  used by the model {model['model']} as {model['prompt']}")
        return
    told = version_of(base, which, url, api_key, tenant)
    if as_json:
        print_json(told)
        return
    click.echo(plain(told["source"]), nl=not told["source"].endswith("\n"))


@prompts.command()
@click.argument("before", metavar="NAME@VERSION")
@click.argument("after", metavar="NAME@VERSION")
@gateway_options
def diff(before: str, after: str, url: str, api_key: str | None, tenant: str | None) -> None:
    """What the second version says differently; of the same name, `NAME@1 2` will do."""
    base, first = split(before)
    other, second = split(after) if "@" in after else (base, after)
    if other != base:
        fail("two versions of one template are compared")
    numbers = [number_of(base, which, url, api_key, tenant) for which in (first, second)]
    query = {"before": numbers[0], "after": numbers[1], **whose(tenant)}
    said = ask("GET", url, f"/admin/prompts/{base}/diff", api_key, params=query)["diff"]
    click.echo(plain(said) if said else "they say the same")


@prompts.command()
@click.argument("name")
@click.argument("file", type=_FILE)
@click.option("--notes", default="", help="What is new in it.")
@click.option(
    "--replace", type=click.IntRange(1), metavar="VERSION", help="Give this draft the text, instead of a new one."
)
@gateway_options
def create(
    name: str, file: Path, notes: str, replace: int | None, url: str, api_key: str | None, tenant: str | None
) -> None:
    """Make a draft of NAME from FILE: the next version, for nobody's calls until it is released."""
    body: dict[str, Any] = {"source": file.read_text("utf-8")}
    if replace is None:
        body |= {"notes": notes, **whose(tenant)}
        told = ask("POST", url, f"/admin/prompts/{name}/versions", api_key, json=body)
    else:
        body |= {"notes": notes} if notes else {}
        path = f"/admin/prompts/{name}/versions/{replace}"
        told = ask("PUT", url, path, api_key, json=body, params=whose(tenant))
    click.echo(f"{name}@{told['version']} is a draft ({told['hash']})")


@prompts.command()
@click.argument("name", metavar="NAME@VERSION")
@gateway_options
def delete(name: str, url: str, api_key: str | None, tenant: str | None) -> None:
    """Throw a draft away. What was released stays."""
    base, which = split(name)
    if which is None or not which.isdecimal():
        fail("name the draft: NAME@VERSION")
    _gone(url, f"/admin/prompts/{base}/versions/{which}", api_key, tenant)
    click.echo(f"{base}@{which} is gone")


@prompts.command()
@click.argument("name", metavar="NAME@VERSION")
@click.option("--label", help="Point this label at it, too.")
@_reason
@gateway_options
def release(name: str, label: str | None, reason: str, url: str, api_key: str | None, tenant: str | None) -> None:
    """Release a draft: it may be used from now on, and never changes."""
    base, which = split(name)
    if which is None or not which.isdecimal():
        fail("name the draft: NAME@VERSION")
    body = {"reason": reason, **({"label": label} if label else {})}
    path = f"/admin/prompts/{base}/versions/{which}/release"
    told = ask("POST", url, path, api_key, json=body, params=whose(tenant))
    click.echo(f"{base}@{told['version']} is released" + (f", {label} → {told['version']}" if label else ""))


@prompts.command("label")
@click.argument("name", metavar="NAME@VERSION")
@click.argument("label")
@click.option("--expected", type=click.IntRange(1), help="Only where it points at this version before.")
@click.option("--remove", is_flag=True, help="Take the label away; VERSION is left out.")
@_reason
@gateway_options
def set_label(
    name: str, label: str, expected: int | None, remove: bool, reason: str, url: str, api_key: str | None,
    tenant: str | None,
) -> None:  # fmt: skip
    """Point LABEL at a released version: the next calls that name it are made with that."""
    base, which = split(name)
    path = f"/admin/prompts/{base}/labels/{label}"
    if remove:
        ask("DELETE", url, path, api_key, params=whose(tenant))
        click.echo(f"{base}@{label} is gone")
        return
    if which is None:
        fail("name the version: NAME@VERSION")
    body: dict[str, Any] = {"version": number_of(base, which, url, api_key, tenant), "reason": reason}
    body |= {"expected": expected} if expected is not None else {}
    told = ask("PUT", url, path, api_key, json=body, params=whose(tenant))
    click.echo(f"{base}@{label} → {told['version']}")


@prompts.command()
@click.argument("name", metavar="NAME@LABEL")
@_reason
@gateway_options
def rollback(name: str, reason: str, url: str, api_key: str | None, tenant: str | None) -> None:
    """Point a label at the version where it was before; again, and it goes back by one more."""
    base, label = split(name)
    if label is None or label.isdecimal():
        fail("name the label: NAME@LABEL, like handbook@production")
    path = f"/admin/prompts/{base}/labels/{label}/rollback"
    told = ask("POST", url, path, api_key, json={"reason": reason}, params=whose(tenant))
    click.echo(f"{base}@{label} → {told['version']}")


@prompts.command()
@click.argument("name")
@json_option
@gateway_options
def history(name: str, as_json: bool, url: str, api_key: str | None, tenant: str | None) -> None:
    """What became of a template, the newest first: who did what, and why."""
    told = ask("GET", url, f"/admin/prompts/{name}/history", api_key, params=whose(tenant))
    if as_json:
        print_json(told)
        return
    for event in told["data"]:
        what = event["action"].removeprefix("prompts.")
        which = event["label"] and f"{event['label']}: {event['before'] or '-'} → {event['after'] or '-'}"
        why = f"  {plain(event['reason'])}" if event["reason"] else ""
        click.echo(f"{_time(event['at'])}  {what:8}  {which or event['after']}  by {plain(str(event['actor']))}{why}")


@prompts.command()
@click.argument("name", metavar="NAME[@VERSION]")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="JSON, or else a text.")
@click.option("--question", default=None, help="What the user says.")
@click.option("--passage", "passages", multiple=True, help="The text of a passage.")
@json_option
@gateway_options
def render(
    name: str, variables: tuple[str, ...], question: str | None, passages: tuple[str, ...], as_json: bool, url: str,
    api_key: str | None, tenant: str | None,
) -> None:  # fmt: skip
    """The messages that a version makes of these values. No model is asked."""
    base, which = split(name)
    number = number_of(base, which, url, api_key, tenant)
    body: dict[str, Any] = {"variables": dict(map(_variable, variables)), "passages": list(passages)}
    if question is not None:
        body["messages"] = [{"role": "user", "content": question}]
    path = f"/admin/prompts/{base}/versions/{number}/render"
    told = ask("POST", url, path, api_key, json=body, params=whose(tenant))
    if as_json:
        print_json(told)
        return
    for message in told["messages"]:
        click.secho(f"[{message['role']}]", bold=True)
        click.echo(plain(str(message.get("content"))))
    click.echo(f"{told['tokens']} tokens{' (estimated)' if told['tokens_estimated'] else ''}, {told['hash']}", err=True)
    for trimmed in told["trimmed"]:
        click.echo(f"left out: {plain(trimmed)}", err=True)


def _variable(written: str) -> tuple[str, Any]:
    name, equals, value = written.partition("=")
    if not equals:
        fail(f"{plain(written)}: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _gone(url: str, path: str, api_key: str | None, tenant: str | None) -> None:
    """A DELETE that answers with nothing."""
    import httpx

    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        answer = httpx.delete(
            url.rstrip("/").removesuffix("/v1") + path, headers=headers, params=whose(tenant), timeout=10
        )
    except httpx.HTTPError as error:
        fail(f"no answer from {url}: {type(error).__name__}. Is the gateway running there?")
    if answer.status_code >= 400:
        fail(str(answer.json()["error"]["message"]))


def _time(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(" ", "seconds")


prompts.add_command(test)
prompts.add_command(compare)
