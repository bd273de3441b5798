"""Debian's Chromium, driven by Playwright: what a person sees and does on the gateway's pages."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

_INSTALL = (
    "needs Chromium: `apt-get install --no-install-recommends chromium` (Debian), `brew install --cask chromium` "
    "(macOS), or the path of a Chrome in RAG_GATEWAY_CHROMIUM"
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# axe-core 4.14.1, https://github.com/dequelabs/axe-core, MPL-2.0: its licence is beside it.
_AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text("utf-8")
# Level AA of WCAG 2.2, and what axe's makers hold for good practice.
_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def executable() -> str:
    """Its path. Where there is none the test is skipped, saying how to install it; with CI=true it fails."""
    given = os.environ.get("RAG_GATEWAY_CHROMIUM")
    found = given or next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"this test {_INSTALL}", pytrace=False)
        pytest.skip(_INSTALL)
    return found


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    path = executable()
    with sync_playwright() as playwright:
        # No sandbox of its own: it can't make one as root, and the pages are ours.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """One browser profile on a page, and all that must not happen there: requests elsewhere, violations of the
    Content-Security-Policy, dialogs, faults of scripts."""

    def __init__(self, browser: Browser, home: str, **context: Any) -> None:
        self.home = home
        self.context: BrowserContext = browser.new_context(**context)
        self.context.set_default_timeout(30_000)
        self.context.add_init_script(
            "window.violations = [];"
            "addEventListener('securitypolicyviolation', (e) => violations.push(e.violatedDirective + ' ' + e.blockedURI))"
        )
        self.requests: list[Request] = []
        self.faults: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request))
        self.context.on("weberror", lambda error: self.faults.append(str(error.error)))
        self.context.on("dialog", self._dismiss)
        self.context.on("console", self._hear)
        self.page: Page = self.context.new_page()

    def _dismiss(self, dialog: Any) -> None:
        self.faults.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _hear(self, message: Any) -> None:
        # Chromium tells of every answer above 399; those are the tests' own.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.faults.append(message.text)

    def close(self, *also: str) -> None:
        """Nothing has happened that must not; `also` are origins that may have been asked too."""
        elsewhere = {url for r in self.requests if not (url := r.url).startswith((self.home, *also))}
        violations = [each for frame in self.page.frames for each in frame.evaluate("window.violations ?? []")]
        self.context.close()
        happened = (elsewhere, violations, self.faults)
        assert happened == (set(), [], []), f"requests elsewhere, violations of the policy, faults: {happened}"

    def axe(self) -> list[str]:
        """What axe finds wrong with the page as it stands: rule, element, why."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(_AXE + "\n;0")
        found = self.page.evaluate("(rules) => axe.run(document, rules)", _RULES)
        return [
            f"{each['id']}: {node['target']} {node['failureSummary']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]
