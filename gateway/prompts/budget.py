"""A prompt's token budget: what goes where there is no room, in the order that the template declares.

A turn goes whole, so that a tool's result is never parted from the call that it answers; of passages the worst-ranked
goes first, of turns the oldest, of few-shot pairs the last. The caller's system messages, the last turn and the
template's own text always stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.chat import text_of
from gateway.prompts.front_matter import Budget, Trimmable
from gateway.prompts.tokens import TokenCounter
from retrieval.passages import Passage

Message = dict[str, Any]

_MESSAGE_TOKENS = 4  # what a chat format adds to each message, roughly
_PART_TOKENS = 300  # an image or another part that is not text
_FENCE_TOKENS = 30  # what stands round a passage, roughly


class PromptTooLong(Exception):
    """What can't be left out is more than the budget."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"The conversation needs {tokens} tokens, this model's prompt may have {limit}. Shorten it.")


class Room:
    """What may be left out of one prompt, and what of it is still in."""

    def __init__(
        self,
        messages: Sequence[Message],
        passages: Sequence[Passage],
        shots: Sequence[tuple[Message, Message]],
        counter: TokenCounter,
    ) -> None:
        self._counter = counter
        self.lead, self.turns = turns_of(messages)
        self.passages = list(passages)
        self.shots = list(shots)
        self.trimmed: list[str] = []
        self.dropped: list[Message] = []
        """The messages of the turns that were left out, the oldest first."""
        self._costs = [sum(self.cost(message) for message in turn) for turn in self.turns]
        self._shot_costs = [sum(self.cost(message) for message in shot) for shot in self.shots]
        self._fixed = sum(self.cost(message) for message in self.lead)

    def add_lead(self, message: Message) -> None:
        """A message before the turns that always stays."""
        self.lead.append(message)
        self._fixed += self.cost(message)

    @property
    def conversation(self) -> list[Message]:
        return [*self.lead, *(message for turn in self.turns for message in turn)]

    def cost(self, message: Mapping[str, Any]) -> int:
        content = message.get("content")
        parts = content if isinstance(content, list) else ()
        other = sum(_PART_TOKENS for part in parts if not isinstance(part.get("text"), str))
        calls = str(message["tool_calls"]) if message.get("tool_calls") else ""
        return _MESSAGE_TOKENS + self._counter.count(text_of(message) + calls) + other

    def keep_within(self, budget: Budget) -> None:
        """Leave out what is beyond each part's own budget."""
        if budget.passages is not None:
            while self.passages and sum(map(self._passage_cost, self.passages)) > budget.passages:
                self._drop("passages")
        if budget.conversation is not None:
            while len(self.turns) > 1 and self._fixed + sum(self._costs) > budget.conversation:
                self._drop("conversation")
        if budget.few_shot is not None:
            while self.shots and sum(self._shot_costs) > budget.few_shot:
                self._drop("few_shot")

    def fit(self, limit: int, order: Sequence[Trimmable], own: Callable[[], int], *, conversation: bool) -> int:
        """Leave out as much as has to be; the tokens of all that is left. Raises PromptTooLong.

        `own` is what the template's own messages cost with the passages that are still in; `conversation` says whether
        the caller's messages are part of the prompt.
        """
        while True:
            told = self._fixed + sum(self._costs) if conversation else 0
            total = own() + told + sum(self._shot_costs)
            over = total - limit
            if over <= 0:
                return total
            droppable = next((part for part in order if self._has(part, conversation)), None)
            if droppable is None:
                raise PromptTooLong(total, limit)
            while over > 0 and self._has(droppable, conversation):
                over -= self._drop(droppable)

    def _has(self, part: Trimmable, conversation: bool) -> bool:
        if part == "conversation":
            return conversation and len(self.turns) > 1
        return bool(self.passages if part == "passages" else self.shots)

    def _drop(self, part: Trimmable) -> int:
        """Leave one of them out; what that saves, for a passage rather too much than too little."""
        if part == "passages":
            passage = self.passages.pop()
            self.trimmed.append(f"passage {passage.section_id}")
            return self._passage_cost(passage) + _FENCE_TOKENS
        if part == "conversation":
            turn = self.turns.pop(0)
            self.dropped += turn
            self.trimmed.append(f"{len(turn)} messages of an early turn")
            return self._costs.pop(0)
        self.shots.pop()
        self.trimmed.append(f"few-shot pair {len(self.shots) + 1}")
        return self._shot_costs.pop()

    def _passage_cost(self, passage: Passage) -> int:
        return self._counter.count(passage.text)


def turns_of(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The caller's system messages at the beginning, and the turns, each from a user's message up to the next."""
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
