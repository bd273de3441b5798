"""Checks by name: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guardrails.outside import Outside, Post
from guardrails.policy import Check
from guardrails.text_checks import TextCheck

RUNS = frozenset({"secrets", "pii"})
"""The checks of runs; all others judge whole texts."""


def build_check(name: str, settings: Mapping[str, Any], outside: Outside | None = None) -> Check | TextCheck:
    """The check of that name; its libraries are imported here and nowhere before. Raises ValueError.

    `outside`: what checks may need that ask a model or a server.
    """
    given = dict(settings)
    try:
        return _built(name, given, outside)
    except TypeError as failure:
        raise ValueError(f"the check `{name}` can't be made: {failure}") from None


def _built(name: str, given: dict[str, Any], outside: Outside | None) -> Check | TextCheck:
    match name:
        case "secrets":
            from guardrails.checks.secrets import Secrets

            if given:
                raise ValueError(f"the check `secrets` has no setting {sorted(given)[0]}")
            return Secrets()
        case "pii":
            from guardrails.checks.pii import PersonalData

            if unknown := sorted(set(given) - {"entities", "min_score"}):
                raise ValueError(f"the check `pii` has no setting {unknown[0]}; it has `entities` and `min_score`")
            return PersonalData(**given)
        case "keywords":
            from guardrails.checks.keywords import Keywords, WordList

            return Keywords([WordList(**one) for one in given["lists"]])
        case "exfiltration":
            from guardrails.checks.exfiltration import Exfiltration

            return Exfiltration(**given)
        case "injection":
            from guardrails.checks.injection import Injection

            return Injection(**_with_models(given, outside))
        case "leaked_instructions":
            from guardrails.checks.leaked_instructions import LeakedInstructions

            return LeakedInstructions(**given)
        case "groundedness":
            from guardrails.checks.groundedness import Groundedness

            return Groundedness(**_with_models(given, outside))
        case "topics":
            from guardrails.checks.topics import Topic, Topics

            for side in ("allowed", "denied"):
                given[side] = [Topic(**one) for one in given.get(side, ())]
            return Topics(**_with_models(given, outside))
        case "language":
            from guardrails.checks.language import Language

            return Language(**given)
        case "length":
            from guardrails.checks.length import Length

            return Length(**given)
        case "code":
            from guardrails.checks.code import Code

            return Code(**given)
        case "citations":
            from guardrails.checks.citations import Citations

            return Citations(**given)
        case "schema":
            from guardrails.checks.schema import JsonSchema

            return JsonSchema(**given)
        case "tools":
            from guardrails.checks.tool_policy import ToolPolicy

            tools = ToolPolicy(**given)
            tools.name = "tools"  # as it is configured
            return tools
        case "moderation":
            from guardrails.checks.moderation import Moderation

            return Moderation(_post(given, outside), **given)
        case "guard_model":
            from guardrails.checks.guard_models import GuardModel, path

            given["url"] = given["url"].rstrip("/").removesuffix("/v1") + path(given["family"])
            return GuardModel(_post(given, outside), **given)
        case "python":
            from guardrails.checks.entry_point import load

            return load(given["entry_point"], given.get("settings", {}))
        case "webhook":
            from guardrails.checks.webhook import Webhook

            return Webhook(_post(given, outside), **given)
        case _:
            raise ValueError(f"there is no check `{name}`")


def _post(given: dict[str, Any], outside: Outside | None) -> Post:
    """What posts to the server that is named."""
    return _needed(outside).post(given.pop("url"), given.pop("headers", {}), given.pop("timeout"))


def _with_models(given: dict[str, Any], outside: Outside | None) -> dict[str, Any]:
    """Names of models as what asks them: `embeddings` becomes `embed`, `judge` becomes `complete`."""
    for name, taken in (("embeddings", "embed"), ("judge", "complete")):
        if (target := given.pop(name, None)) is not None:
            world = _needed(outside)
            given[taken] = world.embed(target) if taken == "embed" else world.complete(target)
            given["model"] = target
    return given


def _needed(outside: Outside | None) -> Outside:
    if outside is None:
        raise ValueError("this check asks a model or a server, and nobody has said how")
    return outside
