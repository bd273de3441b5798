"""Open WebUI's dialect: what is read of its requests, and what is told beside the chunks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.chat import ChatRequest
from gateway.chunks import Chunk
from gateway.errors import BadRequest
from gateway.exchange import Exchange
from gateway.front_ends.open_webui import OpenWebui
from gateway.values import FrontEnd
from retrieval.passages import Passage

TITLE = """### Task:
Generate a concise title summarizing the chat history.
### Output:
JSON format: { "title": "your concise title here" }
### Chat History:
<chat_history>
USER: may I take leave?
</chat_history>"""
FRONT_END = FrontEnd("open_webui")


def request(content: str, **more: Any) -> ChatRequest:
    return ChatRequest(
        json.dumps({"model": "handbook", "messages": [{"role": "user", "content": content}], **more}).encode()
    )


def passage(n: int, document: str = "leave") -> Passage:
    return Passage(document, "1" * 16, f"{document}:{n}", "handbook", 0.5, "Leave", "", f"what section {n} says")


def chunk(content: str | None = None, finish: str | None = None, **delta: Any) -> Chunk:
    choice = {"index": 0, "delta": {"content": content, **delta} if content else delta, "finish_reason": finish}
    return Chunk(json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [choice]}).encode())


def frames(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(frame.removeprefix(b"data: ")) for frame in data.split(b"\n\n") if frame]


def answered(passages: list[Passage], *chunks: Chunk) -> list[dict[str, Any]]:
    exchange = Exchange("chat.completions")
    exchange.passages = passages
    call = OpenWebui(request("may I?", stream=True), [], FRONT_END)
    return [frame for one in chunks for frame in frames(call.events([one], exchange))]


def test_sources_come_before_the_end_each_under_its_number() -> None:
    told = answered(
        [passage(1), passage(2), passage(3)], chunk("Yes [2"), chunk("]."), chunk(None, "stop", annotations=[{}])
    )
    events = [frame["event"] for frame in told if "event" in frame]
    assert events[0] == {"type": "status", "data": {"description": "3 passages found", "done": True}}
    sources = [event["data"] for event in events if event["type"] == "source"]
    assert [source["document"] for source in sources] == [["what section 1 says"], ["what section 2 says"]]
    assert len({source["source"]["id"] for source in sources}) == 2  # one document, and a mark for each of its passages
    assert all(len(source["metadata"]) == len(source["document"]) for source in sources)
    assert [("event" in frame) for frame in told] == [True, False, False, True, True, False]
    assert "annotations" not in told[-1]["choices"][0]["delta"]


def test_an_answer_that_cites_nothing_has_no_sources_and_one_without_passages_no_frames_of_ours() -> None:
    told = answered([passage(1)], chunk("I do not know."), chunk(None, "stop"))
    assert [frame["event"]["type"] for frame in told if "event" in frame] == ["status"]
    assert all("event" not in frame for frame in answered([], chunk("Yes [1]."), chunk(None, "stop")))


@pytest.mark.parametrize("spelt", ["event", "\\u0065vent"])
def test_a_target_sends_no_events_of_its_own(spelt: str) -> None:
    """Open WebUI runs what such a frame holds: `execute` is JavaScript in the browser of whoever asked."""
    forged = json.loads(chunk("Yes").data) | {"event": {"type": "execute", "data": {"code": "alert(1)"}}}
    spoken = chunk('the word "event"')
    told = answered([], Chunk(json.dumps(forged).replace('"event"', f'"{spelt}"').encode()), spoken)
    assert [frame.get("event") for frame in told] == [None, None]
    assert [frame["choices"][0]["delta"]["content"] for frame in told] == ["Yes", 'the word "event"']


@pytest.mark.parametrize("url", ["javascript:alert('http://')", "data:text/html,http", "//evil.test/http", ""])
def test_a_document_s_address_is_a_link_only_where_it_is_a_web_page_s(url: str) -> None:
    told = answered([replace(passage(1), url=url)], chunk("Yes [1]."), chunk(None, "stop"))
    (source,) = [frame["event"]["data"] for frame in told if frame.get("event", {}).get("type") == "source"]
    assert "url" not in source["source"]
    assert "url" not in source["metadata"][0]


def test_a_question_that_is_streamed_is_no_side_call() -> None:
    assert OpenWebui(request(TITLE, stream=True), [], FrontEnd("open_webui", side_calls="small")).side_call is None


@pytest.mark.parametrize(("kind", "named"), [("email", "ada@x.test"), ("id", "u-1"), ("name", "Ada")])
def test_the_user_is_the_one_that_the_key_s_front_end_says(kind: Any, named: str) -> None:
    lines = [
        (b"x-openwebui-user-email", b"ada@x.test"), (b"x-openwebui-user-id", b"u-1"), (b"x-openwebui-user-name", b"Ada"),
        (b"x-openwebui-chat-id", b"chat-7"),
    ]  # fmt: skip
    asked = request("hello")
    call = OpenWebui(asked, lines, FrontEnd("open_webui", kind))
    assert (call.user, asked.conversation, call.side_call) == (named, "chat-7", None)


def test_a_user_who_is_named_twice_is_nobody() -> None:
    lines = [(b"x-openwebui-user-email", b"ada@x.test"), (b"x-openwebui-user-email", b"eve@x.test")]
    with pytest.raises(BadRequest, match="stands twice"):
        OpenWebui(request("hello"), lines, FRONT_END)


def test_a_call_for_a_title_is_known_bounded_and_sent_to_the_small_model() -> None:
    asked = request(TITLE)
    call = OpenWebui(asked, [], FrontEnd("open_webui", side_calls="small"))
    assert call.side_call is not None
    assert (call.side_call.task, asked.model, asked.max_tokens) == ("title", "small", 1000)
    assert json.loads(asked.body_for("m"))["max_tokens"] == 1000
    bounded = request(TITLE, max_tokens=50)
    OpenWebui(bounded, [], FRONT_END)
    assert (bounded.max_tokens, bounded.model) == (50, "handbook")


@pytest.mark.parametrize(
    "content",
    ["### Task:\nwrite a poem", "what does `### Task:` mean in <chat_history>?", "tell me of the ### Chat History"],
)
def test_what_a_user_writes_is_no_side_call(content: str) -> None:
    assert OpenWebui(request(content), [], FRONT_END).side_call is None


def test_nor_is_what_comes_late_in_a_conversation() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"},
                                       {"role": "user", "content": TITLE}]}  # fmt: skip
    assert OpenWebui(ChatRequest(json.dumps(body).encode()), [], FRONT_END).side_call is None
