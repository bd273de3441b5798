"""The client for asynchronous code: `sync_client.py`, to be awaited."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, Unpack
from urllib.parse import quote

import openai

from gateway.client.answers import Answer, AsyncAnswerStream, call_id_of, facts_of
from gateway.client.asking import (
    NO_KEY,
    ChatOptions,
    Question,
    SdkOptions,
    api_url,
    feedback_body,
    messages,
    prepared,
)
from gateway.client.errors import own_type
from gateway.client.facts import keep_headers
from gateway.client.knowledge import AsyncKnowledge
from gateway.client.options import Cache, CacheWord, CallOptions, PromptOptions, RagOptions
from gateway.client.provenance import Explanation, Feedback

if TYPE_CHECKING:
    import httpx2
    from openai._models import FinalRequestOptions


class AsyncClient(openai.AsyncOpenAI):
    """As Client, over `openai.AsyncOpenAI`: every method that asks the gateway is to be awaited.

    Use it as an asynchronous context manager, or await its `close()`.
    """

    def __init__(
        self,
        base_url: str | httpx2.URL | None = None,
        *,
        api_key: str | Callable[[], Awaitable[str]] | None = None,
        user: str | None = None,
        user_header: str | None = None,
        cache: CacheWord | Cache | None = None,
        rag: RagOptions | None = None,
        prompt: PromptOptions | None = None,
        target: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
        **sdk: Unpack[SdkOptions],
    ) -> None:
        self._said = CallOptions(user, user_header, cache, rag, prompt, target)
        key = api_key or os.environ.get("RAG_GATEWAY_API_KEY") or NO_KEY
        super().__init__(base_url=api_url(base_url), api_key=key, http_client=http_client, **sdk)

    @property
    def knowledge(self) -> AsyncKnowledge:
        """Files and folders into vector stores."""
        return AsyncKnowledge(self)

    def with_call(
        self,
        *,
        user: str | None = None,
        cache: CacheWord | Cache | None = None,
        rag: RagOptions | None = None,
        prompt: PromptOptions | None = None,
        target: str | None = None,
    ) -> Self:
        """A client over the same connections that says this too: for the SDK's own methods, as `with_options` is.

        `client.with_call(user="ada", cache="off").responses.create(…)`
        """
        said = self._said.but(CallOptions(user=user, cache=cache, rag=rag, prompt=prompt, target=target))
        copied = self.copy()
        copied._said = said
        return copied

    async def ask(
        self,
        question: Question,
        *,
        model: str,
        user: str | None = None,
        cache: CacheWord | Cache | None = None,
        rag: RagOptions | None = None,
        prompt: PromptOptions | None = None,
        target: str | None = None,
        **more: Unpack[ChatOptions],
    ) -> Answer:
        """One whole answer, with its sources. Raises openai.APIError and what `gateway.client.errors` lists."""
        asking = self.with_call(user=user, cache=cache, rag=rag, prompt=prompt, target=target)
        told = await asking.chat.completions.create(model=model, messages=messages(question), **more)
        return Answer(told, facts_of(told))

    async def stream(
        self,
        question: Question,
        *,
        model: str,
        user: str | None = None,
        cache: CacheWord | Cache | None = None,
        rag: RagOptions | None = None,
        prompt: PromptOptions | None = None,
        target: str | None = None,
        **more: Unpack[ChatOptions],
    ) -> AsyncAnswerStream:
        """The answer as it comes, its usage in the last chunk. Raises as `ask`, and while it is read."""
        asking = self.with_call(user=user, cache=cache, rag=rag, prompt=prompt, target=target)
        return AsyncAnswerStream(
            await asking.chat.completions.create(
                model=model, messages=messages(question), stream=True, stream_options={"include_usage": True}, **more
            )
        )

    async def explain(self, result: object) -> Explanation:
        """How an answer came about. `result` is an answer, anything that `facts_of` takes, or a call's id.

        Raises LookupError where it does not tell its call, openai.NotFoundError where the gateway has no such call.
        """
        return await self.get(f"/calls/{quote(call_id_of(result), safe='')}", cast_to=Explanation)

    async def feedback(
        self,
        result: object,
        *,
        score: float | bool | None = None,
        label: str | None = None,
        comment: str | None = None,
        correction: str | None = None,
    ) -> Feedback:
        """Rate an answer, by at least one of these; `result` as in `explain`.

        `score` is from 0 to 1, or True and False for thumbs. Raises as `explain`, and openai.BadRequestError.
        """
        body = feedback_body(call_id_of(result), score, label, comment, correction)
        return await self.post("/feedback", body=body, cast_to=Feedback)

    # -- the SDK's own places for what a subclass adds -----------------------------------------------------
    async def _prepare_options(self, options: FinalRequestOptions) -> FinalRequestOptions:
        return prepared(await super()._prepare_options(options), self._said)

    def _process_response_data(self, *, data: object, cast_to: type[Any], response: httpx2.Response) -> Any:
        result = super()._process_response_data(data=data, cast_to=cast_to, response=response)
        keep_headers(result, response.headers)
        return result

    def _make_status_error(self, err_msg: str, *, body: object, response: httpx2.Response) -> openai.APIStatusError:
        return own_type(super()._make_status_error(err_msg, body=body, response=response))

    if not TYPE_CHECKING:  # for a type checker they are the SDK's, with all their parameters

        def copy(self, *, _extra_kwargs: Mapping[str, Any] = {}, **options: Any) -> Self:
            said = self._said
            ours = {name: getattr(said, name) for name in ("user", "user_header", "cache", "rag", "prompt", "target")}
            return super().copy(_extra_kwargs={**ours, **_extra_kwargs}, **options)

        with_options = copy
