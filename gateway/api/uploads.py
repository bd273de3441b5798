"""A file that somebody uploads: `multipart/form-data`, read while it comes (RFC 7578)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from gateway.errors import BadRequest
from gateway.records.files import StoredFile
from gateway.values import Caller
from gateway.vector_stores import VectorStores

_PURPOSES = frozenset({"assistants", "batch", "fine-tune", "vision", "user_data", "evals"})


class Upload:
    """A multipart body, handed on while it comes: nothing of a large file is kept in memory."""

    def __init__(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("content-type"))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise BadRequest("Send the file as multipart/form-data, with the fields file and purpose.", param="file")
        self._request = request
        self._fields: dict[str, bytearray] = {}
        self._filename: str | None = None
        self._name = ""
        self._is_file = False
        self._seen_file = False
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_end": lambda: None,
            },
        )

    async def store(self, knowledge: VectorStores, who: Caller) -> StoredFile:
        """Raises BadRequest, TooLarge."""
        stream = aiter(self._request.stream())
        try:
            while self._filename is None:  # fields before the file
                part = await anext(stream, b"")
                if not part:
                    raise BadRequest("Missing required parameter: 'file'.", param="file")
                self._parser.write(part)
            stored = await knowledge.upload(who, self._filename, "", self._rest(stream))
        except FormParserError:
            raise BadRequest("The multipart body can't be read.", param="file") from None
        purpose = self._fields.get("purpose", bytearray()).decode("utf-8", "replace")
        if purpose not in _PURPOSES:
            await knowledge.drop_file(who, stored.id)
            raise BadRequest(f"purpose is one of {', '.join(sorted(_PURPOSES))}.", param="purpose")
        await asyncio.to_thread(knowledge.records.set_purpose, stored.id, purpose)
        return replace(stored, purpose=purpose)

    async def _rest(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        while True:
            parts, self._parts = self._parts, []
            for part in parts:
                yield part
            chunk = await anext(stream, b"")
            if not chunk:
                break
            self._parser.write(chunk)
        self._parser.finalize()

    def _begin(self) -> None:
        self._headers = {}

    def _header_ends(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])
        self._header = (bytearray(), bytearray())

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == "file" and b"filename" in options
        if self._is_file:
            if self._seen_file:
                raise BadRequest("Send one file at a time.", param="file")
            self._seen_file = True
            self._filename = options[b"filename"].decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._parts.append(data[start:end])
            return
        field = self._fields.setdefault(self._name, bytearray())
        field.extend(data[start:end])
        if len(field) > 10_000 or len(self._fields) > 20:
            raise BadRequest("The multipart body holds more than a file and its purpose.", param="file")
