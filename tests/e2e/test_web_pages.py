"""What a browser may do for pages of other origins, and how the gateway's own page is served: seen from the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gateway_process import GatewayProcess, http_post, status_of, until
from sample_gateway import key_entry
from upstream.vendor import Vendor

KEY, NARROW = "sk-gw-canary-pages-5a1f", "sk-gw-canary-pages-77e2"
APP, EVIL = "https://app.example.com", "https://evil.example"
CHAT = "/v1/chat/completions"
HELLO = {"model": "plain", "messages": [{"role": "user", "content": "hello"}]}


def configuration(vendor: Vendor, **more: Any) -> dict[str, Any]:
    return {
        "cors": {"origins": [APP]},
        "providers": {
            "mock": {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key},
            "extractive": {"kind": "extractive"},
        },
        "models": {
            "plain": {"description": "A plain model", "targets": ["mock/gpt-mock"]},
            "embedder": {"targets": ["mock/mock-embed"]},
        },
        **more,
    }


@pytest.fixture(scope="module")
def open_gateway(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Without keys, for this machine alone."""
    page = {"title": "</script><b>x", "suggestions": ["a & b"], "widget": {"origins": ["https://www.example.com"]}}
    with GatewayProcess(configuration(shared_vendor, page=page), tmp_path_factory.mktemp("open")) as running:
        yield running
        assert "Traceback" not in running.output, running.output


@pytest.fixture(scope="module")
def keyed_gateway(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    keys = [
        key_entry("a", KEY, tenant="a", limits={"requests_per_minute": 1000}),
        key_entry("narrow", NARROW, tenant="a", models=["embedder"]),
    ]
    told = configuration(shared_vendor, access={"keys": keys})
    with GatewayProcess(told, tmp_path_factory.mktemp("keyed")) as running:
        yield running
        assert "Traceback" not in running.output, running.output


@pytest.fixture
def opened(open_gateway: GatewayProcess, vendor: Vendor) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=open_gateway.url, timeout=30, trust_env=False) as made:
        yield made


@pytest.fixture
def keyed(keyed_gateway: GatewayProcess, vendor: Vendor) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=keyed_gateway.url, timeout=30, trust_env=False) as made:
        yield made


def granted(answer: httpx.Response) -> str | None:
    return answer.headers.get("access-control-allow-origin")


# -- CORS --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True])
def test_a_named_origins_page_may_read_answers_and_what_is_said_of_them(keyed: httpx.Client, stream: bool) -> None:
    headers = {"origin": APP, "authorization": f"Bearer {KEY}", "sec-fetch-site": "cross-site"}
    answer = keyed.post(CHAT, headers=headers, json={**HELLO, "stream": stream})
    assert (answer.status_code, granted(answer)) == (200, APP)
    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
    ours = [name for name in answer.headers if name.startswith("x-") or name in ("server-timing", "retry-after")]
    assert set(ours) - {"x-accel-buffering"} <= exposed
    assert {"retry-after", "x-gateway-degraded", "x-ratelimit-remaining-tokens"} <= exposed
    assert "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", CHAT, HELLO, 401),
        ("POST", CHAT, {**HELLO, "model": "nowhere"}, 401),
        ("POST", "/v1/embeddings", {}, 401),
        ("GET", "/v1/models", None, 401),
        ("GET", "/v1/nowhere", None, 404),
        ("GET", "/healthz", None, 200),
        ("POST", "/v1/feedback", {}, 401),
    ],
)
def test_it_may_read_errors_too_and_others_may_read_nothing(
    keyed: httpx.Client, method: str, path: str, body: Any, status: int
) -> None:
    for origin, may in ((APP, APP), (EVIL, None), ("null", None), (None, None)):
        headers = {"origin": origin} if origin is not None else {}
        answer = keyed.request(method, path, json=body, headers=headers)
        assert (answer.status_code, granted(answer)) == (status, may)


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/files", "/admin/keys", "/nowhere"])
def test_browsers_may_ask_before_they_send(keyed: httpx.Client, path: str) -> None:
    asking = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    answer = keyed.options(path, headers={"origin": APP, **asking})
    assert (answer.status_code, granted(answer), answer.content) == (204, APP, b"")
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    assert answer.headers["access-control-max-age"] == "600"
    refused = keyed.options(path, headers={"origin": EVIL, **asking})
    assert (refused.status_code, granted(refused), refused.json()["error"]["code"]) == (403, None, "cross_origin")


def test_origins_change_with_a_reload(
    keyed: httpx.Client, keyed_gateway: GatewayProcess, shared_vendor: Vendor
) -> None:
    told = json.loads(json.dumps(configuration(shared_vendor, access={"keys": [key_entry("a", KEY, tenant="a")]})))
    told["page"] = {"enabled": False}
    told["cors"]["origins"] = ["https://other.example.com"]
    before = keyed_gateway.file.read_text()
    keyed_gateway.configure(told)
    keyed_gateway.reload()
    try:
        until(lambda: granted(keyed.get("/healthz", headers={"origin": APP})) is None, 60, "the reload")
        assert granted(keyed.get("/healthz", headers={"origin": "https://other.example.com"})) is not None
        for path in ("/", "/page/x.js"):
            answer = keyed.get(path)
            assert (answer.status_code, answer.json()["error"]["message"]) == (404, f"GET {path} is not served here.")
    finally:
        keyed_gateway.file.write_text(before)
        keyed_gateway.reload()
        until(lambda: granted(keyed.get("/healthz", headers={"origin": APP})) == APP, 60, "the reload back")
        assert keyed.get("/").status_code == 200


# -- open mode: nobody's page acts by the browser of whoever runs it ----------------------------------------
ACTS = [
    ("POST", CHAT, json.dumps(HELLO).encode()),
    ("POST", "/v1/embeddings", json.dumps({"model": "embedder", "input": "x"}).encode()),
    ("POST", "/v1/messages", json.dumps({**HELLO, "max_tokens": 5}).encode()),
    ("POST", "/v1/responses", json.dumps({"model": "plain", "input": "x"}).encode()),
    ("POST", "/v1/feedback", b"{}"),
    ("POST", "/admin/reload", b""),
    ("POST", "/admin/keys", b'{"name": "mine"}'),
    ("DELETE", "/v1/responses/resp_1", b""),
    ("PATCH", "/admin/keys/key_1", b"{}"),
]


@pytest.mark.parametrize(("method", "path", "body"), ACTS, ids=[f"{method} {path}" for method, path, _ in ACTS])
def test_another_sites_page_can_not_make_the_gateway_act(
    opened: httpx.Client, vendor: Vendor, method: str, path: str, body: bytes
) -> None:
    for told in (
        {"origin": EVIL, "content-type": "text/plain"},  # as a form, or fetch without asking first, sends it
        {"origin": "null"},
        {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
    ):
        answer = opened.request(method, path, content=body, headers=told)
        assert (answer.status_code, "cors.origins" in answer.json()["error"]["message"]) == (403, True), told
        assert granted(answer) is None
    assert vendor.requests == []
    assert "mine" not in opened.get("/admin/keys").text


def test_programs_and_our_own_page_and_named_origins_can(opened: httpx.Client, open_gateway: GatewayProcess) -> None:
    own = {"origin": open_gateway.url, "sec-fetch-site": "same-origin"}
    for told in ({}, own, {"origin": APP, "sec-fetch-site": "cross-site"}, {"sec-fetch-site": "none"}):
        assert opened.post(CHAT, json=HELLO, headers=told).status_code == 200, told
        assert opened.post("/v1/feedback", json={}, headers=told).status_code == 400, told


@pytest.mark.parametrize("path", ["/admin/keys", "/v1/models", "/", "/metrics", "/v1/calls/x"])
def test_a_name_that_was_pointed_here_reads_nothing(open_gateway: GatewayProcess, path: str) -> None:
    port = open_gateway.port
    for host in (f"evil.example:{port}", "127.0.0.1.evil.example"):
        answer = open_gateway.raw(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        assert status_of(answer) == 403
        assert b"open_hosts" in answer
    for host in (f"localhost:{port}", f"[::1]:{port}", "host.docker.internal"):
        answer = open_gateway.raw(f"GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        assert status_of(answer) == 200


@pytest.mark.parametrize("path", [CHAT, "/admin/reload"])
def test_nor_can_it_act(open_gateway: GatewayProcess, vendor: Vendor, path: str) -> None:
    """The page's origin and our name are the same then, as for a page of our own."""
    origin = f"origin: http://evil.example:{open_gateway.port}"
    request = http_post(path, HELLO, headers=(origin,)).replace(
        b"host: 127.0.0.1", f"host: evil.example:{open_gateway.port}".encode()
    )
    assert status_of(open_gateway.raw(request)) == 403
    assert vendor.requests == []


def test_with_keys_a_page_without_one_is_nobody_and_one_with_a_key_is_not_hindered(keyed: httpx.Client) -> None:
    assert keyed.post(CHAT, json=HELLO, headers={"origin": EVIL}).status_code == 401
    answer = keyed.post(CHAT, json=HELLO, headers={"origin": "app://desktop", "authorization": f"Bearer {KEY}"})
    assert (answer.status_code, granted(answer)) == (200, None)


# -- the page -----------------------------------------------------------------------------------------------
def test_the_page_comes_with_a_strict_policy(opened: httpx.Client) -> None:
    answer = opened.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self'",
        "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'", "trusted-types": "dompurify",
    }  # fmt: skip
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_what_the_configuration_says_can_not_break_out_of_the_page(opened: httpx.Client) -> None:
    html = opened.get("/").text
    found = re.search(r'<script id="settings" type="application/json">(.*?)</script>', html, re.S)
    assert found is not None
    told = json.loads(found[1])
    assert (told["title"], told["suggestions"]) == ("</script><b>x", ["a & b"])
    assert "<b>x" not in html


def test_its_files_are_kept_by_browsers_and_asked_for_once(opened: httpx.Client) -> None:
    shell = opened.get("/")
    again = opened.get("/", headers={"if-none-match": shell.headers["etag"]})
    assert (again.status_code, again.content, shell.headers["cache-control"]) == (304, b"", "no-cache")
    names = re.findall(r'(?:src|href)="(page/[^"]+)"', shell.text)
    assert len(names) == 3
    for name in [*names, "page/LICENSES.txt"]:
        plain = opened.get(f"/{name}", headers={"accept-encoding": "identity"})
        zipped = opened.get(f"/{name}", headers={"accept-encoding": "gzip, br"})
        assert plain.status_code == 200
        assert plain.content == zipped.content
        assert plain.headers["vary"] == "Accept-Encoding"
        assert "immutable" in plain.headers["cache-control"]
        if len(plain.content) > 500:
            assert zipped.headers["content-encoding"] == "gzip"
            assert zipped.headers["etag"] != plain.headers["etag"]
        head = opened.head(f"/{name}", headers={"accept-encoding": "identity"})
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(plain.content)))


@pytest.mark.parametrize(
    "path", ["/page/", "/page/nothing.js", "/page/..%2f..%2fapp.py", "/page/built.json", "/index.html", "/favicon.ico"]
)
def test_nothing_else_is_there(opened: httpx.Client, path: str) -> None:
    answer = opened.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert opened.post("/").status_code == 405


def test_the_widget_is_for_the_sites_that_are_named(opened: httpx.Client, keyed: httpx.Client) -> None:
    frame = opened.get("/widget")
    assert frame.headers["content-security-policy"].endswith("frame-ancestors https://www.example.com")
    assert "x-frame-options" not in frame.headers
    script = opened.get("/widget.js", headers={"origin": APP})
    assert granted(script) == "*"
    assert script.headers["cross-origin-resource-policy"] == "cross-origin"
    for path in ("/widget", "/widget.js"):
        assert keyed.get(path).status_code == 404  # no site is named there


# -- what it chooses from -----------------------------------------------------------------------------------
def test_a_models_list_says_what_each_is_for(keyed: httpx.Client) -> None:
    models = keyed.get("/v1/models", headers={"authorization": f"Bearer {KEY}"}).json()["data"]
    assert [model["id"] for model in models] == ["plain", "embedder"]
    assert models[0]["description"] == "A plain model"
    assert "chat.completions" in models[0]["endpoints"]
    one = keyed.get("/v1/models/plain", headers={"authorization": f"Bearer {KEY}"}).json()
    assert one == models[0]
    narrow = keyed.get("/v1/models", headers={"authorization": f"Bearer {NARROW}"}).json()["data"]
    assert [model["id"] for model in narrow] == ["embedder"]
