"""Errors to HTTP: one shape on every road, OpenAI's."""

from __future__ import annotations

import logging
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gateway.errors import BadRequest, Forbidden, GatewayError, NotFound, Overloaded, Unauthenticated, UpstreamError
from gateway.records.database import StoreUnavailable
from gateway.routing.retries import seconds_of

log = logging.getLogger(__name__)


def internal(failure: BaseException) -> GatewayError:
    """What a caller is told of a fault of ours: nothing of its inside. The log has the rest."""
    log.error("unexpected error", exc_info=failure)
    return GatewayError(
        "The gateway failed to handle this request. The operator's log says why.", code="internal_error"
    )


def error_headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """`Retry-After` in whole seconds as clients read it, and whether another try by the client makes sense."""
    headers: list[tuple[bytes, bytes]] = []
    seconds = seconds_of(error.retry_after)
    if seconds is not None:
        most = 86_400 if isinstance(error, UpstreamError) else 31 * 86_400  # our own times are true
        headers.append((b"retry-after", b"%d" % min(math.ceil(seconds), most)))
    if error.spent:
        headers.append((b"x-should-retry", b"false"))
    return headers


def install(app: FastAPI) -> None:
    """Give the routes that FastAPI serves the same errors."""

    @app.exception_handler(GatewayError)
    async def _known(request: Request, error: GatewayError) -> JSONResponse:
        headers = {name.decode(): value.decode() for name, value in error_headers(error)}
        return JSONResponse(error.body(), error.status, headers)

    @app.exception_handler(StoreUnavailable)
    async def _away(request: Request, failure: StoreUnavailable) -> JSONResponse:
        log.error("%s %s needs the record store: %s", request.method, request.url.path, failure)
        away = "The record store can't be reached, or is behind. Nothing is lost: try again later."
        return await _known(request, Overloaded(away, code="store_unavailable", retry_after="5"))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        known: dict[int, type[GatewayError]] = {401: Unauthenticated, 403: Forbidden, 404: NotFound}
        kind = known.get(error.status_code, BadRequest if error.status_code < 500 else GatewayError)
        message = f"{request.method} {request.url.path} is not served here." if error.status_code in (404, 405) else ""
        body: dict[str, Any] = kind(message or str(error.detail)).body()
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        """FastAPI's findings; the first of them, with its field, in OpenAI's shape."""
        fault = error.errors()[0]
        path = [str(part) for part in fault["loc"] if part not in ("body", "query", "path")]
        param = ".".join(path) or None
        said = str(fault["msg"]).removeprefix("Value error, ")
        refused = BadRequest(f"Invalid value for '{param}': {said}" if param else said, param=param)
        return JSONResponse(refused.body(), refused.status)

    @app.exception_handler(Exception)
    async def _unknown(request: Request, error: Exception) -> JSONResponse:
        fault = internal(error)
        return JSONResponse(fault.body(), fault.status)
