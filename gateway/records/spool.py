"""The spool: settled calls on the local disk, on their way to the record store.

One folder a process, `<data_dir>/spool/<the spool's id>/`, of segments that are only ever appended to, and deleted when
the store has all that is in them. The folder's lock says that somebody lives who will bring it to its end; the folder
of a dead process is adopted by the next one that looks. Records are numbered; the store keeps, in the same transaction
as the records, the number that it has come to, so that reading one twice is never counting one twice.

One thread appends, another reads; `size` may be asked from anywhere. What was appended lately is given from memory: it is
read from the disk only by whoever is behind, or comes after a crash.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.records.segments import Header, Record, frame_length, frames_bytes, header_bytes, read_frames, read_header

log = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 4_000_000
_AT_HAND: Final = 2_000_000  # bytes of records that whoever reads need not read from the disk
_CHUNK: Final = 1_000_000
_HEADER_BYTES: Final = 16_384  # at most
_IS_ID: Final = re.compile(r"[0-9a-f]{32}").fullmatch


@dataclass(slots=True)
class _Segment:
    path: Path
    end: int  # what lies beyond was never whole
    descriptor: int | None = None  # of the one that is appended to


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in their order; `columns` say what their values are. Give it back to `Spool.done` when they are kept."""

    columns: tuple[str, ...]
    records: Sequence[Record]
    segment: Path
    end: int


@dataclass(frozen=True, slots=True)
class _Written:
    """What one `append` has brought to the disk, from one place of a segment to another."""

    segment: Path
    begin: int
    end: int
    records: Sequence[Record]


class Spool:
    """One folder of segments, held by this process until `close`."""

    def __init__(self, folder: Path, lock: int, segments: Sequence[_Segment] = (), columns: Sequence[str] = ()) -> None:
        """Use `create` or `adopt`."""
        self.id = folder.name
        self.folder = folder
        self._held = lock
        self.columns = tuple(columns)
        self._segments = deque(segments)
        self._most = SEGMENT_BYTES
        self._offset = 0  # in the first segment: what comes before is in the store
        self._at_hand: deque[_Written] = deque()  # of what was appended last
        self._at_hand_bytes = 0
        self._guard = threading.Lock()

    @classmethod
    def create(cls, parent: Path, columns: Sequence[str], segment_bytes: int = SEGMENT_BYTES) -> Spool:
        """A new, empty spool under `parent`, for records whose values are `columns`. Raises OSError."""
        parent.mkdir(parents=True, exist_ok=True)
        name = secrets.token_hex(16)
        hidden = parent / f".{name}"  # until it is locked nobody may take it for a dead process's
        hidden.mkdir(mode=0o700)
        lock = _lock(hidden)
        assert lock is not None
        hidden.rename(parent / name)
        made = cls(parent / name, lock, (), columns)
        made._most = segment_bytes
        return made

    @classmethod
    def adopt(cls, folder: Path) -> Spool | None:
        """The spool of a process that is dead; None while it lives, or when somebody else was faster."""
        lock = _lock(folder)
        if lock is None:
            return None
        paths = sorted(folder.glob("*.log"))
        return cls(folder, lock, [_Segment(path, path.stat().st_size) for path in paths])

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        with self._guard:
            return sum(segment.end for segment in self._segments)

    def append(self, records: Sequence[Record], first: int, *, sync: bool) -> None:
        """All of `records` or none, in the page cache; with `sync` on the disk. Raises OSError, then none is there.

        `first` is the number of the first of them, or of the next one to come where there are none: to append nothing
        is to try whether the disk takes something.
        """
        data = frames_bytes(records)
        with self._guard:
            segment = self._segments[-1] if self._segments else None
            if segment is None or segment.descriptor is None or segment.end + len(data) > self._most:
                segment = self._begin_segment(first)
            assert segment.descriptor is not None
            fresh = segment.end == 0
            if fresh:
                data = header_bytes(self.id, first, self.columns) + data
            try:
                _write(segment.descriptor, data, segment.end)
                if sync:
                    os.fdatasync(segment.descriptor)
                    if fresh:
                        os.fsync(self._held)
            except OSError:
                self._undo(segment)
                raise
            begin, segment.end = segment.end, segment.end + len(data)
            self._at_hand.append(_Written(segment.path, begin, segment.end, records))
            self._at_hand_bytes += len(data)
            if self._at_hand_bytes > _AT_HAND:
                self._at_hand.clear()
                self._at_hand_bytes = 0

    def read(self, most: int) -> Batch | None:
        """The next records that are not `done`, up to `most`; None when there are none. Raises OSError."""
        while True:
            with self._guard:
                if not self._segments:
                    return None
                segment = self._segments[0]
                end, offset = segment.end, self._offset
                if offset == end and segment.descriptor is not None:
                    return None
                if (batch := self._remembered(segment, offset, most)) is not None:
                    return batch
            try:
                header, records, used = self._look(segment.path, offset, end, most)
            except FileNotFoundError:
                self._give_up(segment)
                continue
            if records and header is not None:
                return Batch(header.columns, records, segment.path, used)
            if used < end:
                self._set_aside(segment, end - used)
            if not self._finish(segment, end):
                return None

    def done(self, batch: Batch) -> None:
        """The store has the records of `batch`, which was the last one read. A segment that is through is deleted."""
        with self._guard:
            segment = self._segments[0]
            assert segment.path == batch.segment
            self._offset = batch.end
            through = segment.descriptor is None and batch.end >= segment.end
        if through:
            self._finish(segment, batch.end)

    def shrink(self, filled: float = 0.0) -> None:
        """Delete the segment that is appended to, if the store has all of it and that share of it is filled; the next
        record begins another. For the thread that reads.
        """
        with self._guard:
            segment = self._segments[0] if self._segments else None
            if segment is None or segment.descriptor is None or self._offset < segment.end:
                return
            if segment.end < filled * self._most:
                return
            self._seal(segment)
        self._finish(segment, segment.end)

    def close(self) -> bool:
        """Give up the folder, and remove it where nothing is left in it; whether it is gone."""
        self.shrink()
        with self._guard:
            for segment in self._segments:
                self._seal(segment)
            empty = not self._segments
        try:
            if empty:
                with contextlib.suppress(OSError):
                    self.folder.rmdir()  # while it is still locked: nobody adopts what is about to go
                    return True
            return False
        finally:
            os.close(self._held)

    def _remembered(self, segment: _Segment, offset: int, most: int) -> Batch | None:
        """What comes next, where it was written so lately that it is at hand: as nearly always."""
        records: list[Record] = []
        end = offset
        while self._at_hand:
            written = self._at_hand[0]
            if written.segment == segment.path and written.begin == end:
                if len(records) + len(written.records) > most:
                    break
                records += written.records
                end = written.end
            elif records:
                break
            self._at_hand.popleft()
            self._at_hand_bytes -= written.end - written.begin
        return Batch(self.columns, records, segment.path, end) if records else None

    def _look(self, path: Path, offset: int, end: int, most: int) -> tuple[Header | None, list[Record], int]:
        """The segment's header, whole records from `offset` on and where they end."""
        with _opened(path) as file:
            header = read_header(os.pread(file, _HEADER_BYTES, 0)[:end])
            if header is None or header.spool_id != self.id:
                return None, [], offset
            offset = offset or header.length
            data = os.pread(file, min(_CHUNK, end - offset), offset)
            if (wanted := frame_length(data)) > len(data):
                data = os.pread(file, min(wanted, end - offset), offset)
        records, used = read_frames(data, most)
        return header, records, offset + used

    def _begin_segment(self, first: int) -> _Segment:
        if self._segments:
            self._seal(self._segments[-1])
        path = self._unused(first)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        segment = _Segment(path, 0, descriptor)
        self._segments.append(segment)
        return segment

    def _unused(self, first: int) -> Path:
        """A name of its own, in order: a segment without a record may be there that began at the same number."""
        path, more = self.folder / f"{first:020d}.log", 0
        while path.exists():
            more += 1
            path = self.folder / f"{first:020d}_{more:06d}.log"
        return path

    def _seal(self, segment: _Segment) -> None:
        if segment.descriptor is not None:
            os.close(segment.descriptor)
            segment.descriptor = None

    def _undo(self, segment: _Segment) -> None:
        """Nothing of the last write may be read. The segment ends here: after a failed sync its pages are not sure."""
        assert segment.descriptor is not None
        with contextlib.suppress(OSError):
            os.ftruncate(segment.descriptor, segment.end)
        self._seal(segment)
        if segment.end == 0:
            self._segments.remove(segment)
            with contextlib.suppress(OSError):
                segment.path.unlink()

    def _finish(self, segment: _Segment, end: int) -> bool:
        """Delete a segment that was read to its `end`; False where more of it has come, or may come."""
        with self._guard:
            if segment.descriptor is not None or segment.end > end or not self._segments:
                return segment.end > end
            self._segments.popleft()
            self._offset = 0
        segment.path.unlink(missing_ok=True)
        return True

    def _give_up(self, segment: _Segment) -> None:
        log.error("%s is gone, and with it the call records that were in it; nobody may delete a spool", segment.path)
        with self._guard:
            self._seal(segment)
            self._segments.popleft()
            self._offset = 0

    def _set_aside(self, segment: _Segment, left: int) -> None:
        """The rest of a segment can't be read: what was being written at a kill, or a damaged disk."""
        with self._guard:
            last = segment is self._segments[-1]
            self._offset = segment.end
        if last:
            log.warning("the spool %s ends with %d bytes that are no whole record; they are left out", self.id, left)
            return
        kept = self.folder.parent / f"damaged-{self.id}-{segment.path.name}"
        log.error("%d bytes of %s can't be read; a copy is kept as %s", left, segment.path, kept.name)
        with contextlib.suppress(OSError):
            os.link(segment.path, kept)


def abandoned(parent: Path, own: str) -> Iterator[Spool]:
    """The spools under `parent` whose processes are dead; each is adopted as it is given."""
    for folder in sorted(parent.iterdir(), key=_age) if parent.is_dir() else ():
        if _IS_ID(folder.name) and folder.name != own and (spool := Spool.adopt(folder)) is not None:
            yield spool


def _age(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return folder.stat().st_mtime
    return 0.0


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None when another one does, or the folder has just gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(folder).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _write(descriptor: int, data: bytes, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
