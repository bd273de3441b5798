"""Features of a configuration: each model's stage, and whether what models say of Feast is so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gateway.config.document import Document, Path, parse
from gateway.config.faults import ConfigError, ConfigFault, nearest

if TYPE_CHECKING:
    from features.definitions import Definitions, Feature, Service
    from gateway.config.features import ModelFeatures
    from gateway.config.loading import Loaded
    from gateway.config.models import Configuration, Model
    from gateway.feature_service import FeatureService
    from gateway.stages.features import FeatureStage

log = logging.getLogger(__name__)


def feature_stage(configuration: Configuration, model: Model, features: FeatureService | None) -> FeatureStage | None:
    """None where the model reads no features."""
    if model.features is None or features is None or configuration.features is None:
        return None
    from gateway.stages.features import FeatureStage, headers_of

    asked = model.features
    mapping = asked.mapping(configuration.features)
    events = features.events if asked.from_calls else None
    return FeatureStage(
        features,
        asked.service,
        mapping,
        asked.budget,
        asked.on_failure,
        asked.max_age,
        dict(asked.defaults),
        configuration.feature_owner,
        events.ended if events is not None else None,
        headers_of(mapping),
    )


def check_features(loaded: Loaded, *, apply: bool = False) -> None:
    """Hold the configuration against the Feast repository's definitions. Blocking, some seconds where they are new.

    `apply`: also apply them, where that is to be done. Raises ConfigError. Where Feast can't say now, since a registry
    is away, the gateway goes on: calls have their defaults until it is there.
    """
    configuration = loaded.configuration
    if configuration.features is None:
        return
    from features.repository import WrongDefinitions
    from features.vector import FeaturesUnavailable
    from gateway.feature_service import repository_of

    document = parse(loaded.text, loaded.path.name, _Anything())
    try:
        definitions = repository_of(configuration).definitions(apply=apply)
    except WrongDefinitions as fault:
        raise ConfigError([document.fault(("features", "repo"), str(fault))]) from None
    except FeaturesUnavailable as failure:
        log.warning("what models say of features is not checked: %s", failure)
        return
    faults = list(_Check(configuration, document, definitions).faults())
    if faults:
        raise ConfigError(sorted(faults, key=lambda fault: (fault.line, fault.column)))


# What a template's front matter calls a type, as the beginnings of Feast's own names.
_TYPES = {
    "string": ("String", "UnixTimestamp", "Uuid"),
    "number": ("Float", "Int", "Decimal"),
    "integer": ("Int",),
    "boolean": ("Bool",),
}


class _Anything(dict[str, str]):
    """The environment of a text that was expanded before: only its places are asked for now."""

    def get(self, name: str, default: Any = None) -> Any:
        return ""


class _Check:
    def __init__(self, configuration: Configuration, document: Document, definitions: Definitions) -> None:
        self._configuration = configuration
        self._document = document
        self._definitions = definitions

    def faults(self) -> Iterator[ConfigFault]:
        definitions, settings = self._definitions, self._configuration.features
        assert settings is not None
        keys = {key for service in definitions.services.values() for key in (*service.join_keys, *service.inputs)}
        keys |= set(definitions.entity_types)
        for join_key in settings.entities:
            if join_key not in keys:
                yield self._fault(("features", "entities", join_key), "is no join key of this Feast repository", keys)
        if settings.from_calls is not None:
            yield from self._from_calls(("features", "from_calls"))
        for name, model in self._configuration.models.items():
            if model.features is None:
                continue
            path: Path = ("models", name, "features")
            service = definitions.services.get(model.features.service)
            if service is None:
                known = definitions.services
                wanted = model.features.service
                yield self._fault((*path, "service"), f"there is no feature service `{wanted}`", known, wanted)
                continue
            yield from self._model(path, model.features, service)
            yield from self._template(path, model, service)

    def _model(self, path: Path, asked: ModelFeatures, service: Service) -> Iterator[ConfigFault]:
        settings = self._configuration.features
        assert settings is not None
        mapping = asked.mapping(settings)
        needed = (*service.join_keys, *service.inputs)
        for join_key in (*asked.entities, *([asked.entity] if asked.entity is not None else ())):
            if join_key not in needed:
                where = (*path, "entities", join_key) if join_key in asked.entities else (*path, "entity")
                yield self._fault(where, f"`{join_key}` is no join key that `{service.name}` needs", needed)
        for join_key in needed:
            if join_key not in mapping:
                what = "an entity" if join_key in service.join_keys else "a value of the call"
                example = "{input." + join_key + "}" if join_key in service.inputs else "{metadata." + join_key + "}"
                yield self._fault(
                    path,
                    f"the feature service `{service.name}` needs {what}, `{join_key}`: say what it is made of, "
                    f'`entities: {{{join_key}: "{example}"}}`',
                )
        features = {service.called(feature): feature for feature in service.features}
        for name, default in asked.defaults.items():
            if name not in features:
                yield self._fault((*path, "defaults", name), f"is no feature of `{service.name}`", features)
            elif not _fits(default, features[name].type):
                yield self._fault((*path, "defaults", name), f"should be of the feature's type, {features[name].type}")
        for name in asked.max_age if isinstance(asked.max_age, dict) else ():
            if name not in features:
                yield self._fault((*path, "max_age", name), f"is no feature of `{service.name}`", features)
        yield from self._sensitivity(path, service)

    def _sensitivity(self, path: Path, service: Service) -> Iterator[ConfigFault]:
        residency = self._configuration.residency
        for feature in service.features:
            label = feature.sensitivity
            if residency is None and feature.sensitive:
                yield self._fault(
                    (*path, "service"),
                    f"its feature `{feature.name}` is tagged sensitive, and nothing says which targets are on the "
                    "premises: write a `residency` section",
                )
                return
            if residency is not None and label is not None and label not in residency.labels:
                said = f"its feature `{feature.name}` is tagged `{label}`, which is not one of residency.labels"
                yield self._fault((*path, "service"), said, residency.labels)

    def _template(self, path: Path, model: Model, service: Service) -> Iterator[ConfigFault]:
        """Of templates in files; others may change while the gateway runs."""
        from gateway.prompts.library import TemplateFault, TemplateLibrary

        folder = self._configuration.prompts.folder
        references = {model.prompt, *(entry.prompt for entry in model.targets)} - {None}
        if not references or not folder.is_dir():
            return
        try:
            library = TemplateLibrary.load(folder)
        except TemplateFault:
            return  # whoever compiles it says so
        features = {service.called(feature): feature for feature in service.features}
        for reference in sorted(str(each) for each in references):
            template = library.templates.get(reference)
            for name in template.defaults if template is not None else ():
                if name not in features:
                    said = f"the template {reference} uses `{name}`, which is no feature of `{service.name}`"
                    yield self._fault((*path, "service"), said, features)
            for name, declared in template.front.features.items() if template is not None else ():
                if (feature := features.get(name)) is None:
                    continue
                if declared.type is not None and not feature.type.startswith(_TYPES[declared.type]):
                    said = f"the template {reference} takes `{name}` for {declared.type}, and it is {feature.type}"
                    yield self._fault((*path, "service"), said)
                elif declared.unit and feature.unit and declared.unit != feature.unit:
                    said = f"the template {reference} takes `{name}` in {declared.unit}, and it is in {feature.unit}"
                    yield self._fault((*path, "service"), said)

    def _from_calls(self, path: Path) -> Iterator[ConfigFault]:
        from gateway.feature_events import FITS

        settings = self._configuration.features
        assert settings is not None
        assert settings.from_calls is not None
        asked = settings.from_calls
        views = self._definitions.pushed_to(asked.push_source)
        if not views:
            known = self._definitions.push_sources
            yield self._fault(
                (*path, "push_source"), f"there is no push source `{asked.push_source}`", known, asked.push_source
            )
            return
        features: dict[str, Feature] = {feature.name: feature for view in views for feature in view.features}
        for name, fact in asked.features.items():
            where = (*path, "features", name)
            if name not in features:
                yield self._fault(where, f"is no feature that `{asked.push_source}` feeds", features)
            elif features[name].type not in FITS[fact]:
                yield self._fault(where, f"is of the type {features[name].type}; `{fact}` needs one of", FITS[fact])
        known_users = {join_key for join_key, _ in self._configuration.user_entities.templates}
        for join_key in sorted({key for view in views for key in view.join_keys} - known_users):
            said = f"its rows are about `{join_key}`, which no model knows a user by"
            yield self._fault((*path, "push_source"), said, known_users)

    def _fault(self, path: Path, message: str, known: Any = (), wanted: str = "") -> ConfigFault:
        allowed = tuple(sorted(known))
        suggestion = nearest(wanted or str(path[-1]), allowed)
        return self._document.fault(path, message, allowed=allowed, suggestion=suggestion)


def _fits(value: Any, kind: str) -> bool:
    if kind.startswith(("Array(", "Set(")):
        return isinstance(value, list) and all(_fits(item, kind.partition("(")[2][:-1]) for item in value)
    if kind == "Bool":
        return isinstance(value, bool)
    if kind.startswith("Int"):
        return isinstance(value, int) and not isinstance(value, bool)
    if kind.startswith("Float"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, str)
