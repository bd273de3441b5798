"""Which pages may read and do what, by their origin."""

from __future__ import annotations

import socket

import pytest

from gateway.access.browsers import Browsers, CrossOrigin

RULES = Browsers.of(["https://app.example.com", "tauri://localhost"], ["gateway.example"], 600.0)
EVIL = b"https://evil.example"


def asked(method: str = "POST", host: bytes = b"127.0.0.1:8080", **headers: bytes) -> None:
    told = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    RULES.refuse_strangers({b"host": host, **told}, method)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "10.0.0.7", "x.localhost", "host.docker.internal:80",
        "gateway.example:8080", "gateway.example.", "", socket.gethostname(),
    ],
)  # fmt: skip
def test_this_machine_may_be_called_so(host: str) -> None:
    asked("GET", host.encode())


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "evilocalhost", "gateway.example.evil",
        "internal.evil", "127.0.0.1@evil.example", "[::1].evil", "0x7f000001", "a b", "127.1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_it_may_not_be_called_so(host: str, method: str) -> None:
    with pytest.raises(CrossOrigin, match="open_hosts"):
        asked(method, host.encode())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": b"http://127.0.0.1:8080"},
        {"origin": b"https://127.0.0.1:8080"},  # TLS ends at a proxy
        {"origin": b"https://app.example.com"},
        {"origin": b"tauri://localhost"},
        {"sec_fetch_site": b"same-origin"},
        {"sec_fetch_site": b"none"},
    ],
)
def test_these_may_act(headers: dict[str, bytes]) -> None:
    asked(**headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": EVIL},
        {"origin": b"null"},
        {"origin": b""},
        {"origin": b"http://localhost:8080"},
        {"origin": b"http://127.0.0.1"},
        {"origin": b"http://127.0.0.1:80801"},
        {"origin": b"http://127.0.0.1:8080.evil.example"},
        {"origin": b"https://app.example.com.evil.example"},
        {"origin": b"https://app.example.com, https://evil.example"},
        {"origin": b"HTTPS://APP.EXAMPLE.COM"},
        {"sec_fetch_site": b"cross-site"},
        {"sec_fetch_site": b"same-site"},
        {"origin": EVIL, "sec_fetch_site": b"same-origin"},
        {"origin": b"\xff\xfe"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "PUT", "BREW"])
def test_these_may_not(headers: dict[str, bytes], method: str) -> None:
    with pytest.raises(CrossOrigin, match="cors.origins"):
        asked(method, **headers)
    asked("GET", **headers)  # it may look, and is not shown anything


def test_a_port_that_goes_without_saying_is_the_same() -> None:
    RULES.refuse_strangers({b"host": b"10.0.0.1:80", b"origin": b"http://10.0.0.1"}, "POST")
    RULES.refuse_strangers({b"host": b"10.0.0.1:443", b"origin": b"https://10.0.0.1"}, "POST")
    with pytest.raises(CrossOrigin):
        RULES.refuse_strangers({b"host": b"10.0.0.1:443", b"origin": b"http://10.0.0.1"}, "POST")


def test_only_a_named_origin_is_granted_anything() -> None:
    granted = dict(RULES.granted(b"https://app.example.com"))
    assert granted[b"access-control-allow-origin"] == b"https://app.example.com"
    assert b"x-gateway-call-id" in granted[b"access-control-expose-headers"]
    assert granted[b"vary"] == b"Origin"
    assert b"access-control-allow-credentials" not in granted
    for other in (None, b"", b"null", b"*", EVIL, b"https://app.example.com:443", b"https://APP.example.com"):
        assert RULES.granted(other) == []


def test_who_asks_before_is_told_what_it_may_send() -> None:
    headers = {
        b"origin": b"https://app.example.com",
        b"access-control-request-headers": b"authorization,x-stainless-os",
    }
    assert dict(RULES.preflight(headers)) == {
        b"access-control-allow-origin": b"https://app.example.com",
        b"access-control-allow-methods": b"GET, POST, PUT, PATCH, DELETE",
        b"access-control-allow-headers": b"authorization,x-stainless-os",
        b"access-control-max-age": b"600",
        b"vary": b"Origin, Access-Control-Request-Headers",
    }
    with pytest.raises(CrossOrigin, match=r"evil\.example"):
        RULES.preflight({b"origin": EVIL})


def test_what_a_header_says_is_shown_without_what_could_harm() -> None:
    with pytest.raises(CrossOrigin) as refused:
        RULES.preflight({b"origin": b"\x1b[31m\xff" + b"x" * 500})
    assert refused.value.message.isascii()
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 300
