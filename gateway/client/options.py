"""What a caller may say to the gateway beside OpenAI's own parameters, and how that goes into a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Required, TypedDict

from openai.types.shared_params.comparison_filter import ComparisonFilter
from openai.types.shared_params.compound_filter import CompoundFilter

_ANSWERS = frozenset({"/chat/completions", "/completions", "/responses"})
_TAKES_A_TEMPLATE = _ANSWERS - {"/completions"}  # whose `prompt` is the text itself
_FOR_MODELS = _ANSWERS | {"/embeddings", "/rerank", "/moderations"}

CacheWord = Literal["off", "refresh", "exact", "only"]
"""`off`: nothing is looked up or kept. `refresh`: a new answer is made, and kept. `exact`: no answer to a question that
only means the same. `only`: a kept answer or NotCached."""


class RagOptions(TypedDict, total=False):
    """The `rag` object of a request. It can only narrow what the model's configuration says: docs/retrieval.md."""

    top_k: int
    min_score: float
    filters: ComparisonFilter | CompoundFilter
    mode: Literal["hybrid", "dense", "keyword"]
    rerank: bool
    rewrite_query: bool
    cache: bool


class PromptOptions(TypedDict, total=False):
    """A template by its name, in the shape of OpenAI's Responses API: https://platform.openai.com/docs/api-reference/responses/create#responses-create-prompt"""

    id: Required[str]
    version: str
    variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cache:
    """More than one word about the cache, as docs/caching.md has it.

    `ttl` is how long the new answer is kept at most, such as `60s`; `threshold`, from 0 to 1, how much alike a question
    has to be; `max_age`, in seconds, how old an answer may be.
    """

    word: CacheWord | None = None
    ttl: str | None = None
    threshold: float | None = None
    max_age: int | None = None

    def headers(self) -> dict[str, str]:
        words = [self.word] if self.word in ("off", "refresh", "exact") else []
        own = [*words, *(f"{name}={value}" for name, value in self._numbers() if value is not None)]
        standard = ["only-if-cached"] if self.word == "only" else []
        if self.max_age is not None:
            standard.append(f"max-age={self.max_age}")
        said = {"x-gateway-cache": ", ".join(str(word) for word in own), "cache-control": ", ".join(standard)}
        return {name: value for name, value in said.items() if value}

    def _numbers(self) -> tuple[tuple[str, object], ...]:
        return ("ttl", self.ttl), ("threshold", self.threshold)


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What goes into every request of one client, or of one call. None: nothing is said of it.

    `user` goes into the body where OpenAI has a field for it; with `user_header`, the header that the gateway's
    `access.user_header` names, it goes there instead, and so into requests for files and vector stores too. `target` is
    the target or the arm that has to answer; it takes a key with the role operator.
    """

    user: str | None = None
    user_header: str | None = None
    cache: CacheWord | Cache | None = None
    rag: RagOptions | None = None
    prompt: PromptOptions | None = None
    target: str | None = None

    def but(self, other: CallOptions) -> CallOptions:
        """These, with what `other` says in their place."""
        said = {name: value for name in _FIELDS if (value := getattr(other, name)) is not None}
        return replace(self, **said)

    def headers(self, path: str) -> dict[str, str]:
        said: dict[str, str] = {}
        if self.user is not None and self.user_header is not None:
            said[self.user_header] = self.user
        if self.cache is not None and path in _ANSWERS:
            said |= (self.cache if isinstance(self.cache, Cache) else Cache(self.cache)).headers()
        if self.target is not None and path in _FOR_MODELS:
            said["x-gateway-use-target"] = self.target
        return said

    def fields(self, path: str) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if self.user is not None and self.user_header is None and path in _FOR_MODELS:
            said["user"] = self.user
        if path in _ANSWERS:
            said |= {"rag": self.rag} if self.rag is not None else {}
        if self.prompt is not None and path in _TAKES_A_TEMPLATE:
            said["prompt"] = self.prompt
        return said


_FIELDS = ("user", "user_header", "cache", "rag", "prompt", "target")
