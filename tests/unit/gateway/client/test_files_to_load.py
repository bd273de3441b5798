"""Which files an upload takes, and how it tells what became of them."""

from __future__ import annotations

import hashlib
from itertools import islice
from pathlib import Path

import pytest
from openai.types.vector_stores import VectorStoreFile

from gateway.client import LoadedFile, Progress
from gateway.client.loading import IN_FOLDERS, Loading, by_path, intervals, local_files, standing, too_late


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "minutes"
    (root / "2026").mkdir(parents=True)
    (root / ".hidden").mkdir()
    for name in ("b.md", "2026/a.md", ".hidden/c.md", ".d.md", "program.py"):
        (root / name).write_text(f"# {name}\n")
    (root / "link.md").symlink_to(root / "b.md")
    return root


def entry(path: str, status: str, attributes: dict[str, object] | None = None) -> VectorStoreFile:
    error = {"code": "invalid_file", "message": "it is not a PDF"} if status == "failed" else None
    return VectorStoreFile.construct(
        None, id=f"file-{path}", status=status, attributes=attributes or {"path": path}, last_error=error
    )


def test_a_folders_documents_are_called_by_their_paths(folder: Path) -> None:
    found = local_files(folder, IN_FOLDERS, {"team": "kitchen"})

    assert [local.path for local in found] == ["minutes/b.md", "minutes/2026/a.md"]
    digest = hashlib.sha256(b"# b.md\n").hexdigest()
    assert found[0].attributes == {"team": "kitchen", "path": "minutes/b.md", "sha256": digest}


def test_what_else_of_a_folder_is_wanted_is_said_by_include(folder: Path) -> None:
    assert [local.path for local in local_files([folder], ["*.py"], {})] == ["minutes/program.py"]
    assert [local.path for local in local_files(str(folder / "program.py"), IN_FOLDERS, {})] == ["program.py"]


def test_nothing_to_load_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        local_files(folder / "gone", IN_FOLDERS, {})
    with pytest.raises(ValueError, match=r"nothing to load in .*minutes: `include` is \*\.rs"):
        local_files(folder, ["*.rs"], {})


def test_a_file_is_there_where_it_was_loaded_with_the_same_bytes_and_attributes(folder: Path) -> None:
    (local, *_) = local_files(folder, IN_FOLDERS, {"team": "kitchen"})
    same = {**local.attributes}

    assert standing(local, entry("x", "completed", same)) == "unchanged"
    assert standing(local, entry("x", "in_progress", same)) == "indexing"
    assert standing(local, None) is None
    assert standing(local, entry("x", "failed", same)) is None
    assert standing(local, entry("x", "completed", {**same, "sha256": "0"})) is None
    assert standing(local, entry("x", "completed", {**same, "team": "garden"})) is None


def test_files_of_one_name_are_refused_before_anything_is_sent(folder: Path) -> None:
    (folder / "2026" / "b.md").write_text("another\n")
    with pytest.raises(ValueError, match=r"there are several files called b\.md"):
        local_files([folder / "b.md", folder / "2026" / "b.md"], IN_FOLDERS, {})


def test_only_what_a_loading_brought_is_known_by_its_path() -> None:
    older = VectorStoreFile.construct(None, id="older", status="completed", attributes={"path": "a"})
    known = by_path([entry("a", "completed"), older, entry("b", "completed", {"kind": "memo"})])
    assert {path: each.id for path, each in known.items()} == {"a": "file-a"}


def test_progress_counts_what_has_come_to_its_end(folder: Path) -> None:
    told: list[Progress] = []
    loading = Loading(local_files(folder, IN_FOLDERS, {}), told.append)
    a, b = "minutes/2026/a.md", "minutes/b.md"
    loading.note(b, "indexing", "file-b")
    loading.note(a, "unchanged", "file-a")

    assert not loading.ended(b, f"file-{b}", entry(b, "failed"), None)
    assert told == [
        Progress(b, "indexing", 0, 2),
        Progress(a, "unchanged", 1, 2),
        Progress(b, "failed", 2, 2, "it is not a PDF"),
    ]
    loaded = loading.result("vs_1")
    assert loaded.files == (
        LoadedFile(b, "failed", f"file-{b}", "it is not a PDF"),
        LoadedFile(a, "unchanged", "file-a"),
    )
    assert loaded.failed == loaded.files[:1]


def test_what_was_there_before_goes_when_the_new_form_is_indexed(folder: Path) -> None:
    loading = Loading(local_files(folder, IN_FOLDERS, {}), None)
    good, bad = entry("old", "completed"), entry("old", "failed")

    assert loading.ended("p", "new", entry("p", "completed"), good)
    assert not loading.ended("p", "new", entry("p", "failed"), good)
    assert loading.ended("p", "new", entry("p", "failed"), bad)
    assert not loading.ended("p", "file-old", entry("p", "completed"), good)
    assert not loading.ended("p", "new", None, good)
    assert loading._became["p"] == LoadedFile("p", "failed", "new", "it was removed meanwhile")


def test_waiting_looks_soon_and_then_once_a_second() -> None:
    first = [0.1, 0.15, 0.225, 0.3375, 0.50625, 0.759375, 1.0, 1.0]
    assert list(islice(intervals(), 8)) == pytest.approx(first)
    assert str(too_late(["b", "a"], 5)).startswith("2 files are not indexed after 5 s, a among them")
