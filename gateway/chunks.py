"""Answers as the gateway reads them: chunks of OpenAI's wire shape, as bytes to relay and the few facts to read.

https://platform.openai.com/docs/api-reference/chat/object, and .../chat/streaming
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from gateway.errors import UpstreamFailed
from gateway.values import Usage

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None


class _TokenDetails(msgspec.Struct):
    cached_tokens: _Count = None
    reasoning_tokens: _Count = None


class UsageFacts(msgspec.Struct):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    total_tokens: _Count = None
    prompt_tokens_details: _TokenDetails | None = None
    completion_tokens_details: _TokenDetails | None = None


class Fragment(msgspec.Struct):
    """What is read of a `delta` or a `message`; everything else in it is relayed unread."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: Any = None


class ChoiceFacts(msgspec.Struct):
    index: int = 0
    delta: Fragment | None = None
    message: Fragment | None = None
    finish_reason: str | None = None


class Facts(msgspec.Struct):
    """What the gateway reads of a chunk, or of a whole completion, to account and route it."""

    id: str | None = None
    model: str | None = None
    choices: list[ChoiceFacts] | None = None
    usage: UsageFacts | None = None
    error: Any = None


_decode_facts = msgspec.json.Decoder(Facts).decode


class Chunk:
    """One JSON document of an answer, as bytes to relay and facts to read.

    A stream is many of them, a plain answer is one. `data` carries no SSE framing.
    """

    __slots__ = ("data", "facts")

    def __init__(self, data: bytes, facts: Facts | None = None) -> None:
        """Raises UpstreamFailed when `data` is not a JSON object."""
        self.data = data
        self.facts = facts if facts is not None else read_facts(data)


def read_facts(data: bytes) -> Facts:
    try:
        return _decode_facts(data)
    except msgspec.ValidationError:
        # JSON of a shape that OpenAI's does not have: relayed as it is, as long as it is an object at all.
        if data.lstrip()[:1] == b"{":
            return Facts()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    raise UpstreamFailed("The provider's answer is not valid JSON.", code="upstream_bad_answer")


def has_content(facts: Facts) -> bool:
    """Whether a chunk carries something of the answer itself, not just its frame (role, empty strings)."""
    for choice in facts.choices or ():
        fragment = choice.delta or choice.message
        if choice.finish_reason or (
            fragment and (fragment.content or fragment.refusal or fragment.reasoning_content or fragment.tool_calls)
        ):
            return True
    return facts.usage is not None or facts.choices is None


def read_usage(facts: Facts) -> Usage | None:
    """The tokens that a chunk tells; None when it tells none.

    Of a reranking providers tell only how many there were in all, which it has read, or searches instead of tokens.
    """
    told = facts.usage
    if told is None:
        return None
    read, written = told.prompt_tokens, told.completion_tokens
    if read is None and written is None:
        return Usage(told.total_tokens, 0) if told.total_tokens is not None else None
    prompt, completion = told.prompt_tokens_details, told.completion_tokens_details
    return Usage(
        read or 0,
        written or 0,
        (prompt.cached_tokens or 0) if prompt else 0,
        (completion.reasoning_tokens or 0) if completion else 0,
    )
