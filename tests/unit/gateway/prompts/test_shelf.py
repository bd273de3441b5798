"""Templates of the record store as a worker knows them: kept in step, and serving on while the store is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.prompt_versions import StoredVersion
from gateway.prompts import stored
from gateway.prompts.library import TemplateLibrary, read_template
from gateway.prompts.shelf import Shelf
from gateway.prompts.stored import StoredTemplates
from gateway.prompts.template import Template
from gateway.records.database import Database
from gateway.records.prompts import PromptStore
from gateway.tenancy import Actor

ADA = Actor("key_1", "ada's", "default", "127.0.0.1")
SOURCE = "messages: [{{role: system, content: {words}}}, conversation]\n"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'records.db'}")
    made.prepare()
    yield made
    made.close()


def release(store: PromptStore, words: str, name: str = "t", tenant: str = "") -> int:
    source = SOURCE.format(words=words)
    content_hash = read_template(source, name, 1, name, {}).content_hash
    version = store.add_draft(tenant, name, lambda _: (source, content_hash), 0, "", ADA).version
    store.release(tenant, name, version, None, False, "", ADA)
    return version


def label(store: PromptStore, version: int | None, tenant: str = "") -> None:
    store.label(tenant, "t", "production", version, frozenset(), None, None, "", ADA)


def says(shelf: Shelf, which: str, tenant: str = "") -> str | None:
    found = shelf.find("t", which, tenant)
    return found.render([], None, []).messages[0]["content"] if found is not None else None


async def test_a_label_that_is_moved_is_moved_in_every_worker(database: Database) -> None:
    store = PromptStore(database)
    workers = [StoredTemplates(store) for _ in range(2)]
    shelves = [Shelf(None, worker) for worker in workers]
    for version in (release(store, "one"), release(store, "two")):
        label(store, version)
        for worker in workers:
            await worker.round()
        assert {says(shelf, "production") for shelf in shelves} == {("one", "two")[version - 1]}
    store.rollback("", "t", "production", frozenset(), "", ADA)
    for worker in workers:
        await worker.round()
    assert [says(shelf, "production") for shelf in shelves] == ["one", "one"]
    assert [says(shelf, "latest") for shelf in shelves] == ["two", "two"]
    label(store, None)
    await workers[0].round()
    assert says(shelves[0], "production") is None


async def test_a_draft_is_on_no_shelf(database: Database) -> None:
    store = PromptStore(database)
    store.add_draft("", "t", lambda _: (SOURCE.format(words="x"), "0" * 16), 0, "", ADA)
    templates = StoredTemplates(store)
    await templates.round()
    assert says(Shelf(None, templates), "1") is None
    draft = await templates.version("", "t", 1)
    assert draft is not None
    assert draft.reference == "t@1"


async def test_a_tenants_template_is_its_own(database: Database) -> None:
    store = PromptStore(database)
    release(store, "theirs", tenant="acme")
    templates = StoredTemplates(store)
    await templates.round()
    shelf = Shelf(None, templates)
    assert [says(shelf, "1", tenant) for tenant in ("acme", "", "umbrella")] == ["theirs", None, None]


async def test_the_last_known_versions_serve_while_the_store_is_away(database: Database, tmp_path: Path) -> None:
    store, snapshot = PromptStore(database), tmp_path / "prompts.json"
    label(store, release(store, "one"))
    templates = StoredTemplates(store, snapshot)
    await templates.round()
    assert oct(snapshot.stat().st_mode & 0o777) == "0o600"
    away = Database(f"sqlite:///{tmp_path / 'nowhere' / 'records.db'}")
    templates._store = PromptStore(away)  # it goes away under a worker that runs
    await templates.round()
    assert not templates.healthy
    assert says(Shelf(None, templates), "production") == "one"
    # And a worker that starts without it knows what was known last.
    restarted = StoredTemplates(PromptStore(away), snapshot)
    await restarted.round()
    assert (restarted.synced, says(Shelf(None, restarted), "production")) == (False, "one")
    restarted._store = store
    release(store, "two")
    await restarted.round()
    assert (restarted.healthy, says(Shelf(None, restarted), "latest")) == (True, "two")
    away.close()


async def test_one_template_that_can_not_be_compiled_keeps_no_other_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PromptStore(database)
    release(store, "poison", name="bad", tenant="acme")
    label(store, release(store, "good"))
    compiled = stored._compiled

    def breaking(version: StoredVersion) -> Template:
        if version.name == "bad":
            raise MemoryError
        return compiled(version)

    monkeypatch.setattr(stored, "_compiled", breaking)
    templates = StoredTemplates(store)
    await templates.round()
    assert templates.healthy
    assert says(Shelf(None, templates), "production") == "good"


async def test_changes_that_could_not_be_taken_over_are_taken_over_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PromptStore(database)
    templates = StoredTemplates(store)
    await templates.round()
    release(store, "one")
    with monkeypatch.context() as broken:
        broken.setattr(templates, "_taken", lambda *_: 1 / 0)
        await templates.round()
    assert not templates.healthy
    await templates.round()
    assert (templates.healthy, says(Shelf(None, templates), "latest")) == (True, "one")


async def test_a_snapshot_that_is_broken_is_none(tmp_path: Path) -> None:
    away = Database(f"sqlite:///{tmp_path / 'nowhere' / 'records.db'}")
    for broken in ("", "[]", '{"versions": [{"x": 1}], "labels": []}'):
        (tmp_path / "prompts.json").write_text(broken)
        templates = StoredTemplates(PromptStore(away), tmp_path / "prompts.json")
        await templates.round()
        assert says(Shelf(None, templates), "latest") is None
    away.close()


async def test_another_store_is_read_from_its_beginning(database: Database, tmp_path: Path) -> None:
    store = PromptStore(database)
    for words in ("one", "two", "three"):
        release(store, words)
    templates = StoredTemplates(store)
    await templates.round()
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    other.prepare()
    release(PromptStore(other), "another")
    templates._store = PromptStore(other)
    await templates.round()
    await templates.round()
    assert says(Shelf(None, templates), "latest") == "another"
    other.close()


async def test_files_go_before_what_is_stored_and_the_stores_labels_before_theirs(
    database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    for version in (1, 2):
        labels = "labels: [production]\n" if version == 1 else ""
        (folder / f"t@{version}.yaml").write_text(labels + SOURCE.format(words=f"file{version}"))
    store = PromptStore(database)
    release(store, "stored")
    templates = StoredTemplates(store)
    shelf = Shelf(TemplateLibrary.load(folder), templates)
    await templates.round()
    assert [says(shelf, which) for which in ("1", "2", "production", "latest")] == ["file1", "file2", "file1", "file2"]
    store.label("", "t", "production", 2, frozenset({1, 2}), 1, 1, "", ADA)
    await templates.round()
    assert says(shelf, "production") == "file2"
    assert shelf.labels_of("t") == {"production": 2}
    label(store, None)
    await templates.round()
    assert says(shelf, "production") is None
