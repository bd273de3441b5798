"""`rag-gateway features`: what a Feast repository defines, what it says of somebody, and batch values brought online."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.configuration import config_option, fail, load_configuration

if TYPE_CHECKING:
    from features.definitions import Definitions
    from features.repository import Repository
    from features.vector import FeatureVector


@click.group()
def features() -> None:
    """Feast features: list, show, materialize. They read the configuration's repository and online store."""


@features.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
def list_(config: Path | None, as_json: bool) -> None:
    """The feature services, with each feature's type, unit, age limit and view; and the push sources."""
    definitions = _definitions(_repository(config))
    if as_json:
        from features.definitions import to_json

        click.echo(to_json(definitions))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for service in definitions.services.values():
        about = ", ".join([*service.join_keys, *(f"{name} (with the call)" for name in service.inputs)])
        table = Table(
            "feature", "type", "unit", "kept for", "view", "tags", "description", box=None, title_justify="left"
        )
        table.title = f"{service.name}: about {about or 'nobody'}"
        for feature in service.features:
            tags = [
                feature.sensitivity or "",
                "sensitive" if feature.sensitive else "",
                "on demand" if feature.on_demand else "",
            ]
            table.add_row(
                service.called(feature), feature.type, feature.unit, _span(feature.ttl), feature.view,
                ", ".join(tag for tag in tags if tag), feature.description,
            )  # fmt: skip
        console.print(table)
        console.print()
    for source in definitions.push_sources:
        views = definitions.pushed_to(source)
        fields = [*dict.fromkeys(key for view in views for key in view.join_keys)]
        fields += [feature.name for view in views for feature in view.features]
        console.print(f"push source {source}: {', '.join(fields)}", markup=False)


@features.command()
@click.argument("service")
@click.argument("entity", nargs=-1, required=True, metavar="JOIN_KEY=VALUE...")
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def show(service: str, entity: tuple[str, ...], config: Path | None, as_json: bool) -> None:
    """What SERVICE says of an entity now, with each value's age. Values are shown as they are: sensitive ones too.

    JOIN_KEY=VALUE is as the store has it: user_id=acme/ada where keys are made of tenant and user.
    """
    pairs = [pair.partition("=") for pair in entity]
    if wrong := next((pair for pair in pairs if not pair[1]), None):
        fail(f"`{wrong[0]}` is no JOIN_KEY=VALUE, such as user_id=ada")
    vector = asyncio.run(_read(_repository(config), service, {key: value for key, _, value in pairs}))
    if as_json:
        click.echo(json.dumps({
            "service": vector.service, "entity": vector.entity, "values": vector.values, "missing": vector.missing,
            "stale": vector.stale, "event_times": vector.event_times,
        }))  # fmt: skip
        return
    from rich.console import Console
    from rich.table import Table

    now = datetime.now(UTC).timestamp()
    table = Table("feature", "value", "unit", "age", "", box=None)
    for fact in vector.described:
        at = vector.event_times.get(fact.name)
        said = "too old" if fact.name in vector.stale else "missing" if fact.name in vector.missing else ""
        value = "" if fact.value is None else json.dumps(fact.value, ensure_ascii=False)
        table.add_row(fact.name, value, fact.unit, _span(now - at) if at is not None else "", said)
    Console().print(table)


@features.command()
@config_option
@click.option("--view", "views", multiple=True, help="Only this feature view; may be said several times.")
@click.option("--since", help="From this ISO 8601 time on; otherwise from where each view was left the last time.")
@click.option("--until", help="Up to this time; otherwise now.")
def materialize(config: Path | None, views: tuple[str, ...], since: str | None, until: str | None) -> None:
    """Bring the newest values of the batch sources into the online store, as `feast materialize` does."""
    repository = _repository(config)
    if repository.server is not None:
        fail("a Feast feature server brings its own values online: run `feast materialize` beside it")
    definitions = _definitions(repository, apply=True)
    if wrong := next((view for view in views if view not in definitions.views), None):
        fail(f"there is no feature view `{wrong}`; there are {', '.join(sorted(definitions.views))}")
    try:
        settings = repository.write_settings(repository.settings())
    except (OSError, ValueError) as fault:
        fail(str(fault))
    from features.repository import environment

    command = [sys.executable, "-c", "from feast.cli.cli import cli; cli()", "-c", str(repository.folder)]
    command += ["-f", str(settings)]
    end = _time(until) if until else datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    command += ["materialize", _time(since), end] if since else ["materialize-incremental", end]
    for view in views:
        command += ["-v", view]
    try:
        status = subprocess.run(command, env=environment(), check=False).returncode
    finally:
        settings.unlink(missing_ok=True)
    sys.exit(status)


def _repository(config: Path | None) -> Repository:
    configuration = load_configuration(config).configuration
    if configuration.features is None:
        fail("this configuration has no `features` section, which names a Feast repository")
    from gateway.feature_service import repository_of

    return repository_of(configuration)


def _definitions(repository: Repository, *, apply: bool = False) -> Definitions:
    from features.vector import FeaturesUnavailable

    try:
        return repository.definitions(apply=apply)
    except FeaturesUnavailable as failure:
        fail(str(failure))


async def _read(repository: Repository, service: str, entity: dict[str, str]) -> FeatureVector:
    from features.store import FeastStore
    from features.vector import FeaturesUnavailable, WrongEntity

    try:
        store = await asyncio.to_thread(FeastStore.open, repository, deadline=30.0)
    except FeaturesUnavailable as failure:
        fail(str(failure))
    except ImportError as error:
        fail(f"features need {error.name}: pip install 'rag-gateway[features]'")
    try:
        return await store.read(service, entity)
    except (FeaturesUnavailable, WrongEntity) as failure:
        fail(str(failure))
    finally:
        await store.aclose()


def _time(text: str) -> str:
    """As Feast's command reads it: UTC, without a zone."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        fail(f"`{text}` is no time like 2027-01-31T18:00:00+01:00")
    return (read.astimezone(UTC) if read.tzinfo else read).strftime("%Y-%m-%dT%H:%M:%S")


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"
