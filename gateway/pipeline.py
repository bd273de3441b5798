"""The story: one request's journey, from a public model's name to an answer on its way.

A `Pipeline` is one public model, compiled at start: it holds the stages that its configuration asks for, and a
stage that is not asked for costs nothing. It knows protocols and values only; the assembly knows who does the work.
The caller is known before a pipeline is chosen, and the account is settled by whoever holds the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gateway.errors import BadRequest, GatewayError, NotCached

if TYPE_CHECKING:
    from gateway.cache.answers import AnswerCache
    from gateway.chat import Request
    from gateway.exchange import Exchange
    from gateway.providers.protocol import Chunks
    from gateway.routing.arms import Arms
    from gateway.routing.dispatch import Calls
    from gateway.routing.queues import Room
    from gateway.stages.choosing import PromptChoice
    from gateway.stages.features import FeatureStage
    from gateway.stages.file_search import FileSearchStage
    from gateway.stages.guarding import InputGuard, OutputGuard
    from gateway.stages.preparation import RetrievalStage
    from gateway.stages.rendering import PromptStage

    Watch = Callable[[Request, Exchange], None]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One public model, or a `provider/model` that has no entry of its own."""

    model: str
    endpoints: frozenset[str]
    targets: Calls
    features: FeatureStage | None = None
    retrieval: RetrievalStage | None = None
    file_search: FileSearchStage | None = None
    input_guard: InputGuard | None = None
    prompt: PromptStage | None = None
    choice: PromptChoice | None = None
    cache: AnswerCache | None = None
    output_guard: OutputGuard | None = None
    record_content: bool = False
    keep_content: bool = False
    room: Room | None = None
    arms: Arms[Pipeline] | None = None
    quality: Watch | None = None

    async def answer(self, request: Request, exchange: Exchange) -> Chunks:
        """The beginning of the answer. Raises GatewayError while a true status can still be told."""
        if self.arms is not None:
            return await self.arms.choose(request, exchange).answer(request, exchange)
        self._admit(request, exchange)
        if self.room is not None:
            self.room.check(exchange)
        prompt = self._prompt_of(request)
        if request.prompt is not None and self.choice is not None:
            prompt = await self.choice.choose(exchange, request.prompt, prompt)
        if prompt is not None:
            await self._prepare(request, exchange)
            exchange.asked = request.messages
            if self.keep_content:
                exchange.said = dict(request.fields)  # a template adds its parameters, and takes its variables out
            await prompt.render(request, exchange)
            if self.input_guard is not None and prompt.of_tenant:
                await self.input_guard.screen(request, exchange)  # the template's own words too
        elif self.input_guard is not None:
            await self.input_guard.screen(request, exchange)
        if self.keep_content:
            exchange.messages = request.messages
            exchange.request = request
        if self.quality is not None:
            self.quality(request, exchange)
        if self.cache is not None:
            screen = self.output_guard.screen if self.output_guard is not None else None
            chunks = await self.cache.answer(request, exchange, self.generate, screen)
        elif exchange.cache_wish is not None and exchange.cache_wish.only_if_cached:
            raise NotCached(
                f"The model {self.model} keeps no answers, and Cache-Control: only-if-cached wants no other."
            )
        else:
            chunks = await self.generate(request, exchange)
        return self.input_guard.restore(chunks, exchange) if exchange.pseudonyms and self.input_guard else chunks

    def bare(self) -> Pipeline:
        """The same model without what it adds to a conversation: for what is asked about one, and not in it."""
        return replace(
            self, features=None, retrieval=None, file_search=None, prompt=None, cache=None, quality=None,
            arms=self.arms.mapped(Pipeline.bare) if self.arms is not None else None,
        )  # fmt: skip

    async def generate(self, request: Request, exchange: Exchange) -> Chunks:
        """The answer from a target, screened and with its sources; the cache calls this where it has none."""
        chunks = await self.targets.call(request, exchange)
        if self.output_guard is not None:
            chunks = self.output_guard.screen(chunks, request, exchange, self.targets.call)
        prompt = self._prompt_of(request)
        if prompt is not None:
            chunks = prompt.cite(chunks, exchange)
        return chunks

    def _prompt_of(self, request: Request) -> PromptStage | None:
        """The model's own; or, where files are searched, the one that shows what was found."""
        if self.prompt is None and request.file_search is not None and self.file_search is not None:
            return self.file_search.prompt
        return self.prompt

    def _admit(self, request: Request, exchange: Exchange) -> None:
        if request.endpoint not in self.endpoints:
            raise BadRequest(f"The model {self.model} does not serve {request.endpoint}.", param="model")
        if request.rag is not None and self.retrieval is None:
            raise BadRequest(f"The model {self.model} has no retrieval: leave `rag` out.", param="rag")
        if request.file_search is not None and self.file_search is None:
            raise BadRequest("This gateway has no retrieval: leave the tool file_search out.", param="tools")
        if self.output_guard is not None:
            self.output_guard.check(request)
        exchange.record_content, exchange.keep_content = self.record_content, self.keep_content

    async def _prepare(self, request: Request, exchange: Exchange) -> None:
        """Features, passages and the screening of the caller's own words, side by side.

        Where the search sends these words to a model, they are screened before.
        """
        work: list[Coroutine[Any, Any, None]] = []
        if self.input_guard is not None:
            if self.retrieval is not None and self.retrieval.asks_a_model:
                await self.input_guard.screen(request, exchange)
            else:
                work.append(self.input_guard.screen(request, exchange))
        if self.features is not None:
            work.append(self.features.fetch(request, exchange))
        if self.retrieval is not None:
            work.append(self.retrieval.find(request, exchange))
        if self.file_search is not None and request.file_search is not None:
            work.append(self.file_search.find(request.file_search, request, exchange))
        await _side_by_side(work)
        if self.input_guard is not None and exchange.passages:
            await self.input_guard.screen_passages(request, exchange)
        if self.retrieval is not None and exchange.verdicts:
            self.retrieval.as_screened(request, exchange)


async def _side_by_side(work: list[Coroutine[Any, Any, None]]) -> None:
    """All of `work`; when one fails, the others are cancelled and its error is raised as itself."""
    if len(work) == 1:
        return await work[0]
    try:
        async with asyncio.TaskGroup() as group:
            for stage in work:
                group.create_task(stage)
    except BaseExceptionGroup as failures:
        known = [failure for failure in failures.exceptions if isinstance(failure, GatewayError)]
        raise (known or failures.exceptions)[0] from None
    return None
