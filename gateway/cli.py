"""The command line: serve, check, schema and ask; all others are in `commands`, and imported when they are asked for.

Each command imports what it needs: `rag-gateway ask` loads neither the server nor any side service.
"""

from __future__ import annotations

import gc
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.commands.configuration import config_option, fail, load_configuration
from gateway.commands.lazily import LazyGroup

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.config.models import Configuration


# What a terminal would obey: control characters have no place in an answer, whoever wrote it.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_QUOTE = 60  # characters of a passage shown beside its source


_COMMANDS = {
    "audit": "gateway.commands.audit:audit",
    "cache": "gateway.commands.cache:cache",
    "calls": "gateway.commands.calls:calls",
    "db": "gateway.commands.database:db",
    "eval": "gateway.commands.evaluate:evaluate",
    "features": "gateway.commands.features:features",
    "ingest": "gateway.commands.knowledge:ingest",
    "keys": "gateway.commands.keys:keys",
    "limits": "gateway.commands.limits:limits",
    "prompts": "gateway.commands.prompts:prompts",
    "providers": "gateway.commands.providers:providers",
    "reindex": "gateway.commands.knowledge:reindex",
    "report": "gateway.commands.report:report",
    "routing": "gateway.commands.routing:routing",
    "tenants": "gateway.commands.tenants:tenants",
    "users": "gateway.commands.users:users",
}


@click.group(cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rag-gateway", prog_name="rag-gateway")
def main() -> None:
    """One OpenAI-compatible gateway in front of every language model."""


@main.command()
@config_option
@click.option("--host", help="The address to listen on, instead of server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port, instead of server.port; 0 takes a free one.")
@click.option(
    "--workers", type=click.IntRange(0, 256), help="Processes, instead of server.workers; 0: one for each core."
)
def serve(config: Path | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Run the gateway until Ctrl-C or SIGTERM."""
    gc.set_threshold(100_000, 50, 50)  # what importing makes stays: looking it through again and again is a tenth of it
    loaded = load_configuration(config)
    from gateway.config.faults import ConfigError
    from gateway.launching import serve as run
    from gateway.prompts.front_matter import TemplateFault

    try:
        status = run(loaded, host=host, port=port, workers=workers)
    except (ConfigError, TemplateFault, ValueError) as error:
        fail(str(error))
    except ImportError as error:
        fail(f"this configuration needs {error.name}: pip install 'rag-gateway[all]'")
    sys.exit(status)


@main.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@config_option
def check(file: Path | None, config: Path | None) -> None:
    """Validate the configuration FILE: every fault with its line, and exit status 1 where there is one.

    Whatever `serve` would compile is compiled, templates and guardrails too; nothing is opened or called.
    """
    from gateway.assembly import compile_revision, open_services
    from gateway.assembly.features import check_features
    from gateway.config.faults import ConfigError
    from gateway.config.loading import check_exposure, check_workers
    from gateway.launching import usable_cores
    from gateway.prompts.front_matter import TemplateFault
    from gateway.routing.fleet import Fleet

    loaded = load_configuration(file or config)
    configuration = loaded.configuration
    try:
        check_exposure(configuration, configuration.server.host, loaded.path.name, lambda: _may_have_key(configuration))
        workers = configuration.server.workers or usable_cores()
        check_workers(loaded, workers)
        check_features(loaded)
        compile_revision(loaded, open_services(configuration), Fleet(part=(1, workers)), loopback=False)
    except (ConfigError, TemplateFault, ValueError) as error:
        fail(str(error))
    except ImportError as error:
        fail(f"this configuration needs {error.name}: pip install 'rag-gateway[all]'")
    templates = len({model.prompt for model in configuration.models.values() if model.prompt})
    for notice in loaded.notices:
        click.echo(f"note: {notice}", err=True)
    for reference, fault in loaded.awaited:
        if not _may_be_stored(configuration):
            fail(str(fault))
        click.echo(f"note: {reference} is no file: `serve` starts only if the record store has it", err=True)
    counts = (
        _counted(len(configuration.models), "model"),
        _counted(len(configuration.providers), "provider"),
        _counted(templates, "prompt template"),
        _counted(len(configuration.access.keys), "key"),
    )
    click.echo(f"{loaded.path}: ok, {', '.join(counts)} (revision {loaded.revision})")


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    from gateway.config.schema import schema_text

    click.echo(schema_text(), nl=False)


@main.command()
@click.argument("question")
@click.option("--model", help="A public model, or provider/model; the first of /v1/models where not given.")
@click.option("--url", envvar="RAG_GATEWAY_URL", show_envvar=True, default="http://127.0.0.1:8080", show_default=True)
@click.option(
    "--api-key",
    envvar="RAG_GATEWAY_API_KEY",
    show_envvar=True,
    help="The gateway's key, where it asks for one.",
)
@click.option("--user", help="Ask for this user; believed from keys that may speak for users.")
def ask(question: str, model: str | None, url: str, api_key: str | None, user: str | None) -> None:
    """Ask QUESTION and print the answer as it comes, then its sources."""
    from rich.console import Console

    from gateway.asking import Answer, Asker, AskFailed

    console = Console(highlight=False, soft_wrap=True)
    told: list[str] = []
    try:
        with Asker(url, api_key) as asker:
            answer = Answer(model or asker.default_model())
            for text in asker.ask(question, answer, user):
                told.append(text)
                click.echo(_plain(text), nl=False)  # rich would turn tabs into blanks
            console.print()
            _print_sources(console, answer.sources, "".join(told))
            if answer.call_id:
                how = f"{answer.model} by {answer.target or 'the cache'}, cache {answer.cache}"
                where = f"curl {asker.url}/v1/calls/{answer.call_id}"
                console.print(_plain(f"\n{how}. How it came about: {where}"), markup=False, style="dim")
    except AskFailed as failure:
        if told:
            console.print()
        fail(_plain(str(failure)))


def _print_sources(console: Console, sources: list[dict[str, Any]], text: str) -> None:
    """The passages by their marks: those that the answer cites stand out."""
    if not sources:
        return
    console.print("\nSources", style="bold")
    for number, source in enumerate(sources, 1):
        title, section, score = source.get("title"), source.get("section_id"), source.get("score")
        line = f"[{number}] {title or source.get('document_id')}  {source.get('url') or section}"
        if isinstance(score, int | float):
            line += f"  ({score:.2f})"
        quote = " ".join(str(source.get("quote") or "").split()).lstrip("# ")
        if quote:
            line += f"  {quote[:_QUOTE]}{'…' if len(quote) > _QUOTE else ''}"
        console.print(_plain(line), markup=False, style=None if f"[{number}]" in text else "dim")


def _plain(text: str) -> str:
    return _CONTROL.sub("", text)


def _may_have_key(configuration: Configuration) -> bool:
    """Whether there is a record store, which may have the admin key that the file has not; it is not opened here."""
    if not _may_be_stored(configuration):
        return False
    click.echo("note: this file has no admin key: `serve` starts only if the record store has one", err=True)
    return True


def _may_be_stored(configuration: Configuration) -> bool:
    """Whether there is a record store, which may have what the file names; it is not opened here."""
    url = str(configuration.records.url)
    return not url.startswith("sqlite:///") or Path(url.removeprefix("sqlite:///")).is_file()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
