"""Answers as the client gives them: the text, its sources, and how the call went; whole or as it comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import openai
from openai import AsyncStream, Stream
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.client.errors import own_type_in_stream
from gateway.client.facts import CallFacts, headers_of
from gateway.client.sources import Citation, Source, citations_in, sources_in


@dataclass(frozen=True)
class Answer:
    """One whole answer. `completion` is the SDK's own object, with tool calls, further choices and all the rest."""

    completion: ChatCompletion
    facts: CallFacts

    @property
    def text(self) -> str:
        """The first choice's text; "" where it only calls tools."""
        return self.completion.choices[0].message.content or "" if self.completion.choices else ""

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """All passages that the prompt held, cited or not."""
        return sources_in((self.completion.model_extra or {}).get("rag"))

    @cached_property
    def citations(self) -> tuple[Citation, ...]:
        """Each mark of the text that names a source, in the text's order."""
        if not self.completion.choices:
            return ()
        return citations_in(_annotations(self.completion.choices[0].message), self.text, self.sources)

    @property
    def finish_reason(self) -> str | None:
        return self.completion.choices[0].finish_reason if self.completion.choices else None

    @property
    def refused(self) -> bool:
        """Whether a guardrail cut this answer or replaced it, or the model declined."""
        refusals = [choice.message.refusal for choice in self.completion.choices]
        return self.finish_reason == "content_filter" or any(refusals)

    @property
    def usage(self) -> CompletionUsage | None:
        return self.completion.usage


class _Told:
    """What a stream has told so far."""

    def __init__(self, facts: CallFacts) -> None:
        self.facts = facts
        self._state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
        self._texts: list[str] = []
        self._rag: object = None
        self._annotations: object = None
        self._finished = False

    @property
    def text(self) -> str:
        """The first choice's text, as far as it has come."""
        return "".join(self._texts)

    @property
    def sources(self) -> tuple[Source, ...]:
        """All passages that the prompt held. They come with the last chunks: empty before."""
        return sources_in(self._rag)

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The marks of the text that name a source. They come with the last chunks: empty before."""
        return citations_in(self._annotations, self.text, self.sources)

    @property
    def finished(self) -> bool:
        """Whether the answer has come to its end, and did not just break off."""
        return self._finished

    def _take(self, chunk: ChatCompletionChunk) -> None:
        self._rag = (chunk.model_extra or {}).get("rag", self._rag)
        self._texts.append(_text_of(chunk))
        for choice in chunk.choices:
            self._finished = self._finished or choice.finish_reason is not None
            if choice.index == 0:
                self._annotations = (choice.delta.model_extra or {}).get("annotations", self._annotations)
        self._state.handle_chunk(_joinable(chunk))

    def _whole(self) -> Answer:
        told: dict[str, Any] = self._state.current_completion_snapshot.to_dict(mode="json")
        if self._annotations is not None:
            told["choices"][0]["message"]["annotations"] = self._annotations
        if self._rag is not None:
            told["rag"] = self._rag
        return Answer(ChatCompletion.construct(None, **told), self.facts)

    def _check_end(self, response: Any) -> None:
        if not self._finished:
            raise openai.APIConnectionError(message="The answer broke off before its end.", request=response.request)


class AnswerStream(_Told):
    """An answer as it comes: iterate over the pieces of its text, or over `chunks()`.

    Use it as a context manager, or read it to its end: either gives its connection back. Raises what `errors` lists,
    also in the middle, and openai.APIConnectionError where it breaks off.
    """

    def __init__(self, stream: Stream[ChatCompletionChunk]) -> None:
        super().__init__(CallFacts.from_headers(headers_of(stream)))
        self._stream = stream
        self._chunks = self._read()

    def __iter__(self) -> Iterator[str]:
        for chunk in self._chunks:
            if text := _text_of(chunk):
                yield text

    def chunks(self) -> Iterator[ChatCompletionChunk]:
        """The SDK's own chunks, for tool calls and further choices."""
        return self._chunks

    def answer(self) -> Answer:
        """The whole answer; what has not come yet is waited for."""
        for _ in self._chunks:
            pass
        self._check_end(self._stream.response)
        return self._whole()

    def close(self) -> None:
        """Stop: the gateway ends the call at its provider too."""
        self._chunks.close()
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> Generator[ChatCompletionChunk, None, None]:
        try:
            for chunk in self._stream:
                self._take(chunk)
                yield chunk
        except openai.APIError as error:
            raise own_type_in_stream(error, self._stream.response) from error.__cause__
        finally:
            self._stream.close()
        self._check_end(self._stream.response)


class AsyncAnswerStream(_Told):
    """As AnswerStream, for `async for` and `async with`."""

    def __init__(self, stream: AsyncStream[ChatCompletionChunk]) -> None:
        super().__init__(CallFacts.from_headers(headers_of(stream)))
        self._stream = stream
        self._chunks = self._read()

    async def __aiter__(self) -> AsyncIterator[str]:
        async for chunk in self._chunks:
            if text := _text_of(chunk):
                yield text

    def chunks(self) -> AsyncIterator[ChatCompletionChunk]:
        """The SDK's own chunks, for tool calls and further choices."""
        return self._chunks

    async def answer(self) -> Answer:
        """The whole answer; what has not come yet is waited for."""
        async for _ in self._chunks:
            pass
        self._check_end(self._stream.response)
        return self._whole()

    async def close(self) -> None:
        """Stop: the gateway ends the call at its provider too."""
        await self._chunks.aclose()
        await self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _read(self) -> AsyncGenerator[ChatCompletionChunk, None]:
        try:
            async for chunk in self._stream:
                self._take(chunk)
                yield chunk
        except openai.APIError as error:
            raise own_type_in_stream(error, self._stream.response) from error.__cause__
        finally:
            await self._stream.close()
        self._check_end(self._stream.response)


def sources_of(result: object) -> tuple[Source, ...]:
    """The sources of what the SDK's own methods gave: a chat completion, or a stream's last chunk."""
    if isinstance(result, Answer | AnswerStream | AsyncAnswerStream):
        return result.sources
    extra = getattr(result, "model_extra", None) or {}
    return sources_in(extra.get("rag"))


def citations_of(result: object) -> tuple[Citation, ...]:
    """The citations of what the SDK's own methods gave: a chat completion, a stream's last chunk, or a response.

    A chunk has not the text before it, so its citations have neither `n` nor `source`.
    """
    if isinstance(result, Answer | AnswerStream | AsyncAnswerStream):
        return result.citations
    if not isinstance(result, openai.BaseModel):
        return ()
    told = result.to_dict(mode="json")
    return tuple(
        citation
        for holder, text in _cited(told)
        for citation in citations_in(holder.get("annotations"), text, sources_of(result))
    )


def facts_of(result: object) -> CallFacts:
    """How the call went that gave this: an answer, the SDK's own result, chunk, stream or raw response, or an error.

    Raises LookupError where it did not come from a gateway's Client.
    """
    if isinstance(result, Answer | AnswerStream | AsyncAnswerStream):
        return result.facts
    return CallFacts.from_headers(headers_of(result))


def call_id_of(result: object) -> str:
    """The id by which the gateway knows the call; a text is taken for one. Raises LookupError where there is none."""
    if isinstance(result, str):
        return result
    facts = facts_of(result)
    if found := facts.call_id or facts.request_id:
        return found
    raise LookupError(f"this {type(result).__name__} does not tell its call's id: was it a gateway that answered?")


def _cited(told: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """What may have annotations in an answer, with the text that they count in."""
    for choice in told.get("choices") or ():
        holder = choice.get("message") or choice.get("delta") or {}
        yield holder, holder.get("content") or "" if "message" in choice else ""
    for item in told.get("output") or ():
        for part in item.get("content") or ():
            yield part, part.get("text") or ""


def _annotations(message: openai.BaseModel) -> object:
    return message.to_dict(mode="json").get("annotations")


def _text_of(chunk: ChatCompletionChunk) -> str:
    """What a chunk adds to the first choice's text."""
    return "".join(choice.delta.content or "" for choice in chunk.choices if choice.index == 0)


def _joinable(chunk: ChatCompletionChunk) -> ChatCompletionChunk:
    """The chunk without annotations, which the SDK's joining of chunks knows nothing of (they have no `index`)."""
    if not any("annotations" in (choice.delta.model_extra or {}) for choice in chunk.choices):
        return chunk
    joinable = chunk.model_copy(deep=True)
    for choice in joinable.choices:
        (choice.delta.model_extra or {}).pop("annotations", None)
    return joinable
