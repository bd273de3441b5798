"""What was recorded can be read, or is not there: what somebody nested as deeply as a request may be breaks nothing."""

from __future__ import annotations

import json

import msgspec
import pytest

from gateway.records.contents import Contents
from gateway.records.sealing import Seal


@pytest.mark.parametrize("contents", [Contents(), Contents(Seal([b"k" * 32]))], ids=["plain", "sealed"])
def test_what_is_read_can_be_written_again_however_deeply_it_is_nested(contents: Contents) -> None:
    """A request is read first, and at little depth; a record of it is told from deeper down, in whole and to others."""
    for depth in (1, 100, 500, *range(800, 1_000, 7), 50_000):
        raw = msgspec.Raw(b"[" * depth + b"]" * depth)
        found = contents.read(contents.written({"parameters": {"x": raw}}, "here"), "here")
        assert found is not None or depth > 500
        json.dumps({"data": [{"call": found}]})
        assert found is None or list(found) == ["parameters"]
