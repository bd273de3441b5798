"""The gateway's own chat page and its widget: files built from `web/`, served from memory.

Everything that the page needs comes from here and nothing is sent elsewhere: its Content-Security-Policy says so. The
page holds nothing of its own beside what the configuration says of it; what it shows comes through the API, with the
visitor's own key.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from fastapi import APIRouter, Request, Response

from gateway.config.browsers import Page
from gateway.errors import NotFound
from gateway.revision import Revision
from gateway.runtime import Gateway

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_YEAR = "public, max-age=31536000, immutable"  # the name has the content's hash
_ASK = "no-cache"  # kept, but asked for again each time: 304 where it is the same
_SETTINGS = b"__SETTINGS__"
# Nothing but our own files and our own API. `trusted-types` lets DOMPurify alone make markup of text.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; require-trusted-types-for 'script'; trusted-types dompurify; frame-ancestors "
)
_HARDENED = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), clipboard-write=(self)",
}


@dataclass(frozen=True, slots=True)
class _File:
    """One file as it is sent: plain and, where that is smaller, gzipped."""

    content_type: str
    plain: bytes
    zipped: bytes | None
    tag: str

    @classmethod
    def of(cls, name: str, content: bytes) -> _File:
        zipped = gzip.compress(content, mtime=0) if len(content) > 500 else None
        kind = _TYPES["." + name.rpartition(".")[2]]
        return cls(kind, content, zipped, hashlib.sha256(content).hexdigest()[:20])

    def answer(self, request: Request, headers: dict[str, str]) -> Response:
        zipped = self.zipped is not None and "gzip" in request.headers.get("accept-encoding", "")
        tag = f'"{self.tag}-gz"' if zipped else f'"{self.tag}"'
        headers = {"etag": tag, "vary": "Accept-Encoding", **_HARDENED, **headers}
        if tag in (each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
        if zipped:
            headers["content-encoding"] = "gzip"
        return Response(self.zipped if zipped else self.plain, headers=headers, media_type=self.content_type)


def router(gateway: Gateway) -> APIRouter:
    """The page's files are read here, once. Where the configuration has no page, its paths are not served."""
    routes = APIRouter(include_in_schema=False)
    built = files("gateway").joinpath("web")
    shells = {name: built.joinpath(f"{name}.html").read_bytes() for name in ("index", "widget")}
    assets = {each.name: _File.of(each.name, each.read_bytes()) for each in _files(built.joinpath("assets"))}
    script = _File.of("widget.js", built.joinpath("widget.js").read_bytes())
    made: dict[str, tuple[Revision, _File]] = {}

    def shell(name: str, revision: Revision) -> _File:
        """The HTML with what the configuration says of it; made once for each revision."""
        known = made.get(name)
        if known is None or known[0] is not revision:
            html = shells[name].replace(_SETTINGS, _told(revision.configuration.page))
            known = made[name] = revision, _File.of(f"{name}.html", html)
        return known[1]

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        revision = _with_page(gateway, request)
        framed = {"x-frame-options": "DENY", "cross-origin-opener-policy": "same-origin"}
        return shell("index", revision).answer(request, _own({**framed, **_policy(())}))

    @routes.api_route("/widget", methods=["GET", "HEAD"])
    async def widget(request: Request) -> Response:
        """The page in a frame of another site: only of those that the configuration names."""
        revision = _with_page(gateway, request, widget=True)
        return shell("widget", revision).answer(request, _own(_policy(revision.configuration.page.widget.origins)))

    @routes.api_route("/widget.js", methods=["GET", "HEAD"])
    async def widget_script(request: Request) -> Response:
        """What other sites load; it says nothing of anybody, so every page may read it and check its hash."""
        _with_page(gateway, request, widget=True)
        shared = {"cross-origin-resource-policy": "cross-origin", "access-control-allow-origin": "*"}
        return script.answer(request, {"cache-control": "public, max-age=300", **shared})

    @routes.api_route("/page/{name}", methods=["GET", "HEAD"])
    async def asset(name: str, request: Request) -> Response:
        _with_page(gateway, request)
        if name not in assets:
            raise _nothing(request)
        return assets[name].answer(request, {"cache-control": _YEAR, "cross-origin-resource-policy": "same-origin"})

    return routes


def _files(folder: Traversable) -> list[Traversable]:
    return [each for each in folder.iterdir() if "." + each.name.rpartition(".")[2] in _TYPES]


def _with_page(gateway: Gateway, request: Request, *, widget: bool = False) -> Revision:
    """The revision in force. Raises NotFound where it has no page, as for any path that is not served."""
    revision = gateway.revision
    page = revision.configuration.page
    if not page.enabled or (widget and not page.widget.origins):
        raise _nothing(request)
    return revision


def _nothing(request: Request) -> NotFound:
    return NotFound(f"{request.method} {request.url.path} is not served here.")


def _policy(ancestors: tuple[str, ...] | list[str]) -> dict[str, str]:
    return {"content-security-policy": _POLICY + (" ".join(ancestors) or "'none'")}


def _own(headers: dict[str, str]) -> dict[str, str]:
    return {"cache-control": _ASK, "cross-origin-resource-policy": "same-origin", **headers}


def _told(page: Page) -> bytes:
    """The settings as JSON that can stand in HTML: in a `script` of a type that no browser runs."""
    told: dict[str, Any] = {
        "title": page.title,
        "greeting": page.greeting,
        "notice": page.notice,
        "suggestions": page.suggestions,
        "model": page.model,
        "keep": page.keep == "ask",
    }
    text = json.dumps(told, ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("ascii")
