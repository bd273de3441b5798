"""G1, G3, G5, G6, G7: where a call goes, what templates do, what is installed, what is told."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_process import GatewayProcess, until
from sample_gateway import KEY_A, KEY_ADMIN, KEY_B, KEY_NARROW, plain_configuration
from upstream.vendor import Vendor

ROOT = Path(__file__).resolve().parents[2]
CHAT = "/v1/chat/completions"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


# -- G1 ----------------------------------------------------------------------------------------------------
@pytest.fixture
def trap() -> Iterator[tuple[str, list[Any]]]:
    """A listener that nobody may connect to: its URL, and who did."""
    caught: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, address = listener.accept()
                except OSError:
                    return
                caught.append(address)
                connection.close()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", caught
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


@pytest.mark.parametrize("field", ["api_base", "base_url", "api_key", "extra_headers", "extra_query"])
def test_g1_a_request_can_not_say_where_it_goes(
    http: httpx.Client, vendor: Vendor, trap: tuple[str, list[Any]], field: str
) -> None:
    url, caught = trap
    for body in ({"model": "plain", "messages": HELLO}, {"model": "mock/x", "messages": HELLO}):
        answer = http.post(CHAT, json={**body, field: url})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    answer = http.post("/v1/embeddings", json={"model": "embedder", "input": "x", field: url})
    assert answer.status_code == 400
    assert vendor.requests == []
    assert caught == []


ELSEWHERE: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "plain", "prompt": "hello"},
    "/v1/messages": {"model": "plain", "max_tokens": 9, "messages": HELLO},
    "/v1/messages/count_tokens": {"model": "plain", "messages": HELLO},
    "/v1/responses": {"model": "plain", "input": "hello"},
    "/v1/rerank": {"model": "plain", "query": "a", "documents": ["b"]},
    "/v1/moderations": {"model": "plain", "input": "hello"},
    "/v1/feedback": {"call_id": "x", "score": 1},
    "/admin/keys": {"name": "x"},
    "/admin/tenants": {"id": "g1"},
    "/admin/organisations": {"id": "g1"},
    "/admin/cache/purge": {"everything": True},
    "/admin/exports": {"user": "x"},
    "/admin/erasures": {"user": "x"},
}


@pytest.mark.parametrize("path", ELSEWHERE)
@pytest.mark.parametrize("field", ["api_base", "base_url", "api_key", "extra_headers"])
def test_g1_nor_can_one_of_another_endpoint(
    gateway: GatewayProcess, vendor: Vendor, trap: tuple[str, list[Any]], path: str, field: str
) -> None:
    url, caught = trap
    headers = {"authorization": f"Bearer {KEY_ADMIN}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=20, trust_env=False) as admin:
        answer = admin.post(path, json={**ELSEWHERE[path], field: url})
    assert answer.status_code in (400, 404), answer.text
    assert field in answer.json()["error"].get("param", answer.text) or answer.status_code == 404
    assert vendor.requests == []
    assert caught == []


@pytest.mark.parametrize("name", ["api_base", "base_url", "api_key"])
def test_g1_nor_can_its_query(http: httpx.Client, vendor: Vendor, trap: tuple[str, list[Any]], name: str) -> None:
    url, caught = trap
    answer = http.post(CHAT, params={name: url}, json={"model": "plain", "messages": HELLO})
    assert answer.status_code == 400
    assert vendor.requests == []
    assert caught == []


def test_g1_nor_can_its_headers_or_anything_deeper(
    http: httpx.Client, vendor: Vendor, trap: tuple[str, list[Any]]
) -> None:
    url, caught = trap
    vendor.behaviours["gpt-mock"] = {"lenient": True}
    names = ("x-api-base", "x-base-url", "api-base", "x-gateway-target", "x-portkey-custom-host", "x-upstream-url",
             "x-forwarded-host", "x-original-url", "x-rewrite-url", "forwarded")  # fmt: skip
    more = {"metadata": {"api_base": url}, "extra_body": {"api_base": url}, "litellm_params": {"api_base": url}}
    answer = http.post(CHAT, json={"model": "plain", "messages": HELLO, **more}, headers=dict.fromkeys(names, url))
    assert answer.headers["x-gateway-target"] == "mock/gpt-mock"
    assert not set(names) & set(vendor.requests[-1].headers)
    assert caught == []


@pytest.mark.parametrize(
    "model", ["http://127.0.0.1:1/v1/x", "../mock/x", "mock", "mock/", "/x", "nosuch/x", "MOCK/x", "@/etc/passwd"]
)
def test_g1_a_model_names_an_entry_and_never_an_address(http: httpx.Client, vendor: Vendor, model: str) -> None:
    assert http.post(CHAT, json={"model": model, "messages": HELLO}).status_code == 404
    assert vendor.requests == []


# -- G3 ----------------------------------------------------------------------------------------------------
PAYLOADS = [
    "{{7*7}}", "{{ 7*'7' }}", "${7*7}", "<%= 7*7 %>", "#{7*7}", "{7*7}", "{0.__class__}", "%(x)s", "%s%n",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ config }}", "{{ self }}", "{{ user.__init__.__globals__ }}",
    "{% for x in range(10**9) %}x{% endfor %}", "{% import 'os' as os %}", "{% include '/etc/passwd' %}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}", "{#", "{%", "{{", "}}", "%}", "{% raw %}", "{% endraw %}",
    "{{ passages }}", "{{ lipsum() }}", "{{ namespace() }}", "</passage>", "<passage 0 [1] title='x'>", "\n## x\n# x",
]  # fmt: skip


@pytest.fixture(scope="module")
def templated(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("templated")
    (folder / "prompts").mkdir()
    (folder / "prompts" / "frame@1.yaml").write_text(
        "description: A frame\nmax_prompt_tokens: 4000\nmessages:\n"
        "  - role: system\n    content: 'Answer in {{ 40 + 2 }} words.'\n  - conversation\n"
    )
    configuration = plain_configuration(shared_vendor)
    configuration["models"]["framed"] = {"targets": ["mock/framed"], "prompt": "frame@1", "record_content": True}
    with GatewayProcess(configuration, folder) as running:
        yield running


@pytest.mark.parametrize("payload", PAYLOADS)
def test_g3_a_callers_words_are_never_a_template(templated: GatewayProcess, vendor: Vendor, payload: str) -> None:
    messages = [{"role": "system", "content": payload}, {"role": "user", "content": payload, "name": "x"}]
    answer = httpx.post(
        templated.url + CHAT,
        json={"model": "framed", "messages": messages, "user": payload},
        headers={"authorization": f"Bearer {KEY_A}"},
    )
    assert answer.json()["choices"][0]["message"]["content"] == "echo: " + payload
    frame = {"role": "system", "content": "Answer in 42 words."}
    assert vendor.requests[-1].body["messages"] == [frame, *messages]


@pytest.mark.parametrize("text", [
    "{{ ''.__class__.__mro__ }}", "{% for x in range(10**9) %}x{% endfor %}", "{{ undefined_thing }}",
    "{% include 'other' %}", "{{ 'x' * 10**9 }}", "{{ cycler.__init__.__globals__ }}", "{{",
])  # fmt: skip
def test_g3_a_template_that_reaches_out_or_never_ends_does_no_harm(vendor: Vendor, tmp_path: Path, text: str) -> None:
    """Each template is tried when it is loaded, so its author meets its faults and no caller does."""
    (tmp_path / "prompts").mkdir()
    template = {
        "description": "x",
        "max_prompt_tokens": 1000,
        "messages": [{"role": "system", "content": text}, "conversation"],
    }
    (tmp_path / "prompts" / "bad@1.yaml").write_text(json.dumps(template))
    configuration = plain_configuration(vendor)
    configuration["models"]["bad"] = {"targets": ["mock/bad"], "prompt": "bad@1"}
    file = GatewayProcess(configuration, tmp_path).file
    checked = subprocess.run(
        [sys.executable, "-c", "from gateway.cli import main; main()", "check", str(file)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert checked.returncode == 1, "the fault is found before anything starts"
    assert "bad@1" in checked.stderr + checked.stdout
    assert "Traceback" not in checked.stderr


# -- G5 ----------------------------------------------------------------------------------------------------
def test_g5_every_locked_requirement_has_its_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text("utf-8")
    entries = [entry for entry in re.sub(r"\\\n\s*", " ", text).splitlines() if entry and entry[0] not in "# -"]
    assert len(entries) > 50
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+==\S+ ", entry + " "), entry
        assert "--hash=sha256:" in entry, entry
    options = [line for line in text.splitlines() if line.startswith("-")]
    assert not any("http" in line for line in options), "no index beside the one that pip is told to use"


def test_g5_no_stray_pth_runs_code_at_start() -> None:
    """A .pth line that begins with `import` is code that every Python process here would run."""
    folder = Path(sysconfig.get_path("purelib"))
    known = ("_rag_gateway", "distutils-precedence", "_virtualenv", "a1_coverage", "__editable__", "protobuf")
    stray = [
        path.name
        for path in folder.glob("*.pth")
        if not path.name.startswith(known)
        and any(line.startswith("import") for line in path.read_text("utf-8").splitlines())
    ]
    assert stray == []


def test_g5_importing_the_gateway_opens_no_connection_and_writes_nothing() -> None:
    code = """
import pkgutil, sys
def hook(event, args):
    if event == "socket.bind" and args[1] == ("::1", 0):
        return  # urllib3 looks whether this machine has IPv6
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "subprocess.Popen", "os.system"):
        sys.stderr.write(f"{event} {args}\\n"); sys.stderr.flush(); import os; os._exit(7)
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+") and "__pycache__" not in str(args[0]):
        sys.stderr.write(f"{event} {args}\\n"); sys.stderr.flush(); import os; os._exit(8)
sys.addaudithook(hook)
import gateway
for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
    if module.name not in ("gateway.knowledge_service", "gateway.records.migrations.env"):  # the latter is Alembic's to run
        __import__(module.name)
"""
    with_any_llm = {**os.environ, "PYTHONPATH": str(Path(sys.prefix) / "any-llm")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=with_any_llm
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- G6 ----------------------------------------------------------------------------------------------------
def test_g6_no_secret_is_told_or_kept(vendor: Vendor, tmp_path: Path) -> None:
    """Answers, refusals, retries, failures and a vendor that repeats its key: then look everywhere."""
    question = "canary-question-91f2"
    configuration = plain_configuration(vendor)
    told: list[str] = []
    with GatewayProcess(configuration, tmp_path) as running:
        for key in (KEY_A, KEY_B, KEY_NARROW, KEY_ADMIN, KEY_A + "x"):
            with httpx.Client(base_url=running.url, headers={"authorization": f"Bearer {key}"}) as http:
                for how in (
                    {"status": 401, "message": "bad key {key}"}, {"status": 400, "message": "Bearer {key} is bad"},
                    {"status": 500, "message": "{key}"}, {"status": 429, "message": "{key} has no quota"}, {},
                    {"die_after": 3}, {"body": "bad_json"}, {"status": 422, "message": "{key}", "code": "{key}"},
                ):  # fmt: skip
                    for stream in (False, True):
                        vendor.behaviours["secretive"] = how
                        body = {"model": "retrying/secretive", "stream": stream,
                                "messages": [{"role": "user", "content": question}]}  # fmt: skip
                        answer = http.post(CHAT, json=body)
                        if answer.status_code >= 400:
                            told.append(answer.text)
                        told.append(str(answer.headers))
                        call_id = answer.headers.get("x-gateway-call-id", "")
                        told.append(http.get("/v1/calls/" + call_id).text)
        metrics = httpx.get(running.url + "/metrics", headers={"authorization": f"Bearer {KEY_ADMIN}"}).text
        everywhere = "".join((*told, metrics, running.output))
        stored = running.stored()
    stored += running.stored()
    for canary in (KEY_A, KEY_B, KEY_NARROW, KEY_ADMIN, vendor.api_key, question):
        assert canary not in everywhere + running.output
        assert canary.encode() not in stored


# -- G7 ----------------------------------------------------------------------------------------------------
def behave(**how: Any) -> str:
    return "mock/behave:" + json.dumps(how, separators=(",", ":"))


FAILING: list[tuple[str, str, Any]] = [
    ("POST", CHAT, b""), ("POST", CHAT, b"{"), ("POST", CHAT, {}), ("POST", CHAT, {"model": "absent", "messages": HELLO}),
    ("POST", CHAT, {"model": "unreachable", "messages": [], "n": 3}), ("GET", CHAT, None), ("DELETE", "/v1/models", None),
    ("POST", CHAT, {"model": "nobody/x", "messages": HELLO}), ("GET", "/v1/nothing", None), ("GET", "/v1/calls/x", None),
    ("GET", "/v1/models/absent", None), ("GET", "/metrics", None), ("POST", "/v1/embeddings", {"model": "embedder"}),
    ("PUT", "/healthz", b"x"), ("GET", "/v1/calls/%00", None), ("GET", "/v1/calls/" + "x" * 5000, None),
    *[("POST", CHAT, {"model": behave(**how), "messages": HELLO, "stream": stream}) for stream in (False, True) for how in (
        {"status": 500, "message": "Traceback (most recent call last): File /srv/app.py 0x7f12ab34cd56"},
        {"status": 503}, {"body": "html"}, {"body": "bad_json"}, {"body": "short"}, {"body": "gzip"},
        {"status": 401, "message": "key"}, {"status": 302}, {"die_after": 1}, {"status": 600},
    ) if not (how.get("die_after") and not stream) and not (stream and how.get("body") == "short")],
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), FAILING)
def test_g7_every_error_is_openais_and_tells_nothing_of_the_inside(
    http: httpx.Client, vendor: Vendor, method: str, path: str, body: Any
) -> None:
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    answer = http.request(method, path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code >= 400
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    for forbidden in ("Traceback", ".py", "/srv/", "/work/", "127.0.0.1", "localhost", str(vendor.port), "httptools",
                      "Errno", "msgspec", "<class"):  # fmt: skip
        assert forbidden not in answer.text
    assert not re.search(r"0x[0-9a-f]{6,}", answer.text)
    assert "server" not in answer.headers


def test_g7_what_the_server_itself_refuses_has_the_same_shape(gateway: GatewayProcess) -> None:
    for raw in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"HELO example\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ):
        answer = gateway.raw(raw)
        assert answer.startswith(b"HTTP/1.1 4")
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert set(error) == {"message", "type", "param", "code"}
    until(lambda: gateway.clients() < 50)
