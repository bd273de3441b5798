"""An imitation of an operator's own guardrail service, strict in what it takes, that misbehaves on command."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORD = "xyzzy"
"""What this service looks for."""


class Webhook:
    """Start with `with Webhook() as webhook`. `how` is "ok", "http 500", "html" or "short"."""

    def __init__(self) -> None:
        self.how = "ok"
        self.asked: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}  # of the last request
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, answer = outer.answer(body, dict(self.headers))
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/judge"

    def answer(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, bytes]:
        if set(body) != {"texts", "context"} or set(body["context"]) != {"road", "part", "tool", "question"}:
            return 400, b"{}"
        if headers.get("x-secret") != "hook-secret":
            return 401, b"{}"
        self.asked.append(body)
        self.headers = {name.lower(): value for name, value in headers.items()}
        if self.how == "http 500":
            return 500, b"{}"
        if self.how == "html":
            return 200, b"<html>"
        found = [_findings(text) for text in body["texts"]]
        return 200, json.dumps({"findings": found[:-1] if self.how == "short" else found}).encode()

    def __enter__(self) -> Webhook:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)


def _findings(text: str) -> list[dict[str, Any]]:
    found = []
    at = text.find(WORD)
    while at >= 0:
        found.append({"kind": "magic", "start": at, "end": at + len(WORD), "score": 0.9})
        at = text.find(WORD, at + 1)
    return found
