"""What is checked of a request, in the shapes of its endpoint; and how a fault in one is told.

Only what the gateway reads or can find at fault: unknown fields go upstream as they are.
https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from gateway.errors import BadRequest


class _Part(msgspec.Struct):
    type: str
    text: str | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Function(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class _Tool(msgspec.Struct):
    type: str
    function: _Function | None = None


class _Ranking(msgspec.Struct, forbid_unknown_fields=True):
    ranker: str | None = None
    score_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    hybrid_search: dict[str, float] | None = None


class FileSearch(msgspec.Struct, forbid_unknown_fields=True):
    """The `file_search` tool: the gateway searches these vector stores before it asks the model.

    https://platform.openai.com/docs/api-reference/responses/create#responses-create-tools
    """

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=10)]
    max_num_results: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10
    filters: dict[str, Any] | None = None
    ranking_options: _Ranking | None = None


class _ResponseFormat(msgspec.Struct):
    type: str


_Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)] | None
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None


class RagOptions(msgspec.Struct, forbid_unknown_fields=True):
    """The `rag` object of a request: what a caller may say about retrieval. It can only narrow."""

    top_k: Annotated[int, msgspec.Meta(ge=1, le=50)] | None = None
    min_score: Annotated[float, msgspec.Meta(ge=-1, le=1)] | None = None
    filters: dict[str, Any] | None = None
    mode: Literal["hybrid", "dense", "keyword"] | None = None
    rerank: bool | None = None
    rewrite_query: bool | None = None
    cache: bool | None = None


_PromptName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class PromptUse(msgspec.Struct, forbid_unknown_fields=True):
    """The `prompt` object of a request: a template by its name, and what to fill it with.

    Without an `id` it is the model's own. `version` is a number or a label.
    https://platform.openai.com/docs/api-reference/responses/create#responses-create-prompt
    """

    id: _PromptName | None = None
    version: _PromptName | Annotated[int, msgspec.Meta(ge=1, le=999_999_999)] | None = None
    variables: dict[str, Any] | None = None


class ChatEnvelope(msgspec.Struct):
    """What is checked of a chat request; unknown fields go upstream as they are."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    frequency_penalty: _Penalty = None
    presence_penalty: _Penalty = None
    max_tokens: _Tokens = None
    max_completion_tokens: _Tokens = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    tools: list[_Tool] | None = None
    parallel_tool_calls: bool | None = None
    response_format: _ResponseFormat | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    guided_regex: str | None = None
    rag: RagOptions | None = None
    prompt: PromptUse | None = None


class EmbeddingsEnvelope(msgspec.Struct):
    """What is checked of an embeddings request."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    input: (
        Annotated[str, msgspec.Meta(min_length=1)]
        | Annotated[list[str | int | list[int]], msgspec.Meta(min_length=1, max_length=2048)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None


class _Text(msgspec.Struct):
    text: str


class RerankEnvelope(msgspec.Struct):
    """What is checked of a rerank request: Cohere's and Jina's shape, which vLLM serves too."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    query: Annotated[str, msgspec.Meta(min_length=1)]
    documents: Annotated[list[str | _Text], msgspec.Meta(min_length=1, max_length=10_000)]
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: Annotated[int, msgspec.Meta(ge=1, le=2**31)] | None = None
    user: str | None = None


class _Picture(msgspec.Struct):
    url: str


class _ModeratedText(msgspec.Struct, tag="text", tag_field="type"):
    text: str


class _ModeratedPicture(msgspec.Struct, tag="image_url", tag_field="type"):
    image_url: _Picture


class ModerationsEnvelope(msgspec.Struct):
    """What is checked of a moderation request."""

    input: str | Annotated[list[str | _ModeratedText | _ModeratedPicture], msgspec.Meta(min_length=1, max_length=2048)]
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] = "omni-moderation-latest"
    user: str | None = None


def field_fault(fault: str) -> BadRequest:
    """What a decoder's fault means to a caller: "Expected `int` >= 1 - at `$.n`" is an invalid value for 'n'."""
    said, _, path = fault.partition(" - at ")
    param = path.strip("`").removeprefix("$").removeprefix(".") or None
    if missing := re.search(r"missing required field `([^`]+)`", said):
        param = f"{param}.{missing[1]}" if param else missing[1]
        return BadRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if unknown := re.search(r"unknown field `([^`]+)`", said):
        param = f"{param}.{unknown[1]}" if param else unknown[1]
        return BadRequest(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
    said = said.replace("`", "")
    return BadRequest(f"Invalid value for '{param or 'body'}': {said[:1].lower()}{said[1:]}.", param=param)
