"""The report: one file that shows what is in the lake, escapes what callers wrote, and asks for nothing."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from lake_calls import exchange_of, say, store

from gateway.cli import main
from gateway.drift.comparisons import Comparison
from gateway.drift.findings import Finding
from gateway.lake.signals import Signals
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.feedback import Feedback, FeedbackStore
from gateway.report.facts import Period, gather
from gateway.report.from_store import queries_of_store
from gateway.report.page import page
from gateway.values import Usage
from guardrails.verdicts import Finding as Found
from guardrails.verdicts import Verdict

WICKED = "<script>alert('$x$')</script>"


class Page(HTMLParser):
    """What the file refers to, and what its scripts are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name.split(":")[-1] in ("href", "src", "srcset", "action", "data", "poster") or "url(" in (value or ""):
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of calls with something of everything."""
    path = tmp_path_factory.mktemp("report") / "gateway.db"
    database = Database(f"sqlite:///{path}")
    database.upgrade()
    exchanges = []
    for number in range(30):
        facts: dict[str, Any] = {
            "model": WICKED if number % 3 else "handbook", "usage": Usage(100, 20), "cost": 0.5,
            "cache": ("hit", "miss", "off")[number % 3], "arm": ("one", "two")[number % 2], "propensity": 0.5,
            "verdicts": [("input", Verdict("pii", "mask", (Found("EMAIL", 0, 4, 0.9),), version="1"))],
        }  # fmt: skip
        if number == 7:
            facts |= {"outcome": "error", "error_code": "upstream_error", "status": 502}
        exchanges.append(
            exchange_of("acme & <b>sons</b>", f"u{number}", age=number * 7_000, **facts, **say("Hm?", "So."))
        )
    for call_id, score in zip(store(database, *exchanges, lake=False), (0.0, 1.0) * 15, strict=True):
        FeedbackStore(database).add(Feedback(call_id, "acme & <b>sons</b>", score=score, comment="my canary comment"))
    database.close()
    return path


def made(records: Path, findings: list[Finding] | None) -> str:
    database = Database(f"sqlite:///{records}")
    database.prepare()
    now = time.time() + 1
    with queries_of_store(database, Contents(), Signals(), now - 7 * 86_400) as queries:
        text = page(gather(queries, Period(now - 7 * 86_400, now)), findings, f"Us {WICKED}")
    database.close()
    return text


def test_the_file_shows_it_all_and_asks_for_nothing(records: Path) -> None:
    drifted = Finding("retrieval", WICKED, "best score", Comparison(0.4, 1e-9, "test", 900, 90, 1.2), 0.15, 1e-8, True)
    text = made(records, [drifted])
    found = Page(text)
    assert "script" not in found.tags
    assert not [address for address in found.addresses if not re.fullmatch(r"#\w+|.*url\(#\w+\).*", address)]
    assert "alert(" in "".join(found.words), "what a caller wrote is shown, as text"
    assert "<b>sons" not in text
    assert "canary" not in text
    assert "Content-Security-Policy" in text
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) == 8, "traffic, cost, latency, errors, cache, guardrails, feedback, drift"
    for picture in pictures:
        ElementTree.fromstring(picture)
    told = " ".join(" ".join(found.words).split())
    assert "30 calls" in told
    assert "30 users, 1 tenants" in told
    assert "$15.00 spent" in told
    assert "No model searched." in told
    assert "best score" in told


def test_a_time_without_calls_is_a_page_too(records: Path) -> None:
    database = Database(f"sqlite:///{records}")
    database.prepare()
    with queries_of_store(database, Contents(), Signals(), time.time() + 99) as queries:
        text = page(gather(queries, Period(time.time() + 99, time.time() + 199)), None, "Nothing")
    database.close()
    assert "No calls" in text


def test_the_command_writes_it_without_a_lake(records: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "gateway.yaml", tmp_path / "report.html"
    file.write_text(
        f"records: {{url: 'sqlite:///{records}'}}\nproviders: {{extractive: {{kind: extractive}}}}\n", "utf-8"
    )
    result = CliRunner().invoke(main, ["report", "--since", "2d", "--out", str(out), "--config", str(file)])
    assert result.exit_code == 0, result.output
    text = out.read_text("utf-8")
    assert "25" in Page(text).words, "of the last two days"
    assert "has no <code>drift</code> section" in text
    result = CliRunner().invoke(main, ["report", "--since", "2 days", "--out", str(out), "--config", str(file)])
    assert result.exit_code == 1
    assert "--since" in result.output
