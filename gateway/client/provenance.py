"""What `GET /v1/calls/{id}` tells of a call, typed: docs/records.md."""

from __future__ import annotations

from typing import Any

import openai


class Caller(openai.BaseModel):
    key: str | None = None
    key_id: str | None = None
    tenant: str | None = None
    user: str | None = None
    groups: list[str] | None = None


class Template(openai.BaseModel):
    """The prompt template that was rendered, and what its token budget had no room for."""

    reference: str
    hash: str | None = None
    trimmed: list[str]


class Features(openai.BaseModel):
    """The features that were read; `missing` and `stale` name those that took their defaults. `event_times` are in
    seconds since the epoch."""

    service: str
    entity: dict[str, Any]
    values: dict[str, Any]
    missing: list[str]
    stale: list[str] | None = None
    event_times: dict[str, float] | None = None


class Attempt(openai.BaseModel):
    """One try at one target; `outcome` is `ok` or why not, `ms` how long it took from `start_ms` on.

    `usage` and `cost` (USD) are told of the try that answered.
    """

    target: str
    outcome: str
    status: int | None = None
    ms: float | None = None
    upstream_id: str | None = None
    residency: str | None = None
    start_ms: float | None = None
    usage: dict[str, Any] | None = None
    cost: float | None = None


class Stage(openai.BaseModel):
    """A stage's begin and length, in milliseconds since the call's begin."""

    name: str
    start_ms: float
    ms: float


class Timings(openai.BaseModel):
    first_chunk_ms: float | None = None
    total_ms: float


class FoundPassage(openai.BaseModel):
    """A passage that the prompt held; `text` only where content is recorded."""

    n: int
    document_id: str
    version: str
    section_id: str
    collection: str
    score: float
    title: str
    url: str
    heading: list[str]
    text: str | None = None


class Search(openai.BaseModel):
    """What passages were searched for; `queries`, as rewritten, are there only where content is recorded."""

    collection: str
    queries: list[str] | None = None
    rewritten: bool
    mode: str
    rerank: bool
    top_k: int
    min_score: float | None = None
    found: int


class DroppedPassage(openai.BaseModel):
    """A passage that was found and not shown. `why`: `min_score`, `near_duplicate`, `diversity`, `top_k`, `guardrail`
    or `no_room`."""

    document_id: str
    version: str
    section_id: str
    score: float
    why: str


class PassedOver(openai.BaseModel):
    target: str
    why: str


class Routing(openai.BaseModel):
    """The targets that could have answered, in the order of the strategy, and those that were not tried."""

    strategy: str | None = None
    candidates: list[str]
    passed_over: list[PassedOver]


class GivenFeedback(openai.BaseModel):
    """One thing that was said of a call; `at` is in seconds since the epoch."""

    at: float
    user: str | None = None
    score: float | None = None
    label: str | None = None
    comment: str | None = None
    correction: str | None = None


class Finding(openai.BaseModel):
    """What a guardrail found: its kind and place, never the text itself."""

    kind: str
    start: int
    end: int
    score: float


class GuardrailVerdict(openai.BaseModel):
    """`would` is what a rule that only watches would have done; `failure` why a check could not judge."""

    stage: str
    check: str
    action: str
    version: str | None = None
    findings: list[Finding]
    would: str | None = None
    failure: str | None = None


class Explanation(openai.BaseModel):
    """How an answer came about. What a call had nothing of is None or empty; unknown fields are kept in `model_extra`.

    `cost` is in USD. `conversation` (what was said, where a template was rendered round it), `messages`, `parameters`
    and `answer` are there only where content is recorded.
    """

    id: str
    request_id: str
    answer_id: str | None = None
    created: int
    endpoint: str
    caller: Caller
    requested_model: str | None = None
    model: str | None = None
    template: Template | None = None
    conversation: list[dict[str, Any]] | None = None
    messages: list[dict[str, Any]] | None = None
    parameters: dict[str, Any] | None = None
    rag: dict[str, Any] | None = None
    file_search: dict[str, Any] | None = None
    answer: str | None = None
    features: Features | None = None
    searched: Search | None = None
    passages: list[FoundPassage]
    dropped: list[DroppedPassage] | None = None
    guardrails: list[GuardrailVerdict]
    cache: str | None = None
    cache_decision: dict[str, Any] | None = None
    target: str | None = None
    served_model: str | None = None
    routing: Routing | None = None
    attempts: list[Attempt]
    cost: float | None = None
    arm: dict[str, Any] | None = None
    sensitivity: str | None = None
    left_out: list[str]
    made_for: dict[str, Any] | None = None
    side_call: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    finish_reason: str | None = None
    stages: list[Stage]
    timings: Timings
    status: int
    outcome: str
    error: dict[str, Any] | None = None
    degraded: list[str]
    trace_id: str | None = None
    span_id: str | None = None
    config_revision: str | None = None
    feedback: list[GivenFeedback] | None = None
    quality: list[dict[str, Any]] | None = None


class Feedback(openai.BaseModel):
    """That a rating was kept, and for which call."""

    call_id: str
