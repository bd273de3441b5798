"""The spool's file format. A segment is a header and then frames, each of them one record with number and checksum.

    header   8s "RGSPOOL1" · 16s the spool's id · Q the first frame's number · I length of the columns ·
             I CRC-32 of all the header but this · the columns' names, joined by commas
    frame    I CRC-32 of the rest of the frame · I length of the payload · Q the record's number · the payload

All integers are little-endian. The columns say what the values of this segment's records are, so that another version
of the gateway can read what an older one left. A frame that is cut short, or whose checksum is wrong, ends the segment:
what a process was writing when it was killed is no record yet.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"RGSPOOL1"
_HEADER: Final = struct.Struct("<8s16sQII")
_FRAME: Final = struct.Struct("<IIQ")
_BODY: Final = struct.Struct("<IQ")

Record = tuple[int, bytes, object]
"""A record's number in its spool, its payload, and what that was made from; None where it was read from the disk."""


@dataclass(frozen=True, slots=True)
class Header:
    spool_id: str
    first: int
    columns: tuple[str, ...]
    length: int  # bytes: where the first frame begins


def header_bytes(spool_id: str, first: int, columns: Sequence[str]) -> bytes:
    names = ",".join(columns).encode("ascii")
    fixed = struct.pack("<8s16sQI", MAGIC, bytes.fromhex(spool_id), first, len(names))
    return fixed + struct.pack("<I", zlib.crc32(names, zlib.crc32(fixed))) + names


def read_header(data: bytes) -> Header | None:
    """The header that `data` begins with; None where there is none, or not all of it."""
    if len(data) < _HEADER.size:
        return None
    magic, spool_id, first, length, checksum = _HEADER.unpack_from(data)
    names = data[_HEADER.size : _HEADER.size + length]
    if magic != MAGIC or len(names) < length:
        return None
    if zlib.crc32(names, zlib.crc32(data[: _HEADER.size - 4])) != checksum:
        return None
    return Header(spool_id.hex(), first, tuple(names.decode("ascii").split(",")), _HEADER.size + length)


def frames_bytes(records: Sequence[Record]) -> bytes:
    parts: list[bytes] = []
    for number, payload, _ in records:
        body = _BODY.pack(len(payload), number) + payload
        parts += (zlib.crc32(body).to_bytes(4, "little"), body)
    return b"".join(parts)


def read_frames(data: bytes, most: int) -> tuple[list[Record], int]:
    """Up to `most` whole records from the start of `data`, and how many bytes they take."""
    records: list[Record] = []
    at, size = 0, len(data)
    while len(records) < most and at + _FRAME.size <= size:
        checksum, length, number = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + length
        if end > size or zlib.crc32(memoryview(data)[at + 4 : end]) != checksum:
            break
        records.append((number, data[at + _FRAME.size : end], None))
        at = end
    return records, at


def frame_length(data: bytes) -> int:
    """How many bytes the frame that `data` begins with says that it takes; 0 where that is not to be seen yet."""
    return _FRAME.size + int(_FRAME.unpack_from(data)[1]) if len(data) >= _FRAME.size else 0
