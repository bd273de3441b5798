"""One question as a chat completion: what the synchronous and the asynchronous client have in common."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from openai.types.chat import (
    ChatCompletionMessageParam,
    ChatCompletionToolChoiceOptionParam,
    ChatCompletionToolUnionParam,
)
from openai.types.chat.completion_create_params import ResponseFormat
from openai.types.shared import ReasoningEffort

from gateway.client.options import CallOptions

if TYPE_CHECKING:
    import httpx2
    from openai._models import FinalRequestOptions

DEFAULT_URL = "http://127.0.0.1:8080"
NO_KEY = "none"
"""What is sent for a key where there is none: a gateway in open mode takes any."""

Question = str | Iterable[ChatCompletionMessageParam]
"""A user's question, or a whole conversation."""


class SdkOptions(TypedDict, total=False):
    """What else the SDK's own clients take."""

    timeout: float | httpx2.Timeout | None
    max_retries: int
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, object] | None
    organization: str | None
    project: str | None


class ChatOptions(TypedDict, total=False):
    """What else goes into a question, as in `chat.completions.create`; what is not here goes into `extra_body`."""

    temperature: float | None
    top_p: float | None
    max_completion_tokens: int | None
    max_tokens: int | None
    n: int | None
    seed: int | None
    stop: str | list[str] | None
    logprobs: bool | None
    top_logprobs: int | None
    tools: Iterable[ChatCompletionToolUnionParam]
    tool_choice: ChatCompletionToolChoiceOptionParam
    parallel_tool_calls: bool
    response_format: ResponseFormat
    reasoning_effort: ReasoningEffort | None
    metadata: dict[str, str] | None
    prompt_cache_key: str
    extra_headers: Mapping[str, str] | None
    extra_body: object | None
    timeout: float | httpx2.Timeout | None


def api_url(url: str | httpx2.URL | None) -> str:
    """The base URL of the gateway's OpenAI API: `/v1` is added where no path is given."""
    given = str(url or os.environ.get("RAG_GATEWAY_URL") or DEFAULT_URL).rstrip("/")
    scheme, separator, rest = given.partition("://")
    if not separator or scheme not in ("http", "https"):
        raise ValueError(f"{given} is not a gateway's URL: it begins with http:// or https://")
    return given if "/" in rest else given + "/v1"


def messages(question: Question) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": question}] if isinstance(question, str) else list(question)


def prepared(request: FinalRequestOptions, said: CallOptions) -> FinalRequestOptions:
    """The request with what its client's options add to it. What the call itself says goes first."""
    headers, fields = said.headers(request.url), said.fields(request.url)
    if not headers and not fields:
        return request
    given: Mapping[str, Any] = request.headers if isinstance(request.headers, Mapping) else {}
    named = {name.lower() for name in given}
    request = request.model_copy()
    request.headers = {**{name: value for name, value in headers.items() if name.lower() not in named}, **given}
    if isinstance(request.json_data, Mapping):
        request.json_data = {**fields, **request.json_data}
    return request


def feedback_body(
    call_id: str, score: float | bool | None, label: str | None, comment: str | None, correction: str | None
) -> dict[str, object]:
    """`score` from 0 to 1; True is 1 and False is 0, as for thumbs."""
    said = {"score": None if score is None else float(score), "label": label, "comment": comment}
    return {"call_id": call_id, **{k: v for k, v in {**said, "correction": correction}.items() if v is not None}}
