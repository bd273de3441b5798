"""What `GET /v1/calls/{id}` tells of a call, typed: docs/records.md."""

from __future__ import annotations

from typing import Any

import openai


class Caller(openai.BaseModel):
    key: str | None = None
    tenant: str | None = None
    user: str | None = None


class Template(openai.BaseModel):
    """The prompt template that was rendered, and what its token budget had no room for."""

    reference: str
    trimmed: list[str]


class Features(openai.BaseModel):
    """The user features that were read; `missing` names those that took their defaults."""

    service: str
    entity: dict[str, Any]
    values: dict[str, Any]
    missing: list[str]


class Attempt(openai.BaseModel):
    """One try at one target; `outcome` is `ok` or why not, `ms` how long it took."""

    target: str
    outcome: str
    status: int | None = None
    ms: float | None = None
    upstream_id: str | None = None
    residency: str | None = None


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

    `cost` is in USD. `messages` and `answer` are there only where content is recorded.
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
    messages: list[dict[str, Any]] | None = None
    answer: str | None = None
    features: Features | None = None
    passages: list[FoundPassage]
    guardrails: list[GuardrailVerdict]
    cache: str | None = None
    cache_decision: dict[str, Any] | None = None
    target: str | None = None
    served_model: str | None = None
    attempts: list[Attempt]
    cost: float | None = None
    arm: dict[str, Any] | None = None
    sensitivity: str | None = None
    left_out: list[str]
    made_for: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    finish_reason: str | None = None
    stages: list[Stage]
    timings: Timings
    status: int
    outcome: str
    error: dict[str, Any] | None = None
    degraded: list[str]
    trace_id: str | None = None
    config_revision: str | None = None


class Feedback(openai.BaseModel):
    """That a rating was kept, and for which call."""

    call_id: str
