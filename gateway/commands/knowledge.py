"""`rag-gateway ingest` and `reindex`: documents into collections, and collections into another form."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.commands.configuration import config_option, fail, load_configuration

if TYPE_CHECKING:
    from gateway.config.loading import Loaded
    from gateway.config.models import Collection
    from retrieval.ingest import IngestReport
    from retrieval.knowledge import KnowledgeSettings

collection_option = click.option(
    "--collection", required=True, help="One of the configuration's retrieval.collections."
)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@collection_option
@click.option("--prune", is_flag=True, help="Remove documents of these folders that are not there any more.")
@click.option("--include", multiple=True, metavar="GLOB", help="Which files of folders, like '*.py'; may be repeated.")
@click.option("--tenant", help="Whose documents they are, instead of the collection's; `*` is everybody's.")
@click.option("--reader", "readers", multiple=True, help="public, user:NAME or group:NAME; may be repeated.")
@click.option("--sensitivity", help="The label that routing reads, instead of the collection's.")
@click.option("--attribute", "attributes", multiple=True, metavar="KEY=VALUE", help="For filters; may be repeated.")
@click.option("--dated", is_flag=True, help="The file's time as the document's attribute updated_at.")
@config_option
def ingest(
    paths: tuple[Path, ...],
    collection: str,
    prune: bool,
    include: tuple[str, ...],
    tenant: str | None,
    readers: tuple[str, ...],
    sensitivity: str | None,
    attributes: tuple[str, ...],
    dated: bool,
    config: Path | None,
) -> None:
    """Load the documents at PATHS (files, or folders of them) into a collection.

    Safe to repeat: what has not changed is left as it is. Safe to interrupt, and to run while the gateway serves.
    """
    loaded = load_configuration(config)
    entry = collection_entry(loaded, collection).model_dump()
    for name, listed in (("include", include), ("readers", readers)):
        if listed:
            entry[name] = list(listed)
    if tenant is not None:
        entry["tenant"] = None if tenant == "*" else tenant
    if sensitivity is not None:
        entry["sensitivity"] = sensitivity
    for attribute in attributes:
        key, equals, value = attribute.partition("=")
        if not key or not equals:
            fail(f"--attribute: {attribute!r} should be like KEY=VALUE")
        entry["attributes"][key] = value
    from pydantic import ValidationError

    from gateway.config.models import Collection
    from gateway.knowledge_service import knowledge_settings

    try:
        meant = Collection.model_validate({**entry, "prune": prune or entry["prune"], "dated": dated or entry["dated"]})
    except ValidationError as error:
        fail("; ".join(f"{'.'.join(map(str, each['loc'])) or 'options'}: {each['msg']}" for each in error.errors()))
    with _progress("documents") as tell:
        report = asyncio.run(_ingest(knowledge_settings(loaded.configuration), list(paths), collection, meant, tell))
    click.echo(f"collection {collection}: {report}")
    for path, reason in report.failed:
        click.echo(f"{path}: left out: {reason}", err=True)
    if report.failed:
        sys.exit(1)


@click.command()
@collection_option
@config_option
def reindex(collection: str, config: Path | None) -> None:
    """Embed a collection anew, after the embedding model was changed or an upgrade asks for it.

    The new form is built beside the old one, from the texts that are stored, and takes its place when it is whole.
    """
    loaded = load_configuration(config)
    collection_entry(loaded, collection)
    from gateway.knowledge_service import knowledge_settings

    with _progress("sections") as tell:
        count = asyncio.run(_reindex(knowledge_settings(loaded.configuration), collection, tell))
    if count:
        click.echo(f"collection {collection}: {count} sections embedded; it is in force now")
    else:
        click.echo(f"collection {collection}: nothing to do")


async def _ingest(
    settings: KnowledgeSettings,
    paths: list[Path],
    collection: str,
    entry: Collection,
    tell: Callable[[int, int | None], None],
) -> IngestReport:
    from gateway.knowledge_service import labels_of
    from retrieval.access import SHARED
    from retrieval.knowledge import Knowledge
    from retrieval.loading import IN_FOLDERS
    from retrieval.passages import RetrievalUnavailable

    try:
        async with Knowledge.open(settings) as knowledge:
            return await knowledge.ingest(
                paths,
                collection=collection,
                tenant=entry.tenant or SHARED,
                on_progress=lambda _, done, total: tell(done, total),
                labels=labels_of(entry),
                prune=entry.prune,
                include=entry.include or IN_FOLDERS,
            )
    except RetrievalUnavailable as failure:
        fail(f"the knowledge store is unavailable: {failure}")


async def _reindex(settings: KnowledgeSettings, collection: str, tell: Callable[[int, int | None], None]) -> int:
    from retrieval.knowledge import Knowledge
    from retrieval.passages import RetrievalUnavailable

    try:
        async with Knowledge.open(settings) as knowledge:
            return await knowledge.reindex(collection, on_progress=lambda done: tell(done, None))
    except RetrievalUnavailable as failure:
        fail(f"the knowledge store is unavailable: {failure}")


def collection_entry(loaded: Loaded, collection: str) -> Collection:
    """The collection's entry in the configuration; a name that is not there ends the command."""
    knowledge = loaded.configuration.retrieval
    known = list(knowledge.collections) if knowledge else []
    if knowledge is None or collection not in known:
        from gateway.config.faults import nearest

        near = nearest(collection, known)
        fail(
            f"there is no collection `{collection}` in {loaded.path}; retrieval.collections has: "
            f"{', '.join(known) or 'none'}" + (f"; did you mean `{near}`?" if near else "")
        )
    return knowledge.collections[collection]


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar with the rate and the time left, on standard error."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f} {what}/s" if task.speed else "", style="dim")

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("opening the knowledge store", total=None)
        yield lambda done, total: progress.update(task, description=what, completed=done, total=total)
