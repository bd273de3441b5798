"""What the client makes of answers, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import httpx2
import openai
import pytest

from gateway.client import (
    AsyncClient,
    Blocked,
    CallFacts,
    Citation,
    Client,
    ProviderFailed,
    call_id_of,
    citations_of,
    facts_of,
    sources_of,
)
from gateway.client.sources import citations_in, sources_in

HEADERS = {
    "x-gateway-call-id": "call-1", "x-request-id": "mine", "x-gateway-target": "gpu/qwen", "x-gateway-arm": "b",
    "x-gateway-cache": "semantic", "age": "12", "x-gateway-degraded": "features, guardrails.pii",
    "x-gateway-left-out": "logprobs", "server-timing": "retrieval;dur=3.21, call;desc=\"x\";dur=40, total;dur=44.00",
}  # fmt: skip
FACTS = CallFacts(
    call_id="call-1", request_id="mine", target="gpu/qwen", arm="b", cache="semantic", age=12,
    degraded=("features", "guardrails.pii"), left_out=("logprobs",),
    timings={"retrieval": 3.21, "call": 40.0, "total": 44.0},
)  # fmt: skip
SOURCE = {
    "document_id": "docs/a.md", "version": "v1", "section_id": "s1", "collection": "docs", "score": 0.5,
    "title": "A", "url": "docs/a.md", "quote": "Fourteen weeks.",
}  # fmt: skip
CITED = {"url": "docs/a.md", "title": "A", "start_index": 15, "end_index": 18}
ANNOTATIONS = [{"type": "url_citation", "url_citation": CITED}]
TEXT = "Fourteen weeks [1]."


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


CHUNKS = [
    chunk({"role": "assistant", "content": "Fourteen weeks"}),
    chunk({"content": " [1]."}),
    chunk({"annotations": ANNOTATIONS}, "stop", rag={"sources": [SOURCE]}),
    {**chunk({}), "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}},
]
MESSAGE = {"role": "assistant", "content": TEXT, "annotations": ANNOTATIONS}
COMPLETION = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m", "rag": {"sources": [SOURCE]},
    "choices": [{"index": 0, "finish_reason": "stop", "message": MESSAGE}],
}  # fmt: skip


def events(told: Iterable[Any], done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(each)}\n\n" for each in told]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


def transport(content: bytes | dict[str, Any]) -> httpx2.MockTransport:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if isinstance(content, dict):
            return httpx2.Response(200, json=content, headers=HEADERS)
        return httpx2.Response(200, content=content, headers={**HEADERS, "content-type": "text/event-stream"})

    return httpx2.MockTransport(answer)


def client(content: bytes | dict[str, Any]) -> Client:
    return Client("http://gateway", http_client=httpx2.Client(transport=transport(content)), max_retries=0)


def async_client(content: bytes) -> AsyncClient:
    return AsyncClient("http://gateway", http_client=httpx2.AsyncClient(transport=transport(content)), max_retries=0)


(source,) = sources_in({"sources": [SOURCE]})
CITATION = Citation(title="A", url="docs/a.md", start=15, end=18, n=1, source=source)


def test_a_whole_answer_has_its_sources_citations_and_facts() -> None:
    with client(COMPLETION) as made:
        answer = made.ask("How long?", model="m")

    assert (answer.text, answer.sources, answer.citations) == (TEXT, (source,), (CITATION,))
    assert (source.n, source.document_id, source.quote, source.score) == (1, "docs/a.md", "Fourteen weeks.", 0.5)
    assert answer.facts == FACTS
    assert (answer.finish_reason, answer.refused, answer.usage) == ("stop", False, None)


def test_the_sdks_own_results_tell_the_same_and_stay_what_they_are() -> None:
    with client(COMPLETION) as made:
        told = made.chat.completions.create(model="m", messages=[])
        raw = made.chat.completions.with_raw_response.create(model="m", messages=[])

    assert (sources_of(told), citations_of(told), facts_of(told)) == ((source,), (CITATION,), FACTS)
    assert (facts_of(raw), facts_of(raw.parse())) == (FACTS, FACTS)
    assert told.to_dict(mode="json") == COMPLETION
    assert "gateway" not in repr(told) + told.model_dump_json()
    assert told == type(told).construct(None, **COMPLETION)


def test_a_streams_pieces_and_then_its_sources() -> None:
    with client(events(CHUNKS)) as made, made.stream("How long?", model="m") as stream:
        assert stream.facts == FACTS
        assert stream.sources == ()
        assert list(stream) == ["Fourteen weeks", " [1]."]
        assert (stream.text, stream.sources, stream.citations, stream.finished) == (TEXT, (source,), (CITATION,), True)
        answer = stream.answer()

    assert (answer.text, answer.sources, answer.citations, answer.facts) == (TEXT, (source,), (CITATION,), FACTS)
    assert answer.usage is not None
    assert (answer.usage.total_tokens, answer.completion.id, answer.finish_reason) == (7, "c", "stop")
    assert answer.completion.choices[0].message.annotations is not None
    assert answer.completion.choices[0].message.annotations[0].url_citation.url == "docs/a.md"


async def test_an_asynchronous_stream_is_the_same() -> None:
    async with async_client(events(CHUNKS)) as made, await made.stream("How long?", model="m") as stream:
        pieces = [piece async for piece in stream]
        answer = await stream.answer()

    assert pieces == ["Fourteen weeks", " [1]."]
    assert (answer.text, answer.sources, answer.citations, answer.facts) == (TEXT, (source,), (CITATION,), FACTS)


def test_the_sdks_own_stream_tells_its_facts_and_its_last_chunk_the_sources() -> None:
    with client(events(CHUNKS)) as made:
        stream = made.chat.completions.create(model="m", messages=[], stream=True)
        assert facts_of(stream) == FACTS
        chunks = list(stream)

    assert facts_of(chunks[0]) == FACTS
    assert sources_of(chunks[0]) == ()
    assert sources_of(chunks[2]) == (source,)
    assert [(citation.url, citation.n) for citation in citations_of(chunks[2])] == [("docs/a.md", None)]


def test_tool_calls_of_a_stream_are_put_together() -> None:
    def call(arguments: str, **more: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments, **more}, "type": "function"}]})

    told = [call("", name="weather"), call('{"city": '), call('"Chur"}'), chunk({}, "tool_calls")]
    with client(events(told)) as made:
        answer = made.stream("How is it?", model="m").answer()

    assert answer.text == ""
    (asked,) = answer.completion.choices[0].message.tool_calls or ()
    assert asked.type == "function"
    assert (asked.function.name, asked.function.arguments) == ("weather", '{"city": "Chur"}')


def test_annotations_that_come_in_several_chunks_are_no_fault() -> None:
    told = [chunk({"content": "a", "annotations": []}), chunk({"annotations": ANNOTATIONS}), *CHUNKS[2:]]
    with client(events(told)) as made:
        assert made.stream("?", model="m").answer().sources == (source,)


def failed(code: str) -> bytes:
    error = {"message": "The answer was blocked (pii: IBAN_CODE).", "type": "x", "param": None, "code": code}
    return events([CHUNKS[0], {"error": error}], done=False)


def test_an_error_in_the_middle_of_a_stream_has_its_own_type() -> None:
    with client(failed("content_filter")) as made, made.stream("?", model="m") as stream:
        with pytest.raises(Blocked) as blocked:
            list(stream)
        assert (stream.text, stream.finished) == ("Fourteen weeks", False)
    assert isinstance(blocked.value, openai.BadRequestError)
    assert (blocked.value.status_code, blocked.value.reasons) == (400, {"pii": ("IBAN_CODE",)})
    assert blocked.value.facts == facts_of(blocked.value) == FACTS


async def test_the_same_in_asynchronous_code() -> None:
    async with async_client(failed("upstream_error")) as made, await made.stream("?", model="m") as stream:
        with pytest.raises(ProviderFailed) as failure:
            await stream.answer()
    assert (failure.value.status_code, call_id_of(failure.value)) == (502, "call-1")


def test_an_answer_that_breaks_off_is_an_error_not_a_short_answer() -> None:
    with client(events(CHUNKS[:2], done=False)) as made, made.stream("?", model="m") as stream:
        with pytest.raises(openai.APIConnectionError, match="broke off"):
            list(stream)


def test_citations_of_responses_are_flat() -> None:
    annotations = [
        {"type": "file_citation", "file_id": "file-1", "filename": "a.md", "index": 18},
        {"type": "url_citation", "url": "https://x.example", "title": "X", "start_index": 0, "end_index": 8},
        {"type": "file_path", "file_id": "file-1", "index": 0},
    ]

    assert citations_in(annotations, TEXT, ()) == (
        Citation(title="X", url="https://x.example", start=0, end=8),
        Citation(title="a.md", url="", start=15, end=18, n=1),
    )


def test_what_no_gateway_gave_has_no_call() -> None:
    assert call_id_of("call-7") == "call-7"
    with pytest.raises(LookupError, match="this object has no headers"):
        facts_of(object())
    with pytest.raises(LookupError, match="did not come from a gateway's Client"):
        facts_of(openai.types.chat.ChatCompletion.construct())


async def test_a_stream_that_is_left_early_gives_its_connection_back() -> None:
    with client(events(CHUNKS)) as made, made.stream("?", model="m") as stream:
        assert next(iter(stream)) == "Fourteen weeks"
    assert stream.text == "Fourteen weeks"
    async with async_client(events(CHUNKS)) as amade, await amade.stream("?", model="m") as astream:
        async for piece in astream:
            assert piece == "Fourteen weeks"
            break
    assert (astream.text, astream.finished) == ("Fourteen weeks", False)
