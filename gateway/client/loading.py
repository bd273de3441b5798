"""Which files are to be loaded into a vector store, and what has become of each: values without a network."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import openai
from openai.types.vector_stores import VectorStoreFile

from retrieval.loading import IN_FOLDERS as IN_FOLDERS
from retrieval.loading import find_files

Step = Literal["unchanged", "uploading", "indexing", "indexed", "failed"]
Attributes = Mapping[str, str | float | bool]
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True)
class Progress:
    """What has just become of a file; `done` of `total` files have come to their end."""

    path: str
    step: Step
    done: int
    total: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """`path` is the file's below the folder that was named, with that folder's name in front. `error` is why not."""

    path: str
    step: Step
    file_id: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What has become of all files, in the order in which they were found."""

    store_id: str
    files: tuple[LoadedFile, ...]

    @property
    def failed(self) -> tuple[LoadedFile, ...]:
        return tuple(file for file in self.files if file.step == "failed")


@dataclass(frozen=True, slots=True)
class Local:
    """A file to load; `attributes` let the next loading see that it is there and unchanged."""

    file: Path
    path: str
    attributes: dict[str, str | float | bool]


class Loading:
    """How far the loading of these files is, and whom to tell."""

    def __init__(self, files: Sequence[Local], tell: Callable[[Progress], None] | None) -> None:
        self._files = files
        self._tell = tell
        self._became: dict[str, LoadedFile] = {}

    def note(self, path: str, step: Step, file_id: str | None = None, error: str | None = None) -> None:
        self._became[path] = LoadedFile(path, step, file_id, error)
        if self._tell is not None:
            done = sum(file.step not in ("uploading", "indexing") for file in self._became.values())
            self._tell(Progress(path, step, done, len(self._files), error))

    def ended(self, path: str, file_id: str, entry: VectorStoreFile | None, before: VectorStoreFile | None) -> bool:
        """Note what the gateway says of a file, None where it is gone; whether the one `before` it is to go now."""
        if entry is None:
            self.note(path, "failed", file_id, "it was removed meanwhile")
            return False
        indexed = entry.status == "completed"
        error = entry.last_error.message if entry.last_error else None if indexed else entry.status
        self.note(path, "indexed" if indexed else "failed", file_id, error)
        return before is not None and before.id != file_id and (indexed or before.status == "failed")

    def result(self, store_id: str) -> Loaded:
        return Loaded(store_id, tuple(self._became[file.path] for file in self._files))


def local_files(paths: Paths, include: Sequence[str], attributes: Attributes) -> list[Local]:
    """Every file to load, read once for its digest. Raises FileNotFoundError, and ValueError where there is none."""
    named = [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]
    for path in named:
        if not path.exists():
            raise FileNotFoundError(f"there is no file or folder {path}")
    found = [Local(file.path, file.document_id, {}) for file in find_files(named, include=include)]
    if not found:
        raise ValueError(f"nothing to load in {', '.join(map(str, named))}: `include` is {', '.join(include)}")
    twice = [path for path, count in Counter(local.path for local in found).items() if count > 1]
    if twice:
        raise ValueError(f"there are several files called {twice[0]}: name the folder that they are in")
    for local in found:
        with local.file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        local.attributes.update({**attributes, "path": local.path, "sha256": digest})
    return found


def by_path(entries: Iterable[VectorStoreFile]) -> dict[str, VectorStoreFile]:
    """Files that an earlier loading has brought into a store, by their paths; `entries` have the newest first."""
    known: dict[str, VectorStoreFile] = {}
    for entry in entries:
        if entry.attributes and "path" in entry.attributes:
            known.setdefault(str(entry.attributes["path"]), entry)
    return known


def standing(local: Local, entry: VectorStoreFile | None) -> Literal["unchanged", "indexing"] | None:
    """Whether a file that is there is this very one, or soon will be; None where it is to be loaded."""
    if entry is None or dict(entry.attributes or {}) != local.attributes:
        return None
    if entry.status == "completed":
        return "unchanged"
    return "indexing" if entry.status == "in_progress" else None


def one_files_own(error: openai.APIStatusError) -> bool:
    """Whether the gateway refuses this file, and may well take the next one."""
    return error.status_code in (400, 413, 422)


def intervals() -> Iterable[float]:
    """Seconds from one look to the next: soon at first, once a second later."""
    pause = 0.1
    while True:
        yield pause
        pause = min(pause * 1.5, 1.0)


def too_late(waiting: Iterable[str], seconds: float) -> TimeoutError:
    left = sorted(waiting)
    return TimeoutError(
        f"{len(left)} files are not indexed after {seconds:g} s, {left[0]} among them; the gateway goes on with them. "
        "Upload again to wait for them: nothing is loaded twice."
    )
