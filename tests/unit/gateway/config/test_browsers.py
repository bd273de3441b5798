"""Origins as they are written, and as browsers send them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config.browsers import Cors, Page, Widget


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://App.Example.com:443/", "https://app.example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("tauri://localhost", "tauri://localhost"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
    ],
)
def test_an_origin_is_kept_as_browsers_write_it(written: str, meant: str) -> None:
    assert Cors(origins=[written]).origins == [meant]


@pytest.mark.parametrize(
    "wrong",
    [
        "*", "https://*.example.com", "null", "app.example.com", "https://", "https://app.example.com/path", "file://",
        "https://user@app.example.com", "https://app.example.com?x", "https://app.example.com:99999", "https://a b",
        "https://exämple.com", "https://app.example.com; script-src *", "https://app.example.com\nhttps://evil.example",
    ],
)  # fmt: skip
def test_what_is_no_origin_is_a_fault(wrong: str) -> None:
    with pytest.raises(ValidationError, match="origin"):
        Cors(origins=[wrong])
    with pytest.raises(ValidationError, match="origin"):
        Widget(origins=[wrong])  # it would stand in a Content-Security-Policy


def test_a_widget_is_for_web_sites() -> None:
    with pytest.raises(ValidationError, match="web site"):
        Widget(origins=["tauri://localhost"])


def test_the_page_is_there_and_the_widget_is_not_where_nothing_is_written() -> None:
    page = Page()
    assert (page.enabled, page.widget.origins, Cors().origins) == (True, [], [])
