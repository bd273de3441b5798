"""Log lines: one a line, as JSON or as text, with secrets cut out at the formatter, the last place they pass.

All that a process says comes through here: its own lines, libraries', warnings, what some module prints, tracebacks
that nobody caught. A line that belongs to a call says so.
"""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from gateway.telemetry.running import RUNNING

if TYPE_CHECKING:
    from gateway.config.telemetry import Logs

_SECRETS = re.compile(
    r"(?i)(bearer\s+|api[-_]?key[\"']?\s*[=:][\"'\s]*|authorization[\"']?\s*[=:][\"'\s]*(?:(?:bearer|basic)\s+)?|(?:password|token|secret)[\"']?\s*[=:][\"'\s]*)[^\s\"',;]+|\bsk-[A-Za-z0-9_-]{8,}|://[^/\s:@]+:[^/\s@]+@"
)
_SHORTEST = 6  # characters of a secret that is cut out wherever it stands; shorter ones are words too
_STRUCTURED = ("call", "span")  # what a line may hold beside its message


def redacted(text: str) -> str:
    return _SECRETS.sub(lambda found: (found[1] or "") + "***", text)


class Redaction:
    """Cuts out what looks like a secret, and what is known to be one."""

    def __init__(self) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._known: re.Pattern[str] | None = None

    def keep_out(self, secrets: Iterable[str]) -> None:
        """These too, from now on; those of before stay known, since they may still be in use."""
        self._secrets |= {secret for secret in secrets if len(secret) >= _SHORTEST}
        if self._secrets:
            longest_first = sorted(self._secrets, key=len, reverse=True)
            self._known = re.compile("|".join(map(re.escape, longest_first)))

    def text(self, text: str) -> str:
        return redacted(self._known.sub("***", text) if self._known is not None else text)

    def value(self, value: Any) -> Any:
        """The same for what a line holds beside its message."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {name: self.value(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


class _Json(logging.Formatter):
    def __init__(self, worker: int | None, redaction: Redaction) -> None:
        super().__init__()
        self.redaction = redaction
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        cut = self.redaction
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._worker,
            "message": cut.text(record.getMessage()),
        }
        running = getattr(record, "running", None) or RUNNING.get()
        if running is not None:
            line |= zip(("trace_id", "span_id", "call_id"), running, strict=True)
        for name in _STRUCTURED:
            if (held := getattr(record, name, None)) is not None:
                line[name] = cut.value(held)
        if record.exc_info:
            line["exception"] = cut.text(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = cut.text(record.stack_info)
        return json.dumps(line, default=str)


class _Text(logging.Formatter):
    def __init__(self, pattern: str, times: str, redaction: Redaction) -> None:
        super().__init__(pattern, times)
        self.redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        running = getattr(record, "running", None) or RUNNING.get()
        return self.redaction.text(line if running is None else f"{line} [{running[2]}]")


def configure_logging(worker: int | None = None, settings: Logs | None = None, secrets: Iterable[str] = ()) -> None:
    """Once, at the server's start: text for a terminal, JSON for everything else, unless the settings say otherwise.

    `worker` is its number, where there are several. `secrets` are cut out wherever they stand.
    """
    stream = _outward(sys.stderr)
    handler = logging.StreamHandler(stream)
    redaction = Redaction()
    redaction.keep_out(secrets)
    who = "" if worker is None else f"[{worker}] "
    shape = settings.format if settings is not None else "auto"
    if shape == "text" or (shape == "auto" and stream.isatty()):
        handler.setFormatter(_Text(f"%(asctime)s %(levelname)-7s {who}%(message)s", "%H:%M:%S", redaction))
    else:
        handler.setFormatter(_Json(worker, redaction))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    level = settings.level.upper() if settings is not None else "INFO"
    for ours in ("gateway", "retrieval", "guardrails", "features"):
        logging.getLogger(ours).setLevel(level)
    for asked_for in ("gateway.spans", "gateway.calls"):  # by settings of their own
        logging.getLogger(asked_for).setLevel(logging.INFO)
    for noisy in ("uvicorn.error", "opentelemetry", "faiss"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def capture_all() -> None:
    """Have warnings, prints, and what nobody caught come as log lines too. After `configure_logging`."""
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda told: _log_uncaught(told.exc_type, told.exc_value, told.exc_traceback)
    sys.unraisablehook = lambda told: _log_uncaught(told.exc_type, told.exc_value, told.exc_traceback)
    if not sys.stderr.isatty():
        sys.stdout = _Printed(sys.stdout, "stdout", logging.INFO)
        sys.stderr = _Printed(sys.stderr, "stderr", logging.WARNING)


def keep_out_of_logs(secrets: Iterable[str]) -> None:
    """Cut these out too, from now on: a configuration that is loaded later may have others."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, (_Json, _Text)):
            handler.formatter.redaction.keep_out(secrets)


def _uncaught(type_: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
    if not issubclass(type_, KeyboardInterrupt):
        _log_uncaught(type_, value, traceback)


def _log_uncaught(type_: type[BaseException], value: BaseException | None, traceback: TracebackType | None) -> None:
    if not issubclass(type_, SystemExit):
        told = (type_, value or type_(), traceback)
        logging.getLogger("gateway.uncaught").error("nobody caught %s", type_.__name__, exc_info=told)


def _outward(stream: TextIO) -> TextIO:
    return stream.outward if isinstance(stream, _Printed) else stream


class _Printed(io.TextIOBase):
    """Stands for stdout or stderr: each line that is printed becomes a log line."""

    def __init__(self, stream: TextIO, name: str, level: int) -> None:
        self.outward = _outward(stream)
        self._log = logging.getLogger(name)
        self._log.setLevel(level)
        self._level = level
        self._rest = ""
        self._logging = threading.local()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self.outward.fileno()

    def write(self, text: str) -> int:
        if getattr(self._logging, "on", False):  # logging itself has failed, and says so here
            return self.outward.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        self._logging.on = True
        try:
            for line in lines:
                if line.strip():
                    self._log.log(self._level, "%s", line.rstrip())
        finally:
            self._logging.on = False
        return len(text)

    def flush(self) -> None:
        self.outward.flush()
