"""A person's way through a real Open WebUI: signs up, asks the handbook, reads the answer and its sources."""

from __future__ import annotations

import os
from pathlib import Path

from gateway_process import until
from openwebui.room import Room
from playwright.sync_api import Browser, Page, expect

QUESTION = "How do I add a provider?"
PATIENCE = 180_000  # ms


def shown(page: Page, name: str) -> None:
    """A picture of the page, where somebody wants to look at it."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"open-webui-{name}.png")


def test_sign_up_ask_and_read_the_sources(room: Room, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, locale="en-GB")
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page.goto(room.url)
    page.get_by_role("button", name="Get started").click()
    page.get_by_placeholder("Enter Your Full Name").fill("Ada")
    page.get_by_placeholder("Enter Your Email").fill("ada@example.org")
    page.locator("input[type=password]").fill("a-password-1")
    page.get_by_role("button", name="Create Admin Account").click()
    page.get_by_role("button", name="Okay, Let's Go!").click()

    # The model is the key's first one; what the gateway streams is shown as it comes.
    expect(page.get_by_role("button", name="Selected model: handbook")).to_be_visible()
    page.locator("#chat-input").click()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    expect(page.get_by_text("6 passages found").first).to_be_visible()
    cited = page.get_by_role("button", name="View source: Configuration > How do I add a provider?").first
    expect(cited).to_be_visible()
    sources = page.get_by_role("button", name="sources").last
    expect(sources).to_be_visible()
    shown(page, "answer")
    cited.click()
    passage = page.get_by_role("dialog")
    expect(passage.get_by_text("its name is yours to choose")).to_be_visible()
    shown(page, "source")

    # Whose call it was, and what Open WebUI asked beside it: by the small model, without retrieval.
    def told() -> bool:
        return {"title", "tags"} <= {(call["side_call"] or {}).get("task") for call in room.calls()}

    until(told, what="the calls for a title and for tags")
    calls = room.calls()
    assert {call["caller"]["user"] for call in calls} == {"ada@example.org"}
    (question,) = [call for call in calls if call["side_call"] is None]
    assert (question["model"], len(question["passages"])) == ("handbook", 6)
    beside = [call for call in calls if call["side_call"] is not None]
    assert {(call["model"], len(call["passages"]), call["status"]) for call in beside} == {("small", 0, 200)}
    expect(page.get_by_text("Providers, added").first).to_be_visible()  # the title that it got
    page.close()
