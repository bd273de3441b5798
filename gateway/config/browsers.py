"""What web browsers may do here: pages of other origins that call the API, the gateway's own page, and its widget."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from gateway.config.quantities import Duration
from gateway.config.section import Section

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]").fullmatch


def _origin(value: str) -> str:
    """As browsers write it in `Origin`: lower case, without a default port. Raises ValueError.

    https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin
    """
    if "*" in value:
        raise ValueError("origins are exact here: name each, like https://app.example.com")
    fault = "is an origin like https://app.example.com or http://localhost:3000: a scheme, a host, perhaps a port"
    parts = urlsplit(value.lower())
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(fault) from None
    host = f"[{host}]" if ":" in host else host
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", parts.scheme) or not value.isascii() or not _HOST(host):
        raise ValueError(fault)
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(fault + ", and nothing behind it")
    shown = "" if port is None or port == _PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme}://{host}{shown}"


def _host_name(value: str) -> str:
    name = value.lower().rstrip(".")
    if not _HOST(name):
        raise ValueError("is a host's name without a port, like gateway.example.com")
    return name


def _website(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("is a web site's origin, like https://www.example.com")
    return value


Origin = Annotated[str, AfterValidator(_origin)]
SiteOrigin = Annotated[str, AfterValidator(_origin), AfterValidator(_website)]
HostName = Annotated[str, AfterValidator(_host_name)]
_Line = Annotated[str, Field(min_length=1, max_length=200)]


class Cors(Section):
    """`origins`: whose pages may call the API from a browser, each written out. `max_age`: how long a browser may
    remember that."""

    origins: list[Origin] = []
    max_age: Duration = 600.0


class Widget(Section):
    """`origins`: the web sites that may show the page as a widget; none by default."""

    origins: list[SiteOrigin] = []


class Page(Section):
    """The chat page at `/`. `suggestions` are shown before the first question, `notice` below the field to write in.

    `keep`: whether a visitor may have key and conversations kept on their device.
    """

    enabled: bool = True
    title: Annotated[str, Field(min_length=1, max_length=60)] = "rag-gateway"
    greeting: Annotated[str, Field(min_length=1, max_length=120)] = "What would you like to know?"
    notice: Annotated[str, Field(max_length=300)] = ""
    suggestions: Annotated[list[_Line], Field(max_length=6)] = []
    model: Annotated[str, Field(max_length=256)] | None = None
    keep: Literal["ask", "never"] = "ask"
    widget: Widget = Widget()
