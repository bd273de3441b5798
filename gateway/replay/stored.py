"""A call as its record has it, read so that it can be run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ENDPOINTS = ("chat.completions", "completions", "messages", "responses")
"""What answers with words, whichever API asked: these can be run again."""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """What `GET /v1/calls/{id}` tells, typed.

    `conversation` is what the caller said, after the input guardrails and before any template; of a call that one of them
    blocked, what was blocked. None where it was not kept. `parameters` are the other fields of the request (temperature, tools, …), `rag` what it said of
    retrieval. `passages` are those that the prompt held, with their `text` where content was kept. `record` is all of
    the record as the API tells it.
    """

    id: str
    endpoint: str
    tenant: str
    user: str | None
    key_name: str
    model: str | None
    target: str | None
    arm: str | None
    template: str | None
    template_hash: str | None
    conversation: Sequence[Mapping[str, Any]] | None
    answer: str | None
    record: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    rag: Mapping[str, Any] | None = None
    file_search: Mapping[str, Any] | None = None
    features: Mapping[str, Any] | None = None
    passages: Sequence[Mapping[str, Any]] = ()
    sensitivity: str | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> StoredCall:
        """From the `call` object of the API, or of `gateway.records.calls.told`."""
        caller, arm, template = told["caller"], told.get("arm"), told.get("template") or {}
        conversation = told.get("conversation")
        if conversation is None and not template:
            conversation = told.get("messages")
        return cls(
            id=told["id"],
            endpoint=told["endpoint"],
            tenant=caller["tenant"],
            user=caller.get("user"),
            key_name=caller["key"],
            model=told.get("model"),
            target=told.get("target"),
            arm=arm["name"] if arm else None,
            template=template.get("reference"),
            template_hash=template.get("hash"),
            conversation=conversation,
            answer=told.get("answer"),
            record=told,
            parameters=told.get("parameters") or {},
            rag=told.get("rag"),
            file_search=told.get("file_search"),
            features=told.get("features"),
            passages=tuple(told.get("passages") or ()),
            sensitivity=told.get("sensitivity"),
        )

    @property
    def stopped(self) -> bool:
        """Whether a guardrail blocked it on its way in, before anything was asked."""
        on_its_way = ("input", "tools")
        verdicts = self.record.get("guardrails") or ()
        found = any(one["action"] == "block" and one["stage"] in on_its_way for one in verdicts)
        return found and self.record["outcome"] == "blocked"

    @property
    def question(self) -> str:
        """The last thing that a user said in it, "" where that was not kept."""
        from gateway.chat import last_question

        return last_question(self.conversation) if self.conversation else ""
