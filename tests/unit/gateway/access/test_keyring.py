"""Who calls, by the key alone."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.keyring import Keyring
from gateway.access.keys import create_key, hash_key
from gateway.config.models import Access, Key
from gateway.errors import Unauthenticated
from gateway.values import Caller

KEY = "sk-gw-one"
CHAT = "sk-gw-chat"
ACCESS = Access(
    keys=[
        Key(name="one", hash=hash_key(KEY), models=["handbook", "openai/*"], tenant="t1", user="ada"),
        Key(name="chat", hash=hash_key(CHAT), speaks_for_users=True, admin=True),
    ]
)


def bearer(key: str) -> bytes:
    return b"Bearer " + key.encode()


@pytest.fixture
def keyring() -> Keyring:
    return Keyring(ACCESS, open=False)


@pytest.fixture
def opened() -> Keyring:
    return Keyring(ACCESS, open=True)


def test_a_key_is_the_caller_that_the_configuration_says(keyring: Keyring) -> None:
    assert keyring.identify(bearer(KEY)) == Caller("one", "t1", "ada", frozenset({"handbook", "openai/*"}))
    assert keyring.identify(bearer(CHAT)) == Caller("chat", admin=True, speaks_for_users=True)


@pytest.mark.parametrize("header", [b"bearer sk-gw-one", b"BEARER sk-gw-one", b"Bearer   sk-gw-one  "])
def test_the_scheme_is_read_in_any_case(keyring: Keyring, header: bytes) -> None:
    assert keyring.identify(header).key_name == "one"


@pytest.mark.parametrize(
    "header",
    [
        bearer(hash_key(KEY)),
        bearer(hash_key(KEY).removeprefix("sha256:")),
        b"Bearer " + bytes.fromhex(hash_key(KEY).removeprefix("sha256:")),
        bearer(KEY[:-1]),
        bearer(KEY + "x"),
        bearer(KEY.upper()),
        bearer("' OR 1=1 --"),
        bearer("\x00"),
        b"Bearer \xff\xfe",
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(keyring: Keyring, header: bytes) -> None:
    with pytest.raises(Unauthenticated) as caught:
        keyring.identify(header)
    assert caught.value.body() == {
        "error": {
            "message": "Incorrect API key provided. Ask whoever runs this gateway for a key.",
            "type": "authentication_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }


@pytest.mark.parametrize("header", [None, b"", b"Bearer", b"Bearer ", b"Basic c2stZ3ctb25l", KEY.encode()])
def test_no_key_at_all_is_told_how_to_give_one(keyring: Keyring, header: bytes | None) -> None:
    with pytest.raises(Unauthenticated, match="You didn't provide an API key") as caught:
        keyring.identify(header)
    assert (caught.value.status, caught.value.code) == (401, "missing_api_key")


@given(st.binary(max_size=80))
def test_no_other_header_lets_anybody_in(header: bytes) -> None:
    with pytest.raises(Unauthenticated):
        Keyring(ACCESS, open=False).identify(header)


@pytest.mark.parametrize("header", [None, b"", b"Bearer anything", b"Basic abc"])
def test_open_mode_lets_everybody_in(opened: Keyring, header: bytes | None) -> None:
    assert opened.identify(header) == Caller("open", admin=True, speaks_for_users=True)


def test_in_open_mode_a_known_key_is_still_itself(opened: Keyring) -> None:
    assert opened.identify(bearer(KEY)) == Caller("one", "t1", "ada", frozenset({"handbook", "openai/*"}))


def test_a_user_is_believed_only_from_a_key_that_may_speak_for_users(keyring: Keyring) -> None:
    one, chat = keyring.identify(bearer(KEY)), keyring.identify(bearer(CHAT))
    assert keyring.speaking_for(one, "ben").user == "ada"
    assert keyring.speaking_for(one, None) is one
    assert keyring.speaking_for(chat, None) is chat
    assert keyring.speaking_for(chat, "ben") == Caller("chat", user="ben", admin=True, speaks_for_users=True)
    assert chat.user is None


def test_a_provider_with_a_star_stands_for_its_models_only(keyring: Keyring) -> None:
    one = keyring.identify(bearer(KEY))
    asked = [
        "handbook",
        "openai/gpt-4.1",
        "openai/org/model",
        "openai",
        "openai2/x",
        "mistral/x",
        "other",
        "",
    ]
    assert [model for model in asked if one.may_use(model)] == [
        "handbook",
        "openai/gpt-4.1",
        "openai/org/model",
    ]


def test_a_key_without_models_may_use_all_and_one_with_none_nothing() -> None:
    keyring = Keyring(Access(keys=[Key(name="none", hash=hash_key("n"), models=[])]), open=False)
    assert not keyring.identify(b"Bearer n").may_use("handbook")


def test_a_new_key_has_256_bits_and_is_known_by_its_hash() -> None:
    keys = {create_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(urlsafe_b64decode(key.removeprefix("sk-gw-") + "=")) == 32 for key in keys)
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", hash_key(key)) for key in keys)
    assert hash_key("abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
