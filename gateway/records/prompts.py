"""Prompt templates in the record store. What changes them is logged in the same transaction.

Each change counts a row of `access_sequence` up and keeps it until it is in: who has seen everything up to a number has
missed nothing, and of two who release or move the same, the second sees what the first has done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from gateway.prompt_versions import (
    Move,
    PromptChanges,
    PromptRefused,
    PromptsUnavailable,
    StoredLabel,
    StoredVersion,
    SuiteResult,
    before_in,
)
from gateway.records import audit_log
from gateway.records.database import Database, StoreUnavailable
from gateway.records.schema import access_sequence, prompt_labels, prompt_moves, prompt_results, prompt_versions
from gateway.tenancy import Actor, Deed

PROMPTS_CHANGED = 3
"""The row of `access_sequence` that counts changes of templates."""

MOST_VERSIONS = 1_000
"""Of one tenant, drafts among them. Every worker holds the released ones."""
MOST_CHARACTERS = 4_000_000
"""Of one tenant's texts, all together."""

_COLUMNS = (
    "tenant", "name", "version", "source", "content_hash", "status", "created_at", "created_by", "notes", "released_at",
    "released_by",
)  # fmt: skip
_LABEL_COLUMNS = ("tenant", "name", "label", "version", "changed_at", "changed_by")


class PromptStore:
    """Blocking; any thread may. Raises StoreUnavailable, but for `changes`: PromptsUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- what every worker asks ----------------------------------------------------------------------------
    def changes(self, since: int) -> PromptChanges:
        try:
            with self._database.reading() as connection:
                sequence = int(connection.execute(_sequence()).scalar_one())
                if sequence <= since:
                    return PromptChanges(sequence)
                released = prompt_versions.c.status == "released"
                newer = select(*prompt_versions.c[_COLUMNS]).where(prompt_versions.c.sequence > since, released)
                moved = select(*prompt_labels.c[_LABEL_COLUMNS]).where(prompt_labels.c.sequence > since)
                return PromptChanges(
                    sequence,
                    tuple(StoredVersion(*row) for row in connection.execute(newer)),
                    tuple(StoredLabel(*row) for row in connection.execute(moved)),
                )
        except StoreUnavailable as failure:
            raise PromptsUnavailable(str(failure)) from None
        except SQLAlchemyError as failure:
            raise PromptsUnavailable(f"the record store can't be read: {type(failure).__name__}") from None

    # -- what is shown -------------------------------------------------------------------------------------
    def versions(self, tenants: frozenset[str] | None, name: str | None = None) -> list[StoredVersion]:
        """By tenant, name and number; `tenants` has "" for the gateway's own, None is all of them."""
        table = prompt_versions
        query = select(*table.c[_COLUMNS]).order_by(table.c.tenant, table.c.name, table.c.version)
        if tenants is not None:
            query = query.where(table.c.tenant.in_(sorted(tenants)))
        if name is not None:
            query = query.where(table.c.name == name)
        with self._database.reading() as connection:
            return [StoredVersion(*row) for row in connection.execute(query)]

    def version(self, tenant: str, name: str, version: int) -> StoredVersion | None:
        with self._database.reading() as connection:
            return _version(connection, tenant, name, version)

    def labels(self, tenants: frozenset[str] | None, name: str | None = None) -> list[StoredLabel]:
        table = prompt_labels
        query = select(*table.c[_LABEL_COLUMNS]).where(table.c.version.is_not(None)).order_by(table.c.label)
        if tenants is not None:
            query = query.where(table.c.tenant.in_(sorted(tenants)))
        if name is not None:
            query = query.where(table.c.name == name)
        with self._database.reading() as connection:
            return [StoredLabel(*row) for row in connection.execute(query)]

    def moves(self, tenant: str, name: str) -> list[Move]:
        """All of them, the oldest first."""
        with self._database.reading() as connection:
            return _moves(connection, tenant, name)

    def results(self, tenant: str, name: str, version: int) -> list[SuiteResult]:
        """What suites said of a version, the newest first."""
        with self._database.reading() as connection:
            return _results(connection, tenant, name, version)

    # -- what is done --------------------------------------------------------------------------------------
    def add_draft(
        self, tenant: str, name: str, make: Callable[[int], tuple[str, str]], above: int, notes: str, actor: Actor
    ) -> StoredVersion:
        """A new draft, of the next number, which is greater than `above`. `make` gives its text and hash.

        Raises PromptRefused where its tenant has too many.
        """
        with self._changing() as (connection, number):
            table = prompt_versions
            mine = (table.c.tenant == tenant) & (table.c.name == name)
            newest = connection.scalar(select(func.max(table.c.version)).where(mine)) or 0
            version = max(newest, above) + 1
            source, content_hash = make(version)
            _check_room(connection, tenant, 1, len(source))
            draft = StoredVersion(
                tenant, name, version, source, content_hash, "draft", time.time(), actor.key_name, notes
            )
            connection.execute(table.insert().values(**_columns(draft), sequence=number))
            _log(connection, actor, "create", draft.reference, tenant, None, draft.told(source=False))
        return draft

    def change_draft(
        self,
        tenant: str,
        name: str,
        version: int,
        make: Callable[[int], tuple[str, str]],
        notes: str | None,
        expected: str | None,
        actor: Actor,
    ) -> StoredVersion:
        """Other text for a draft. `expected` is the hash that it has to have before. Raises PromptRefused."""
        with self._changing() as (connection, number):
            before = _draft(connection, tenant, name, version, expected)
            source, content_hash = make(version)
            _check_room(connection, tenant, 0, len(source) - len(before.source))
            connection.execute(
                _where(update(prompt_versions), before).values(
                    source=source,
                    content_hash=content_hash,
                    notes=before.notes if notes is None else notes,
                    sequence=number,
                )
            )
            after = _version(connection, tenant, name, version)
            assert after is not None
            told = before.told(source=False), after.told(source=False)
            _log(connection, actor, "change", before.reference, tenant, *told)
        return after

    def delete_draft(self, tenant: str, name: str, version: int, actor: Actor) -> None:
        """Raises PromptRefused: what was released stays, since calls and models name it."""
        with self._changing() as (connection, _):
            before = _draft(connection, tenant, name, version, None)
            connection.execute(_where(delete(prompt_versions), before))
            connection.execute(
                delete(prompt_results).where(
                    prompt_results.c.tenant == tenant,
                    prompt_results.c.name == name,
                    prompt_results.c.version == version,
                )
            )
            _log(connection, actor, "delete", before.reference, tenant, before.told(), None)

    def release(
        self, tenant: str, name: str, version: int, expected: str | None, needs_suite: bool, reason: str, actor: Actor
    ) -> StoredVersion:
        """From now on it is for use and never changes. Raises PromptRefused.

        `needs_suite`: only where the newest result of a suite is of this very text, and passed.
        """
        with self._changing() as (connection, number):
            before = _draft(connection, tenant, name, version, expected)
            if needs_suite:
                _check_suite(_results(connection, tenant, name, version), before)
            connection.execute(
                _where(update(prompt_versions), before).values(
                    status="released", released_at=time.time(), released_by=actor.key_name, sequence=number
                )
            )
            after = _version(connection, tenant, name, version)
            assert after is not None
            told = before.told(source=False), after.told(source=False)
            _log(connection, actor, "release", before.reference, tenant, *told, reason)
        return after

    def label(
        self,
        tenant: str,
        name: str,
        label: str,
        version: int | None,
        in_files: frozenset[int],
        now: int | None,
        expected: int | None,
        reason: str,
        actor: Actor,
    ) -> StoredLabel:
        """Point a label at a released version, or at none. Raises PromptRefused.

        `in_files` are the versions that are files; `now` is where the label points by a file's own word, while the
        store says nothing of it; `expected`, where it has to point before.
        """
        with self._changing() as (connection, number):
            known, before = _label(connection, tenant, name, label)
            before = before if known else now
            if expected is not None and before != expected:
                raise PromptRefused(f"'{label}' points at {before or 'nothing'}, not at {expected}.", "expected")
            if version is not None and version not in in_files:
                _check_released(connection, tenant, name, version)
            action = "label" if version is not None else "unlabel"
            return _move(connection, number, tenant, name, label, action, before, version, known, reason, actor)

    def rollback(
        self, tenant: str, name: str, label: str, in_files: frozenset[int], reason: str, actor: Actor
    ) -> StoredLabel:
        """Point a label at where it pointed before. Raises PromptRefused."""
        with self._changing() as (connection, number):
            known, now = _label(connection, tenant, name, label)
            back = before_in(_moves(connection, tenant, name), label)
            if not known:
                raise PromptRefused(f"There is no label '{label}' of {name}.", "label", missing=True)
            if back is None:
                raise PromptRefused(f"'{label}' of {name} was at no version before this one.", "label")
            if back not in in_files:
                _check_released(connection, tenant, name, back)
            return _move(connection, number, tenant, name, label, "rollback", now, back, True, reason, actor)

    def add_result(self, tenant: str, name: str, result: SuiteResult, actor: Actor) -> None:
        """Keep what a suite said of a version."""
        with self._database.writing() as connection:
            connection.execute(
                prompt_results.insert().values(
                    at=time.time_ns(),
                    tenant=tenant,
                    name=name,
                    version=result.version,
                    content_hash=result.content_hash,
                    suite=result.suite,
                    passed=result.passed,
                    failed=result.failed,
                    detail=json.dumps(result.detail, ensure_ascii=False),
                    actor=actor.key_name,
                )
            )
            _log(connection, actor, "result", f"{name}@{result.version}", tenant, None, result.told())

    @contextmanager
    def _changing(self) -> Iterator[tuple[Connection, int]]:
        with self._database.writing() as connection:
            row = access_sequence.c.id == PROMPTS_CHANGED
            counted = update(access_sequence).where(row).values(value=access_sequence.c.value + 1)
            yield connection, int(connection.execute(counted.returning(access_sequence.c.value)).scalar_one())


def _sequence() -> Any:
    return select(access_sequence.c.value).where(access_sequence.c.id == PROMPTS_CHANGED)


def _where(statement: Any, version: StoredVersion) -> Any:
    table = prompt_versions
    return statement.where(
        table.c.tenant == version.tenant, table.c.name == version.name, table.c.version == version.version
    )


def _version(connection: Connection, tenant: str, name: str, version: int) -> StoredVersion | None:
    table = prompt_versions
    query = select(*table.c[_COLUMNS]).where(table.c.tenant == tenant, table.c.name == name, table.c.version == version)
    row = connection.execute(query).one_or_none()
    return StoredVersion(*row) if row is not None else None


def _draft(connection: Connection, tenant: str, name: str, version: int, expected: str | None) -> StoredVersion:
    found = _version(connection, tenant, name, version)
    if found is None:
        raise PromptRefused(f"There is no {name}@{version} in the record store.", "version", missing=True)
    if found.status != "draft":
        raise PromptRefused(f"{name}@{version} is released, and stays as it is: make a new version.", "version")
    if expected is not None and found.content_hash != expected:
        raise PromptRefused(f"{name}@{version} has changed: its hash is {found.content_hash} now.", "hash")
    return found


def _check_released(connection: Connection, tenant: str, name: str, version: int) -> None:
    found = _version(connection, tenant, name, version)
    if found is None:
        raise PromptRefused(f"There is no {name}@{version}.", "version", missing=True)
    if found.status != "released":
        raise PromptRefused(f"{name}@{version} is a draft: release it before a label points at it.", "version")


def _check_room(connection: Connection, tenant: str, versions: int, characters: int) -> None:
    """The gateway's own templates are its operators' to bound."""
    if not tenant:
        return
    held = select(func.count(), func.coalesce(func.sum(func.length(prompt_versions.c.source)), 0))
    count, length = connection.execute(held.where(prompt_versions.c.tenant == tenant)).one()
    if count + versions > MOST_VERSIONS or length + max(characters, 0) > MOST_CHARACTERS:
        raise PromptRefused(
            f"A tenant has room for {MOST_VERSIONS} versions of {MOST_CHARACTERS} characters in all: delete drafts that "
            "are not needed.",
            "source",
        )


def _check_suite(results: list[SuiteResult], draft: StoredVersion) -> None:
    newest = next((result for result in results if result.content_hash == draft.content_hash), None)
    if newest is None:
        raise PromptRefused(
            f"No suite has tested this text of {draft.reference} yet: `rag-gateway prompts test {draft.reference}`.",
            "version",
        )
    if newest.failed or not newest.passed:
        raise PromptRefused(
            f"The suite that tested {draft.reference} last did not pass: {newest.failed} of "
            f"{newest.passed + newest.failed} failed.",
            "version",
        )


def _label(connection: Connection, tenant: str, name: str, label: str) -> tuple[bool, int | None]:
    """Whether the store knows the label, and where it points."""
    table = prompt_labels
    mine = (table.c.tenant == tenant) & (table.c.name == name) & (table.c.label == label)
    row = connection.execute(select(table.c.version).where(mine)).one_or_none()
    return row is not None, row.version if row is not None else None


def _moves(connection: Connection, tenant: str, name: str) -> list[Move]:
    table = prompt_moves
    columns = ("at", "name", "label", "action", "before", "after", "actor", "reason")
    query = select(*table.c[columns]).where(table.c.tenant == tenant, table.c.name == name).order_by(table.c.id)
    return [Move(row.at / 1e9, *row[1:]) for row in connection.execute(query)]


def _results(connection: Connection, tenant: str, name: str, version: int) -> list[SuiteResult]:
    table = prompt_results
    columns = ("at", "actor", "version", "content_hash", "suite", "passed", "failed", "detail")
    mine = (table.c.tenant == tenant) & (table.c.name == name) & (table.c.version == version)
    rows = connection.execute(select(*table.c[columns]).where(mine).order_by(table.c.id.desc()).limit(100))
    return [
        SuiteResult(
            row.at / 1e9, row.actor, row.version, row.content_hash, row.suite, row.passed, row.failed,
            json.loads(row.detail),
        )
        for row in rows
    ]  # fmt: skip


def _move(
    connection: Connection,
    number: int,
    tenant: str,
    name: str,
    label: str,
    action: str,
    before: int | None,
    after: int | None,
    known: bool,
    reason: str,
    actor: Actor,
) -> StoredLabel:
    now = time.time()
    made = StoredLabel(tenant, name, label, after, now, actor.key_name)
    values = {"version": after, "changed_at": now, "changed_by": actor.key_name, "sequence": number}
    if known:
        mine = {"tenant": tenant, "name": name, "label": label}
        changed = update(prompt_labels).values(**values)
        for column, value in mine.items():
            changed = changed.where(prompt_labels.c[column] == value)
        connection.execute(changed)
    else:
        connection.execute(prompt_labels.insert().values(tenant=tenant, name=name, label=label, **values))
    connection.execute(
        prompt_moves.insert().values(
            at=int(now * 1e9), tenant=tenant, name=name, label=label, action=action, before=before, after=after,
            actor=actor.key_name, reason=reason,
        )
    )  # fmt: skip
    _log(connection, actor, action, f"{name}@{label}", tenant, {"version": before}, {"version": after}, reason)
    return made


def _log(
    connection: Connection,
    actor: Actor,
    action: str,
    what: str,
    tenant: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    reason: str = "",
) -> None:
    audit_log.append(connection, actor, Deed(f"prompts.{action}", what, tenant or None, before, after, reason))


def _columns(version: StoredVersion) -> dict[str, Any]:
    return {column: getattr(version, column) for column in _COLUMNS}
