"""Checks by name: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Mapping

from guardrails.policy import Check


def build_check(name: str, settings: Mapping[str, object]) -> Check:
    """The check of that name; its libraries are imported here and nowhere before. Raises ValueError."""
    match name:
        case "secrets":
            from guardrails.checks.secrets import Secrets

            if settings:
                raise ValueError(f"the check `secrets` has no setting {sorted(settings)[0]}")
            return Secrets()
        case "pii":
            from guardrails.checks.pii import PersonalData

            if unknown := sorted(set(settings) - {"entities", "min_score"}):
                raise ValueError(f"the check `pii` has no setting {unknown[0]}; it has `entities` and `min_score`")
            return PersonalData(**settings)  # type: ignore[arg-type]  # the configuration's model has typed them
        case _:
            raise ValueError(f"there is no check `{name}`; there are `secrets` and `pii`")
