"""Prompt templates of a configuration: those of its folder, and those of the record store beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.config.document import parse
from gateway.config.faults import ConfigError, ConfigFault
from gateway.prompts.shelf import Shelf
from gateway.prompts.stored import StoredTemplates
from gateway.records.prompts import PromptStore

if TYPE_CHECKING:
    from gateway.assembly.routes import Routes
    from gateway.config.loading import Loaded
    from gateway.config.models import Configuration, Model
    from gateway.prompts.template import Template
    from gateway.records.database import Database
    from gateway.stages.rendering import PromptStage


def open_templates(configuration: Configuration, database: Database) -> StoredTemplates:
    return StoredTemplates(PromptStore(database), configuration.data_dir / "prompts.json")


def shelf_of(configuration: Configuration, stored: StoredTemplates) -> Shelf:
    """Every file of the folder compiled; nothing is loaded where there is none. Raises TemplateFault."""
    folder = configuration.prompts.folder
    if not folder.is_dir() or next(folder.glob("*.yaml"), None) is None:
        return Shelf(None, stored)
    from gateway.prompts.library import TemplateLibrary

    return Shelf(TemplateLibrary.load(folder), stored)


def prompt_stage(model: Model, shelf: Shelf, routes: Routes) -> PromptStage | None:
    """None where the model has no template of its own."""
    if model.prompt is None:
        return None
    from gateway.stages.rendering import PromptStage

    name, _, which = model.prompt.partition("@")
    # A file of a number stays what it is; what a label or the record store says is asked at each call.
    fixed = shelf.in_files("", name).get(int(which)) if which.isdecimal() else None
    look_up = None if fixed is not None else lambda: shelf.find(name, which)
    summary = routes.helper(model.summary, "summary") if model.summary is not None else None
    return PromptStage(fixed, look_up, model.prompt, summary)


def check_templates(loaded: Loaded, shelf: Shelf) -> None:
    """Raises ConfigError where the record store, which was read, does not have what a model names, or where a model does
    not have what its template needs."""
    faults: list[ConfigFault] = []
    for reference, fault in loaded.awaited:
        name, _, which = reference.partition("@")
        if shelf.find(name, which) is None:
            faults.append(fault)
    faults += _unfit(loaded, shelf)
    if faults:
        raise ConfigError(faults)


def _unfit(loaded: Loaded, shelf: Shelf) -> Iterator[ConfigFault]:
    """Collections that a template needs and its model does not search."""
    for model_name, model in loaded.configuration.models.items():
        for reference in {model.prompt, *(entry.prompt for entry in model.targets)} - {None}:
            name, _, which = str(reference).partition("@")
            template = shelf.find(name, which)
            wanted = template.front.collections if template is not None else []
            searched = model.retrieval.collection if model.retrieval is not None else None
            if wanted and searched not in wanted:
                said = f"searches `{searched}`" if searched else "has no retrieval"
                message = f"{said}; its template {reference} is for the collection {' or '.join(wanted)}"
                # Only its places are asked for: what the environment says was read before.
                document = parse(loaded.text, loaded.path.name, defaultdict(str))
                yield document.fault(("models", model_name, "retrieval"), message)


class TemplateTokens:
    """What the prompt of a public model may have beside the caller's own words, by the version in force."""

    def __init__(self, configuration: Configuration, shelf: Shelf) -> None:
        self._shelf = shelf
        self._prompts = {name: model.prompt for name, model in configuration.models.items() if model.prompt is not None}

    def get(self, model: str) -> int | None:
        reference = self._prompts.get(model)
        if reference is None:
            return None
        name, _, which = reference.partition("@")
        template = self._shelf.find(name, which)
        return template.max_prompt_tokens if template is not None else None

    def named(self, reference: str, which: str | None, tenant: str) -> int:
        """The same of a template that a request names; 0 where there is none, which is found out later."""
        name, _, version = reference.partition("@")
        which = version or which
        for owner in (tenant, ""):
            found: Template | None = (
                self._shelf.find(name, which, owner) if which is not None else self._shelf.usual(name, owner)
            )
            if found is not None:
                return found.max_prompt_tokens
        return 0
