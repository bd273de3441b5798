"""A versioned prompt template, and a prompt rendered from it inside its token budget.

Only the template's own text is Jinja: what users, passages and features say are values, and a value is never
compiled. Passages stand between delimiters that nobody outside this process can guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from features.vector import FeatureValue, FeatureVector
from gateway.chat import last_question
from gateway.prompts.budget import Message, PromptTooLong, Room
from gateway.prompts.front_matter import FrontMatter
from gateway.prompts.inputs import BadInput, filled
from gateway.prompts.language import Text
from gateway.prompts.passages import described, fenced, one_line
from gateway.prompts.sandbox import Piece, RenderingFailed, gauged
from gateway.prompts.tokens import TokenCounter
from gateway.values import Origin, PromptPart
from retrieval.passages import Passage

__all__ = ["BadInput", "Message", "PromptTooLong", "Rendered", "RenderingFailed", "Template", "fenced"]

_SUMMARY = "What was said before in this conversation, summed up by a model:\n\n"


@dataclass(frozen=True, slots=True)
class Rendered:
    """`passages` are those that had room, in the order of their [n]; `trimmed` tells what had none, and `dropped` are
    the messages of the turns among that. `parts` tell whose words each message is made of."""

    messages: list[Message]
    template: str
    tokens: int
    tokens_estimated: bool
    passages: tuple[Passage, ...]
    trimmed: tuple[str, ...]
    content_hash: str = ""
    parts: tuple[PromptPart, ...] = ()
    dropped: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class TextPart:
    """One message of the template's own; it is left out where `when` says nothing."""

    role: str
    text: Text
    when: Text | None = None


TemplatePart = TextPart | Literal["conversation", "few_shot"]


@dataclass(frozen=True, slots=True)
class Template:
    """One version, compiled. `tenant`: whose it is; "" for the gateway's own.

    `uses`: of `facts` and `question` those that its texts name; `parameters` are for requests that do not say them.
    """

    name: str
    version: int
    content_hash: str
    front: FrontMatter
    parts: tuple[TemplatePart, ...]
    tenant: str = ""
    uses: frozenset[str] = frozenset()
    parameters: tuple[tuple[str, msgspec.Raw], ...] = ()
    counter: TokenCounter = field(default_factory=TokenCounter)

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def max_prompt_tokens(self) -> int:
        return self.front.max_prompt_tokens

    @property
    def defaults(self) -> Mapping[str, FeatureValue]:
        """The features that it uses, each with its value for a user who has none."""
        return self.front.defaults

    def question(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The text of the last user message: what a search is for."""
        return last_question(messages)

    def render(
        self,
        messages: Sequence[Message],
        features: FeatureVector | None,
        passages: Sequence[Passage],
        inputs: Mapping[str, Any] | None = None,
        summary: str | None = None,
    ) -> Rendered:
        """The prompt for this conversation. `inputs` are what the caller gave; `summary` stands for turns that are left
        out. Raises BadInput, PromptTooLong, and RenderingFailed for values that the template can't do with.
        """
        front = self.front
        known = {name: value for name, value in features.values.items() if value is not None} if features else {}
        values: dict[str, Any] = {
            **filled(front.inputs, inputs),
            "user": {name: one_line(value) for name, value in {**front.defaults, **known}.items()},
            "question": last_question(messages),
        }
        if "facts" in self.uses:
            values["facts"] = described(features) if features is not None else []
        shots = [
            ({"role": "user", "content": shot.user}, {"role": "assistant", "content": shot.assistant})
            for shot in front.few_shot
        ]
        room = Room(messages, passages, shots, self.counter)
        if summary:
            room.add_lead({"role": "user", "content": _SUMMARY + summary})
        room.keep_within(front.budget)
        own: list[tuple[Message, list[Piece]] | str] = []

        def cost() -> int:
            own[:] = self._own(values, room.passages)
            return sum(room.cost(part[0]) for part in own if not isinstance(part, str))

        with gauged():  # one for all of its texts, however often they are rendered until they fit
            tokens = room.fit(front.max_prompt_tokens, front.trim, cost, conversation=front.takes_conversation)
        rendered: list[Message] = []
        parts: list[PromptPart] = []
        for part in own:
            if part == "conversation":
                parts += _told(rendered, room.conversation, "conversation")
            elif part == "few_shot":
                parts += _told(rendered, [message for shot in room.shots for message in shot], "template")
            else:
                assert not isinstance(part, str)
                parts += _written(len(rendered), part[1])
                rendered.append(part[0])
        return Rendered(
            rendered, self.reference, tokens, self.counter.estimated, tuple(room.passages), tuple(room.trimmed),
            self.content_hash, tuple(parts), tuple(room.dropped),
        )  # fmt: skip

    def _own(self, values: Mapping[str, Any], passages: Sequence[Passage]) -> list[tuple[Message, list[Piece]] | str]:
        """The template's own messages, and what each is made of."""
        told = {**values, "passages": fenced(passages), "passage_count": len(passages)}
        own: list[tuple[Message, list[Piece]] | str] = []
        for part in self.parts:
            if isinstance(part, str):
                own.append(part)
            elif part.when is None or part.when.pieces(told):
                pieces = part.text.pieces(told)
                own.append(({"role": part.role, "content": "".join(pieces)}, pieces))
        return own


def _told(rendered: list[Message], messages: Sequence[Message], origin: Origin) -> list[PromptPart]:
    """Add whole messages of one origin."""
    parts = []
    for message in messages:
        content = message.get("content")
        parts.append(PromptPart(len(rendered), origin, len(content) if isinstance(content, str) else 0))
        rendered.append(message)
    return parts


def _written(message: int, pieces: Sequence[Piece]) -> list[PromptPart]:
    lengths: dict[Origin, int] = {}
    for piece in pieces:
        lengths[piece.origin] = lengths.get(piece.origin, 0) + len(piece)
    return [PromptPart(message, origin, length) for origin, length in lengths.items()]
