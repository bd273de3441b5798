"""What a caller says of its trace, and what is made of it: https://www.w3.org/TR/trace-context/."""

from __future__ import annotations

import pytest

from gateway.api.front import _read_known
from gateway.api.headers import read_headers
from gateway.exchange import Exchange
from gateway.values import Target

TRACE, PARENT = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"


def read(*headers: tuple[bytes, bytes]) -> Exchange:
    exchange = Exchange("chat.completions")
    _read_known(read_headers(list(headers), None), exchange)
    return exchange


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (b"00-%b-%b-01", True),
        (b"00-%b-%b-01-more", False),  # version 00 says no more
        (b"01-%b-%b-01", True),
        (b"cc-%b-%b-01-what-the-future-brings", True),
        (b"cc-%b-%b-01.", False),
        (b"ff-%b-%b-01", False),
        (b"00-%b-%b-1", False),
        (b"00-%b-%b-0G", False),
    ],
)
def test_a_traceparent_of_any_version_is_read_and_a_wrong_one_is_not(header: bytes, known: bool) -> None:
    exchange = read((b"traceparent", header % (TRACE, PARENT)), (b"tracestate", b"a=1"))
    assert (exchange.trace_id == TRACE.decode()) is known
    assert (exchange.trace_parent, exchange.trace_state) == ((PARENT.decode(), "a=1") if known else (None, None))


def test_ids_of_nothing_but_zeros_are_none() -> None:
    assert read((b"traceparent", b"00-%b-%b-01" % (b"0" * 32, PARENT))).trace_parent is None
    assert read((b"traceparent", b"00-%b-%b-01" % (TRACE, b"0" * 16))).trace_parent is None


@pytest.mark.parametrize(
    ("states", "passed_on"),
    [
        ([b"a=1,b=2"], "a=1,b=2"),
        ([b"a=1", b"b=2"], "a=1, b=2"),  # several lines are one list
        ([b"a=1", b""], "a=1,"),  # no header ends with a blank: whoever is sent one would refuse it
        ([b"", b"a=1"], ", a=1"),
        ([b"a=\xe9"], None),
        ([b"a=" + b"x" * 600], None),
        ([], None),
    ],
)
def test_a_tracestate_is_passed_on_as_it_came_where_it_is_one(states: list[bytes], passed_on: str | None) -> None:
    exchange = read((b"traceparent", b"00-%b-%b-01" % (TRACE, PARENT)), *((b"tracestate", s) for s in states))
    attempt = exchange.attempt(Target("openai", "gpt-x"))
    headers = exchange.trace_headers(attempt)
    assert headers.startswith(f"traceparent: 00-{TRACE.decode()}-{attempt.span_id}-01\r\n")
    assert headers.endswith(f"tracestate: {passed_on}\r\n") if passed_on else "tracestate" not in headers


def test_each_try_has_a_span_of_its_own_and_none_is_the_servers() -> None:
    exchange = read()
    ids = [exchange.attempt(Target("openai", "gpt-x")).span_id for _ in range(3)]
    assert len({*ids, exchange.span_id}) == 4
    assert all(len(one) == 16 and int(one, 16) for one in ids)
