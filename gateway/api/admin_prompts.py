"""Prompt templates: made as drafts, released, labelled, rolled back; shown with their history beside the folder's files.

A template is the gateway's own or one tenant's. Who has a role over the whole gateway sees all of them, others what is
their tenants'; what is not theirs is not there for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request
from starlette.concurrency import run_in_threadpool

from gateway.access.granting import known_tenants
from gateway.api.administration import Administration, asked, logged, visible_tenants
from gateway.api.prompt_requests import (
    DraftChange,
    LabelMove,
    NewDraft,
    NewResult,
    Release,
    Rendering,
    Why,
)
from gateway.api.prompt_views import (
    check_label,
    event_of,
    label_told,
    listed,
    models_of,
    of_file,
    overview,
    rendered,
)
from gateway.config.access import TenantName
from gateway.errors import BadRequest, Conflict, NotFound
from gateway.prompt_versions import Move, PromptRefused, StoredVersion, SuiteResult
from gateway.prompts.differences import difference
from gateway.prompts.shelf import Shelf
from gateway.prompts.stored import StoredTemplates
from gateway.records.keys import KeyStore
from gateway.records.prompts import PromptStore
from gateway.runtime import Gateway
from gateway.values import Caller

_Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")]
_Version = Annotated[int, Path(ge=1, le=999_999_999)]
_Label = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_-]{0,49}$")]
_Tenant = Annotated[TenantName | None, Query()]


def router(
    administration: Administration, gateway: Gateway, keys: KeyStore, store: PromptStore, templates: StoredTemplates
) -> APIRouter:
    """After each change this gateway's workers go by it at once; those of other machines do within a second."""
    routes = APIRouter(prefix="/admin/prompts", tags=["prompts"], route_class=administration.route)
    sees = administration.allowed("viewer", everywhere=False)
    works = administration.allowed("operator", everywhere=False)

    def shelf() -> Shelf:
        found = gateway.revision.shelf
        assert found is not None, "every compiled revision has one"
        return found

    async def owner(who: Caller, tenant: str | None) -> str:
        """Whose templates are meant: a tenant, or "" for the gateway. Raises NotFound alike for what is not theirs."""
        if tenant is None:
            return "" if who.scope == "gateway" else who.tenant
        visible = await visible_tenants(keys, who)
        there = tenant in known_tenants(gateway.revision.configuration) or await asked(keys.tenant, tenant) is not None
        if not there or (visible is not None and tenant not in visible):
            raise NotFound(f"There is no tenant '{tenant}'.", param="tenant")
        return tenant

    async def found(tenant: str, name: str, version: int) -> dict[str, Any]:
        """What is told of a version, a file or a stored one. Raises NotFound."""
        file = shelf().in_files(tenant, name).get(version)
        stored = await asked(store.version, tenant, name, version)
        if file is not None:
            folder = gateway.revision.configuration.prompts.folder
            source = await run_in_threadpool((folder / f"{file.reference}.yaml").read_text, "utf-8")
            return {**of_file(file.name, file.version, file.content_hash), "source": source}
        if stored is None:
            raise NotFound(f"There is no template {name}@{version}.", param="version")
        return stored.told()

    async def done(change: Callable[..., Any], *about: Any, request: Request) -> Any:
        try:
            made = await asked(change, *about)
        except PromptRefused as refusal:
            kind = NotFound if refusal.missing else Conflict
            raise kind(refusal.message, param=refusal.param) from None
        logged(request)
        await templates.round()
        await gateway.siblings.ask("prompts.changed")  # whoever does not answer sees it within a second
        return made

    def text(name: str, source: str, tenant: str) -> Callable[[int], tuple[str, str]]:
        """What makes a version's text whole, and compiles it. Raises BadRequest where it is no template."""
        from gateway.prompts.library import TemplateFault, read_template, whole_source

        partials = dict(shelf().partials) if not tenant else {}

        try:
            whole = whole_source(source, partials, f"{name}@1")
            content_hash = read_template(whole, name, 1, f"{name}@1", {}, tenant=tenant).content_hash
        except TemplateFault as fault:
            raise BadRequest(str(fault).replace(f"{name}@1", "source", 1), param="source") from None
        # Whatever its number will be; the store is not kept from others while a text is compiled.
        return lambda version: (whole, content_hash)

    # -- what there is -------------------------------------------------------------------------------------
    @routes.get("", name="prompts.list")
    async def list_prompts(tenant: _Tenant = None, who: Caller = sees) -> dict[str, Any]:
        """Every template with its newest version and its labels: the gateway's and the tenants'; or one tenant's."""
        visible = await visible_tenants(keys, who)
        owners = visible if visible is None or who.scope != "gateway" else visible | {""}
        if tenant is not None:
            owners = frozenset({await owner(who, tenant)})
        versions: list[StoredVersion] = await asked(store.versions, owners)
        names = {(version.tenant, version.name) for version in versions}
        if owners is None or "" in owners:
            names |= {("", name) for name in shelf().names}
        data = []
        for holder, name in sorted(names):
            mine = [version for version in versions if (version.tenant, version.name) == (holder, name)]
            data.append(overview(shelf(), holder, name, mine))
        return {"object": "list", "data": data}

    @routes.get("/{name}", name="prompts.show")
    async def show(name: _Name, tenant: _Tenant = None, who: Caller = sees) -> dict[str, Any]:
        """One template: all of its versions, its labels, and which models use it."""
        holder = await owner(who, tenant)
        versions = await asked(store.versions, frozenset({holder}), name)
        if not versions and not shelf().in_files(holder, name):
            raise NotFound(f"There is no template '{name}'.", param="name")
        return {
            **overview(shelf(), holder, name, versions),
            "versions": listed(shelf(), holder, name, versions),
            "models": models_of(gateway, name) if not holder else [],
        }

    @routes.get("/{name}/versions/{version}", name="prompts.version")
    async def show_version(
        name: _Name, version: _Version, tenant: _Tenant = None, who: Caller = sees
    ) -> dict[str, Any]:
        """One version with its text, and what suites said of it."""
        holder = await owner(who, tenant)
        told = await found(holder, name, version)
        results = await asked(store.results, holder, name, version)
        return {**told, "results": [result.told() for result in results]}

    @routes.get("/{name}/diff", name="prompts.diff")
    async def diff(
        name: _Name,
        before: Annotated[int, Query(ge=1)],
        after: Annotated[int, Query(ge=1)],
        tenant: _Tenant = None,
        who: Caller = sees,
    ) -> dict[str, Any]:
        """What the version `after` says differently from `before`, as a unified diff."""
        holder = await owner(who, tenant)
        old, new = await found(holder, name, before), await found(holder, name, after)
        said = difference(old["source"], new["source"], f"{name}@{before}", f"{name}@{after}")
        return {"object": "prompt.diff", "name": name, "before": before, "after": after, "diff": said}

    @routes.get("/{name}/history", name="prompts.history")
    async def history(name: _Name, tenant: _Tenant = None, who: Caller = sees) -> dict[str, Any]:
        """What became of a template, the newest first: who made, released and labelled what, and why."""
        holder = await owner(who, tenant)
        versions: list[StoredVersion] = await asked(store.versions, frozenset({holder}), name)
        moves: list[Move] = await asked(store.moves, holder, name)
        if not versions and not moves and not shelf().in_files(holder, name):
            raise NotFound(f"There is no template '{name}'.", param="name")
        events = [move.told() for move in moves]
        for version in versions:
            events.append(event_of(version, "create", version.created_at, version.created_by, version.notes))
            if version.released_at is not None:
                events.append(event_of(version, "release", version.released_at, version.released_by, ""))
        return {"object": "list", "data": sorted(events, key=lambda event: -float(event["at"]))}

    # -- what is done --------------------------------------------------------------------------------------
    @routes.post("/{name}/versions", name="prompts.create", status_code=201)
    async def create(name: _Name, asked_for: NewDraft, request: Request, who: Caller = works) -> dict[str, Any]:
        """Make a draft: the next version, which nobody's calls are answered with before it is released."""
        holder = await owner(who, asked_for.tenant)
        make = await run_in_threadpool(text, name, asked_for.source, holder)
        above = max(shelf().in_files(holder, name), default=0)
        actor = administration.actor(request)
        made = await done(store.add_draft, holder, name, make, above, asked_for.notes, actor, request=request)
        return made.told()  # type: ignore[no-any-return]  # a StoredVersion's

    @routes.put("/{name}/versions/{version}", name="prompts.change")
    async def change(
        name: _Name, version: _Version, asked_for: DraftChange, request: Request, tenant: _Tenant = None,
        who: Caller = works,
    ) -> dict[str, Any]:  # fmt: skip
        """Give a draft another text."""
        holder = await owner(who, tenant)
        make = await run_in_threadpool(text, name, asked_for.source, holder)
        made = await done(
            store.change_draft, holder, name, version, make, asked_for.notes, asked_for.hash,
            administration.actor(request), request=request,
        )  # fmt: skip
        return made.told()  # type: ignore[no-any-return]  # a StoredVersion's

    @routes.delete("/{name}/versions/{version}", name="prompts.delete", status_code=204)
    async def delete(
        name: _Name, version: _Version, request: Request, tenant: _Tenant = None, who: Caller = works
    ) -> None:
        """Throw a draft away. A released version stays: calls and models name it."""
        holder = await owner(who, tenant)
        await done(store.delete_draft, holder, name, version, administration.actor(request), request=request)

    @routes.post("/{name}/versions/{version}/release", name="prompts.release")
    async def release(
        name: _Name, version: _Version, request: Request, asked_for: Annotated[Release, Body()] = Release(),
        tenant: _Tenant = None, who: Caller = works,
    ) -> dict[str, Any]:  # fmt: skip
        """Release a draft: it may be used from now on, and never changes."""
        from gateway.prompts.library import TemplateFault

        holder, actor = await owner(who, tenant), administration.actor(request)
        if asked_for.label is not None:
            try:
                draft = await asked_of(templates, holder, name, version)
            except TemplateFault as fault:
                raise Conflict(str(fault), param="version") from None
            check_label(gateway, draft, name, asked_for.label, version, holder)
        needs_suite = gateway.revision.configuration.prompts.release_needs_suite
        made = await done(
            store.release, holder, name, version, asked_for.hash, needs_suite, asked_for.reason, actor, request=request
        )
        if asked_for.label is not None:
            await move(holder, name, asked_for.label, version, None, asked_for.reason, request)
        return made.told()  # type: ignore[no-any-return]  # a StoredVersion's

    async def move(
        holder: str, name: str, label: str, version: int | None, expected: int | None, reason: str, request: Request
    ) -> dict[str, Any]:
        template = shelf().find(name, str(version), holder) if version is not None else None
        check_label(gateway, template, name, label, version, holder)
        files, now = frozenset(shelf().in_files(holder, name)), shelf().labelled(name, label, holder)
        made = await done(
            store.label, holder, name, label, version, files, now, expected, reason, administration.actor(request),
            request=request,
        )  # fmt: skip
        return label_told(name, label, made.version)

    @routes.put("/{name}/labels/{label}", name="prompts.label")
    async def put_label(
        name: _Name, label: _Label, asked_for: LabelMove, request: Request, tenant: _Tenant = None,
        who: Caller = works,
    ) -> dict[str, Any]:  # fmt: skip
        """Point a label at a released version: the next calls of whatever names the label are made with it."""
        holder = await owner(who, tenant)
        return await move(holder, name, label, asked_for.version, asked_for.expected, asked_for.reason, request)

    @routes.delete("/{name}/labels/{label}", name="prompts.unlabel")
    async def remove_label(
        name: _Name, label: _Label, request: Request, tenant: _Tenant = None, who: Caller = works
    ) -> dict[str, Any]:
        """Take a label away. One that a model names stays."""
        holder = await owner(who, tenant)
        if shelf().labelled(name, label, holder) is None:
            raise NotFound(f"There is no label '{label}' of {name}.", param="label")
        using = [model["model"] for model in models_of(gateway, name) if model["prompt"] == f"{name}@{label}"]
        if using and not holder:
            raise Conflict(f"The model '{using[0]}' uses {name}@{label}: point it at another version.", param="label")
        return await move(holder, name, label, None, None, "", request)

    @routes.post("/{name}/labels/{label}/rollback", name="prompts.rollback")
    async def rollback(
        name: _Name, label: _Label, request: Request, asked_for: Annotated[Why, Body()] = Why(),
        tenant: _Tenant = None, who: Caller = works,
    ) -> dict[str, Any]:  # fmt: skip
        """Point a label at the version where it was before. Again, and it goes back by one more."""
        holder = await owner(who, tenant)
        files = frozenset(shelf().in_files(holder, name))
        made = await done(
            store.rollback, holder, name, label, files, asked_for.reason, administration.actor(request),
            request=request,
        )  # fmt: skip
        return label_told(name, label, made.version)

    @routes.post("/{name}/versions/{version}/render", name="prompts.render")
    async def render(
        name: _Name, version: _Version, asked_for: Rendering, request: Request, tenant: _Tenant = None,
        who: Caller = works,
    ) -> dict[str, Any]:  # fmt: skip
        """The messages that a version, a draft too, makes of these values; whose words they are; what had no room."""
        from gateway.prompts.library import TemplateFault

        holder = await owner(who, tenant)
        logged(request)  # nothing is changed
        template = shelf().in_files(holder, name).get(version)
        try:
            template = template or await asked_of(templates, holder, name, version)
        except TemplateFault as fault:
            raise Conflict(str(fault), param="version") from None
        if template is None:
            raise NotFound(f"There is no template {name}@{version}.", param="version")
        return await run_in_threadpool(rendered, template, asked_for)

    @routes.post("/{name}/versions/{version}/results", name="prompts.result", status_code=201)
    async def add_result(
        name: _Name, version: _Version, asked_for: NewResult, request: Request, tenant: _Tenant = None,
        who: Caller = works,
    ) -> dict[str, Any]:  # fmt: skip
        """Keep what a suite said of a version: `rag-gateway prompts test --record` tells it."""
        holder, actor = await owner(who, tenant), administration.actor(request)
        told = await found(holder, name, version)
        if told["hash"] != asked_for.hash:
            raise Conflict(
                f"{name}@{version} has another text than was tested: its hash is {told['hash']}.", param="hash"
            )
        result = SuiteResult(
            time.time(), actor.key_name, version, asked_for.hash, asked_for.suite, asked_for.passed, asked_for.failed,
            {"targets": asked_for.targets, "failures": asked_for.failures},
        )  # fmt: skip
        await done(store.add_result, holder, name, result, actor, request=request)
        return result.told()

    return routes


async def asked_of(templates: StoredTemplates, holder: str, name: str, version: int) -> Any:
    """A version as the record store has it now. Raises StageFailed where that is away, and TemplateFault."""
    return await asked(templates.read_version, holder, name, version)
