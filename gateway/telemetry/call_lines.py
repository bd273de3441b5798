"""A log line for each call that has ended, where the configuration asks for that: written off the path, like spans."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from gateway.telemetry import names

if TYPE_CHECKING:
    from gateway.exchange import Exchange

log = logging.getLogger("gateway.calls")


class CallLines:
    """What a call did, never what was said in it, nor by which user."""

    def __init__(self, which: Literal["failed", "all"]) -> None:
        self._all = which == "all"

    def export(self, exchanges: Sequence[Exchange]) -> None:
        for exchange in exchanges:
            failed = exchange.outcome in ("error", "blocked")
            if not (failed or self._all):
                continue
            what = f"POST {names.PATHS[exchange.endpoint]}" if exchange.made_for is None else exchange.made_for[0]
            log.log(
                logging.WARNING if failed and exchange.status >= 500 else logging.INFO,
                "%s %s %s", what, exchange.status, exchange.outcome,
                extra={
                    "running": (exchange.trace_id, exchange.span_id, exchange.call_id),
                    "call": {name: value for name, value in _told(exchange).items() if value is not None},
                },
            )  # fmt: skip


def _told(exchange: Exchange) -> dict[str, Any]:
    caller, usage, target = exchange.caller, exchange.usage, exchange.target
    return {
        "request_id": exchange.request_id if exchange.request_id != exchange.call_id else None,
        "tenant": caller.tenant if caller is not None else None,
        "key": caller.key_name if caller is not None else None,
        "model": exchange.model,
        "target": target.label if target is not None else None,
        "outcome": exchange.outcome,
        "status": exchange.status,
        "error": exchange.error_code,
        "cache": exchange.cache if exchange.cache != "off" else None,
        "attempts": len(exchange.attempts) if len(exchange.attempts) > 1 else None,
        "ms": round((exchange.ended - exchange.started) / 1e6, 2),
        "first_chunk_ms": round((exchange.first_chunk - exchange.started) / 1e6, 2) if exchange.first_chunk else None,
        "input_tokens": usage.prompt_tokens if usage is not None else None,
        "output_tokens": usage.completion_tokens if usage is not None else None,
        "usd": exchange.cost,
    }
