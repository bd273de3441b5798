"""How commands about prompt templates name what they mean, and how they show what they were told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gateway.commands.admin_client import ask
from gateway.commands.configuration import fail

F = TypeVar("F", bound=Callable[..., Any])

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # whoever wrote it: a terminal would obey

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the admin API gives it.")


def gateway_options(command: F) -> F:
    """Options that say which gateway, and whose templates, are meant."""
    for option in (
        click.option("--tenant", help="A tenant's templates, not the gateway's own."),
        click.option(
            "--api-key", envvar="RAG_GATEWAY_API_KEY", show_envvar=True, help="An operator's key; none in open mode."
        ),
        click.option(
            "--url", envvar="RAG_GATEWAY_URL", default="http://127.0.0.1:8080", show_default=True, show_envvar=True,
            help="The gateway; any one of several workers will do.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def split(name: str) -> tuple[str, str | None]:
    base, at, which = name.partition("@")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,99}", base) or (at and not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", which)):
        fail(f"{plain(name)}: write NAME, NAME@VERSION or NAME@LABEL, like handbook@3 or handbook@production")
    return base, which if at else None


def whose(tenant: str | None) -> dict[str, str]:
    return {"tenant": tenant} if tenant is not None else {}


def number_of(
    name: str, which: str | None, url: str, api_key: str | None, tenant: str | None, usual: bool = False
) -> int:
    """The version that a label, or nothing, stands for."""
    if which is not None and which.isdecimal():
        return int(which)
    told = ask("GET", url, f"/admin/prompts/{name}", api_key, params=whose(tenant))
    labels = {"latest": told["latest"], **told["labels"]}
    found = labels.get(which or "production") or (told["latest"] if which is None or usual else None)
    if found is None:
        fail(f"{name} has no label {which}; there are {', '.join(sorted(label for label in labels if labels[label]))}")
    return int(found)


def version_of(
    name: str, which: str, url: str, api_key: str | None, tenant: str | None, usual: bool = False
) -> dict[str, Any]:
    number = number_of(name, which, url, api_key, tenant, usual)
    told: dict[str, Any] = ask("GET", url, f"/admin/prompts/{name}/versions/{number}", api_key, params=whose(tenant))
    return told


def print_json(told: Any) -> None:
    click.echo(json.dumps(told, ensure_ascii=False, indent=2))


def plain(text: str) -> str:
    return _CONTROL.sub("", text)
