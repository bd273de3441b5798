"""Files to documents: texts are read here, everything else is for `retrieval.parsing`. Every refusal has its reason."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

MARKDOWN = (".md", ".markdown")
CODE = (
    ".c", ".cc", ".cpp", ".cs", ".css", ".go", ".h", ".hpp", ".ini", ".java", ".js", ".jsx", ".kt", ".lua", ".php",
    ".pl", ".proto", ".py", ".r", ".rb", ".rs", ".scala", ".sh", ".sql", ".swift", ".tex", ".toml", ".ts", ".tsx",
    ".xml", ".yaml", ".yml",
)  # fmt: skip
PARSED = (".html", ".htm", ".pdf", ".docx", ".pptx", ".xlsx", ".csv", ".json", ".jsonl")
SUFFIXES = (*MARKDOWN, ".txt", *PARSED, *CODE)
IN_FOLDERS = tuple(
    f"*{suffix}" for suffix in (*MARKDOWN, ".txt", ".html", ".htm", ".pdf", ".docx", ".pptx", ".xlsx", ".csv")
)
"""What a folder is searched for where no patterns are given: documents, not data and not programs."""

_LARGEST = 20_000_000
_LARGEST_PARSED = 100_000_000
_TITLE = re.compile(r"^#\s+(.+?)\s*#*\s*$", re.MULTILINE)


class Unreadable(Exception):
    """This file can't be a document; the message says why."""


@dataclass(frozen=True, slots=True)
class Document:
    """`document_id` is the file's path below the folder that was named, with that folder's own name in front.

    `text` is None until a file of another kind than text is parsed. `source` is the folder, or the file that was named
    itself. `readers` are `public`, `user:NAME` or `group:NAME`, in the tenant that the document is loaded for;
    `sensitivity` is the label that routing reads; `within` is a part of the collection, such as a vector store.
    """

    document_id: str
    title: str
    text: str | None
    version: str
    markdown: bool
    url: str = ""
    source: str = ""
    readers: tuple[str, ...] = ("public",)
    sensitivity: str = "public"
    attributes: Mapping[str, str | float | bool] = field(default_factory=dict)
    within: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file to load, what its document will be called, and the path that was named to find it."""

    path: Path
    document_id: str
    source: str


def find_files(
    paths: Sequence[Path], roots: Mapping[str, str] | None = None, include: Sequence[str] = IN_FOLDERS
) -> Iterator[File]:
    """Every file below `paths` that `include` names and that can be loaded; hidden ones and links are left out.

    A file that is named itself is always given, whatever its suffix, so that its refusal is told. `roots` are folders'
    names in use, and where those folders are: another folder of that name that is there too gets its parent's name
    in front, and so do two folders of one name in `paths`.
    """
    taken = dict(roots or {})
    for path in (Path(os.path.abspath(path)) for path in paths):  # `.` has a name too
        if path.is_dir():
            name = _name_of(path, taken)
            taken[name] = str(path)
            for folder, names, files in os.walk(path, followlinks=False):
                names[:] = sorted(each for each in names if not each.startswith("."))
                for each in sorted(files):
                    file = Path(folder, each)
                    wanted = any(fnmatch(each.lower(), pattern.lower()) for pattern in include)
                    if wanted and _suffix(file) in SUFFIXES and not each.startswith(".") and not file.is_symlink():
                        yield File(file, f"{name}/{file.relative_to(path).as_posix()}", str(path))
        else:
            yield File(path, path.name, str(path))


def _name_of(path: Path, taken: Mapping[str, str]) -> str:
    """The folder's name, with as many of its parents' (joined by `-`) as make it its own."""
    parts = [part for part in path.parts if part != path.anchor] or ["root"]
    for length in range(1, len(parts) + 1):
        name = "-".join(parts[-length:])
        other = taken.get(name)
        if other is None or other == str(path) or not Path(other).is_dir():
            return name
    return "-".join(parts)


def load(file: Path, document_id: str) -> Document:
    """The file's document; its text is None where it has to be parsed. Raises Unreadable."""
    try:
        document_id.encode()
    except UnicodeEncodeError:
        raise Unreadable("its name is not UTF-8") from None
    if not file.exists():
        raise Unreadable("there is no such file")
    suffix = _suffix(file)
    if suffix not in SUFFIXES:
        shown = ", ".join((*MARKDOWN, ".txt", *PARSED))
        raise Unreadable(f"{suffix or 'a file without suffix'} can't be loaded; {shown} and source code can")
    largest = _LARGEST_PARSED if suffix in PARSED else _LARGEST
    try:
        if not file.is_file():
            raise Unreadable("is neither a file nor a folder")
        if (size := file.stat().st_size) > largest:
            raise Unreadable(f"{size} bytes are too many; at most {largest}")
        data = file.read_bytes()
    except OSError as error:
        raise Unreadable(f"can't be read: {error.strerror}") from None
    version = hashlib.sha256(data).hexdigest()[:16]
    if suffix in PARSED:
        return Document(document_id, file.stem, None, version, markdown=True)
    text = decoded(data)
    markdown = suffix in MARKDOWN
    title = _TITLE.search(text) if markdown else None
    name = file.name if suffix in CODE else file.stem
    return Document(document_id, title[1] if title else name, text, version, markdown)


def decoded(data: bytes) -> str:
    """A text file's text. Raises Unreadable."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 (byte {error.start})") from None
    if "\0" in text:
        raise Unreadable("holds NUL characters: not a text")
    return text


def _suffix(file: Path) -> str:
    return file.suffix.lower()
