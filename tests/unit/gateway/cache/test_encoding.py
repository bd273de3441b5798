"""Kept answers as bytes: there and back, and what can't be read."""

from __future__ import annotations

import pytest
from cache_asking import TARGET, answer

from gateway.cache.encoding import Unreadable, decoded, encoded
from gateway.cache.protocol import Kept
from gateway.records.sealing import Seal

SHORT = Kept(answer("short"), TARGET, 1.5, 60.0, "internal")
LONG = Kept(answer("the same words again " * 500), None, 1.5, 60.0)
SEAL = Seal([b"1" * 32])


@pytest.mark.parametrize("kept", [SHORT, LONG])
@pytest.mark.parametrize("seal", [None, SEAL])
def test_what_was_kept_comes_back(kept: Kept, seal: Seal | None) -> None:
    value = encoded(kept, seal, b"place")
    back = decoded(value, seal, b"place", 100_000)
    assert back.completion.data == kept.completion.data
    assert back.completion.facts == kept.completion.facts
    assert (back.served_by, back.made_at, back.fresh, back.sensitivity) == (
        kept.served_by, kept.made_at, kept.fresh, kept.sensitivity,
    )  # fmt: skip


def test_what_is_long_is_kept_small_and_what_is_sealed_shows_nothing() -> None:
    assert len(encoded(LONG, None, b"")) < len(LONG.completion.data) / 10
    assert b"short" in encoded(SHORT, None, b"")
    assert b"short" not in encoded(SHORT, SEAL, b"")


@pytest.mark.parametrize(("value", "seal", "place"), [
    (b"", None, b"place"),
    (b"\x09\x00rest", None, b"place"),  # of another version
    (encoded(SHORT, None, b"place")[:-3], None, b"place"),
    (encoded(LONG, None, b"place")[:-3], None, b"place"),
    (encoded(SHORT, SEAL, b"place"), SEAL, b"elsewhere"),  # moved to another key
    (encoded(SHORT, SEAL, b"place"), Seal([b"2" * 32]), b"place"),  # of a key that is gone
    (encoded(SHORT, SEAL, b"place"), None, b"place"),
    (encoded(SHORT, None, b"place"), SEAL, b"place"),  # whoever can write there could plant an answer
])  # fmt: skip
def test_what_can_t_be_read_is_as_good_as_nothing(value: bytes, seal: Seal | None, place: bytes) -> None:
    with pytest.raises(Unreadable):
        decoded(value, seal, place, 100_000)


def test_what_would_grow_beyond_its_bound_is_not_unpacked() -> None:
    with pytest.raises(Unreadable):
        decoded(encoded(LONG, None, b""), None, b"", 1_000)
