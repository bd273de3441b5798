"""Log lines: one shape, and no secret in any of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.config.loading import load_text
from gateway.config.secrets import secrets_of
from gateway.telemetry.logs import Redaction, redacted

EVERYTHING = """
import json, logging, sys, threading, warnings
from gateway.telemetry.logs import capture_all, configure_logging, keep_out_of_logs
from gateway.telemetry.running import RUNNING

configure_logging(2, None, ["planted-secret"])
capture_all()
logging.getLogger("gateway.x").info("ours with %s", "planted-secret")
logging.getLogger("library").warning("a library's, Authorization: Bearer abcdefgh")
logging.getLogger("library").info("too quiet to be heard")
warnings.warn("something is deprecated", DeprecationWarning, stacklevel=1)
print("printed, in two", end=" ")
print("parts with planted-secret")
print("to stderr", file=sys.stderr)
RUNNING.set(("t" * 32, "s" * 16, "call_1"))
try:
    raise ValueError("planted-secret")
except ValueError:
    logging.getLogger("gateway.x").exception("caught")
RUNNING.set(None)
logging.getLogger("gateway.x").info("held", extra={"call": {"key": "planted-secret", "n": [1, "later-secret"]}})
keep_out_of_logs(["later-secret"])
logging.getLogger("gateway.x").info("later-secret")
thread = threading.Thread(target=lambda: 1 / 0, name="t")
thread.start()
thread.join()
class Bad:
    def __del__(self):
        raise OSError("in a finaliser")
del_me = Bad()
del del_me
raise RuntimeError("nobody catches planted-secret")
"""


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING], capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert done.stdout == ""
    assert "planted-secret" not in done.stderr
    assert done.returncode == 1
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_everything_that_a_process_says_has_one_shape(lines: list[dict[str, Any]]) -> None:
    assert [(line["logger"], line["level"], line["message"].splitlines()[0]) for line in lines] == [
        ("gateway.x", "info", "ours with ***"),
        ("library", "warning", "a library's, Authorization: Bearer ***"),
        ("py.warnings", "warning", "<string>:11: DeprecationWarning: something is deprecated"),
        ("stdout", "info", "printed, in two parts with ***"),
        ("stderr", "warning", "to stderr"),
        ("gateway.x", "error", "caught"),
        ("gateway.x", "info", "held"),
        ("gateway.x", "info", "***"),
        ("gateway.uncaught", "error", "nobody caught ZeroDivisionError"),
        ("gateway.uncaught", "error", "nobody caught OSError"),
        ("gateway.uncaught", "error", "nobody caught RuntimeError"),
    ]
    assert {line["worker"] for line in lines} == {2}


def test_a_line_of_a_call_says_which(lines: list[dict[str, Any]]) -> None:
    caught = next(line for line in lines if line["message"] == "caught")
    assert (caught["trace_id"], caught["span_id"], caught["call_id"]) == ("t" * 32, "s" * 16, "call_1")
    assert caught["exception"].endswith("ValueError: ***")
    assert sum("trace_id" in line for line in lines) == 1
    held = next(line for line in lines if line["message"] == "held")
    assert held["call"] == {"key": "***", "n": [1, "later-secret"]}


def test_what_looks_like_a_secret_is_cut_out() -> None:
    assert redacted("postgresql://u:pa55@h/db sk-abcdefghij api_key=abc123") == "postgresql***h/db *** api_key=***"


def test_what_is_known_to_be_a_secret_is_cut_out_the_longest_first() -> None:
    redaction = Redaction()
    redaction.keep_out(["abcdef", "abcdef-long", "x"])
    assert redaction.text("abcdef-long abcdef x") == "*** *** x"


def test_every_secret_of_a_configuration_is_known() -> None:
    loaded = load_text(
        """
records: {url: "postgresql://u:p%40ss-1@h/db", encryption_keys: ["${KEY}"]}
telemetry: {traces: {otlp: {endpoint: "http://h", headers: {x: header-secret}}}}
providers:
  a: {kind: openai, api_key: key-one-1}
  b: {kind: openai_compatible, base_url: "http://h/v1", api_keys: [key-two-2], headers: {h: header-two}}
""",
        Path("gateway.yaml"),
        {"KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="},
    )
    assert secrets_of(loaded.configuration) == {
        "p%40ss-1", "p@ss-1", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "header-secret", "key-one-1",
        "key-two-2", "header-two",
    }  # fmt: skip
