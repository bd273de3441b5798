"""A span for each try at a target: the HTTP request that was sent, by the conventions for HTTP clients.

https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/http/http-spans.md#http-client-span
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.telemetry import names
from gateway.telemetry.labels import error_type
from gateway.telemetry.spans import CLIENT, INTERNAL

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.telemetry.spans import Tree, Value
    from gateway.values import Attempt, Sent

# Of a URL's query nothing is told that might sign or open something; providers have their keys in headers.
_SAFE_QUERY = re.compile(r"(?:api-version|alt|beta)=[A-Za-z0-9._-]*")


def attempt_spans(
    exchange: Exchange, tree: Tree, parent: str, attempts: Sequence[Attempt], offset: int, *, last: bool
) -> None:
    tried: dict[str, int] = {}
    answered = next((each for each in reversed(attempts) if each.outcome == "ok"), None) if last else None
    for attempt in attempts:
        again = tried.get(attempt.target.label, 0)
        tried[attempt.target.label] = again + 1
        attributes: dict[str, Value] = {names.TARGET: attempt.target.label, names.OUTCOME: attempt.outcome}
        if attempt.upstream_id is not None:
            attributes[names.UPSTREAM_ID] = attempt.upstream_id
        name, kind = "attempt", INTERNAL
        if attempt.sent is not None:
            name, kind = "POST", CLIENT
            _http(attributes, attempt, attempt.sent, again)
        failed = attempt.outcome not in ("ok", "cancelled")
        end = attempt.began + int(attempt.ms * 1e6)
        if attempt is answered:
            end = exchange.ended  # its body was read until then
            code = exchange.error_code or ""
            if exchange.outcome == "error" and code.startswith("upstream_"):
                failed, attributes[names.ERROR_TYPE] = True, error_type(code)
        elif failed:
            status = attempt.http_status
            attributes[names.ERROR_TYPE] = str(status) if status >= 400 else error_type(attempt.outcome)
        begin = attempt.began or exchange.started
        span = tree.add(name, kind, parent, begin + offset, end + offset, attributes, attempt.span_id or None)
        span.failed = failed


def _http(attributes: dict[str, Value], attempt: Attempt, sent: tuple[Sent, bytes], again: int) -> None:
    origin, path = sent
    attributes[names.HTTP_METHOD] = "POST"
    attributes[names.SERVER_ADDRESS], attributes[names.SERVER_PORT] = origin.address, origin.port
    attributes[names.URL_FULL] = origin.url + _shown(path.decode("latin-1"))
    if attempt.http_status:
        attributes[names.HTTP_STATUS] = attempt.http_status
    if again:
        attributes[names.HTTP_RESEND] = again


def _shown(path: str) -> str:
    way, mark, query = path.partition("?")
    if not mark:
        return way
    parts = [part if _SAFE_QUERY.fullmatch(part) else f"{part.partition('=')[0]}=REDACTED" for part in query.split("&")]
    return f"{way}?{'&'.join(parts)}"
