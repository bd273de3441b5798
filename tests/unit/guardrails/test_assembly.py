"""Checks are built by name; what can't be built says why."""

from __future__ import annotations

import subprocess
import sys

import pytest

from guardrails.assembly import build_check


@pytest.mark.parametrize(("name", "action"), [("secrets", "block"), ("pii", "mask")])
def test_a_check_has_its_name_a_version_and_a_default_action(name: str, action: str) -> None:
    check = build_check(name, {})
    assert (check.name, check.default_action, bool(check.version)) == (name, action, True)


@pytest.mark.parametrize(
    ("name", "told", "message"),
    [
        ("thoughts", {}, "there is no check `thoughts`"),
        ("secrets", {"entities": []}, "the check `secrets` has no setting entities"),
        ("pii", {"entity": "X"}, "the check `pii` has no setting entity"),
        ("pii", {"entities": ["PERSON"]}, "there is no entity `PERSON`; there are EMAIL_ADDRESS"),
    ],
)
def test_what_is_not_known_is_refused_by_name(name: str, told: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_check(name, told)


def test_policies_and_verdicts_are_imported_without_the_libraries_of_checks() -> None:
    """A gateway without guardrails pays nothing for them."""
    heavy = "presidio_analyzer spacy detect_secrets re2"
    code = f"import sys, guardrails.policy, guardrails.assembly; sys.exit(any(m in sys.modules for m in '{heavy}'.split()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
