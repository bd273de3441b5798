"""`rag-gateway prompts test` and `compare`: suites against a version, and two versions on recorded calls."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from gateway.commands.admin_client import ask
from gateway.commands.configuration import config_option, fail
from gateway.commands.prompt_naming import gateway_options, plain, print_json, split, version_of, whose

_BROKEN = 3  # exit status where a suite ran and did not pass
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("name", metavar="NAME[@VERSION]")
@click.option(
    "--suite", type=_FILE, help="The suite's YAML; prompts/suites/NAME.yaml beside the configuration where not given."
)
@click.option("--target", "targets", multiple=True, help="A public model, or provider/model; several at once.")
@click.option("--judge", help="The model that grades `llm-rubric`, instead of the suite's.")
@click.option("--embeddings", help="The model that compares for `similar`, instead of the suite's.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, show_default=True, help="Calls at once.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML there, for CI.")
@click.option("--record", is_flag=True, help="Tell the gateway how it ended: what a release may ask for.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every answer.")
@config_option
@gateway_options
def test(
    name: str,
    suite: Path | None,
    targets: tuple[str, ...],
    judge: str | None,
    embeddings: str | None,
    concurrency: int,
    junit: Path | None,
    record: bool,
    as_json: bool,
    config: Path | None,
    url: str,
    api_key: str | None,
    tenant: str | None,
) -> None:
    """Run a suite against a version, a draft too: each case is asked of each target through the gateway.

    Suites may be promptfoo's, as far as both mean the same. Exit status 0: all passed; 1: it could not be run; 3: it ran,
    and something did not pass.
    """
    from gateway.commands.gateway_client import CallFailed
    from gateway.commands.prompt_report import print_results, summary
    from gateway.prompts.suites.results import whole
    from gateway.prompts.suites.suite import SuiteFault, read_suite

    base, which = split(name)
    file = suite or _suite_of(base, config)
    try:
        read = read_suite(file)
    except SuiteFault as fault:
        fail(str(fault))
    for notice in read.notices:
        click.echo(f"{read.file}: {notice}", err=True)
    version = version_of(base, which or "production", url, api_key, tenant, usual=which is None)
    chosen = targets or read.targets or _targets_of(base, version, url, api_key, tenant)
    if not chosen:
        fail("no target: name a model with --target, or `targets` in the suite")
    try:
        results = asyncio.run(
            _tested(
                read, version, chosen, judge or read.judge, embeddings or read.embeddings, concurrency, url, api_key
            )
        )
    except CallFailed as failure:
        fail(plain(str(failure)))
    reference = f"{base}@{version['version']}"
    if junit is not None:
        from gateway.prompts.suites.junit import junit as written

        junit.write_bytes(written(reference, results))
    if as_json:
        print_json({**summary(results), "template": reference, "hash": version["hash"],
                     "results": [result.told() for result in results]})  # fmt: skip
    else:
        print_results(reference, results)
    if record:
        told = summary(results)
        body = {
            "hash": version["hash"], "suite": f"{read.file} {read.digest}", "passed": told["passed"],
            "failed": told["failed"] + told["errors"], "targets": list(chosen),
            "failures": [f"{r.target}: {r.case}"[:1_000] for r in results if not r.passed][:100],
        }  # fmt: skip
        path = f"/admin/prompts/{base}/versions/{version['version']}/results"
        ask("POST", url, path, api_key, json=body, params=whose(tenant))
        click.echo(f"recorded for {reference} ({version['hash']})", err=True)
    sys.exit(0 if whole(results) else _BROKEN)


async def _tested(
    suite: Any, version: dict[str, Any], targets: Any, judge: str | None, embeddings: str | None, concurrency: int,
    url: str, api_key: str | None,
) -> list[Any]:  # fmt: skip
    from rich.console import Console
    from rich.progress import Progress

    from gateway.commands.gateway_client import GatewayClient
    from gateway.commands.prompt_runs import Settings, run

    declared = _declared(version)
    settings = Settings(version["name"], version["version"], declared, judge, embeddings)
    async with GatewayClient(url, api_key) as gateway:
        for target in targets:
            await gateway.require(target, "--target")
        for option, model in (("--judge", judge), ("--embeddings", embeddings)):
            if model is not None:
                await gateway.require(model, option)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("asking", total=len(suite.cases) * len(targets))
            return await run(suite.cases, targets, settings, gateway, concurrency, lambda: progress.advance(task))


@click.command()
@click.argument("one", metavar="NAME@VERSION")
@click.argument("other", metavar="NAME@VERSION")
@click.option("--on", "selected", default="last:100", show_default=True,
              help="Which recorded calls: last:500, or last:100,model:handbook,label:bad.")  # fmt: skip
@click.option("--judge", help="A model that says which of two answers is the better one; asked twice, turned round.")
@click.option("--embeddings", help="What compares texts: provider/model; retrieval's own otherwise.")
@click.option("--no-embeddings", is_flag=True, help="Leave out what embeddings measure.")
@click.option("--confidence", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, show_default=True, help="Calls at once.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every pair of answers.")
@config_option
def compare(
    one: str,
    other: str,
    selected: str,
    judge: str | None,
    embeddings: str | None,
    no_embeddings: bool,
    confidence: float,
    concurrency: int,
    as_json: bool,
    config: Path | None,
) -> None:
    """Run recorded calls through two versions, and say which does better, at what cost, and how sure that is.

    Each call sees the passages and features that it had then. The configuration's own record store is read, and its
    targets are asked; the calls are recorded as made for a replay.
    """
    from gateway.commands.configuration import load_configuration
    from gateway.commands.prompt_comparison import Unable, compared
    from gateway.commands.prompt_report import print_comparison

    loaded = load_configuration(config)
    local = None if no_embeddings or loaded.configuration.retrieval is None else "local"
    try:
        told = asyncio.run(
            compared(
                loaded, one, other, selected, judge, None if no_embeddings else embeddings or local, confidence,
                concurrency,
            )
        )  # fmt: skip
    except Unable as fault:
        fail(plain(str(fault)))
    if as_json:
        print_json(told)
    else:
        print_comparison(told)


def _declared(version: dict[str, Any]) -> frozenset[str]:
    """The variables that a version has."""
    from gateway.prompts.front_matter import Source, TemplateFault

    try:
        return frozenset(Source(version["source"], version["name"]).front.inputs)
    except TemplateFault as fault:
        fail(str(fault))


def _targets_of(
    name: str, version: dict[str, Any], url: str, api_key: str | None, tenant: str | None
) -> tuple[str, ...]:
    """The models that a template was written for, or else that use it."""
    from gateway.prompts.front_matter import Source, TemplateFault

    try:
        hints = Source(version["source"], name).front.hints.models
    except TemplateFault as fault:
        fail(str(fault))
    told = ask("GET", url, f"/admin/prompts/{name}", api_key, params=whose(tenant))
    return tuple(hints) or tuple(dict.fromkeys(model["model"] for model in told["models"]))


def _suite_of(name: str, config: Path | None) -> Path:
    """The suite that lies beside the templates."""
    from gateway.commands.configuration import load_configuration

    file = load_configuration(config).configuration.prompts.folder / "suites" / f"{name}.yaml"
    if not file.is_file():
        fail(f"there is no {file}: write one, or name another with --suite")
    return file
