"""Libraries that another one would load for nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """Imports inside behave as if these packages were not installed; those that are loaded already stay."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # how `import` is told that there is none
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, absent) is None:
                del sys.modules[name]
