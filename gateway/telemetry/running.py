"""Which call runs here: what log lines are told by."""

from __future__ import annotations

from contextvars import ContextVar

RUNNING: ContextVar[tuple[str, str, str] | None] = ContextVar("running", default=None)
"""The call's trace id, span id and call id; texts only, since what a call opens and leaves open keeps them."""
