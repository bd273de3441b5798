"""Targets that can't take a request are not asked: too long for their context, images, tools, unknown fields."""

from __future__ import annotations

from collections.abc import Callable

from gateway.chat import ChatRequest, Request
from gateway.errors import BadRequest
from gateway.exchange import Exchange
from gateway.routing.candidates import Candidate, Ranking

CountTokens = Callable[[str], int]


class CapabilityFilter:
    def __init__(self, count_tokens: CountTokens) -> None:
        self._count = count_tokens

    def keep(self, ranked: Ranking, request: Request, exchange: Exchange) -> Ranking:
        """Raises BadRequest with what the first target lacks, when none is left."""
        need = _Need(request, self._count)
        kept: list[Candidate] = []
        lacks: BadRequest | None = None
        for candidate in ranked:
            lack = need.of(candidate)
            if lack is None:
                kept.append(candidate)
            else:
                exchange.pass_over(candidate.target.label, f"unfit: {lack.param or lack.code or 'request'}")
                lacks = lacks or lack
        if not kept:
            assert lacks is not None
            raise lacks
        return kept


class _Need:
    """What one request asks of a target, found out when first asked for."""

    def __init__(self, request: Request, count: CountTokens) -> None:
        self._request = request
        self._count = count
        self._tokens: int | None = None

    def of(self, candidate: Candidate) -> BadRequest | None:
        request, traits = self._request, candidate.traits
        unfit = candidate.line.provider.unfit(request)
        if unfit is not None or not isinstance(request, ChatRequest):
            return unfit
        if traits.tools is False and "tools" in request.fields:
            return BadRequest("No target of this model takes tools.", param="tools", code="unsupported_parameter")
        if traits.images is False and b'"image_url"' in memoryview(request.fields["messages"]).tobytes():
            return BadRequest("No target of this model takes images.", param="messages", code="unsupported_parameter")
        if traits.context_length is not None and not self._fits(traits.context_length):
            return BadRequest(
                f"This model's maximum context length is {traits.context_length} tokens. However, your messages and "
                f"the tokens you ask for come to {self._tokens} tokens.",
                param="messages",
                code="context_length_exceeded",
            )
        return None

    def _fits(self, context: int) -> bool:
        """By the number of bytes where that suffices: a token is never less than one."""
        assert isinstance(self._request, ChatRequest)
        asked = self._request.max_tokens or 0
        size = sum(
            len(memoryview(self._request.fields[name]))
            for name in ("messages", "tools")
            if name in self._request.fields
        )
        if size + asked <= context:
            return True
        if self._tokens is None:
            texts = [
                bytes(self._request.fields[name]).decode()
                for name in ("messages", "tools")
                if name in self._request.fields
            ]
            self._tokens = sum(map(self._count, texts)) + asked
        return self._tokens <= context
