"""Log lines: one a line, as JSON or as text, with secrets cut out at the formatter, the last place they pass."""

from __future__ import annotations

import json
import logging
import re
import sys
import time

_SECRETS = re.compile(
    r"(?i)(bearer\s+|api[-_]?key[\"']?\s*[=:][\"'\s]*|authorization[\"']?\s*[=:][\"'\s]*(?:(?:bearer|basic)\s+)?|(?:password|token|secret)[\"']?\s*[=:][\"'\s]*)[^\s\"',;]+|\bsk-[A-Za-z0-9_-]{8,}|://[^/\s:@]+:[^/\s@]+@"
)


def redacted(text: str) -> str:
    return _SECRETS.sub(lambda found: (found[1] or "") + "***", text)


class _Json(logging.Formatter):
    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._worker,
            "message": redacted(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = redacted(self.formatException(record.exc_info))
        return json.dumps(line)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def configure_logging(worker: int | None = None) -> None:
    """Once, at the server's start: text for a terminal, JSON for everything else. `worker` is its number, where there
    are several."""
    handler = logging.StreamHandler(sys.stderr)
    who = "" if worker is None else f"[{worker}] "
    if sys.stderr.isatty():
        handler.setFormatter(_Text(f"%(asctime)s %(levelname)-7s {who}%(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(_Json(worker))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for ours in ("gateway", "retrieval", "guardrails", "features"):
        logging.getLogger(ours).setLevel(logging.INFO)
    for noisy in ("uvicorn.error", "opentelemetry", "py.warnings", "faiss"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
