"""Where the lake's files lie: a folder of this machine, or an object store. Paths are relative to the lake's URL.

file:, s3: and gs: are pyarrow's own; other schemes (az:, abfs:, memory: …) are asked of fsspec, which has a package for
each. A file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

log = logging.getLogger(__name__)

PENDING = ".pending"


class LakeUnavailable(Exception):
    """The lake's folder or object store is away, full or refuses. The message names no credential."""


class Storage:
    """Blocking; any thread may. Every method raises LakeUnavailable."""

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        """Raises ValueError for a URL that nothing here understands, ImportError where its package is missing."""
        self.url = url
        parts = urlsplit(url)
        self.filesystem, self._root = _filesystem(parts.scheme, parts.netloc, unquote(parts.path), dict(options or {}))
        self.local = Path(self._root) if parts.scheme == "file" else None

    @property
    def root(self) -> str:
        """The lake's folder as `filesystem` names it."""
        return self._root

    def full(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[Any]:
        """A file to write to; it is there under its name, on the disk, when the block has ended without an error."""
        with _faults():
            if self.local is not None:
                with _local(self.local / path) as file:
                    yield file
                return
            with self.filesystem.open_output_stream(self.full(path)) as stream:
                yield stream

    def opened(self, path: str) -> Any:
        """A file to read from, in any order."""
        with _faults():
            return self.filesystem.open_input_file(self.full(path))

    def remove(self, path: str) -> None:
        """One that is not there is no error."""
        with _faults(), contextlib.suppress(FileNotFoundError):
            if self.local is not None:
                (self.local / (path + PENDING)).unlink(missing_ok=True)
            self.filesystem.delete_file(self.full(path))

    def size(self, path: str) -> int:
        """Bytes."""
        with _faults():
            return int(self.filesystem.get_file_info(self.full(path)).size or 0)

    def read_small(self, path: str) -> bytes | None:
        """A whole small file; None where there is none."""
        with _faults():
            try:
                with self.filesystem.open_input_stream(self.full(path)) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def listed(self) -> Iterator[str]:
        """All files of the lake, also those that are not finished."""
        with _faults():
            found = self.filesystem.get_file_info(pafs.FileSelector(self._root, allow_not_found=True, recursive=True))
        root = self._root.lstrip("/") + "/"
        for info in found:
            path = info.path.lstrip("/")  # some of fsspec's begin with one
            if info.type == pafs.FileType.File:
                if not path.startswith(root):
                    raise LakeUnavailable("the lake's storage lists files by names that can't be read")
                yield path.removeprefix(root)


def _filesystem(scheme: str, host: str, path: str, options: dict[str, Any]) -> tuple[pafs.FileSystem, str]:
    inner = path.strip("/")
    bucket = f"{host}/{inner}".rstrip("/")
    if scheme == "file":
        if options:
            raise ValueError("lake.options are for object stores")
        return pafs.LocalFileSystem(), path.rstrip("/")
    try:
        if scheme == "s3":
            return pafs.S3FileSystem(**options), bucket
        if scheme == "gs":
            return pafs.GcsFileSystem(**options), bucket
    except TypeError as fault:
        name = re.search(r"argument '(\w+)'", str(fault))
        raise ValueError(f"lake.options: {scheme} has no option {name[1] if name else 'like one of these'}") from None
    import fsspec

    try:
        made = fsspec.filesystem(scheme, **options)
    except ValueError:
        raise ValueError(f"lake.url: nothing knows the scheme {scheme}; file, s3, gs, or one of fsspec's") from None
    return pafs.PyFileSystem(pafs.FSSpecHandler(made)), bucket


@contextlib.contextmanager
def _local(path: Path) -> Iterator[Any]:
    """Beside its name first, then under it; both are on the disk before it counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_name(path.name + PENDING)
    try:
        with open(pending, "wb", opener=_private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            pending.rename(path)
        except FileNotFoundError:
            raise LakeUnavailable("a file was removed while it was written: another process fills the lake") from None
    except BaseException:
        pending.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as fault:
        raise LakeUnavailable(f"the lake's storage: {_reason(fault)}") from fault


def _reason(fault: BaseException) -> str:
    """The system's own word; an object store's message may name its credentials."""
    return getattr(fault, "strerror", None) or type(fault).__name__
