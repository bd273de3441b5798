"""A model's configuration with a change: what a replay compiles in the place of the one that serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from gateway.config.guardrails import ModelGuardrails, NamedSet
from gateway.config.models import Configuration, Model, ModelRetrieval, TargetEntry
from gateway.config.routing import Priority, Shadow
from gateway.replay.changes import Change, ReplayFault
from gateway.replay.stored import StoredCall

FILE_SEARCH = "file_search@1"
"""The template that comes with the gateway, for calls with the tool `file_search` to models without a template."""


def changed_model(configuration: Configuration, call: StoredCall, change: Change) -> Model:
    """The entry of the call's model as this replay needs it. Raises ReplayFault."""
    entry = _entry(configuration, call, change)
    arm = _arm(entry, call)
    update: dict[str, Any] = {"cache": None, "quality": None}
    template = change.template
    if names_its_template(configuration, call):
        template = None  # the request says it
    elif template is None:
        if change.pinned and "prompt" not in call.parameters:
            template = call.template if call.template != FILE_SEARCH else None
        else:
            template = (arm.prompt if arm is not None else None) or entry.prompt
    update |= {"prompt": template} | _routed(configuration, entry, arm, call, change)
    update |= {"retrieval": _retrieval(entry, change)}
    if change.pinned or template is None:
        update["features"] = None  # those that the call had are given to it
    elif entry.features is not None:
        update["features"] = entry.features.model_copy(update={"from_calls": False})  # it is nobody's call
    update["guardrails"] = _guardrails(configuration, entry, change)
    return entry.model_copy(update=update)


def names_its_template(configuration: Configuration, call: StoredCall) -> bool:
    """Whether the caller named a template, of its tenant's own or of the gateway's, for a model that has none."""
    entry = configuration.models.get(call.model or "")
    if "prompt" not in call.parameters or (entry is not None and entry.prompt is not None):
        return False
    arm = _arm(entry, call) if entry is not None else None
    return arm is None or arm.prompt is None


def _entry(configuration: Configuration, call: StoredCall, change: Change) -> Model:
    if call.model is None:
        raise ReplayFault("the call was refused before a model was chosen for it")
    entry = configuration.models.get(call.model)
    if entry is not None:
        return entry
    if call.model.partition("/")[0] not in configuration.providers and change.target is None:
        raise ReplayFault(f"the model {call.model} is not in the configuration any more: name a target for it")
    target = change.target if change.target is not None else call.model
    return Model(targets=[_target(configuration, target)])


def _arm(entry: Model, call: StoredCall) -> TargetEntry | None:
    """Of a model with arms: the one that the call had, or the first."""
    if not entry.has_arms:
        return None
    return next((target for target in entry.targets if target.arm_name == call.arm), entry.targets[0])


def _routed(
    configuration: Configuration, entry: Model, arm: TargetEntry | None, call: StoredCall, change: Change
) -> dict[str, Any]:
    """Targets and strategy. A target that is named, or pinned, is the only one: another's answer would mislead."""
    alone: TargetEntry | None = None
    if change.target is not None:
        alone = _target(configuration, change.target)
    elif change.pinned and call.target is not None:
        known = (*entry.targets, *entry.fallbacks)
        alone = next((target for target in known if _label(target) == call.target), None)
        if alone is None:
            raise ReplayFault(
                f"the model {call.model} has no target {call.target} any more: name another one, or use today's"
            )
    elif arm is not None:
        alone = arm
    if alone is not None:
        _on(configuration, alone)
        plain = alone.model_copy(update={"arm": None, "prompt": None})
        return {"targets": [plain], "fallbacks": [], "strategy": Priority(), "hedge": None}
    return {"strategy": Priority()} if isinstance(entry.strategy, Shadow) else {}


def _target(configuration: Configuration, written: str) -> TargetEntry:
    provider, _, model = written.partition("/")
    if provider not in configuration.providers:
        known = ", ".join(configuration.providers)
        raise ReplayFault(f"there is no provider {provider} for the target {written}; there are {known}")
    target = TargetEntry(provider=provider, model=model)
    _on(configuration, target)
    return target


def _on(configuration: Configuration, target: TargetEntry) -> None:
    provider = configuration.providers.get(target.provider)
    if provider is None or provider.switched_off:
        raise ReplayFault(f"the target {_label(target)} can't be asked: its provider's api_key is empty")


def _label(target: TargetEntry) -> str:
    return f"{target.provider}/{target.model}" if target.model else target.provider


def _retrieval(entry: Model, change: Change) -> ModelRetrieval | None:
    if not change.searches:
        return None  # the passages that the call had are given to it
    if not change.retrieval:
        return entry.retrieval
    if entry.retrieval is None:
        raise ReplayFault("the model has no retrieval whose settings could be changed")
    given = {**entry.retrieval.model_dump(exclude_unset=True), **change.retrieval}
    return _checked(ModelRetrieval, given, "retrieval")  # type: ignore[no-any-return]  # it is one


def _guardrails(configuration: Configuration, entry: Model, change: Change) -> ModelGuardrails:
    own = entry.guardrails
    if change.input_guardrails is None and change.output_guardrails is None:
        return own
    update: dict[str, Any] = {}
    for side, names in (("input", change.input_guardrails), ("output", change.output_guardrails)):
        if names is not None:
            update[side] = _rules(configuration, side, names)
    return own.model_copy(update=update)


def _rules(configuration: Configuration, side: str, names: Sequence[str]) -> Any:
    rules = getattr(_checked(ModelGuardrails, {side: list(names)}, f"{side} guardrails"), side)
    for rule in rules:
        if isinstance(rule, NamedSet) and rule.name not in configuration.guardrails:
            known = ", ".join(configuration.guardrails) or "none"
            raise ReplayFault(f"there is no set of guardrails {rule.name}; there are {known}")
    return rules


def _checked(section: type[ModelRetrieval] | type[ModelGuardrails], given: dict[str, Any], what: str) -> Any:
    try:
        return section.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in (what, *first["loc"]))
        raise ReplayFault(f"{where}: {first['msg']}") from None
