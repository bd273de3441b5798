"""`rag-gateway routing evaluate`: what another policy would have earned on the calls of the past."""

from __future__ import annotations

import time
from pathlib import Path

import click

from gateway.commands.configuration import config_option, fail, load_configuration, open_records


@click.command()
@click.argument("model")
@click.option("--policy", required=True, help="Each arm's share, as in a=0.2,b=0.8; or one arm's name.")
@click.option("--since", default="7d", show_default=True, help="How far back: 12h, 7d, 30d.")
@config_option
def evaluate(model: str, policy: str, since: str, config: Path | None) -> None:
    """Judge a policy for MODEL from the log: feedback as reward, each call's propensity as weight."""
    from rich.console import Console
    from rich.table import Table

    from gateway.config.quantities import duration
    from gateway.records.audit import rewarded
    from gateway.routing.evaluation import Logged, evaluate

    loaded = load_configuration(config)
    shares: dict[str, float] = {}
    for part in policy.split(","):
        arm, _, share = part.strip().rpartition("=") if "=" in part else (part.strip(), "", "1")
        try:
            shares[arm] = float(share)
        except ValueError:
            fail(f"--policy: {part}: write ARM=SHARE, like a=0.2,b=0.8")
    if abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0:
        fail("--policy: the shares should add up to 1")
    try:
        begin = int((time.time() - duration(since)) * 1e9)
        with open_records(loaded) as database:
            log = [Logged(*row) for row in rewarded(database, model, begin)]
        if not log:
            fail(f"no call of {model} since then has both a propensity and feedback")
        told = evaluate(log, shares)
    except ValueError as fault:
        fail(str(fault))
    table = Table("method", "mean reward", "95 % interval", box=None)
    for estimate in told.estimates:
        table.add_row(estimate.method, f"{estimate.value:.3f}", f"{estimate.low:.3f} to {estimate.high:.3f}")
    Console().print(table)
    click.echo(f"{told.calls} rated calls, worth {told.effective:.0f} of this policy's own")
