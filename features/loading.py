"""Feast, loaded without what it loads for nothing: torch, for tensors that nobody asks it for here.

Feast does without torch where it is not installed. It costs 180 MB in each process, and a second of its start.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def without_torch() -> Iterator[None]:
    """While inside, an import of torch fails, in all threads; what has loaded it before keeps it."""
    with _one_at_a_time:
        if "torch" in sys.modules:
            yield
            return
        sys.modules["torch"] = None  # type: ignore[assignment]  # Python's own way to say that there is none
        try:
            yield
        finally:
            del sys.modules["torch"]
