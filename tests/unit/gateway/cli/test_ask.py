"""`rag-gateway ask` against a server that says, byte for byte, what a gateway says."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def piece(text: str, **more: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}], **more})


SOURCE = {
    "document_id": "configuration.md", "version": "1", "section_id": "s1", "collection": "handbook", "score": 0.712,
    "title": "Configuration", "url": "docs/configuration.md#providers", "quote": "## Add an\n\nentry",
}  # fmt: skip
DONE = b"data: [DONE]\n\n"


class Script:
    """What the server answers, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.models: list[str] = ["handbook", "other"]
        self.status = 200
        self.answer = DONE
        self.asked: list[tuple[str, str | None, Any]] = []


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    for name in ("RAG_GATEWAY_URL", "RAG_GATEWAY_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(200, json.dumps({"data": [{"id": name} for name in script.models]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            script.asked.append((self.path, self.headers["authorization"], body))
            self._reply(script.status, script.answer)

        def _reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("x-request-id", "call_1")
            self.send_header("x-gateway-target", "extractive/")
            self.send_header("x-gateway-cache", "miss")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield script
        server.shutdown()
        thread.join()


def ask(script: Script, *options: str) -> Result:
    result = CliRunner().invoke(main, ["ask", "How?", "--url", script.url, *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_an_answer_is_printed_with_its_sources_and_its_call(script: Script) -> None:
    script.answer = piece("Add it [1]") + piece(", so. \u2028 – é 😀") + event(
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "rag": {"sources": [SOURCE]}}
    ) + DONE  # fmt: skip
    result = ask(script, "--user", "ada", "--api-key", "sk-gw-1")
    assert (result.exit_code, result.stdout) == (
        0,
        "Add it [1], so. \u2028 – é 😀\n"
        "\nSources\n[1] Configuration  docs/configuration.md#providers  (0.71)  Add an entry\n"
        f"\nhandbook by extractive/, cache miss. How it came about: curl {script.url}/v1/calls/call_1\n",
    )
    body = {
        "model": "handbook",
        "messages": [{"role": "user", "content": "How?"}],
        "stream": True,
        "user": "ada",
    }
    assert script.asked == [("/v1/chat/completions", "Bearer sk-gw-1", body)]


def test_the_url_may_end_in_v1_and_the_model_be_named(script: Script) -> None:
    script.answer = piece("yes") + DONE
    result = CliRunner().invoke(main, ["ask", "How?", "--url", script.url + "/v1/", "--model", "other"])
    assert result.stdout.startswith("yes\n")
    assert script.asked[0][2]["model"] == "other"


def test_an_answer_cannot_steer_the_terminal(script: Script) -> None:
    script.answer = piece("a\x1b]0;title\x07b \x9b31m [bold]c[/bold]\r\n\td") + DONE
    assert ask(script).stdout.startswith("a]0;titleb 31m [bold]c[/bold]\n\td\n")


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (
            401,
            b'{"error": {"message": "Incorrect API key provided.", "code": "x"}}',
            "Incorrect API key provided.",
        ),
        (503, b'{"error": {"message": "The knowledge\\nis away."}}', "The knowledge is away."),
        (502, b"<html>Bad gateway</html>", "HTTP 502: this does not look like a gateway"),
        (200, b"<html></html>", "the answer broke off before its end"),
        (200, b"data: <html>\n\n", "what came is not JSON as a gateway sends it: is this a gateway's URL?"),
    ],
)
def test_an_error_is_one_line_and_status_1(script: Script, status: int, answer: bytes, message: str) -> None:
    script.status, script.answer = status, answer
    result = ask(script)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", message + "\n")


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (b"", "the answer broke off before its end"),
        (event({"error": {"message": "The provider stopped."}}), "The provider stopped."),
    ],
)
def test_an_answer_that_breaks_off_is_not_taken_for_whole(script: Script, end: bytes, message: str) -> None:
    script.answer = piece("half") + end
    result = ask(script)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "half\n", message + "\n")


def test_a_gateway_without_models_asks_for_one(script: Script) -> None:
    script.models = []
    result = ask(script)
    assert (result.exit_code, result.stderr) == (
        1,
        "this gateway shows no public model: name one with --model PROVIDER/MODEL\n",
    )


def test_a_gateway_that_does_not_run_is_named(script: Script) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        script.url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        result = ask(script)
    assert (result.exit_code, result.stderr) == (
        1,
        f"no gateway answers at {script.url}: start one with `rag-gateway serve`\n",
    )


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://x", "http://[", "http://x:port"])
def test_what_is_no_url_is_said_to_be_none(script: Script, url: str) -> None:
    script.url = url
    result = ask(script)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
