"""What two versions of a template say differently, line by line."""

from __future__ import annotations

import difflib


def difference(before: str, after: str, before_name: str, after_name: str) -> str:
    """A unified diff; "" where both say the same."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), fromfile=before_name, tofile=after_name, lineterm=""
    )
    return "\n".join(lines)
