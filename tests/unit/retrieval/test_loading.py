"""Which files become documents, and the reason that each other one is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retrieval.loading import File, Unreadable, find_files, load

KINDS = ".md, .markdown, .txt, .html, .htm, .pdf, .docx, .pptx, .xlsx, .csv, .json, .jsonl and source code can"


def test_folders_are_walked_in_order_and_their_name_leads_the_ids(tmp_path: Path) -> None:
    for name in ("docs/b.md", "docs/a/x.txt", "docs/a.markdown", "docs/.hidden/y.md", "docs/.z.md", "docs/code.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")

    assert [file.document_id for file in find_files([tmp_path / "docs"])] == [
        "docs/a.markdown",
        "docs/b.md",
        "docs/a/x.txt",
    ]


def test_links_below_a_folder_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("# Secret")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "file.md").symlink_to(outside / "secret.md")
    (docs / "folder").symlink_to(outside)
    (docs / "round").symlink_to(docs)

    assert list(find_files([docs])) == []


def test_a_file_named_itself_is_given_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "program.exe").write_bytes(b"MZ")

    (file,) = find_files([tmp_path / "program.exe"])

    assert file == File(tmp_path / "program.exe", "program.exe", str(tmp_path / "program.exe"))


def test_programs_are_found_where_they_are_asked_for(tmp_path: Path) -> None:
    for name in ("a.py", "b.md", "c.json"):
        (tmp_path / name).write_text("text")

    assert [file.path.name for file in find_files([tmp_path], include=["*.PY", "*.json"])] == ["a.py", "c.json"]


def test_two_folders_of_one_name_do_not_share_their_documents(tmp_path: Path) -> None:
    for parent in ("one", "two"):
        (tmp_path / parent / "docs").mkdir(parents=True)
        (tmp_path / parent / "docs" / "a.md").write_text(parent)
    one, two = tmp_path / "one" / "docs", tmp_path / "two" / "docs"

    assert [file.document_id for file in find_files([one, two])] == ["docs/a.md", "two-docs/a.md"]
    in_use = {"docs": str(one)}
    assert [file.document_id for file in find_files([two], in_use)] == ["two-docs/a.md"]
    assert [file.document_id for file in find_files([one], in_use)] == ["docs/a.md"]
    moved = {"docs": str(tmp_path / "gone" / "docs")}
    assert [file.document_id for file in find_files([two], moved)] == ["docs/a.md"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("program.exe", b"MZ", f".exe can't be loaded; {KINDS}"),
        ("README", b"text", f"a file without suffix can't be loaded; {KINDS}"),
        ("latin.txt", b"caf\xe9", "is not UTF-8 (byte 3)"),
        ("binary.md", b"a\0b", "holds NUL characters: not a text"),
    ],
)
def test_a_refusal_says_why(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)

    with pytest.raises(Unreadable) as refused:
        load(tmp_path / name, name)

    assert str(refused.value) == reason


def test_what_is_no_file_is_refused_without_being_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")

    for name in ("pipe.md", "gone.md"):
        with pytest.raises(Unreadable, match=r"no such file|neither a file"):
            load(tmp_path / name, name)


def test_a_file_too_large_is_refused_by_its_size_alone(tmp_path: Path) -> None:
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(1_000_000_000)

    with pytest.raises(Unreadable, match=r"^1000000000 bytes are too many; at most 20000000$"):
        load(tmp_path / "large.txt", "large.txt")


def test_the_title_is_the_first_heading_or_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes("\ufeff## Below\n\n# The Title #\n\ntext".encode())
    (tmp_path / "b.md").write_text("no heading")
    (tmp_path / "c.txt").write_text("# not markdown")

    assert [load(tmp_path / name, name).title for name in ("a.md", "b.md", "c.txt")] == ["The Title", "b", "c"]


def test_the_version_follows_the_bytes_and_nothing_else(tmp_path: Path) -> None:
    for name, text in (("a.md", "one"), ("b.md", "one"), ("c.md", "two")):
        (tmp_path / name).write_text(text)

    a, b, c = (load(tmp_path / name, name).version for name in ("a.md", "b.md", "c.md"))

    assert a == b != c
    assert len(a) == 16
