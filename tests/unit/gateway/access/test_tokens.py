"""Tokens of a trusted issuer: which are believed, for how long, and what a refusal says."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from upstream.issuer import AUDIENCE, Issuer, kind_for, private_key, public_jwk, signed
from upstream.tls import Authority, tls_relay

from gateway.access.issuer_keys import KeySets
from gateway.access.rules import own_rule
from gateway.access.tokens import TokenVerifier
from gateway.config.limits import Allowance
from gateway.config.tokens import TokenIssuer
from gateway.errors import Forbidden, GatewayError, StageFailed, Unauthenticated
from gateway.values import Caller


class Clock:
    """Both of the verifier's clocks: what the tests say, ahead of the real one."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class Desk:
    """One issuer's tokens, as a gateway's keyring asks about them."""

    issuer: Issuer
    key_sets: KeySets
    clock: Clock
    verifier: TokenVerifier

    def trust(self, **more: Any) -> None:
        settings = TokenIssuer.model_validate(self.issuer.entry(**more))
        self.verifier = TokenVerifier([settings], self.key_sets, clock=self.clock)
        self.keys = self.key_sets.of(settings)

    async def caller(self, token: bytes | str) -> Caller:
        token = token.encode() if isinstance(token, str) else token
        return self.verifier.known(token) or await self.verifier.verify(token)

    async def refusal(self, token: bytes | str) -> GatewayError:
        """What refuses it: the same words again from memory, and nothing of the token in them."""
        token = token.encode() if isinstance(token, str) else token
        with pytest.raises(GatewayError) as first:
            await self.caller(token)
        with pytest.raises(type(first.value)) as again:
            await self.caller(token)
        assert again.value.body() == first.value.body()
        told = json.dumps(first.value.body())
        for part in token.decode("latin-1").split("."):
            assert len(part) < 8 or part not in told
        assert "canary" not in told
        return first.value


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


@pytest.fixture
async def desk(issuer: Issuer) -> AsyncIterator[Desk]:
    clock = Clock()
    key_sets = KeySets(clock)
    desk = Desk(issuer, key_sets, clock, TokenVerifier([], key_sets))
    desk.trust()
    yield desk
    await key_sets.aclose()


# --- who is let in --------------------------------------------------------------------------------------
async def test_a_good_token_is_its_user(desk: Desk) -> None:
    caller = await desk.caller(desk.issuer.token(exp=2_000_000_000))
    assert caller == Caller(
        "staff",
        "default",
        "ada",
        scope="tenant",
        key_id="tok_" + hashlib.sha256(b"staff\0ada").hexdigest()[:16],
        expires_at=2_000_000_000,
    )
    assert desk.issuer.asked == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    "algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
)
async def test_every_asymmetric_signature_is_understood(desk: Desk, algorithm: str) -> None:
    desk.issuer.keys = [public_jwk(kind_for(algorithm), "k", use=None)]
    assert (await desk.caller(desk.issuer.token("k", algorithm))).user == "ada"


async def test_a_known_token_is_not_verified_again(desk: Desk) -> None:
    token = desk.issuer.token()
    assert desk.verifier.known(token) is None
    caller = await desk.verifier.verify(token)
    assert desk.verifier.known(token) is caller


async def test_the_keys_may_be_named_by_the_configuration(desk: Desk) -> None:
    desk.issuer.answer["/elsewhere?p=x"] = (200, {}, json.dumps({"keys": desk.issuer.keys}).encode())
    desk.trust(jwks_url=desk.issuer.url + "/elsewhere?p=x")
    assert (await desk.caller(desk.issuer.token())).user == "ada"
    assert desk.issuer.asked == ["/elsewhere?p=x"]


async def test_a_token_without_a_kid_is_proved_by_the_only_key(desk: Desk) -> None:
    assert (await desk.caller(desk.issuer.token(None))).user == "ada"
    desk.issuer.keys.append(public_jwk("RSA", "second"))
    await desk.keys.refresh()
    assert (await desk.refusal(desk.issuer.token(None))).message == "The token's key is not one of its issuer's."


# --- who is not -----------------------------------------------------------------------------------------
NOW = int(time.time())
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "expired": ({"exp": NOW - 100}, "The token has expired: get a new one.", "token_expired"),
    "not valid yet": ({"nbf": NOW + 90_000}, "The token is not valid yet.", "invalid_token"),
    "issued tomorrow": ({"iat": NOW + 90_000}, "The token is not valid yet.", "invalid_token"),
    "for somebody else": (
        {"aud": "api://canary"},
        "The token is not meant for this gateway: its audience is another.",
        "invalid_token",
    ),
    "for others": (
        {"aud": ["x", "y"]},
        "The token is not meant for this gateway: its audience is another.",
        "invalid_token",
    ),
    "of another issuer": (
        {"iss": "https://canary.example"},
        "The token is of an issuer that is not trusted here.",
        "invalid_token",
    ),
    "of the issuer with a slash": (
        {"iss": "http://127.0.0.1/"},
        "The token is of an issuer that is not trusted here.",
        "invalid_token",
    ),
    "of a list of issuers": ({"iss": ["x"]}, "The token is of an issuer that is not trusted here.", "invalid_token"),
    "without an end": ({"exp": None}, "The token lacks the claim `exp`.", "invalid_token"),
    "without an audience": ({"aud": None}, "The token lacks the claim `aud`.", "invalid_token"),
    "without a user": ({"sub": None}, "The token lacks the claim `sub`.", "invalid_token"),
    "with an end in words": (
        {"exp": "canary"},
        "The token can't be read: it is not a well-formed JWT.",
        "invalid_token",
    ),
    "with a number for an audience": (
        {"aud": 7},
        "The token is not meant for this gateway: its audience is another.",
        "invalid_token",
    ),
    "bound to its holder": (
        {"cnf": {"jkt": "canary"}},
        "The token is bound to a key of its holder's (`cnf`), which can't be checked here.",
        "invalid_token",
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_token_whose_claims_do_not_hold_is_refused(desk: Desk, case: str) -> None:
    claims, message, code = WRONG[case]
    refusal = await desk.refusal(desk.issuer.token(**claims))
    assert isinstance(refusal, Unauthenticated)
    assert refusal.body() == {
        "error": {"message": message, "type": "authentication_error", "param": None, "code": code}
    }


async def test_clocks_may_differ_by_the_leeway(desk: Desk) -> None:
    desk.trust(leeway="60s")
    assert (await desk.caller(desk.issuer.token(exp=int(time.time()) - 30))).user == "ada"
    assert (await desk.caller(desk.issuer.token(nbf=int(time.time()) + 30))).user == "ada"


def _secret_of(issuer: Issuer) -> list[bytes]:
    """What an attacker may take for the secret of an HMAC: everything public about the key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = private_key("RSA", "first").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return [pem, pem.strip(), der, json.dumps(issuer.keys[0]).encode(), issuer.keys[0]["n"].encode(), b""]


async def test_no_token_chooses_how_it_is_verified(desk: Desk, issuer: Issuer) -> None:
    good = issuer.token().decode()
    _, claims, signature = good.split(".")
    payload = base64.urlsafe_b64decode(claims + "==")
    refused = "The token is signed by an algorithm that is not accepted here."
    for name in (
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "HS256",
        "HS384",
        "HS512",
        "rs256",
        "RS1",
        "ES256K",
        "A128KW",
        None,
    ):
        for signed_with in ("", signature):
            raw = base64.urlsafe_b64decode(signed_with + "==")
            forged = signed({"alg": name, "kid": "first"}, payload, raw or b"\0")
            assert (await desk.refusal(forged)).message == refused
    for secret in _secret_of(issuer):
        body = ".".join(
            base64.urlsafe_b64encode(part).decode().rstrip("=")
            for part in (json.dumps({"alg": "HS256", "kid": "first"}).encode(), payload)
        )
        mac = base64.urlsafe_b64encode(hmac.digest(secret, body.encode(), "sha256")).decode().rstrip("=")
        assert (await desk.refusal(f"{body}.{mac}")).message == refused
    # An algorithm that is accepted, but not of this key: ES256 with an RSA key's name.
    forged = jwt.encode(json.loads(payload), private_key("P-256", "x"), "ES256", {"kid": "first"})
    assert (await desk.refusal(forged)).message == "The token's key is not one of its issuer's."
    assert (await desk.caller(good)).user == "ada"


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "first' OR '1'='1", "http://127.0.0.1:1/keys", "\0", "x" * 5000, ""]
)
async def test_no_token_chooses_its_key(desk: Desk, issuer: Issuer, kid: str) -> None:
    issuer.answer["/attacker"] = (200, {}, json.dumps({"keys": [public_jwk("RSA", kid)]}).encode())
    named = {"jku": issuer.url + "/attacker", "x5u": issuer.url + "/attacker", "jwk": public_jwk("RSA", kid)}
    forged = issuer.token(kid, headers={**named, "kid": kid})
    assert (await desk.refusal(forged)).message == "The token's key is not one of its issuer's."
    stolen_name = jwt.encode(
        jwt.decode(forged, options={"verify_signature": False}),
        private_key("RSA", kid),
        "RS256",
        {"kid": "first", **named},
    )
    assert (await desk.refusal(stolen_name)).message == "The token's signature is not its issuer's."
    assert "/attacker" not in issuer.asked


async def test_a_changed_token_is_not_its_issuers(desk: Desk, issuer: Issuer) -> None:
    header, claims, signature = issuer.token().decode().split(".")
    changed = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"sub": "root"}
    other = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip("=")
    assert (await desk.refusal(f"{header}.{other}.{signature}")).message == "The token's signature is not its issuer's."


MALFORMED = "The token can't be read: it is not a well-formed JWT."
TWICE = "The token can't be read: it says something twice."


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("a.b.c", MALFORMED),
        ("e30.e30.e30", "The token is of an issuer that is not trusted here."),
        ("W10.W10.e30", MALFORMED),
        (signed({}, b'{"exp": NaN}', b"x"), MALFORMED),
        (signed({}, b"[" * 9000, b"x"), MALFORMED),
        (signed({}, b'{"exp": ' + b"9" * 5000 + b"}", b"x"), MALFORMED),
        (signed({}, b'{"iss": "a", "iss": "b"}', b"x"), TWICE),
        (signed({}, b'{"iss": "a", "realm_access": {"roles": 1, "roles": 2}}', b"x"), TWICE),
        (signed({"kid": "x" * 100_000}, b"{}", b"x"), "The token is longer than 16384 bytes."),
    ],
)
async def test_what_is_no_jwt_is_refused(desk: Desk, token: str, message: str) -> None:
    assert (await desk.refusal(token)).message == message
    assert desk.issuer.asked == []


async def test_claims_that_stand_twice_are_refused_even_when_signed(desk: Desk, issuer: Issuer) -> None:
    payload = (
        json.dumps({"iss": issuer.url, "aud": AUDIENCE, "exp": NOW + 90_000, "sub": "ada"})[:-1] + ', "sub": "root"}'
    )
    token = jwt.api_jws.encode(payload.encode(), private_key("RSA", "first"), "RS256", {"kid": "first"})
    assert (await desk.refusal(token)).message == TWICE


@pytest.mark.parametrize(
    "header", [{"crit": ["exp"], "exp": 1}, {"crit": ["b64"], "b64": False}, {"b64": False}, {"crit": []}]
)
async def test_extensions_are_not_ignored(desk: Desk, issuer: Issuer, header: dict[str, Any]) -> None:
    payload = json.dumps({"iss": issuer.url}).encode()
    token = signed({"alg": "RS256", "kid": "first", **header}, payload, b"x" * 256)
    assert (await desk.refusal(token)).message == "The token's header asks for an extension that is not known here."


@pytest.mark.parametrize("kind", ["logout+jwt", "secevent+jwt", "dpop+jwt", 7])
async def test_tokens_made_for_something_else_let_nobody_in(desk: Desk, kind: Any) -> None:
    token = signed(
        {"alg": "RS256", "kid": "first", "typ": kind}, json.dumps({"iss": desk.issuer.url}).encode(), b"x" * 256
    )
    assert (await desk.refusal(token)).message == "The token is of another type than those that let somebody in."
    assert (await desk.caller(desk.issuer.token(headers={"typ": "at+jwt"}))).user == "ada"


async def test_weak_and_foreign_keys_prove_nothing(desk: Desk, issuer: Issuer) -> None:
    payload = {"iss": issuer.url, "aud": AUDIENCE, "exp": NOW + 90_000, "sub": "ada"}
    weak = jwt.encode(payload, private_key("RSA2048", "w"), "RS256", {"kid": "w"})
    short = public_jwk("RSA1024", "w")
    oct_key = {"kty": "oct", "kid": "h", "k": base64.urlsafe_b64encode(b"s" * 32).decode()}
    private = {**public_jwk("RSA", "p"), "d": "AQAB"}
    encryption = public_jwk("RSA", "e", use="enc")
    signing_only = public_jwk("RSA", "o", use=None, key_ops=["sign"])
    other_algorithm = public_jwk("RSA", "a", alg="RS512")
    issuer.keys = [short, oct_key, private, encryption, signing_only, other_algorithm, {}, {"kty": "RSA", "kid": "b"}]
    unknown = "The token's key is not one of its issuer's."
    for kid in ("p", "e", "o", "a", "b"):
        assert (await desk.refusal(issuer.token(kid))).message == unknown
    assert (await desk.refusal(weak)).message in (
        "The token's signature is not its issuer's.",
        "The token's key is too weak to be believed.",
    )
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        short_signed = jwt.encode(payload, private_key("RSA1024", "w"), "RS256", {"kid": "w"})
    assert (await desk.refusal(short_signed)).message == "The token's key is too weak to be believed."


# --- keys come and go -----------------------------------------------------------------------------------
async def test_a_new_key_is_found_by_one_ask_for_all_who_wait(desk: Desk, issuer: Issuer) -> None:
    await desk.caller(issuer.token())
    issuer.keys = [public_jwk("RSA", "second"), *issuer.keys]
    issuer.asked.clear()
    desk.clock.ahead = 10
    tokens = [issuer.token("second", sub=f"user-{n}") for n in range(5)]
    callers = await asyncio.gather(*(desk.caller(token) for token in tokens))
    assert [caller.user for caller in callers] == [f"user-{n}" for n in range(5)]
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize("kid", [None, "first"])
async def test_a_new_key_without_a_new_name_is_found_too(desk: Desk, issuer: Issuer, kid: str | None) -> None:
    issuer.keys = [public_jwk("RSA", "old", kid=kid)]
    with pytest.raises(Unauthenticated):
        await desk.caller(issuer.token(kid))
    issuer.keys = [public_jwk("RSA", "first", kid=kid)]
    desk.clock.ahead = 100  # what was refused is forgotten, and the issuer may be asked again
    assert (await desk.caller(issuer.token(kid))).user == "ada"


async def test_unknown_keys_do_not_make_the_gateway_ask_again_and_again(desk: Desk, issuer: Issuer) -> None:
    await desk.caller(issuer.token())
    asked = len(issuer.asked)
    desk.clock.ahead = 10
    for n in range(20):
        forged = signed({"alg": "RS256", "kid": f"made-up-{n}"}, json.dumps({"iss": issuer.url}).encode(), b"x" * 256)
        assert (await desk.refusal(forged)).message == "The token's key is not one of its issuer's."
    assert len(issuer.asked) == asked + 2


async def test_a_key_that_is_withdrawn_ends_with_the_next_refresh(desk: Desk, issuer: Issuer) -> None:
    desk.trust(refresh="1m")
    issuer.keys.append(public_jwk("RSA", "second"))
    first, second = issuer.token(), issuer.token("second")
    await desk.caller(first)
    await desk.caller(second)
    issuer.keys = [public_jwk("RSA", "second")]
    desk.clock.ahead = 61
    desk.keys.refresh_if_due()
    await desk.keys.refresh()
    assert desk.verifier.known(first) is None
    assert (await desk.refusal(first)).message == "The token's key is not one of its issuer's."
    assert (await desk.caller(second)).user == "ada"


async def test_an_issuer_that_withdraws_all_keys_lets_nobody_in(desk: Desk, issuer: Issuer) -> None:
    token = issuer.token()
    await desk.caller(token)
    issuer.keys = []
    await desk.keys.refresh()
    assert (await desk.refusal(token)).message == "The token's key is not one of its issuer's."


async def test_a_refusal_ends_with_the_issuers_next_keys(desk: Desk, issuer: Issuer) -> None:
    token = issuer.token()
    issuer.keys = [public_jwk("RSA", "other", kid="first")]
    assert (await desk.refusal(token)).message == "The token's signature is not its issuer's."
    issuer.keys = [public_jwk("RSA", "first")]
    await desk.keys.refresh()
    assert (await desk.caller(token)).user == "ada"


async def test_a_token_is_forgotten_when_it_expires(desk: Desk, issuer: Issuer) -> None:
    token = issuer.token()
    await desk.caller(token)
    desk.clock.ahead = 329  # 300 s and the leeway of 30
    assert desk.verifier.known(token) is not None
    desk.clock.ahead = 331
    assert desk.verifier.known(token) is None


async def test_refusals_are_forgotten_soon(desk: Desk, issuer: Issuer) -> None:
    token = issuer.token(aud="another")
    await desk.refusal(token)
    desk.clock.ahead = 6
    assert desk.verifier.known(token) is None


async def test_while_the_issuer_is_away_known_keys_hold_and_unknown_ones_can_not_be_judged(
    desk: Desk, issuer: Issuer
) -> None:
    desk.trust(refresh="5m", grace="1h")
    known = issuer.token(exp=NOW + 90_000)
    await desk.caller(known)
    issuer.stop()
    desk.clock.ahead = 301
    await desk.keys.refresh()
    assert desk.key_sets.state() == "unavailable"
    assert (await desk.caller(known)).user == "ada"
    assert (await desk.caller(issuer.token(sub="bob", exp=NOW + 90_000))).user == "bob"
    away = await desk.refusal(issuer.token("second"))
    assert isinstance(away, StageFailed)
    assert (away.status, away.code, away.retry_after) == (503, "token_issuer_unavailable", "5")
    desk.clock.ahead = 3_901  # refresh and grace are over
    assert isinstance(await desk.refusal(known), StageFailed)
    issuer.start()
    desk.clock.ahead = 3_910
    assert (await desk.caller(known)).user == "ada"
    assert desk.key_sets.state() == "ok"


async def test_an_issuer_that_hangs_is_not_waited_for_in_vain(desk: Desk, issuer: Issuer, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.access.issuer_keys._PATIENCE", 0.2)
    issuer.hangs.set()
    assert isinstance(await desk.refusal(issuer.token()), StageFailed)
    assert issuer.asked == ["/.well-known/openid-configuration"]


async def test_who_gives_up_waiting_leaves_the_others_their_answer(desk: Desk, issuer: Issuer) -> None:
    issuer.hangs.set()
    impatient = asyncio.create_task(desk.caller(issuer.token()))
    patient = asyncio.create_task(desk.caller(issuer.token(sub="bob")))
    while not issuer.asked:
        await asyncio.sleep(0.005)
    impatient.cancel()
    issuer.hangs.clear()
    issuer._go_on.set()
    assert (await patient).user == "bob"
    with pytest.raises(asyncio.CancelledError):
        await impatient


BAD_ANSWERS = {
    "a redirect": (302, {"location": "/keys"}, b""),
    "an error": (500, {}, b""),
    "no JSON": (200, {}, b"<html>"),
    "a list": (200, {}, b"[]"),
    "no keys": (200, {}, b"{}"),
    "too much": (200, {}, b"[" * 600_000),
    "too many keys": (200, {}, json.dumps({"keys": [{}] * 101}).encode()),
    "too deep": (200, {}, b"[" * 100_000),
}


@pytest.mark.parametrize("what", BAD_ANSWERS)
async def test_a_bad_key_set_proves_nothing_and_breaks_nothing(desk: Desk, issuer: Issuer, what: str) -> None:
    desk.trust(jwks_url=issuer.url + "/bad")
    issuer.answer["/bad"] = BAD_ANSWERS[what]
    assert isinstance(await desk.refusal(issuer.token()), StageFailed)
    assert "/keys" not in issuer.asked


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://other.example", "jwks_uri": "KEYS"},
        {"jwks_uri": "KEYS"},
        {"issuer": "ISSUER", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "ISSUER", "jwks_uri": "http://10.0.0.1/keys"},
        {"issuer": "ISSUER", "jwks_uri": "http://user@127.0.0.1/keys"},
        {"issuer": "ISSUER", "jwks_uri": ["KEYS"]},
        {"issuer": "ISSUER"},
    ],
)
async def test_discovery_that_does_not_fit_is_not_followed(
    desk: Desk, issuer: Issuer, document: dict[str, Any]
) -> None:
    text = json.dumps(document).replace("KEYS", issuer.url + "/keys").replace("ISSUER", issuer.url)
    issuer.answer["/.well-known/openid-configuration"] = (200, {}, text.encode())
    assert isinstance(await desk.refusal(issuer.token()), StageFailed)
    assert issuer.asked == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize("certificate", ["trusted", "expired", "of another host", "of another authority"])
async def test_keys_come_only_from_whom_the_certificate_names(
    desk: Desk, issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: str
) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "Other Authority")
    shown = {
        "trusted": lambda: authority.certificate("127.0.0.1"),
        "expired": lambda: authority.certificate("127.0.0.1", datetime.timedelta(days=-1)),
        "of another host": lambda: authority.certificate("127.0.0.2"),
        "of another authority": lambda: other.certificate("127.0.0.1"),
    }[certificate]()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with tls_relay(shown, issuer.port) as port:
        desk.trust(jwks_url=f"https://127.0.0.1:{port}/keys")
        if certificate == "trusted":
            assert (await desk.caller(issuer.token())).user == "ada"
        else:
            assert isinstance(await desk.refusal(issuer.token()), StageFailed)
        await desk.key_sets.aclose()
    assert ("/keys" in issuer.asked) == (certificate == "trusted")


async def test_keys_outlive_a_reload_that_does_not_change_them(desk: Desk, issuer: Issuer) -> None:
    await desk.caller(issuer.token())
    issuer.stop()
    desk.trust(tenant="lab")
    assert (await desk.caller(issuer.token())).tenant == "lab"


async def test_what_is_remembered_is_bounded(desk: Desk, issuer: Issuer, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.access.tokens._MOST_KEPT", 3)
    tokens = [issuer.token(sub=f"user-{n}") for n in range(5)]
    for token in tokens:
        await desk.caller(token)
    assert [desk.verifier.known(token) is not None for token in tokens] == [False, False, True, True, True]
    forged = [signed({}, json.dumps({"iss": str(n)}).encode(), b"x").encode() for n in range(5)]
    for token in forged:
        await desk.refusal(token)
    assert [desk.verifier.known(token) for token in forged[:2]] == [None, None]
    assert desk.verifier.known(tokens[4]) is not None
    with pytest.raises(Unauthenticated):
        desk.verifier.known(forged[4])


# --- what a token's claims say --------------------------------------------------------------------------
async def test_claims_say_who_the_caller_is(desk: Desk) -> None:
    desk.trust(
        tenant={"claim": "department", "values": {"research": "lab", "sales": "shop"}},
        user={"claim": "preferred_username", "prefix": "idp:"},
        groups={"claim": ["realm_access", "roles"], "prefix": "kc:"},
        role={"claim": "roles", "values": {"gateway-admin": "admin", "gateway-operator": "operator"}},
        models={"claim": "roles", "values": {"chat": ["handbook"], "power": ["fast", "openai/*"]}},
        speaks_for_users={"claim": "azp", "values": ["chat-ui"]},
        sensitivity={"claim": "clearance", "values": {"high": "internal"}, "default": "public"},
        required=["email_verified", {"claim": "scope", "words": True, "values": ["gateway.call"]}],
        scope="organisation",
    )
    caller = await desk.caller(
        desk.issuer.token(
            department="research",
            preferred_username="ada",
            realm_access={"roles": ["board", "staff"]},
            roles=["power", "gateway-operator", "chat", "gateway-admin"],
            azp="chat-ui",
            email_verified=True,
            scope="openid gateway.call",
            exp=2_000_000_000,
        )
    )
    assert caller.models is not None
    assert [caller.may_use(name) for name in ("handbook", "fast", "openai/x", "other")] == [True, True, True, False]
    assert caller == Caller(
        "staff", "lab", "idp:ada", caller.models, "admin", "public", True, frozenset({"kc:board", "kc:staff"}),
        key_id="tok_" + hashlib.sha256(b"staff\0idp:ada").hexdigest()[:16], scope="organisation",
        expires_at=2_000_000_000,
    )  # fmt: skip


async def test_claims_that_say_nothing_give_nothing(desk: Desk) -> None:
    desk.trust(
        groups={"claim": "groups", "values": {"g1": "board"}},
        role={"claim": "roles", "values": {"x": "admin"}},
        models={"claim": "roles", "values": {"chat": ["handbook"]}},
        speaks_for_users={"claim": "azp", "values": ["chat-ui"]},
    )
    for claims in (
        {},
        {"groups": ["g2"], "roles": ["y"], "azp": "other"},
        {"groups": {"g1": 1}, "roles": 7, "azp": [None]},
    ):
        caller = await desk.caller(desk.issuer.token(**claims))
        assert (caller.groups, caller.role, caller.models, caller.speaks_for_users) == (
            frozenset(),
            None,
            frozenset(),
            False,
        )


async def test_models_may_be_named_by_the_claim_or_be_the_same_for_all(desk: Desk) -> None:
    desk.trust(models={"claim": "models"})
    assert (await desk.caller(desk.issuer.token(models=["a", "b"]))).models == {"a", "b"}
    desk.trust(models=["handbook"])
    assert (await desk.caller(desk.issuer.token())).models == {"handbook"}


@pytest.mark.parametrize(
    ("settings", "claims", "status", "message"),
    [
        ({"tenant": {"claim": "t"}}, {}, 401, "The token lacks the claim `t`."),
        ({"tenant": {"claim": "t"}}, {"t": "no name"}, 403, "The token's claim `t` is not the name of one tenant."),
        ({"tenant": {"claim": "t"}}, {"t": ["a", "b"]}, 403, "The token's claim `t` is not the name of one tenant."),
        ({"tenant": {"claim": "t", "values": {"a": "x"}}}, {"t": "canary"}, 403, "The token's claim `t` names no tenant of this gateway."),
        ({"tenant": {"claim": ["x", "t"], "values": {"a": "x"}}}, {"x": []}, 401, "The token lacks the claim `x.t`."),
        ({"user": "email"}, {"email": ["a", "b"]}, 403, "The token's claim `email` is not the name of one user."),
        ({"user": "email"}, {"email": "x" * 300}, 403, "The token's claim `email` is not the name of one user."),
        ({"user": "email"}, {"email": "a\nb"}, 403, "The token's claim `email` is not the name of one user."),
        ({"user": "email"}, {"email": ""}, 401, "The token lacks the claim `email`."),
        ({"required": ["hd"]}, {}, 401, "The token lacks the claim `hd`."),
        ({"required": [{"claim": "hd", "values": ["acme.com"]}]}, {"hd": "canary.com"}, 403, "The token's claim `hd` says nothing that lets you in here."),
        ({"sensitivity": {"claim": "c", "values": {"a": "b"}}}, {}, 401, "The token lacks the claim `c`."),
        ({"sensitivity": {"claim": "c", "values": {"a": "b"}}}, {"c": "z"}, 403, "The token's claim `c` says no sensitivity that this gateway knows."),
    ],
)  # fmt: skip
async def test_claims_that_let_nobody_in_are_told(
    desk: Desk, settings: dict[str, Any], claims: dict[str, Any], status: int, message: str
) -> None:
    desk.trust(**settings)
    refusal = await desk.refusal(desk.issuer.token(**claims))
    assert (refusal.status, refusal.message) == (status, message)
    assert isinstance(refusal, Unauthenticated if status == 401 else Forbidden)


async def test_what_each_user_of_an_issuer_may_use_up_is_counted_by_their_own_id(desk: Desk) -> None:
    desk.trust(limits={"requests_per_minute": 60, "budget": 5})
    ada, bob = await desk.caller(desk.issuer.token()), await desk.caller(desk.issuer.token(sub="bob"))
    assert ada.limits == bob.limits == own_rule(Allowance(requests_per_minute=60, budget=5), "key")
    assert ada.limits
    assert ada.key_id != bob.key_id


async def test_a_program_without_a_user_is_told_apart_by_its_subject(desk: Desk) -> None:
    desk.trust(user=None)
    one, two = await desk.caller(desk.issuer.token(sub="job-1")), await desk.caller(desk.issuer.token(sub="job-2"))
    assert one.user is None
    assert two.user is None
    assert one.key_id != two.key_id


async def test_numbers_and_texts_that_only_json_has_fail_nowhere(desk: Desk) -> None:
    desk.trust(user=None, groups="groups")
    caller = await desk.caller(desk.issuer.token(exp=10**400, sub="\ud800", groups=["board", "\udfff"]))
    assert caller.groups == {"board"}
    assert caller.expires_at is not None
    assert caller.expires_at > 2**50
    desk.trust()
    refusal = await desk.refusal(desk.issuer.token(sub="\ud800"))
    assert (refusal.status, refusal.code) == (401, "invalid_token")
