"""A versioned prompt template, and a prompt rendered from it inside its token budget.

Only the template's own text is Jinja: what users, passages and features say are values, and a value is never
compiled. Passages stand between delimiters that nobody outside this process can guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

from features.vector import FeatureValue, FeatureVector
from gateway.chat import last_question, text_of
from gateway.prompts.fences import fence_word
from gateway.prompts.tokens import TokenCounter
from retrieval.passages import Passage

Message = dict[str, Any]

_MESSAGE_TOKENS = 4  # what a chat format adds to each message, roughly
_PART_TOKENS = 300  # an image or another part that is not text
_LONGEST_FEATURE = 200


class PromptTooLong(Exception):
    """What can't be left out is more than the budget."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"The conversation needs {tokens} tokens, this model's prompt may have {limit}. Shorten it.")


@dataclass(frozen=True, slots=True)
class Rendered:
    """`passages` are those that had room, in the order of their [n]; `trimmed` tells what had none."""

    messages: list[Message]
    template: str
    tokens: int
    tokens_estimated: bool
    passages: tuple[Passage, ...]
    trimmed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """`parts` are (role, compiled text), or None where the conversation goes. `defaults` are features' fallbacks."""

    name: str
    version: int
    content_hash: str
    parts: tuple[tuple[str, jinja2.Template] | None, ...]
    defaults: Mapping[str, FeatureValue]
    max_prompt_tokens: int
    counter: TokenCounter = field(default_factory=TokenCounter)

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"

    def question(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The text of the last user message: what a search is for."""
        return last_question(messages)

    def render(
        self, messages: Sequence[Message], features: FeatureVector | None, passages: Sequence[Passage]
    ) -> Rendered:
        """The prompt for this conversation. Raises PromptTooLong.

        Where it does not fit, passages go first, the worst-ranked first, then the oldest turns; the last user
        message and what follows it always stay, and so does the template's own text.
        """
        user = {name: _one_line(value) for name, value in self._user(features).items()}
        kept = list(passages)
        lead, turns = _turns(messages)
        trimmed: list[str] = []
        fixed = sum(self._cost(message) for message in lead)
        costs = [sum(self._cost(message) for message in turn) for turn in turns]
        own = self._own(user, kept)
        while (total := sum(self._cost(m) for m in own if m) + fixed + sum(costs)) > self.max_prompt_tokens:
            if kept:
                trimmed.append(f"passage {kept.pop().section_id}")
                own = self._own(user, kept)
            elif len(turns) > 1:
                trimmed.append(f"{len(turns.pop(0))} messages of an early turn")
                costs.pop(0)
            else:
                raise PromptTooLong(total, self.max_prompt_tokens)
        conversation = [*lead, *(message for turn in turns for message in turn)]
        rendered: list[Message] = []
        for message in own:
            rendered += conversation if message is None else [message]
        return Rendered(rendered, self.reference, total, self.counter.estimated, tuple(kept), tuple(trimmed))

    def _own(self, user: Mapping[str, FeatureValue], passages: Sequence[Passage]) -> list[Message | None]:
        values = {"user": user, "passages": fenced(passages), "passage_count": len(passages)}
        return [None if part is None else {"role": part[0], "content": part[1].render(values)} for part in self.parts]

    def _user(self, features: FeatureVector | None) -> dict[str, FeatureValue]:
        known = features.values if features is not None else {}
        return {**self.defaults, **{name: value for name, value in known.items() if value is not None}}

    def _cost(self, message: Mapping[str, Any]) -> int:
        content = message.get("content")
        parts = content if isinstance(content, list) else ()
        other = sum(_PART_TOKENS for part in parts if not isinstance(part.get("text"), str))
        calls = str(message["tool_calls"]) if message.get("tool_calls") else ""
        return _MESSAGE_TOKENS + self.counter.count(text_of(message) + calls) + other


def fenced(passages: Sequence[Passage]) -> str:
    """The passages as data: numbered, each between marks that carry a secret word."""
    if not passages:
        return ""
    word = fence_word(passages)
    return "\n".join(
        f"<passage {word} [{n}] title={_one_line(passage.title)!r}>\n{passage.text}\n</passage {word}>"
        for n, passage in enumerate(passages, 1)
    )


def _turns(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The caller's system messages at the beginning, and the turns, each from a user's message up to the next.

    A turn is left out whole, so a tool's result is never parted from the call that it answers.
    """
    lead: list[Message] = []
    turns: list[list[Message]] = []
    for message in messages:
        if not turns and message.get("role") in ("system", "developer"):
            lead.append(message)
            continue
        if message.get("role") == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return lead, turns


def _one_line(value: FeatureValue) -> FeatureValue:
    """A feature is data too: no line breaks, no control characters, no length that pushes the prompt aside."""
    if not isinstance(value, str):
        return value
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())[:_LONGEST_FEATURE]
