"""Whose server an address names."""

from __future__ import annotations

import pytest

from guardrails.addresses import Hosts, named, own, servers


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("https://a.example/x?y#z", {"a.example"}),
        ("HTTPS://A.Example.:8443", {"a.example"}),
        ("//a.example", {"a.example"}),
        ("https:a.example", {"a.example"}),
        ("https:\\\\a.example\\x", {"a.example"}),
        ("https://user:pass@b.example/@a.example", {"b.example"}),
        ("https://%61.example", {"a.example"}),
        ("https://ａ。example", {"a.example"}),
        ("ht\ntps://a.ex\tample", {"a.example"}),
        ("http://[2001:db8::1]:80/", {"[2001:db8::1]"}),
        ("https://a.example\\.b.example/", {"a.example", "a.example.b.example"}),
        ("mailto:me@a.example?subject=x", {"a.example"}),
        ("mailto:me@a.example,you@b.example", {""}),
        ("https://", {""}),
        ("https://a b/", {""}),
        ("javascript:alert(1)", {""}),
        ("https://a.example\u0000", {""}),
    ],
)
def test_an_address_leads_where_a_browser_would_go(address: str, hosts: set[str]) -> None:
    assert set(servers(address)) == hosts


def test_hosts_are_exact_or_below_a_suffix() -> None:
    hosts = Hosts(["A.example", "*.b.example"])
    assert [host in hosts for host in ("a.example", "x.a.example", "x.b.example", "b.example", "xb.example", "")] == [
        True, False, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", ["", "*", "https://a.example", "a.example:80", "a.*.example", "a.example/"])
def test_what_is_no_host_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        Hosts([pattern])


def test_hosts_are_named_alone_and_in_addresses() -> None:
    texts = [
        "See https://docs.A.example/x, or b.example.",
        "at 10.0.0.1:80",
        "version 1.2 and a.b.c_d",
        "\ud800 c.example",
    ]
    assert named(texts) >= {"docs.a.example", "b.example", "10.0.0.1", "c.example"}
    assert "a.example" not in named(texts)


def test_ones_own_machine() -> None:
    assert all(map(own, ("localhost", "app.localhost", "127.0.0.1", "127.9.9.9", "[::1]")))
    assert not any(map(own, ("localhost.example", "127.0.0.1.example", "128.0.0.1", "", "[::2]")))
