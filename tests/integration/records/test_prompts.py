"""Prompt templates in the record store: drafts, releases that never change, labels, and who did it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from gateway.prompt_versions import PromptRefused, StoredVersion, SuiteResult
from gateway.records import prompts
from gateway.records.audit_log import AuditLog
from gateway.records.database import Database
from gateway.records.prompts import PromptStore
from gateway.tenancy import Actor

ADA = Actor("key_1", "ada's", "default", "127.0.0.1", "req_1")


@pytest.fixture
def store(database: Database) -> PromptStore:
    return PromptStore(database)


def draft(store: PromptStore, text: str = "text", tenant: str = "", above: int = 0, name: str = "t") -> StoredVersion:
    return store.add_draft(tenant, name, lambda _: (text, f"hash-{text}"), above, "notes", ADA)


def released(store: PromptStore, text: str = "text") -> int:
    return store.release("", "t", draft(store, text).version, None, False, "", ADA).version


def move(store: PromptStore, version: int | None, expected: int | None = None) -> None:
    store.label("", "t", "production", version, frozenset(), None, expected, "why", ADA)


def test_versions_count_up_behind_the_files(store: PromptStore) -> None:
    assert [draft(store).version, draft(store).version, draft(store, above=7).version] == [1, 2, 8]
    assert draft(store, tenant="acme").version == 1
    assert [each.version for each in store.versions(frozenset({""}))] == [1, 2, 8]
    assert [each.tenant for each in store.versions(None)] == ["", "", "", "acme"]


def test_a_tenant_has_room_for_so_many(store: PromptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker holds what was released: one tenant's texts must not fill it for all."""
    monkeypatch.setattr(prompts, "MOST_VERSIONS", 2)
    monkeypatch.setattr(prompts, "MOST_CHARACTERS", 20)
    for _ in range(2):
        draft(store, "12345678", tenant="acme")
    for refused in (
        lambda: draft(store, tenant="acme"),
        lambda: store.change_draft("acme", "t", 1, lambda _: ("1" * 13, "x"), None, None, ADA),
    ):
        with pytest.raises(PromptRefused, match="has room for 2 versions of 20 characters"):
            refused()
    store.change_draft("acme", "t", 1, lambda _: ("1" * 12, "x"), None, None, ADA)
    store.delete_draft("acme", "t", 2, ADA)
    assert draft(store, "1", tenant="acme").version == 2
    assert [draft(store, tenant=tenant).version for tenant in ("", "", "", "umbrella")] == [1, 2, 3, 1]


def test_a_draft_changes_and_a_release_never_does(store: PromptStore) -> None:
    made = draft(store)
    changed = store.change_draft("", "t", 1, lambda _: ("more", "hash-more"), None, made.content_hash, ADA)
    assert (changed.source, changed.notes, changed.status) == ("more", "notes", "draft")
    with pytest.raises(PromptRefused, match="has changed: its hash is hash-more"):
        store.change_draft("", "t", 1, lambda _: ("x", "x"), None, made.content_hash, ADA)
    with pytest.raises(PromptRefused, match="has changed"):
        store.release("", "t", 1, made.content_hash, False, "", ADA)
    done = store.release("", "t", 1, "hash-more", False, "", ADA)
    assert (done.status, done.released_by) == ("released", "ada's")
    for forbidden in (
        lambda: store.change_draft("", "t", 1, lambda _: ("x", "x"), None, None, ADA),
        lambda: store.delete_draft("", "t", 1, ADA),
        lambda: store.release("", "t", 1, None, False, "", ADA),
    ):
        with pytest.raises(PromptRefused, match="is released, and stays as it is"):
            forbidden()
    assert store.version("", "t", 1) == done


def test_what_workers_see_are_releases_and_labels(store: PromptStore) -> None:
    before = store.changes(-1)
    assert (before.versions, before.labels) == ((), ())
    draft(store)
    assert store.changes(before.sequence).versions == ()
    store.release("", "t", 1, None, False, "", ADA)
    move(store, 1)
    seen = store.changes(before.sequence)
    assert [each.reference for each in seen.versions] == ["t@1"]
    assert [(each.label, each.version) for each in seen.labels] == [("production", 1)]
    assert store.changes(seen.sequence).versions == ()


def test_a_label_points_at_a_release_alone(store: PromptStore) -> None:
    draft(store)
    with pytest.raises(PromptRefused, match="is a draft: release it") as refused:
        move(store, 1)
    assert not refused.value.missing
    with pytest.raises(PromptRefused, match="There is no t@9") as refused:
        move(store, 9)
    assert refused.value.missing
    assert store.labels(None) == []
    store.release("", "t", 1, None, False, "", ADA)
    move(store, 1)
    with pytest.raises(PromptRefused, match="points at 1, not at 2"):
        move(store, 1, expected=2)


def test_a_rollback_goes_back_and_back_again(store: PromptStore) -> None:
    versions = [released(store, text) for text in ("a", "b", "c")]
    for version in versions:
        move(store, version)
    assert store.rollback("", "t", "production", frozenset(), "bad", ADA).version == 2
    assert store.rollback("", "t", "production", frozenset(), "worse", ADA).version == 1
    with pytest.raises(PromptRefused, match="was at no version before"):
        store.rollback("", "t", "production", frozenset(), "", ADA)
    move(store, 3)
    assert store.rollback("", "t", "production", frozenset(), "", ADA).version == 1
    with pytest.raises(PromptRefused) as refused:
        store.rollback("", "t", "candidate", frozenset(), "", ADA)
    assert refused.value.missing
    told = [(each.action, each.before, each.after, each.reason) for each in store.moves("", "t")]
    assert told[3:5] == [("rollback", 3, 2, "bad"), ("rollback", 2, 1, "worse")]


def test_a_rollback_goes_back_to_a_file_too(store: PromptStore) -> None:
    released(store)
    files = frozenset({7})
    store.label("", "t", "production", 1, files, 7, 7, "", ADA)
    assert store.rollback("", "t", "production", files, "", ADA).version == 7


def test_a_release_may_need_a_suite_of_this_very_text(store: PromptStore) -> None:
    made = draft(store)

    def release() -> StoredVersion:
        return store.release("", "t", 1, None, True, "", ADA)

    with pytest.raises(PromptRefused, match="No suite has tested this text"):
        release()
    for content_hash, passed, failed, fault in (
        ("another", 5, 0, "No suite has tested this text"),
        (made.content_hash, 4, 1, "1 of 5 failed"),
        (made.content_hash, 0, 0, "did not pass"),
    ):
        store.add_result("", "t", SuiteResult(time.time(), "ada's", 1, content_hash, "s", passed, failed, {}), ADA)
        with pytest.raises(PromptRefused, match=fault):
            release()
    store.add_result("", "t", SuiteResult(time.time(), "ada's", 1, made.content_hash, "s", 5, 0, {"x": 1}), ADA)
    assert release().status == "released"
    assert store.results("", "t", 1)[0].detail == {"x": 1}


def test_of_two_who_release_at_once_one_does(store: PromptStore) -> None:
    draft(store)
    ends = _at_once(8, lambda: store.release("", "t", 1, None, False, "", ADA))
    assert ends.count("done") == 1
    assert len(store.changes(-1).versions) == 1


def test_drafts_made_at_once_have_numbers_of_their_own(store: PromptStore) -> None:
    assert _at_once(6, lambda: draft(store)) == ["done"] * 6
    assert [each.version for each in store.versions(None)] == [1, 2, 3, 4, 5, 6]


def test_of_two_moves_that_cross_one_is_told(store: PromptStore) -> None:
    for text in ("a", "b"):
        released(store, text)
    move(store, 1)
    assert sorted(_at_once(4, lambda: move(store, 2, expected=1))) == ["done", *["refused"] * 3]


def _at_once(count: int, work: Callable[[], object]) -> list[str]:
    ends: list[str] = []
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait()
        try:
            work()
            ends.append("done")
        except PromptRefused:
            ends.append("refused")

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def test_who_did_it_is_in_the_audit_log(store: PromptStore, database: Database) -> None:
    released(store)
    move(store, 1)
    store.delete_draft("", "t", draft(store).version, ADA)
    entries = AuditLog(database).entries(action="prompts")
    assert [(each["action"], each["target"], each["actor"]["key_name"]) for each in entries] == [
        ("prompts.delete", "t@2", "ada's"),
        ("prompts.create", "t@2", "ada's"),
        ("prompts.label", "t@production", "ada's"),
        ("prompts.release", "t@1", "ada's"),
        ("prompts.create", "t@1", "ada's"),
    ]
    assert entries[0]["before"]["source"] == "text"
    assert (entries[2]["before"], entries[2]["after"], entries[2]["reason"]) == (
        {"version": None},
        {"version": 1},
        "why",
    )
