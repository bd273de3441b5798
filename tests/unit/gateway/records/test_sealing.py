"""Envelopes: each text has a key of its own, wrapped under one of the configuration's."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from gateway.records.contents import Contents
from gateway.records.sealing import Seal

OLD, NEW, OTHER = os.urandom(32), os.urandom(32), os.urandom(32)


def test_what_is_sealed_opens_at_its_place_only() -> None:
    sealed = Seal([OLD]).seal(b"canary", b"here")

    assert b"canary" not in sealed
    assert Seal([OLD]).open(sealed, b"here") == (b"canary", True)
    assert Seal([OLD]).open(sealed, b"there") is None
    assert Seal([OTHER]).open(sealed, b"here") is None
    assert Seal([OLD]).seal(b"canary", b"here") != sealed


def test_a_key_is_rotated_without_encrypting_the_text_anew() -> None:
    text = os.urandom(100_000)
    sealed = Seal([OLD]).seal(text, b"here")

    rewrapped = Seal([NEW, OLD]).rewrapped(sealed, b"here")

    assert rewrapped is not None
    assert rewrapped[-100_000:] == sealed[-100_000:]
    assert Seal([NEW]).open(rewrapped, b"here") == (text, True)
    assert Seal([NEW]).rewrapped(sealed, b"here") is None


def test_what_was_sealed_without_an_envelope_still_opens() -> None:
    """As it was before 2026-11: under the key of its place alone."""
    cipher = AESGCM(
        HKDFExpand(SHA256(), 32, b"here").derive(HKDF(SHA256(), 32, None, b"rag-gateway: sealing").derive(OLD))
    )
    nonce = os.urandom(12)
    before = nonce + cipher.encrypt(nonce, b"canary", None)

    assert Seal([NEW, OLD]).open(before, b"here") == (b"canary", False)
    rewrapped = Seal([NEW, OLD]).rewrapped(before, b"here")
    assert rewrapped is not None
    assert Seal([NEW]).open(rewrapped, b"here") == (b"canary", True)


@pytest.mark.parametrize("place", range(3))
def test_a_changed_byte_is_noticed(place: int) -> None:
    sealed = bytearray(Seal([OLD]).seal(b"canary", b"here"))
    sealed[(0, 40, -1)[place]] ^= 1

    assert Seal([OLD]).open(bytes(sealed), b"here") is None


def test_contents_are_sealed_where_there_is_a_key_and_read_either_way(caplog: pytest.LogCaptureFixture) -> None:
    said = {"messages": [{"role": "user", "content": "Grüße"}], "answer": None}
    plain, sealed = Contents(), Contents(Seal([OLD]))

    assert "Grüße".encode() in plain.written(said, "call:1")
    assert "Grüße".encode() not in sealed.written(said, "call:1")
    for written in (plain, sealed):
        assert sealed.read(written.written(said, "call:1"), "call:1") == said
    assert plain.read(None, "call:1") is None
    assert plain.read(sealed.written(said, "call:1"), "call:1") is None
    assert "not in records.encryption_keys" in caplog.text


def test_contents_come_under_the_first_key_once() -> None:
    said = {"answer": "canary"}
    now = Contents(Seal([NEW, OLD]))

    for before in (Contents(), Contents(Seal([OLD]))):
        rewrapped = now.rewrapped(before.written(said, "call:1"), "call:1")
        assert rewrapped is not None
        assert Contents(Seal([NEW])).read(rewrapped, "call:1") == said
        assert now.rewrapped(rewrapped, "call:1") == rewrapped
    assert now.rewrapped(Contents(Seal([OTHER])).written(said, "call:1"), "call:1") is None
