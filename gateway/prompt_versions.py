"""Templates that were made through the admin API, as the record store keeps them: versions, labels, and their moves.

A version is a draft until it is released, and never changes after; a label points at a released one. `tenant` is whose
a template is, "" for the gateway's own. Times are in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["draft", "released"]


class PromptsUnavailable(Exception):
    """The record store can't be asked for templates now."""


class PromptRefused(Exception):
    """What was asked for does not go with what there is. `missing`: because that is not there."""

    def __init__(self, message: str, param: str | None = None, *, missing: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.missing = missing


@dataclass(frozen=True, slots=True)
class StoredVersion:
    tenant: str
    name: str
    version: int
    source: str
    content_hash: str
    status: Status
    created_at: float
    created_by: str
    notes: str = ""
    released_at: float | None = None
    released_by: str | None = None

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"

    def told(self, *, source: bool = True) -> dict[str, Any]:
        told = {
            "object": "prompt.version",
            "name": self.name,
            "version": self.version,
            "tenant": self.tenant or None,
            "status": self.status,
            "hash": self.content_hash,
            "notes": self.notes,
            "created_at": self.created_at,
            "created_by": self.created_by,
            "released_at": self.released_at,
            "released_by": self.released_by,
            "from": "store",
        }
        return {**told, "source": self.source} if source else told


@dataclass(frozen=True, slots=True)
class StoredLabel:
    """`version` is None for a label that was taken away."""

    tenant: str
    name: str
    label: str
    version: int | None
    changed_at: float
    changed_by: str


@dataclass(frozen=True, slots=True)
class Move:
    """A label that was moved. `action` is label, rollback or unlabel."""

    at: float
    name: str
    label: str
    action: str
    before: int | None
    after: int | None
    actor: str
    reason: str

    def told(self) -> dict[str, Any]:
        return {
            "object": "prompt.event", "at": self.at, "name": self.name, "action": f"prompts.{self.action}",
            "label": self.label, "before": self.before, "after": self.after, "actor": self.actor, "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What a suite said of one version; `content_hash` is of the text that was tested, `suite` of the suite's."""

    at: float
    actor: str
    version: int
    content_hash: str
    suite: str
    passed: int
    failed: int
    detail: Mapping[str, Any]

    def told(self) -> dict[str, Any]:
        return {
            "object": "prompt.suite_result", "at": self.at, "actor": self.actor, "version": self.version,
            "hash": self.content_hash, "suite": self.suite, "passed": self.passed, "failed": self.failed,
            **self.detail,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class PromptChanges:
    """What was released or labelled after a sequence number, up to `sequence`."""

    sequence: int
    versions: tuple[StoredVersion, ...] = ()
    labels: tuple[StoredLabel, ...] = ()


def before_in(moves: list[Move], label: str) -> int | None:
    """The version that a rollback of `label` goes back to, from all moves of its name, the oldest first.

    A second rollback goes back by one more, not forth again.
    """
    trail: list[int] = []
    for move in moves:
        if move.label != label:
            continue
        if move.action == "rollback":
            if trail:
                trail.pop()
        elif move.before is not None:
            trail.append(move.before)
    return trail[-1] if trail else None
