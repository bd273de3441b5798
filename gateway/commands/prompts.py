"""`rag-gateway prompts`: the templates of a running gateway, shown, made, released, labelled, rolled back, tested."""

from __future__ import annotations

import asyncio
import datetime
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.commands.admin_client import ask
from gateway.commands.configuration import config_option, fail

F = TypeVar("F", bound=Callable[..., Any])

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # whoever wrote it: a terminal would obey
_BROKEN = 3  # exit status where a suite ran and did not pass
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def _gateway(command: F) -> F:
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


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the admin API gives it.")
_reason = click.option("--reason", default="", help="Kept in the history and in the audit log.")


@click.group()
def prompts() -> None:
    """Prompt templates: versions, labels, history, suites."""


@prompts.command("list")
@_json
@_gateway
def list_(as_json: bool, url: str, api_key: str | None, tenant: str | None) -> None:
    """Every template, its newest version, its drafts, and where its labels point."""
    told = ask("GET", url, "/admin/prompts", api_key, params=_whose(tenant))
    if as_json:
        _print_json(told)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "latest", "labels", "drafts", "clients", "tenant", "description", box=None)
    for one in told["data"]:
        labels = ", ".join(f"{label} → {version}" for label, version in one["labels"].items())
        table.add_row(
            one["name"], str(one["latest"] or "-"), labels or "-", ", ".join(map(str, one["drafts"])) or "-",
            "yes" if one["direct"] or one["tenant"] else "no", one["tenant"] or "-", _plain(one["description"]),
        )  # fmt: skip
    Console(highlight=False).print(table)


@prompts.command()
@click.argument("name", metavar="NAME[@VERSION]")
@_json
@_gateway
def show(name: str, as_json: bool, url: str, api_key: str | None, tenant: str | None) -> None:
    """A template's versions, labels and models; or the text of one version."""
    base, which = _split(name)
    if which is None:
        told = ask("GET", url, f"/admin/prompts/{base}", api_key, params=_whose(tenant))
        if as_json:
            _print_json(told)
            return
        click.echo(f"{base}: {_plain(told['description']) or 'no description'}")
        for label, version in told["labels"].items():
            click.echo(f"  {label} → {version}")
        for version in told["versions"]:
            since = (
                f" {_time(version['created_at'])} by {_plain(version['created_by'])}" if "created_at" in version else ""
            )
            note = f"  {_plain(version['notes'])}" if version.get("notes") else ""
            shadowed = " (a file of the same number goes before it)" if version.get("shadowed") else ""
            place = "file" if version["from"] == "file" else "store"
            click.echo(
                f"  {base}@{version['version']}  {version['status']}  {version['hash']}  {place}{since}{note}{shadowed}"
            )
        for model in told["models"]:
            click.echo(f"  used by the model {model['model']} as {model['prompt']}")
        return
    told = _version(base, which, url, api_key, tenant)
    if as_json:
        _print_json(told)
        return
    click.echo(_plain(told["source"]), nl=not told["source"].endswith("\n"))


@prompts.command()
@click.argument("before", metavar="NAME@VERSION")
@click.argument("after", metavar="NAME@VERSION")
@_gateway
def diff(before: str, after: str, url: str, api_key: str | None, tenant: str | None) -> None:
    """What the second version says differently; of the same name, `NAME@1 2` will do."""
    base, first = _split(before)
    other, second = _split(after) if "@" in after else (base, after)
    if other != base:
        fail("two versions of one template are compared")
    numbers = [_number(base, which, url, api_key, tenant) for which in (first, second)]
    query = {"before": numbers[0], "after": numbers[1], **_whose(tenant)}
    said = ask("GET", url, f"/admin/prompts/{base}/diff", api_key, params=query)["diff"]
    click.echo(_plain(said) if said else "they say the same")


@prompts.command()
@click.argument("name")
@click.argument("file", type=_FILE)
@click.option("--notes", default="", help="What is new in it.")
@click.option(
    "--replace", type=click.IntRange(1), metavar="VERSION", help="Give this draft the text, instead of a new one."
)
@_gateway
def create(
    name: str, file: Path, notes: str, replace: int | None, url: str, api_key: str | None, tenant: str | None
) -> None:
    """Make a draft of NAME from FILE: the next version, for nobody's calls until it is released."""
    body: dict[str, Any] = {"source": file.read_text("utf-8")}
    if replace is None:
        body |= {"notes": notes, **_whose(tenant)}
        told = ask("POST", url, f"/admin/prompts/{name}/versions", api_key, json=body)
    else:
        body |= {"notes": notes} if notes else {}
        path = f"/admin/prompts/{name}/versions/{replace}"
        told = ask("PUT", url, path, api_key, json=body, params=_whose(tenant))
    click.echo(f"{name}@{told['version']} is a draft ({told['hash']})")


@prompts.command()
@click.argument("name", metavar="NAME@VERSION")
@_gateway
def delete(name: str, url: str, api_key: str | None, tenant: str | None) -> None:
    """Throw a draft away. What was released stays."""
    base, which = _split(name)
    if which is None or not which.isdecimal():
        fail("name the draft: NAME@VERSION")
    _gone(url, f"/admin/prompts/{base}/versions/{which}", api_key, tenant)
    click.echo(f"{base}@{which} is gone")


@prompts.command()
@click.argument("name", metavar="NAME@VERSION")
@click.option("--label", help="Point this label at it, too.")
@_reason
@_gateway
def release(name: str, label: str | None, reason: str, url: str, api_key: str | None, tenant: str | None) -> None:
    """Release a draft: it may be used from now on, and never changes."""
    base, which = _split(name)
    if which is None or not which.isdecimal():
        fail("name the draft: NAME@VERSION")
    body = {"reason": reason, **({"label": label} if label else {})}
    path = f"/admin/prompts/{base}/versions/{which}/release"
    told = ask("POST", url, path, api_key, json=body, params=_whose(tenant))
    click.echo(f"{base}@{told['version']} is released" + (f", {label} → {told['version']}" if label else ""))


@prompts.command("label")
@click.argument("name", metavar="NAME@VERSION")
@click.argument("label")
@click.option("--expected", type=click.IntRange(1), help="Only where it points at this version before.")
@click.option("--remove", is_flag=True, help="Take the label away; VERSION is left out.")
@_reason
@_gateway
def set_label(
    name: str, label: str, expected: int | None, remove: bool, reason: str, url: str, api_key: str | None,
    tenant: str | None,
) -> None:  # fmt: skip
    """Point LABEL at a released version: the next calls that name it are made with that."""
    base, which = _split(name)
    path = f"/admin/prompts/{base}/labels/{label}"
    if remove:
        ask("DELETE", url, path, api_key, params=_whose(tenant))
        click.echo(f"{base}@{label} is gone")
        return
    if which is None:
        fail("name the version: NAME@VERSION")
    body: dict[str, Any] = {"version": _number(base, which, url, api_key, tenant), "reason": reason}
    body |= {"expected": expected} if expected is not None else {}
    told = ask("PUT", url, path, api_key, json=body, params=_whose(tenant))
    click.echo(f"{base}@{label} → {told['version']}")


@prompts.command()
@click.argument("name", metavar="NAME@LABEL")
@_reason
@_gateway
def rollback(name: str, reason: str, url: str, api_key: str | None, tenant: str | None) -> None:
    """Point a label at the version where it was before; again, and it goes back by one more."""
    base, label = _split(name)
    if label is None or label.isdecimal():
        fail("name the label: NAME@LABEL, like handbook@production")
    path = f"/admin/prompts/{base}/labels/{label}/rollback"
    told = ask("POST", url, path, api_key, json={"reason": reason}, params=_whose(tenant))
    click.echo(f"{base}@{label} → {told['version']}")


@prompts.command()
@click.argument("name")
@_json
@_gateway
def history(name: str, as_json: bool, url: str, api_key: str | None, tenant: str | None) -> None:
    """What became of a template, the newest first: who did what, and why."""
    told = ask("GET", url, f"/admin/prompts/{name}/history", api_key, params=_whose(tenant))
    if as_json:
        _print_json(told)
        return
    for event in told["data"]:
        what = event["action"].removeprefix("prompts.")
        which = event["label"] and f"{event['label']}: {event['before'] or '-'} → {event['after'] or '-'}"
        why = f"  {_plain(event['reason'])}" if event["reason"] else ""
        click.echo(f"{_time(event['at'])}  {what:8}  {which or event['after']}  by {_plain(str(event['actor']))}{why}")


@prompts.command()
@click.argument("name", metavar="NAME[@VERSION]")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="JSON, or else a text.")
@click.option("--question", default=None, help="What the user says.")
@click.option("--passage", "passages", multiple=True, help="The text of a passage.")
@_json
@_gateway
def render(
    name: str, variables: tuple[str, ...], question: str | None, passages: tuple[str, ...], as_json: bool, url: str,
    api_key: str | None, tenant: str | None,
) -> None:  # fmt: skip
    """The messages that a version makes of these values. No model is asked."""
    base, which = _split(name)
    number = _number(base, which, url, api_key, tenant)
    body: dict[str, Any] = {"variables": dict(map(_variable, variables)), "passages": list(passages)}
    if question is not None:
        body["messages"] = [{"role": "user", "content": question}]
    path = f"/admin/prompts/{base}/versions/{number}/render"
    told = ask("POST", url, path, api_key, json=body, params=_whose(tenant))
    if as_json:
        _print_json(told)
        return
    for message in told["messages"]:
        click.secho(f"[{message['role']}]", bold=True)
        click.echo(_plain(str(message.get("content"))))
    click.echo(f"{told['tokens']} tokens{' (estimated)' if told['tokens_estimated'] else ''}, {told['hash']}", err=True)
    for trimmed in told["trimmed"]:
        click.echo(f"left out: {_plain(trimmed)}", err=True)


@prompts.command()
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
@_gateway
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

    base, which = _split(name)
    file = suite or _suite_of(base, config)
    try:
        read = read_suite(file)
    except SuiteFault as fault:
        fail(str(fault))
    for notice in read.notices:
        click.echo(f"{read.file}: {notice}", err=True)
    version = _version(base, which or "production", url, api_key, tenant, usual=which is None)
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
        fail(_plain(str(failure)))
    reference = f"{base}@{version['version']}"
    if junit is not None:
        from gateway.prompts.suites.junit import junit as written

        junit.write_bytes(written(reference, results))
    if as_json:
        _print_json({**summary(results), "template": reference, "hash": version["hash"],
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
        ask("POST", url, path, api_key, json=body, params=_whose(tenant))
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


@prompts.command()
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
        fail(_plain(str(fault)))
    if as_json:
        _print_json(told)
    else:
        print_comparison(told)


# --- what commands have in common ---------------------------------------------------------------------
def _split(name: str) -> tuple[str, str | None]:
    base, at, which = name.partition("@")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,99}", base) or (at and not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", which)):
        fail(f"{_plain(name)}: write NAME, NAME@VERSION or NAME@LABEL, like handbook@3 or handbook@production")
    return base, which if at else None


def _whose(tenant: str | None) -> dict[str, str]:
    return {"tenant": tenant} if tenant is not None else {}


def _number(
    name: str, which: str | None, url: str, api_key: str | None, tenant: str | None, usual: bool = False
) -> int:
    """The version that a label, or nothing, stands for."""
    if which is not None and which.isdecimal():
        return int(which)
    told = ask("GET", url, f"/admin/prompts/{name}", api_key, params=_whose(tenant))
    labels = {"latest": told["latest"], **told["labels"]}
    found = labels.get(which or "production") or (told["latest"] if which is None or usual else None)
    if found is None:
        fail(f"{name} has no label {which}; there are {', '.join(sorted(label for label in labels if labels[label]))}")
    return int(found)


def _version(
    name: str, which: str, url: str, api_key: str | None, tenant: str | None, usual: bool = False
) -> dict[str, Any]:
    number = _number(name, which, url, api_key, tenant, usual)
    told: dict[str, Any] = ask("GET", url, f"/admin/prompts/{name}/versions/{number}", api_key, params=_whose(tenant))
    return told


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
    told = ask("GET", url, f"/admin/prompts/{name}", api_key, params=_whose(tenant))
    return tuple(hints) or tuple(dict.fromkeys(model["model"] for model in told["models"]))


def _suite_of(name: str, config: Path | None) -> Path:
    """The suite that lies beside the templates."""
    from gateway.commands.configuration import load_configuration

    file = load_configuration(config).configuration.prompts.folder / "suites" / f"{name}.yaml"
    if not file.is_file():
        fail(f"there is no {file}: write one, or name another with --suite")
    return file


def _variable(written: str) -> tuple[str, Any]:
    name, equals, value = written.partition("=")
    if not equals:
        fail(f"{_plain(written)}: write NAME=VALUE")
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
            url.rstrip("/").removesuffix("/v1") + path, headers=headers, params=_whose(tenant), timeout=10
        )
    except httpx.HTTPError as error:
        fail(f"no answer from {url}: {type(error).__name__}. Is the gateway running there?")
    if answer.status_code >= 400:
        fail(str(answer.json()["error"]["message"]))


def _print_json(told: Any) -> None:
    click.echo(json.dumps(told, ensure_ascii=False, indent=2))


def _time(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(" ", "seconds")


def _plain(text: str) -> str:
    return _CONTROL.sub("", text)
