"""G2: a server in our own network is sent nowhere that the operator has not named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.chat import ChatRequest
from gateway.errors import BadRequest
from gateway.providers.media import MediaHosts

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def request(*parts: dict[str, Any]) -> ChatRequest:
    content = [{"type": "text", "text": "What is this?"}, *parts]
    return ChatRequest(json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode())


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


HOSTILE = [
    "http://169.254.169.254/latest/meta-data/", "http://2852039166/", "http://0xa9fea9fe/", "http://0251.0376.0251.0376/",
    "http://[::ffff:169.254.169.254]/", "http://[fd00:ec2::254]/", "http://127.0.0.1:8000/metrics", "http://localhost/",
    "http://metadata.google.internal/", "file:///etc/passwd", "ftp://cdn.example.com/x.png", "gopher://cdn.example.com/",
    "http://cdn.example.com@169.254.169.254/", "http://169.254.169.254#@cdn.example.com/",
    "http://169.254.169.254\\@cdn.example.com/", "http://cdn.example.com\\.evil.test/", "//cdn.example.com/x.png",
    "http://cdn.example.com.evil.test/", "http://evilcdn.example.com/", "http://cdn.example.com:80@evil.test/",
    "http://cdn.example.com\t.evil.test/", "http:/cdn.example.com/", "HTTP://EVIL.test/", "", "x",
]  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE)
def test_no_trick_reaches_another_host(url: str) -> None:
    for hosts in (MediaHosts([]), MediaHosts(["cdn.example.com", "*.pictures.test"])):
        with pytest.raises(BadRequest) as refused:
            hosts.check(request(image(PIXEL), image(url)))
        assert refused.value.param == "messages[0].content[2].image_url.url"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": "http://10.0.0.1/"},
        {"type": "video_url", "video_url": {"url": "http://10.0.0.1/"}},
        {"type": "audio_url", "audio_url": {"url": "http://10.0.0.1/"}},
        {"type": "new_url", "new_url": {"image_url": "http://10.0.0.1/"}},
    ],
)
def test_every_kind_of_part_is_looked_at(part: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        MediaHosts([]).check(request(part))


@pytest.mark.parametrize(
    "url",
    [PIXEL, "https://cdn.example.com/x.png", "http://CDN.example.com:8080/x?y=1", "https://a.b.pictures.test", "https://cdn.example.com./x"],
)  # fmt: skip
def test_hosts_that_are_named_and_content_itself_are_taken(url: str) -> None:
    MediaHosts(["cdn.example.com", "*.pictures.test"]).check(request(image(url)))


def test_words_may_hold_any_url() -> None:
    MediaHosts([]).check(request({"type": "text", "text": "see http://10.0.0.1/image_url"}))
