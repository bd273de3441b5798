"""A check of the operator's own, in Python: whatever an entry point makes, once it has the form of a check."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any, get_args

from guardrails.policy import Check
from guardrails.text_checks import Cost, TextCheck

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def load(entry_point: str, settings: Mapping[str, Any]) -> TextCheck | Check:
    """What `MODULE:NAME` makes of `settings`. Raises ValueError where it can't, or makes something else."""
    module, _, name = entry_point.partition(":")
    try:
        maker: Any = importlib.import_module(module)
        for part in name.split("."):
            maker = getattr(maker, part)
    except (ImportError, AttributeError) as failure:
        raise ValueError(f"`{entry_point}` can't be loaded: {failure}") from None
    try:
        check = maker(**settings)
    except TypeError as failure:
        raise ValueError(f"`{entry_point}` does not take these settings: {failure}") from None
    missing = [
        part for part in ("name", "version", "default_action") if not isinstance(getattr(check, part, None), str)
    ]
    kinds = (("judge", "cost"), ("worth", "find", "mask"))
    if missing or not any(all(hasattr(check, part) for part in kind) for kind in kinds):
        raise ValueError(f"`{entry_point}` does not make a check: docs/guardrails.md has its form")
    if hasattr(check, "judge") and check.cost not in get_args(Cost):
        raise ValueError(f"`{entry_point}`: `cost` is one of {', '.join(get_args(Cost))}")
    if not _NAME.fullmatch(check.name):
        raise ValueError(f"`{entry_point}`: a check's name is 1 to 64 letters, digits or `_.-`")
    loaded: TextCheck | Check = check
    return loaded
