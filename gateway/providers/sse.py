"""Server-sent events, as a byte stream cut anywhere, into the payloads of their `data` fields.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

from typing import Final

from gateway.errors import UpstreamFailed

MAX_EVENT: Final = 4_000_000
_BOM: Final = b"\xef\xbb\xbf"


class SseReader:
    """Feed it segments, get whole payloads; what is not yet a whole event stays inside."""

    __slots__ = ("_data", "_first", "_line")

    def __init__(self) -> None:
        self._line = b""  # the unfinished last line
        self._data: list[bytes] = []  # the `data` lines of the unfinished event
        self._first = True

    def feed(self, segment: bytes) -> list[bytes]:
        """Payloads completed by `segment`, comments and other fields left out. Raises UpstreamFailed."""
        if (
            not self._line
            and not self._data
            and segment.endswith(b"\n\n")
            and segment.startswith(b"data: ")
            and segment.find(b"\r") < 0
        ):
            # Nearly every segment is one or more whole events in the plainest form. `find`, since `in` takes bytes for a
            # number first, and makes and drops an exception.
            self._first = False
            payloads = segment[6:-2].split(b"\n\ndata: ")
            for payload in payloads:
                if payload.find(b"\n") >= 0:
                    return self._lines(segment)
            return payloads
        return self._lines(segment)

    def _lines(self, segment: bytes) -> list[bytes]:
        text = self._line + segment
        if self._first:
            if len(text) < 3 and _BOM.startswith(text):
                self._line = text
                return []
            text = text.removeprefix(_BOM)
            self._first = False
        if len(text) > MAX_EVENT or (len(self._data) > 1 and sum(map(len, self._data)) > MAX_EVENT):
            raise UpstreamFailed("The provider sent an event that is too large.", code="upstream_bad_answer")
        if b"\n" not in segment and b"\r" not in segment and not self._line.endswith(b"\r"):
            self._line = text
            return []
        # A line ends with LF, CR or CRLF. A CR at the very end may be half of a CRLF: it waits.
        held = b"\r" if text.endswith(b"\r") else b""
        lines = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._line = lines.pop() + held
        payloads = []
        for line in lines:
            if line:
                if line.startswith(b"data:"):
                    self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                elif line == b"data":
                    self._data.append(b"")
            elif self._data:
                # JSON may hold line breaks between its tokens only, where a space means the same.
                payloads.append(b" ".join(self._data))
                self._data = []
        return payloads

    @property
    def inside_event(self) -> bool:
        """Whether the stream stopped in the middle of an event."""
        return bool(self._data or self._line.strip())
