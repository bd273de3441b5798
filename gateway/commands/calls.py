"""`rag-gateway calls`: what is recorded of calls, shown, listed, and run again with a change."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.commands.configuration import config_option, fail, load_configuration, open_records
from gateway.commands.query import query

if TYPE_CHECKING:
    from gateway.config.loading import Loaded
    from gateway.records.call_queries import CallFilter, CallQueries
    from gateway.replay.changes import Change
    from gateway.replay.outcomes import Replayed
    from gateway.replay.selection import Selection

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # whoever wrote it: a terminal would obey
_BROKEN = 3  # exit status where the replays ran, and did not hold what was asked of them
_OUTCOMES = click.Choice(["ok", "error", "cancelled", "blocked"])


@click.group()
def calls() -> None:
    """What is recorded of calls: show, list, query, replay."""


calls.add_command(query)


@calls.command()
@click.argument("call_id")
@click.option("--json", "as_json", is_flag=True, help="The record, as GET /v1/calls/{id} tells it.")
@config_option
def show(call_id: str, as_json: bool, config: Path | None) -> None:
    """Everything that is recorded of one call, by its id, its answer's id or its request id, and the feedback on it."""
    loaded = load_configuration(config)
    with _queries(loaded) as queries:
        call = queries.find(call_id)
        if call is None:
            fail(f"no call {_plain(call_id)} is recorded here")
    if as_json:
        click.echo(json.dumps(call, ensure_ascii=False, indent=2))
        return
    from gateway.commands.call_report import print_call

    print_call(call)


@calls.command("list")
@click.option("--last", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many, newest first.")
@click.option("--since", help="How long ago they began at most: 12h, 7d.")
@click.option("--until", help="How long ago they began at least.")
@click.option("--tenant")
@click.option("--user")
@click.option("--key", help="The name of the key.")
@click.option("--model", help="The public model.")
@click.option("--target", help="provider/model.")
@click.option("--template", help="NAME, or NAME@VERSION.")
@click.option("--arm")
@click.option("--outcome", type=_OUTCOMES)
@click.option("--label", help="Of feedback on the call.")
@click.option("--max-score", type=click.FloatRange(0, 1), help="That feedback gave, or less.")
@click.option("--made-for", help="Calls of the gateway's own, by their purpose: replay, shadow, guardrail, …")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@config_option
def list_(last: int, since: str | None, until: str | None, as_json: bool, config: Path | None, **given: Any) -> None:
    """Calls of all tenants, newest first."""
    loaded = load_configuration(config)
    with _queries(loaded) as queries:
        wanted = _filter(since, until, given)
        found: list[dict[str, Any]] = []
        after: str | None = None
        while len(found) < last:
            page = queries.page(wanted, min(last - len(found), 500), after)
            found += page.calls
            after = page.next
            if after is None:
                break
    if as_json:
        for call in found:
            click.echo(json.dumps(call, ensure_ascii=False))
        return
    from gateway.commands.call_report import print_calls

    print_calls(found)


@calls.command()
@click.argument("call_ids", nargs=-1)
@click.option("--on", "selected", help="Calls instead of ids, like last:500 or last:100,model:handbook,label:bad.")
@click.option("--last", type=click.IntRange(1), help="The newest calls that the options below select; 500 with these.")
@click.option("--since", help="How long ago they began at most: 12h, 7d.")
@click.option("--tenant", help="Calls of this tenant.")
@click.option("--user", help="Calls of this user.")
@click.option("--model", help="Calls of this public model.")
@click.option("--label", help="Calls on which feedback had this label.")
@click.option("--max-score", type=click.FloatRange(0, 1), help="Calls on which feedback gave this score or less.")
@click.option("--outcome", type=_OUTCOMES, help="Calls that ended so.")
@click.option("--target", help="Ask this provider/model instead.")
@click.option("--template", help="Render this template instead, NAME@VERSION.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Another retrieval setting: top_k=3.")
@click.option("--input-guardrails", help="These sets, with commas between them, instead of the model's; none: `-`.")
@click.option("--output-guardrails", help="The same for answers.")
@click.option(
    "--today", is_flag=True, help="With today's passages, features, template and routing, not the call's own."
)
@click.option("--embeddings", metavar="MODEL", help="What compares texts: provider/model; retrieval's own otherwise.")
@click.option("--no-embeddings", is_flag=True, help="Leave out what embeddings measure.")
@click.option("--judge", metavar="MODEL", help="A model that says which sentences are grounded.")
@click.option("--threshold", type=click.FloatRange(-1, 1), default=0.6, show_default=True,
              help="The least cosine similarity at which a passage supports a sentence.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1, 256), default=4, show_default=True, help="Calls at once.")
@click.option("--charge", is_flag=True, help="Count them against the limits and budgets of those who made the calls.")
@click.option("--fail-on", multiple=True, type=click.Choice(["error", "text", "passages", "verdicts"]),
              help=f"End with status {_BROKEN} where a call differs in this from what it was.")  # fmt: skip
@click.option("--min-similarity", type=click.FloatRange(-1, 1), help="… where the mean similarity is less.")
@click.option("--max-cost-ratio", type=click.FloatRange(0), help="… where they cost more than so many times as much.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every call.")
@config_option
def replay(
    call_ids: tuple[str, ...],
    target: str | None,
    template: str | None,
    settings: tuple[str, ...],
    input_guardrails: str | None,
    output_guardrails: str | None,
    today: bool,
    embeddings: str | None,
    no_embeddings: bool,
    judge: str | None,
    threshold: float,
    concurrency: int,
    charge: bool,
    fail_on: tuple[str, ...],
    min_similarity: float | None,
    max_cost_ratio: float | None,
    as_json: bool,
    config: Path | None,
    **given: Any,
) -> None:
    """Run recorded calls again with a change, and tell what differs.

    Each call sees what it saw then: its passages, its features, its version of the template, its target; but for what
    is changed. The calls go to the targets of the configuration, and are recorded as made for a replay. Exit status 0:
    all ran; 1: some could not be run; 3: what --fail-on, --min-similarity or --max-cost-ratio ask does not hold.
    """
    loaded = load_configuration(config)
    selection = None if call_ids else _selection(given)
    if call_ids and any(value is not None for value in given.values()):
        fail("name the calls, or select them: not both")
    from gateway.replay.changes import Change

    change = Change(
        target, template, _settings(settings), _names(input_guardrails), _names(output_guardrails), pinned=not today
    )
    if no_embeddings or (embeddings is None and loaded.configuration.retrieval is None):
        embeddings = None
    elif embeddings is None:
        embeddings = "local"
    replayed = _ran(
        loaded, call_ids, selection, change, embeddings, judge, threshold, concurrency=concurrency, charge=charge
    )
    from gateway.commands.replay_report import broken, print_replays, report

    told = report(replayed, change)
    faults = broken(replayed, told, fail_on, min_similarity, max_cost_ratio)
    if as_json:
        click.echo(json.dumps({**told, "broken": faults}, ensure_ascii=False, indent=2))
    else:
        print_replays(replayed, told)
    for fault in faults:
        click.echo(_plain(fault), err=True)
    sys.exit(_BROKEN if faults else 1 if told["not_run"] else 0)


def _ran(
    loaded: Loaded,
    call_ids: Sequence[str],
    selection: Selection | None,
    change: Change,
    embeddings: str | None,
    judge: str | None,
    threshold: float,
    *,
    concurrency: int,
    charge: bool,
) -> list[Replayed]:
    from gateway.records.database import StoreUnavailable, WrongVersion
    from gateway.replay.changes import ReplayFault

    try:
        from rich.console import Console
        from rich.progress import Progress

        from gateway.replay.bench import needs, open_bench
        from gateway.replay.replaying import replay_all
        from gateway.replay.selection import find, select

        async def run() -> list[Replayed]:
            console = Console(stderr=True)
            with _queries(loaded) as queries:
                chosen = select(queries, selection) if selection is not None else find(queries, call_ids)
            knowledge, features = needs(loaded.configuration, change, chosen, local=embeddings == "local")
            with console.status("opening the gateway's services"):
                opening = open_bench(loaded, knowledge=knowledge, features=features)
                bench = await opening.__aenter__()
            try:
                scoring = None
                if embeddings is not None or judge is not None:
                    from gateway.replay.scoring import scoring_of

                    scoring = await scoring_of(bench, embeddings, judge, threshold)
                with Progress(console=console, transient=True) as progress:
                    task = progress.add_task("replaying", total=len(chosen))
                    return await replay_all(
                        chosen, change, bench, scoring, concurrency=concurrency, charge=charge,
                        progress=lambda: progress.advance(task),
                    )  # fmt: skip
            finally:
                await opening.__aexit__(None, None, None)

        return asyncio.run(run())
    except (ReplayFault, StoreUnavailable, WrongVersion) as fault:
        fail(_plain(str(fault)))
    except ImportError as error:
        fail(f"this needs {error.name}: pip install 'rag-gateway[all]'")
    except KeyboardInterrupt:
        fail("broken off: what had been asked is recorded")


def _selection(given: dict[str, Any]) -> Selection:
    from gateway.replay.changes import ReplayFault
    from gateway.replay.selection import Selection

    written = given.pop("selected")
    parts = [(name, str(value)) for name, value in given.items() if value is not None]
    if written is not None and parts:
        fail("select calls with --on, or with options of their own: not both")
    if written is None and not parts:
        fail("which calls? Name their ids, or select some: --last 100 --model handbook")
    try:
        return Selection.parse(written) if written is not None else Selection.of(parts)
    except ReplayFault as fault:
        fail(f"--on: {fault}" if written is not None else str(fault))


def _settings(written: Sequence[str]) -> dict[str, Any]:
    """`top_k=3` as the configuration's YAML would read it."""
    import yaml

    settings: dict[str, Any] = {}
    for setting in written:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            fail(f"--set {setting}: should be NAME=VALUE, like top_k=3")
        try:
            settings[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            fail(f"--set {setting}: {value} can't be read")
    return settings


def _names(written: str | None) -> tuple[str, ...] | None:
    if written is None:
        return None
    return () if written == "-" else tuple(name.strip() for name in written.split(",") if name.strip())


def _filter(since: str | None, until: str | None, given: dict[str, Any]) -> CallFilter:
    import time

    from gateway.config.quantities import duration
    from gateway.records.call_queries import CallFilter

    def moment(name: str, value: str | None) -> int | None:
        try:
            return int((time.time() - duration(value)) * 1e9) if value is not None else None
        except ValueError as fault:
            fail(f"--{name}: {fault}")

    return CallFilter(**given, since=moment("since", since), until=moment("until", until))


@contextmanager
def _queries(loaded: Loaded) -> Iterator[CallQueries]:
    """The call log of the configuration's record store; or what is wrong and status 1."""
    from gateway.assembly.sealing import seal_of
    from gateway.records.call_queries import CallQueries
    from gateway.records.contents import Contents
    from gateway.records.database import StoreUnavailable

    with open_records(loaded) as database:
        try:
            yield CallQueries(database, Contents(seal_of(loaded.configuration)))
        except StoreUnavailable as failure:
            fail(str(failure))


def _plain(text: str) -> str:
    return _CONTROL.sub("", text)
