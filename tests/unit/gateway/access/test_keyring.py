"""Who calls, by the key alone."""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.callers import configured_key_id, user_in_header
from gateway.access.keyring import Keyring
from gateway.access.keys import create_key, hash_key
from gateway.config.access import Access, Key
from gateway.errors import BadRequest, Unauthenticated
from gateway.values import Caller

KEY = "sk-gw-one"
CHAT = "sk-gw-chat"
ACCESS = Access(
    keys=[
        Key(name="one", hash=hash_key(KEY), models=["handbook", "openai/*"], tenant="t1", user="ada"),
        Key(name="chat", hash=hash_key(CHAT), speaks_for_users=True, admin=True),
    ]
)
ONE = Caller("one", "t1", "ada", frozenset({"handbook", "openai/*"}), key_id=configured_key_id("one"))
CHATTING = Caller("chat", role="admin", speaks_for_users=True, key_id=configured_key_id("chat"))
OPEN = Caller("open", role="admin", speaks_for_users=True, key_id="open")
HERE: dict[str, Any] = {"client": ("127.0.0.1", 5), "headers": []}


def bearer(key: str) -> bytes:
    return b"Bearer " + key.encode()


def known(keyring: Keyring, header: bytes | None, scope: dict[str, Any] = HERE) -> Caller:
    """Without a record store behind it, every key can be told at once."""
    caller = keyring.known(header, scope)
    assert caller is not None
    return caller


@pytest.fixture
def keyring() -> Keyring:
    return Keyring(ACCESS, open=False)


@pytest.fixture
def opened() -> Keyring:
    return Keyring(ACCESS, open=True)


def test_a_key_is_the_caller_that_the_configuration_says(keyring: Keyring) -> None:
    assert known(keyring, bearer(KEY)) == ONE
    assert known(keyring, bearer(CHAT)) == CHATTING


@pytest.mark.parametrize("header", [b"bearer sk-gw-one", b"BEARER sk-gw-one", b"Bearer   sk-gw-one  "])
def test_the_scheme_is_read_in_any_case(keyring: Keyring, header: bytes) -> None:
    assert known(keyring, header).key_name == "one"


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
        known(keyring, header)
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
        known(keyring, header)
    assert (caught.value.status, caught.value.code) == (401, "missing_api_key")


@given(st.binary(max_size=80))
def test_no_other_header_lets_anybody_in(header: bytes) -> None:
    with pytest.raises(Unauthenticated):
        known(Keyring(ACCESS, open=False), header)


@pytest.mark.parametrize("header", [None, b"", b"Bearer anything", b"Basic abc"])
def test_open_mode_lets_everybody_in(opened: Keyring, header: bytes | None) -> None:
    assert known(opened, header) == OPEN


def test_in_open_mode_a_known_key_is_still_itself(opened: Keyring) -> None:
    assert known(opened, bearer(KEY)) == ONE


def test_a_user_is_believed_only_from_a_key_that_may_speak_for_users(keyring: Keyring) -> None:
    assert keyring.speaking_for(ONE, "ben").user == "ada"
    assert keyring.speaking_for(ONE, None) is ONE
    assert keyring.speaking_for(CHATTING, None) is CHATTING
    assert keyring.speaking_for(CHATTING, "ben").user == "ben"
    assert keyring.speaking_for(ONE, "b" * 257).user == "ada"
    with pytest.raises(BadRequest, match="256 characters"):
        keyring.speaking_for(CHATTING, "b" * 257)
    assert CHATTING.user is None


def test_a_provider_with_a_star_stands_for_its_models_only(keyring: Keyring) -> None:
    one = known(keyring, bearer(KEY))
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
    assert not known(keyring, b"Bearer n").may_use("handbook")


# -- until when, and from where ----------------------------------------------------------------------------
def key(**more: Any) -> Keyring:
    return Keyring(Access(keys=[Key(name="k", hash=hash_key(KEY), **more)]), open=True)


def test_an_expired_key_is_none_in_open_mode_either() -> None:
    assert known(key(expires_at=time.time() + 60), bearer(KEY)).key_name == "k"
    with pytest.raises(Unauthenticated, match="expired"):
        known(key(expires_at="2020-01-31"), bearer(KEY))


@pytest.mark.parametrize(
    ("networks", "client", "good"),
    [
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "11.1.2.3", False),
        (["10.0.0.0/8", "11.1.2.3"], "11.1.2.3", True),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], "::1", False),
        (["2001:db8::/32"], "2001:db8::5", True),
        (["0.0.0.0/0"], "not an address", False),
    ],
)
def test_a_key_may_be_bound_to_networks(networks: list[str], client: str, good: bool) -> None:
    scope = {"client": (client, 5), "headers": [(b"x-forwarded-for", b"10.9.9.9")]}
    if good:
        assert known(key(networks=networks), bearer(KEY), scope).key_name == "k"
    else:
        with pytest.raises(Unauthenticated) as caught:
            known(key(networks=networks), bearer(KEY), scope)
        assert caught.value.code == "ip_not_authorized"


@pytest.mark.parametrize(
    ("peer", "forwarded", "good"),
    [
        ("192.0.2.1", [b"10.1.2.3"], True),
        ("192.0.2.1", [b"10.1.2.3, 192.0.2.9"], True),  # two proxies, one behind the other
        ("192.0.2.1", [b"10.1.2.3, 203.0.113.5"], False),  # the first is the client's own claim
        ("192.0.2.1", [b"10.1.2.3", b"203.0.113.5"], False),
        ("203.0.113.5", [b"10.1.2.3"], False),  # not one of the proxies
        ("192.0.2.1", [b"nonsense"], False),
        ("192.0.2.1", [], False),
    ],
)
def test_a_trusted_proxy_names_the_client(peer: str, forwarded: list[bytes], good: bool) -> None:
    entry = Key(name="k", hash=hash_key(KEY), networks=["10.0.0.0/8"])
    keyring = Keyring(Access(keys=[entry], trusted_proxies=["192.0.2.0/24"]), open=False)
    scope = {"client": (peer, 5), "headers": [(b"x-forwarded-for", value) for value in forwarded]}
    if good:
        assert known(keyring, bearer(KEY), scope).key_name == "k"
    else:
        with pytest.raises(Unauthenticated):
            known(keyring, bearer(KEY), scope)


def test_a_new_key_has_256_bits_and_is_known_by_its_hash() -> None:
    keys = {create_key() for _ in range(100)}
    assert len(keys) == 100
    for made in keys:
        assert re.fullmatch(r"sk-gw-[A-Za-z0-9_-]{43}", made)
        assert len(urlsafe_b64decode(made.removeprefix("sk-gw-") + "=")) == 32
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", hash_key(made))
    assert hash_key("abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.lists(st.text(st.characters(codec="latin-1"), min_size=1), min_size=2, max_size=2, unique=True))
def test_two_users_in_a_header_are_never_one(names: list[str]) -> None:
    one, other = (user_in_header(name.encode("latin-1")) for name in names)
    assert one != other
    assert [user_in_header(name.encode()) for name in names] == names
