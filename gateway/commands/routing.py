"""`rag-gateway routing`: how a running gateway's arms stand, and moving calls between them."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gateway.commands.admin_client import ask
from gateway.commands.configuration import fail
from gateway.commands.evaluate_routing import evaluate

F = TypeVar("F", bound=Callable[..., Any])


def _gateway(command: F) -> F:
    """Options that say which gateway is meant."""
    command = click.option(
        "--url", envvar="RAG_GATEWAY_URL", default="http://127.0.0.1:8080", show_default=True, show_envvar=True,
        help="The gateway; any one of several workers will do.",
    )(command)  # fmt: skip
    return click.option(
        "--api-key", envvar="RAG_GATEWAY_API_KEY", show_envvar=True, help="An admin key; none in open mode."
    )(command)


@click.group()
def routing() -> None:
    """Arms of canaries, A/B tests, bandits: look, switch, roll back."""


@routing.command()
@click.argument("model", required=False)
@_gateway
def show(model: str | None, url: str, api_key: str | None) -> None:
    """Each arm's share and how it does, for MODEL or for all models with arms."""
    from rich.console import Console
    from rich.table import Table

    path = f"/admin/routing/{model}" if model else "/admin/routing"
    told = ask("GET", url, path, api_key)
    table = Table("model", "arm", "share", "calls", "errors", "findings", "p95, s", "USD/call", "feedback", box=None)
    for one in [told] if model else told["data"]:
        rollout = one["rollout"]
        for arm, stats in one["arms"].items():
            share = (one["shares"] or {}).get(arm)
            active = "active" if one["active"] == arm else ""
            table.add_row(
                one["model"],
                arm,
                active or (f"{share:.2%}" if share is not None else "as configured"),
                str(stats["calls"]),
                _rate(stats.get("error_rate")),
                _rate(stats.get("violation_rate")),
                _number(stats.get("first_token_p95"), 2),
                _number(stats.get("cost_per_call"), 6),
                _number(stats.get("feedback"), 2),
            )
        if rollout is not None:
            table.add_row("", f"roll-out: step {rollout['step'] + 1}, {rollout['status']}")
    Console().print(table)


@routing.command("set")
@click.argument("model")
@click.argument("shares", nargs=-1, required=True, metavar="ARM=SHARE…")
@click.option("--reason", default="", help="Kept in the log of what was done.")
@_gateway
def set_shares(model: str, shares: tuple[str, ...], reason: str, url: str, api_key: str | None) -> None:
    """Give arms their shares of the calls, as in `canary=0.1`; the first arm takes what is left."""
    asked = {}
    for share in shares:
        arm, _, value = share.rpartition("=")
        try:
            asked[arm] = float(value)
        except ValueError:
            fail(f"{share}: write ARM=SHARE with a share from 0 to 1, like canary=0.1")
    _act(url, api_key, model, {"action": "set_shares", "shares": asked, "reason": reason})


@routing.command()
@click.argument("model")
@click.argument("arm")
@click.option("--reason", default="", help="Kept in the log of what was done.")
@_gateway
def activate(model: str, arm: str, reason: str, url: str, api_key: str | None) -> None:
    """Send all calls of a blue-green MODEL to ARM."""
    _act(url, api_key, model, {"action": "activate", "arm": arm, "reason": reason})


def _simple(action: str, promise: str) -> None:
    @routing.command(action, help=promise)
    @click.argument("model")
    @click.option("--reason", default="", help="Kept in the log of what was done.")
    @_gateway
    def command(model: str, reason: str, url: str, api_key: str | None) -> None:
        _act(url, api_key, model, {"action": action, "reason": reason})


_simple("promote", "All calls to the second arm, and the roll-out is over.")
_simple("rollback", "All calls back to the first arm, at once.")
_simple("pause", "The roll-out stays where it is until `resume`.")
_simple("resume", "The roll-out goes on from its step.")
_simple("reset", "Forget shares, switches and roll-out: as configured again. What was counted is kept.")


@routing.command()
@click.argument("model", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@_gateway
def events(model: str | None, limit: int, url: str, api_key: str | None) -> None:
    """What was done to routing, newest first: when, by whom and why."""
    query: dict[str, Any] = {"limit": limit} | ({"model": model} if model else {})
    for event in ask("GET", url, "/admin/rollouts", api_key, params=query)["data"]:
        at = datetime.datetime.fromtimestamp(event["at"], datetime.UTC).isoformat(" ", "seconds")
        click.echo(
            f"{at}  {event['model']}  {event['action']} by {event['actor']}: {event['before']} -> {event['after']}"
        )
        if event["reason"]:
            click.echo(f"    {event['reason']}")


def _act(url: str, api_key: str | None, model: str, change: dict[str, Any]) -> None:
    told = ask("POST", url, f"/admin/routing/{model}", api_key, json=change)
    shares = ", ".join(f"{arm} {share:.2%}" for arm, share in (told["shares"] or {}).items())
    click.echo(
        f"{model}: " + (f"active {told['active']}" if change["action"] == "activate" else shares or "as configured")
    )


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


routing.add_command(evaluate)
