"""Faults of `access.tokens`, each at its place; and what a short form stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.faults import ConfigError
from gateway.config.loading import Loaded, check_exposure, load

MOCK = "providers: {mock: {kind: openai_compatible, base_url: http://127.0.0.1:1/v1}}\n"
STAFF = "name: staff, issuer: https://idp.example, audience: api"
ALGORITHMS = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA"
UNSAFE = (
    "should be an https:// URL without a user or fragment: whoever can change the keys on their way can let anybody in "
    "(http:// only on this machine, or with `insecure_http: true`)"
)


def loaded(folder: Path, text: str) -> Loaded:
    file = folder / "gateway.yaml"
    file.write_text(MOCK + text, "utf-8")
    return load(file, {})


def tokens(*entries: str) -> str:
    return "access:\n  tokens:\n" + "".join(f"    - {{{entry}}}\n" for entry in entries)


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        (["name: staff, issuer: https://a"], "4:7: access.tokens[0].audience: is missing"),
        ([STAFF + ", algorithms: [HS256]"], "4:78: access.tokens[0].algorithms[0]: is not one of what is allowed; allowed: ALGORITHMS; did you mean `RS256`?"),
        ([STAFF + ", algorithms: [none]"], "4:78: access.tokens[0].algorithms[0]: is not one of what is allowed; allowed: ALGORITHMS"),
        ([STAFF + ", tenant: {claim: t, vaules: {}}"], "4:84: access.tokens[0].tenant.vaules: is not a setting; allowed: always, claim, default, values, words; did you mean `values`?"),
        ([STAFF + ", tenant: no name"], "4:65: access.tokens[0].tenant.always: does not fit the pattern ^[A-Za-z0-9_-]{1,64}$"),
        ([STAFF + ", tenant: {values: {a: b}}"], "4:65: access.tokens[0].tenant: say the `claim` that it is read from"),
        ([STAFF + ", tenant: {claim: a, always: b}"], "4:65: access.tokens[0].tenant: `always` and `claim` exclude each other"),
        ([STAFF + ", speaks_for_users: {claim: azp}"], "4:65: access.tokens[0].speaks_for_users: `values` is missing: what the claim says where users may be named"),
        ([STAFF + ", role: {claim: roles}"], "4:65: access.tokens[0].role.values: is missing"),
        ([STAFF + ", role: {claim: roles, values: {a: root}}"], "4:95: access.tokens[0].role.values.a: is not one of what is allowed; allowed: viewer, operator, admin"),
        ([STAFF + ", models: [absent]"], "4:65: access.tokens[0].models: there is no model `absent`"),
        ([STAFF + ", models: {claim: r, values: {a: [mock/x, absent]}}"], "4:65: access.tokens[0].models: there is no model `absent`"),
        ([STAFF + ", sensitivity: secret"], "4:65: access.tokens[0].sensitivity: `secret` is not one of the `labels`; allowed: public, internal"),
        ([STAFF + ", jwks_url: 'file:///etc/keys'"], f"4:7: access.tokens[0]: `jwks_url` {UNSAFE}"),
        ([STAFF + ", jwks_url: 'http://idp.example/keys'"], f"4:7: access.tokens[0]: `jwks_url` {UNSAFE}"),
        ([STAFF + ", jwks_url: 'https://u:p@idp.example/keys'"], f"4:7: access.tokens[0]: `jwks_url` {UNSAFE}"),
        (["name: staff, issuer: 'http://idp.example', audience: api"], f"4:7: access.tokens[0]: without `jwks_url`, `issuer` {UNSAFE}"),
        (["name: staff, issuer: accounts, audience: api"], f"4:7: access.tokens[0]: without `jwks_url`, `issuer` {UNSAFE}"),
        ([STAFF, STAFF.replace("staff", "others")], "5:22: access.tokens[1].issuer: stands twice: an issuer's tokens are read in one way"),
        ([STAFF, STAFF.replace("idp.", "")], "5:8: access.tokens[1].name: is another issuer's name too"),
    ],
)  # fmt: skip
def test_a_fault_is_told_at_its_place(tmp_path: Path, entries: list[str], fault: str) -> None:
    residency = "residency: {labels: [public, internal], stays: internal, default: public}\n"
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, tokens(*entries) + (residency if "sensitivity" in fault else ""))
    assert str(caught.value) == "gateway.yaml:" + fault.replace("ALGORITHMS", ALGORITHMS)


def test_short_forms_stand_for_long_ones(tmp_path: Path) -> None:
    short = STAFF + ", tenant: lab, user: oid, groups: groups, models: [mock/x], speaks_for_users: true, required: [hd]"
    long = (
        "name: staff, issuer: https://idp.example, audience: [api], tenant: {always: lab}, user: {claim: [oid]}, "
        "groups: {claim: groups}, models: {always: [mock/x]}, speaks_for_users: {always: true}, required: [{claim: hd}]"
    )
    assert loaded(tmp_path, tokens(short)).configuration == loaded(tmp_path, tokens(long)).configuration


def test_plain_http_is_for_this_machine_or_what_the_operator_says(tmp_path: Path) -> None:
    for entry in (
        "name: a, issuer: 'http://127.0.0.1:8090/realms/x', audience: api",
        "name: a, issuer: 'http://localhost/x', audience: api",
        "name: a, issuer: 'http://keycloak:8080/realms/x', audience: api, insecure_http: true",
        "name: a, issuer: any text, audience: api, jwks_url: 'https://idp.example/keys?p=policy'",
    ):
        assert len(loaded(tmp_path, tokens(entry)).configuration.access.tokens) == 1


def test_tokens_are_a_way_in(tmp_path: Path) -> None:
    text = tokens(STAFF).replace("access:\n", "access:\n  open_on_loopback: false\n")
    check_exposure(loaded(tmp_path, text).configuration, "127.0.0.1", "gateway.yaml")
