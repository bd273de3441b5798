"""What the commands about keys and tenants have in common: their options, and how they show what they found."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from gateway.commands.admin_client import api_key_option
from gateway.commands.configuration import config_option, fail

F = TypeVar("F", bound=Callable[..., Any])

# What a terminal would obey: control characters have no place in a table, whoever named a key.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_COUNT = click.IntRange(min=0)


def where_option(command: F) -> F:
    """Options that say whose keys are meant."""
    command = click.option(
        "--url", envvar="RAG_GATEWAY_URL", show_envvar=True,
        help="The gateway to ask; without one, the configuration's record store is used directly.",
    )(command)  # fmt: skip
    return config_option(api_key_option(command))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the admin API gives it.")


def limit_options(command: F) -> F:
    for option in (
        click.option("--budget-period", type=click.Choice(["day", "week", "month"]), help="month where not given."),
        click.option("--budget", type=click.FloatRange(min=0), help="USD that may be spent in each period."),
        click.option("--concurrency", type=_COUNT, help="Calls at a time."),
        click.option("--tokens-per-day", type=_COUNT),
        click.option("--tokens-per-minute", type=_COUNT),
        click.option("--requests-per-day", type=_COUNT),
        click.option("--requests-per-minute", type=_COUNT),
    ):
        command = option(command)
    return command


_MEASURES = ("requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day", "concurrency", "budget",
             "budget_period")  # fmt: skip


def asked(options: dict[str, Any]) -> dict[str, Any]:
    """The admin API's body for what was given on the command line."""
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    limits = {name: given.pop(name) for name in _MEASURES if name in given}
    if limits:
        given["limits"] = limits
    for name in ("models", "endpoints", "prompts", "groups", "networks"):
        if name in given:
            given[name] = [part.strip() for part in given[name].split(",") if part.strip()]
    if given.pop("admin", False):
        given |= {"role": "admin", "scope": "gateway"}
    if (expires := given.pop("expires", None)) is not None:
        lasts = re.fullmatch(r"[0-9.]+(ms|s|m|h|d)", expires)
        given["expires_in" if lasts else "expires_at"] = expires
        check_duration(expires, "--expires") if lasts else check_moment(expires, "--expires")
    return given


def check_duration(text: str, option: str) -> None:
    from gateway.config.quantities import duration

    try:
        duration(text)
    except ValueError as error:
        fail(f"{option} {text}: {error}")


def check_moment(text: str, option: str) -> None:
    from gateway.config.access import moment

    try:
        moment(text)
    except ValueError as error:
        fail(f"{option} {text}: it {error}")


def limited(limits: dict[str, Any] | None) -> str:
    return ", ".join(f"{name}: {value}" for name, value in (limits or {}).items() if value is not None)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, box=None)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 250).print(table)


def plain(text: str) -> str:
    return _CONTROL.sub("", text)
