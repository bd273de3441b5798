"""What stands in a template's file: what it needs, what it may cost, and its messages. Each fault has its line and key.

description: Answers for customers
inputs: {product: {type: string, description: What it is about}}   # what whoever calls fills in
features: {plan: free}              # of the user, each with the value for one who has none
messages:
  - {role: system, content: "About {{ product }}, for the {{ user.plan }} plan. {{ passages }}"}
  - conversation                    # where the caller's messages go
"""

# ruff: noqa: RUF012  Pydantic copies the defaults of its models.
from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from features.vector import FeatureValue
from gateway.config.document import Document, Path, parse
from gateway.config.faults import ConfigError, nearest
from gateway.config.section import Section

MOST_SOURCE = 262_144
"""Characters of one template."""

RESERVED = frozenset({"facts", "few_shot", "loop", "passage_count", "passages", "question", "range", "user"})

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")]
Label = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,49}$")]
InputName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Trimmable = Literal["passages", "conversation", "few_shot"]
_Tokens = Annotated[int, Field(ge=1, le=10_000_000)]


class TemplateFault(Exception):
    """A template that can't be used: where it stands, line and key where known, and why."""

    def __init__(self, file: str, message: str, line: int | None = None, key: str = "") -> None:
        super().__init__(f"{file}{f':{line}' if line else ''}: {f'{key}: ' if key else ''}{message}")


class Input(Section):
    """One value that whoever calls gives. Without a `default` it has to be given.

    `max_length`: characters of a text, or of all texts in a list or an object; `items` is what a list is made of.
    """

    type: Literal["string", "number", "integer", "boolean", "array", "object"] = "string"
    description: str = ""
    default: Any = None
    enum: Annotated[list[str | int | float | bool], Field(min_length=1)] | None = None
    items: Literal["string", "number", "integer", "boolean", "object"] = "string"
    max_length: Annotated[int, Field(ge=1, le=500_000)] = 20_000
    max_items: Annotated[int, Field(ge=1, le=1_000)] = 100

    @property
    def required(self) -> bool:
        return "default" not in self.model_fields_set


class Feature(Section):
    """One feature of the user. `type`, `unit` and `description` are checked against what Feast says, where it does."""

    default: FeatureValue = None
    type: Literal["string", "number", "integer", "boolean"] | None = None
    unit: str = ""
    description: str = ""


class Budget(Section):
    """Tokens that one part may have, whatever room there is."""

    passages: _Tokens | None = None
    conversation: _Tokens | None = None
    few_shot: _Tokens | None = None


class Parameters(Section):
    """What a request gets where it does not say so itself."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_completion_tokens: _Tokens | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    response_format: dict[str, Any] | None = None


class Hints(Section):
    """`models`: those that it was written for, which `prompts test` asks where nothing else is said."""

    models: list[str] = []
    parameters: Parameters = Parameters()


class Shot(Section):
    user: str
    assistant: str


class Example(Section):
    """Values that it is tried with at the start, so that no user meets its mistakes."""

    inputs: dict[str, Any] = {}
    question: str = "?"
    features: dict[str, FeatureValue] = {}
    passages: Annotated[int, Field(ge=0, le=20)] = 0


class Part(Section):
    """One message. `when` is an expression; where it does not hold, the message is left out."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str
    when: str | None = None


class FrontMatter(Section):
    """All of a template's file. `direct`: whether a client may name it in `prompt`, beside the models that use it."""

    description: str = ""
    direct: bool = False
    labels: list[Label] = []
    inputs: dict[InputName, Input] = {}
    features: dict[str, Feature] = {}
    collections: list[str] = []
    max_prompt_tokens: Annotated[int, Field(ge=100)] = 6000
    budget: Budget = Budget()
    trim: list[Trimmable] = ["passages", "conversation"]
    hints: Hints = Hints()
    partials: dict[Name, str] = {}
    few_shot: Annotated[list[Shot], Field(max_length=100)] = []
    examples: Annotated[list[Example], Field(max_length=50)] = []
    messages: Annotated[list[Part | Literal["conversation", "few_shot"]], Field(min_length=1, max_length=50)]

    @field_validator("features", mode="before")
    @classmethod
    def _short_features(cls, value: Any) -> Any:
        """`plan: free` is short for `plan: {default: free}`."""
        if not isinstance(value, dict):
            return value
        return {name: each if isinstance(each, dict) else {"default": each} for name, each in value.items()}

    @model_validator(mode="after")
    def _messages_fit(self) -> Self:
        conversations = self.messages.count("conversation")
        asks = any(isinstance(part, Part) and part.role == "user" for part in self.messages)
        if conversations > 1 or (not conversations and not asks):
            raise ValueError(
                "messages: `conversation` must stand there exactly once, or a message of the user in its place"
            )
        if self.messages.count("few_shot") != bool(self.few_shot):
            raise ValueError("messages: `few_shot` stands there once, where the pairs of `few_shot` go")
        if len(set(self.trim)) != len(self.trim):
            raise ValueError("trim: each part once, in the order in which they go")
        if taken := RESERVED & self.inputs.keys():
            raise ValueError(f"inputs: `{min(taken)}` has a meaning of its own; choose another name")
        return self

    @property
    def takes_conversation(self) -> bool:
        return "conversation" in self.messages

    @property
    def defaults(self) -> dict[str, FeatureValue]:
        return {name: feature.default for name, feature in self.features.items()}


class Source:
    """A template's text, read; and where in it things stand."""

    def __init__(self, text: str, file: str) -> None:
        """Raises TemplateFault for what can't be read or has a key that is wrong: the first of its faults."""
        if len(text) > MOST_SOURCE:
            raise TemplateFault(file, f"is longer than {MOST_SOURCE} characters")
        self.text = text
        self.file = file
        self._lines = text.split("\n")
        try:
            # Nothing is taken from the environment here: `${` is what it is.
            self._document: Document = parse(text.replace("${", "$${"), file, {})
        except ConfigError as error:
            fault = error.faults[0]
            raise TemplateFault(file, fault.message, fault.line) from None
        if self._document.faults:
            fault = self._document.faults[0]
            raise TemplateFault(file, fault.message, fault.line, fault.key)
        if not isinstance(self._document.values, dict):
            raise TemplateFault(file, "a template is a mapping that has at least `messages`", 1)
        try:
            self.front = FrontMatter.model_validate(self._document.values)
        except ValidationError as error:
            raise self._of_pydantic(error.errors(include_url=False)[0]) from None

    def fault(self, path: Path, message: str, line: int | None = None) -> TemplateFault:
        """A fault at `path`; `line` counts from 1 within the text that stands there."""
        at = path
        while at and at not in self._document.marks:
            at = at[:-1]
        where = self._document.fault(path, message)
        found = self._document.marks.get(at, (1, 1))[0]
        if line is not None and at == path:
            value_line = self._lines[found - 1].rstrip()
            found += line - 1 + (value_line.endswith(("|", "|-", "|+", ">", ">-", ">+")))
        return TemplateFault(self.file, message, found, where.key)

    def _of_pydantic(self, detail: ErrorDetails) -> TemplateFault:
        path = tuple(part for part in detail["loc"] if part not in ("Part", "literal['conversation','few_shot']"))
        if path and path[0] == "messages" and len(path) == 2 and isinstance(self._at(path), str):
            said = "is `conversation`, `few_shot`, or a message with `role` and `content`"
            return self.fault(path, said)
        kind = detail["type"]
        if kind == "extra_forbidden":
            known = _KEYS.get(str(path[0]) if len(path) > 1 else "", ())
            near = nearest(str(path[-1]), known)
            return self.fault(path, f"is not a setting{f'; did you mean `{near}`?' if near else ''}")
        if kind == "missing":
            return self.fault(path, "is missing")
        message = detail["msg"].removeprefix("Value error, ")
        if not path:
            key, _, message = message.partition(": ")
            return self.fault((key,), message)
        return self.fault(path, message[:1].lower() + message[1:])

    def _at(self, path: Path) -> Any:
        value: Any = self._document.values
        for part in path:
            value = value[part]  # a fault's own path is there
        return value


_KEYS: dict[str, tuple[str, ...]] = {
    "": tuple(FrontMatter.model_fields),
    "inputs": tuple(Input.model_fields),
    "features": tuple(Feature.model_fields),
    "budget": tuple(Budget.model_fields),
    "hints": (*Hints.model_fields, *Parameters.model_fields),
    "few_shot": tuple(Shot.model_fields),
    "examples": tuple(Example.model_fields),
    "messages": tuple(Part.model_fields),
}
