"""Files to documents. Markdown and plain text at this depth; every refusal has its reason."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".md", ".markdown", ".txt")
_LARGEST = 20_000_000
_TITLE = re.compile(r"^#\s+(.+?)\s*#*\s*$", re.MULTILINE)


class Unreadable(Exception):
    """This file can't be a document; the message says why."""


@dataclass(frozen=True, slots=True)
class Document:
    """`document_id` is the file's path below the folder that was named, with that folder's own name in front."""

    document_id: str
    title: str
    text: str
    version: str
    markdown: bool


def find_files(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Every file below `paths` with a suffix that can be loaded, and its document id; hidden ones are left out.

    A file that is named itself is always given, whatever its suffix, so that its refusal is told.
    """
    for path in (Path(os.path.abspath(path)) for path in paths):  # `.` has a name too
        if path.is_dir():
            for folder, names, files in os.walk(path, followlinks=False):
                names[:] = sorted(name for name in names if not name.startswith("."))
                for name in sorted(files):
                    file = Path(folder, name)
                    if file.suffix.lower() in SUFFIXES and not name.startswith(".") and not file.is_symlink():
                        yield file, f"{path.name}/{file.relative_to(path).as_posix()}"
        else:
            yield path, path.name


def load(file: Path, document_id: str) -> Document:
    """Raises Unreadable."""
    try:
        document_id.encode()
    except UnicodeEncodeError:
        raise Unreadable("its name is not UTF-8") from None
    if not file.exists():
        raise Unreadable("there is no such file")
    if file.suffix.lower() not in SUFFIXES:
        raise Unreadable(f"{file.suffix or 'a file without suffix'} can't be loaded; {', '.join(SUFFIXES)} can")
    try:
        if not file.is_file():
            raise Unreadable("is neither a file nor a folder")
        if (size := file.stat().st_size) > _LARGEST:
            raise Unreadable(f"{size} bytes are too many; at most {_LARGEST}")
        data = file.read_bytes()
    except OSError as error:
        raise Unreadable(f"can't be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 (byte {error.start})") from None
    if "\0" in text:
        raise Unreadable("holds NUL characters: not a text")
    markdown = file.suffix.lower() != ".txt"
    title = _TITLE.search(text) if markdown else None
    version = hashlib.sha256(data).hexdigest()[:16]
    return Document(document_id, title[1] if title else file.stem, text, version, markdown)
