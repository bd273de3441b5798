"""A token issuer: OpenID Connect discovery and a JSON Web Key Set over HTTP, that can rotate, hang and go away.

Strict: anything that is not a plain GET of one of its documents is answered with 404, and counted.
"""

from __future__ import annotations

import base64
import functools
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "api://rag-gateway"


@functools.cache
def private_key(kind: str, name: str) -> Any:
    """A key of its own for each name, made once a test run: RSA takes a while."""
    if kind.startswith("RSA"):
        return rsa.generate_private_key(65537, int(kind.removeprefix("RSA") or 2048))
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}[kind])


def kind_for(algorithm: str) -> str:
    return {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}.get(algorithm, "RSA")


def public_jwk(kind: str, name: str, **more: Any) -> dict[str, Any]:
    public = private_key(kind, name).public_key()
    algorithm = RSAAlgorithm if kind.startswith("RSA") else OKPAlgorithm if kind == "Ed25519" else ECAlgorithm
    made = {**algorithm.to_jwk(public, as_dict=True), "kid": name, "use": "sig", **more}
    return {part: value for part, value in made.items() if value is not None}


def signed(header: Mapping[str, Any], payload: bytes, signature: bytes) -> str:
    """A token of just these bytes, whatever they are."""
    parts = (json.dumps(header).encode(), payload, signature)
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


class Issuer:
    """Use it as a context manager. `keys` is what its key set has; `answer` replaces what a path is answered with."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [public_jwk("RSA", "first")]
        self.answer: dict[str, tuple[int, Mapping[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.hangs = threading.Event()
        self._go_on = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def __enter__(self) -> Issuer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Answer; on the port that it had before."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                if issuer.hangs.is_set():
                    issuer._go_on.wait(30)
                status, headers, body = issuer._answer(self.path)
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Whoever asked has hung up."""

        self._go_on.clear()
        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        """Answer nobody any more: connections are refused."""
        if self._server is not None:
            self._go_on.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def entry(self, **more: Any) -> dict[str, Any]:
        """What the configuration says of it."""
        return {"name": "staff", "issuer": self.url, "audience": AUDIENCE, **more}

    def token(
        self,
        kid: str | None = "first",
        algorithm: str = "RS256",
        headers: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> bytes:
        """A good one, but for what is said otherwise; a claim that is None is left out."""
        now = int(time.time())
        payload = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 300, **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        key = private_key(kind_for(algorithm), kid or "first")
        named = {} if kid is None else {"kid": kid}
        return jwt.api_jws.encode(json.dumps(payload).encode(), key, algorithm, {**named, **(headers or {})}).encode()

    def _answer(self, path: str) -> tuple[int, Mapping[str, str], bytes]:
        if path in self.answer:
            return self.answer[path]
        if path == "/.well-known/openid-configuration":
            return 200, {}, json.dumps({"issuer": self.url, "jwks_uri": self.url + "/keys"}).encode()
        if path == "/keys":
            return 200, {}, json.dumps({"keys": self.keys}).encode()
        return 404, {}, b"{}"
