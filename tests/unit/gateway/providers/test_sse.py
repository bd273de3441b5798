"""Server-sent events out of bytes that may be cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamFailed
from gateway.providers.sse import MAX_EVENT, SseReader

PAYLOADS = st.lists(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
        lambda text: not text.startswith(" ")
    ),
    max_size=6,
)


def read(stream: bytes, cuts: list[int]) -> list[bytes]:
    reader = SseReader()
    payloads: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        payloads += reader.feed(stream[start:end])
    return payloads


@given(PAYLOADS, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans(), st.data())
def test_any_cut_gives_the_same_payloads(
    payloads: list[str], newline: str, bom: bool, comments: bool, data: st.DataObject
) -> None:
    events = [(": ping" + newline if comments else "") + f"data: {payload}{newline}{newline}" for payload in payloads]
    stream = (b"\xef\xbb\xbf" if bom else b"") + "".join(events).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    assert read(stream, cuts) == [payload.encode() for payload in payloads]
    assert read(stream, list(range(1, len(stream)))) == [payload.encode() for payload in payloads]


def test_lines_of_one_event_are_joined() -> None:
    assert read(b'event: x\ndata: {"a":\ndata: 1}\nid: 3\n\n', []) == [b'{"a": 1}']


def test_a_lone_carriage_return_ends_a_line() -> None:
    assert read(b"data: a\r\rdata: b\r\r\n", []) == [b"a", b"b"]


def test_an_unfinished_event_is_told_of() -> None:
    reader = SseReader()
    assert reader.feed(b"data: a\n\ndata: b") == [b"a"]
    assert reader.inside_event
    assert reader.feed(b"\n\n") == [b"b"]
    assert not reader.inside_event


def test_an_event_without_end_is_refused() -> None:
    reader = SseReader()
    with pytest.raises(UpstreamFailed, match="too large"):
        for _ in range(MAX_EVENT // 100_000 + 2):
            reader.feed(b"x" * 100_000)
