"""From a file to a checked configuration, or to all of its faults."""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config.document import Document, parse
from gateway.config.faults import ConfigError, ConfigFault, nearest
from gateway.config.guardrails import CHECKS
from gateway.config.models import Configuration
from gateway.config.providers import HttpProvider, Provider, Vertex
from gateway.config.references import check_references
from gateway.config.routing import StrategyName

_MAX_FILE = 2_000_000
_KINDS = {get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(Provider)[0])}
_STRATEGIES = set(get_args(StrategyName))
_CHECK_TAGS = CHECKS | {"set"}

# Pydantic's words for what was written, where plain ones say it shorter.
_WORDS = {
    "dict_type": "should be a mapping",
    "model_type": "should be a mapping",
    "model_attributes_type": "should be a mapping",
    "list_type": "should be a list",
    "string_type": "should be text; put quotes around it",
    "path_type": "should be a path",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "too_short": "should name at least one",
    "string_too_short": "is empty",
}
_FORMS = {
    "hash": "should be `sha256:` and 64 hexadecimal digits, as `rag-gateway keys create` prints it",
    "prompt": "should be NAME@VERSION or NAME@LABEL, like handbook@1 or handbook@production",
    "tenant": "should be 1 to 64 letters, digits, `-` or `_`",
    "user_header": "should be a header's name, like x-user-id",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be assembled. `revision` names it; `notices` are what an operator should know; `text` is
    what the file said, for other processes of this gateway."""

    configuration: Configuration
    path: Path
    revision: str
    notices: tuple[str, ...]
    text: str = field(default="", repr=False)
    awaited: tuple[tuple[str, ConfigFault], ...] = ()
    """Prompt templates that are not in the folder, and what is wrong where the record store does not have them either."""


def load(path: Path, env: Mapping[str, str] = os.environ) -> Loaded:
    """The configuration in `path`, its relative paths resolved against that file's folder. Raises ConfigError."""
    name = path.name
    try:
        if path.stat().st_size > _MAX_FILE:
            raise ConfigError([ConfigFault(name, 1, 1, "", f"larger than {_MAX_FILE} bytes")])
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError([ConfigFault(str(path), 1, 1, "", f"can't be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigError([ConfigFault(name, 1, 1, "", "is not UTF-8")]) from None
    return load_text(text, path, env)


def load_text(text: str, path: Path, env: Mapping[str, str] = os.environ) -> Loaded:
    """The same for what was read from `path` before, whatever that file holds now. Raises ConfigError."""
    document = parse(text, path.name, env)
    configuration = _validated(document)
    if document.faults or configuration is None:
        raise ConfigError(sorted(document.faults, key=lambda fault: (fault.line, fault.column)))
    configuration = _with_paths(configuration, path.resolve().parent)
    faults, notices, awaited = check_references(configuration, document)
    if faults:
        raise ConfigError(sorted(faults, key=lambda fault: (fault.line, fault.column)))
    # The text before expansion names the revision: it holds no secret that the environment does.
    revision = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Loaded(configuration, path, revision, tuple(notices), text, tuple(awaited))


def check_exposure(
    configuration: Configuration, host: str, name: str, stored: Callable[[], bool] = lambda: False
) -> None:
    """Refuse to listen beyond loopback without an admin key, or anywhere with no way in. Raises ConfigError.

    `stored` tells whether the record store has an admin key; it is asked only where the file has none.
    """
    access = configuration.access
    if is_loopback(host):
        if not access.keys and not access.tokens and not access.open_on_loopback and not stored():
            message = "no key is configured and open mode is off: `rag-gateway keys create --admin` makes one"
            raise ConfigError([ConfigFault(name, 1, 1, "access", message)])
    elif not any(key.granted_role == "admin" and key.scope == "gateway" for key in access.keys) and not stored():
        message = (
            f"refusing to listen on {host} without an admin key: create one with "
            "`rag-gateway keys create --name admin --admin`"
        )
        raise ConfigError([ConfigFault(name, 1, 1, "access.keys", message)])


def check_workers(loaded: Loaded, count: int) -> None:
    """Refuse several workers where each would count and keep for itself, or would get no part of a server's queue.

    Raises ConfigError.
    """
    if count == 1:
        return
    configuration, name = loaded.configuration, loaded.path.name
    if not configuration.state.shared:
        raise ConfigError([_unshared(configuration, count, name)])
    document = parse(loaded.text, name, os.environ)
    narrow = [
        document.fault(
            ("providers", provider, "queue", "concurrency"),
            f"{count} workers can't share a concurrency of {queue.concurrency}, of which each has a part: run at most "
            f"{queue.concurrency}, or let the server have {count} calls at a time",
        )
        for provider, settings in configuration.providers.items()
        if isinstance(settings, HttpProvider) and (queue := settings.queue) is not None and queue.concurrency < count
    ]
    if narrow:
        raise ConfigError(narrow)


def _unshared(configuration: Configuration, count: int, name: str) -> ConfigFault:
    here = [f"models.{model}.cache" for model, entry in configuration.models.items() if entry.cache is not None]
    if configuration.limits:
        here.insert(0, "limits")
    concerned = f"{', '.join(here)} of this configuration, and " if here else ""
    message = (
        f"{count} workers need a state that they share: with {configuration.state.url} each of them would count limits "
        f"and budgets for itself, and keep answers of its own ({concerned}the limits that a key is given at any time). "
        "Start a Redis and set `state: {url: redis://HOST:6379/0}`, or run one worker"
    )
    return ConfigFault(name, 1, 1, "state.url", message)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _validated(document: Document) -> Configuration | None:
    if not isinstance(document.values, dict):
        document.faults.append(document.fault((), "a configuration is a mapping that has at least `providers`"))
        return None
    try:
        return Configuration.model_validate(document.values)
    except ValidationError as error:
        document.faults += [_fault(document, detail) for detail in error.errors(include_url=False)]
        return None


def _fault(document: Document, detail: ErrorDetails) -> ConfigFault:
    """Pydantic's finding in plain words. The offending value itself is not repeated: it may be a secret."""
    # A union puts into the path which of its forms is meant; the file has no such level.
    path = tuple(part for order, part in enumerate(detail["loc"]) if not _is_tag(detail["loc"], order))
    context: dict[str, Any] = detail.get("ctx") or {}
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = _known_keys(path[:-1], document)
        return document.fault(
            path, "is not a setting", allowed=tuple(sorted(known)), suggestion=nearest(str(path[-1]), known)
        )
    if kind == "missing":
        return document.fault(path, "is missing")
    if kind in ("literal_error", "enum"):
        allowed = tuple(word.strip(" '") for word in context["expected"].replace(" or ", ", ").split(","))
        given = detail["input"] if isinstance(detail["input"], str) else ""
        return document.fault(
            path, "is not one of what is allowed", allowed=allowed, suggestion=nearest(given, allowed)
        )
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        given = str(context.get("tag", ""))
        if "guardrails" in path:
            if given == "set":
                return document.fault(path, "a set holds rules, not another set's name")
            return document.fault(
                (*path, "check"), "names no check", allowed=tuple(sorted(CHECKS)), suggestion=nearest(given, CHECKS)
            )
        kinds = tuple(sorted(word.strip(" '") for word in context.get("expected_tags", "").split(","))) or tuple(_KINDS)
        if path[0] != "providers":
            return document.fault(
                path, "is not one of what is allowed", allowed=kinds, suggestion=nearest(given, kinds)
            )
        return document.fault(
            (*path, "kind"),
            "names the kind of provider",
            allowed=tuple(sorted(_KINDS)),
            suggestion=nearest(given, _KINDS),
        )
    if detail["input"] is None:
        return document.fault(path, "is empty")
    if kind == "string_pattern_mismatch":
        return document.fault(path, _FORMS.get(str(path[-1]), f"does not fit the pattern {context['pattern']}"))
    message = _WORDS.get(kind) or detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return document.fault(path, message[:1].lower() + message[1:])


def _is_tag(location: tuple[str | int, ...], order: int) -> bool:
    if isinstance(part := location[order], str) and part.startswith(("function-", "literal[")):
        return True
    if location[0] == "providers":
        return order == 2 and location[order] in _KINDS
    if location[order] in _CHECK_TAGS and isinstance(location[order - 1], int):
        return location[order - 2] in ("input", "output") or (order == 3 and location[0] == "guardrails")
    return order == 3 and location[0] == "models" and location[2] == "strategy" and location[order] in _STRATEGIES


def _known_keys(path: tuple[str | int, ...], document: Document) -> set[str]:
    """What may stand at `path`, found by walking the models the way that Pydantic did."""
    model: Any = Configuration
    values: Any = document.values
    for part in path:
        values = values[part] if isinstance(values, (dict, list)) else None  # type: ignore[index]  # a fault's own path
        model = _step(model, part, values)
        if model is None:
            return set()
    return {f.alias or name for name, f in model.model_fields.items()} if hasattr(model, "model_fields") else set()


def _step(model: Any, part: str | int, values: Any) -> Any:
    if hasattr(model, "model_fields"):
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        return _unwrapped(fields[str(part)].annotation, values) if part in fields else None
    arguments = get_args(model)
    return _unwrapped(arguments[-1], values) if arguments else None


def _unwrapped(annotation: Any, values: Any) -> Any:
    """The model behind Annotated, unions and options; for providers, the one that `kind` names."""
    arguments = get_args(annotation)
    if hasattr(annotation, "model_fields") or not arguments:
        return annotation
    if getattr(annotation, "__origin__", None) in (dict, list):
        return annotation
    if hasattr(annotation, "__metadata__"):
        return _unwrapped(arguments[0], values)
    models = [a for a in arguments if a is not type(None)]
    for candidate in models:
        for name in ("kind", "check"):
            kind = getattr(candidate, "model_fields", {}).get(name)
            if kind is not None and isinstance(values, dict) and values.get(name) in get_args(kind.annotation):
                return candidate
    return _unwrapped(models[0], values)


def _with_paths(configuration: Configuration, folder: Path) -> Configuration:
    def resolved(path: Path) -> Path:
        return Path(os.path.normpath(folder / os.path.expanduser(path)))

    updates: dict[str, Any] = {"data_dir": resolved(configuration.data_dir)}
    prompts = configuration.prompts
    updates["prompts"] = prompts.model_copy(update={"folder": resolved(prompts.folder)})
    updates["providers"] = {
        name: provider.model_copy(update={"credentials": resolved(provider.credentials)})
        if isinstance(provider, Vertex) and provider.credentials is not None
        else provider
        for name, provider in configuration.providers.items()
    }
    if (features := configuration.features) is not None:
        sample = features.sample_users
        updates["features"] = features.model_copy(
            update={"repo": resolved(features.repo), "sample_users": resolved(sample) if sample else None}
        )
    if (knowledge := configuration.retrieval) is not None:
        collections = {
            name: entry.model_copy(update={"load": [resolved(path) for path in entry.load]})
            for name, entry in knowledge.collections.items()
        }
        updates["retrieval"] = knowledge.model_copy(update={"collections": collections})
    url = configuration.records.url or f"sqlite:///{updates['data_dir']}/gateway.db"
    if url.startswith("sqlite:"):
        url = f"sqlite:///{resolved(Path(url.removeprefix('sqlite:///')))}"
    updates["records"] = configuration.records.model_copy(update={"url": url})
    return configuration.model_copy(update=updates)
