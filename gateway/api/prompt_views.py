"""What the admin API tells of prompt templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.api.prompt_requests import Rendering
from gateway.errors import BadRequest, Conflict
from gateway.prompt_versions import StoredVersion
from gateway.prompts.shelf import LATEST, Shelf
from gateway.runtime import Gateway

if TYPE_CHECKING:
    from gateway.prompts.template import Template


def overview(shelf: Shelf, holder: str, name: str, versions: list[StoredVersion]) -> dict[str, Any]:
    files = shelf.in_files(holder, name)
    drafts = [version.version for version in versions if version.status == "draft"]
    released = {*files, *(version.version for version in versions if version.status == "released")}
    newest = shelf.find(name, LATEST, holder)
    return {
        "object": "prompt",
        "name": name,
        "tenant": holder or None,
        "description": newest.front.description if newest is not None else "",
        "direct": newest.front.direct if newest is not None else False,
        "latest": max(released, default=None),
        "drafts": drafts,
        "labels": shelf.labels_of(name, holder),
    }


def listed(shelf: Shelf, holder: str, name: str, versions: list[StoredVersion]) -> list[dict[str, Any]]:
    files = shelf.in_files(holder, name)
    told = [of_file(name, file.version, file.content_hash) for file in files.values()]
    for version in versions:
        # A file of the same number goes before what is stored.
        told.append({**version.told(source=False), "shadowed": version.version in files})
    return sorted(told, key=lambda each: (int(each["version"]), str(each["from"])))


def of_file(name: str, version: int, content_hash: str) -> dict[str, Any]:
    return {
        "object": "prompt.version", "name": name, "version": version, "tenant": None, "status": "released",
        "hash": content_hash, "from": "file",
    }  # fmt: skip


def models_of(gateway: Gateway, name: str) -> list[dict[str, str]]:
    """The public models that use a template of the gateway's, and how they name it."""
    using = []
    for model, entry in gateway.revision.configuration.models.items():
        for reference in dict.fromkeys([entry.prompt, *(target.prompt for target in entry.targets)]):
            if reference is not None and reference.partition("@")[0] == name:
                using.append({"model": model, "prompt": reference})
    return using


def check_label(
    gateway: Gateway, template: Template | None, name: str, label: str, version: int | None, holder: str
) -> None:
    """Whether a label may point at a version, `template`, before anything is done.

    Raises BadRequest for one that nobody moves, and Conflict where a model that names the label does not search what
    the version needs.
    """
    if label == LATEST:
        raise BadRequest("`latest` is the newest version by itself: it can't be moved.", param="label")
    wanted = template.front.collections if template is not None else []
    for using in models_of(gateway, name) if wanted and not holder else ():
        if using["prompt"] == f"{name}@{label}":
            retrieval = gateway.revision.configuration.models[using["model"]].retrieval
            if retrieval is None or retrieval.collection not in wanted:
                raise Conflict(
                    f"{name}@{version} needs the collection {' or '.join(wanted)}, which the model '{using['model']}' "
                    "does not search.",
                    param="version",
                )


def event_of(version: StoredVersion, action: str, at: float, actor: str | None, reason: str) -> dict[str, Any]:
    return {
        "object": "prompt.event", "at": at, "name": version.name, "action": f"prompts.{action}", "label": None,
        "before": None, "after": version.version, "actor": actor, "reason": reason,
    }  # fmt: skip


def label_told(name: str, label: str, version: int | None) -> dict[str, Any]:
    return {"object": "prompt.label", "name": name, "label": label, "version": version}


def rendered(template: Any, asked_for: Rendering) -> dict[str, Any]:
    """Raises BadRequest."""
    from features.vector import FeatureVector
    from gateway.prompts.template import BadInput, PromptTooLong, RenderingFailed
    from retrieval.passages import Passage

    passages = [
        Passage(f"p{n}", "1", f"p{n}#0", "shown", 1.0, f"Passage {n}", "", text)
        for n, text in enumerate(asked_for.passages, 1)
    ]
    try:
        told = template.render(
            asked_for.messages, FeatureVector("shown", {}, asked_for.features), passages, asked_for.variables
        )
    except BadInput as fault:
        raise BadRequest(f"The variable '{fault.name}': {fault}.", param=f"variables.{fault.name}") from None
    except (PromptTooLong, RenderingFailed) as fault:
        raise BadRequest(f"{template.reference}: {fault}", param="variables") from None
    return {
        "object": "prompt.rendering",
        "template": template.reference,
        "hash": template.content_hash,
        "messages": told.messages,
        "tokens": told.tokens,
        "tokens_estimated": told.tokens_estimated,
        "trimmed": list(told.trimmed),
        "parts": [
            {"message": part.message, "origin": part.origin, "characters": part.characters} for part in told.parts
        ],
    }
