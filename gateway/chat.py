"""Requests as the gateway reads them: OpenAI's wire shapes.

A request is decoded twice and cheaply: once against a typed envelope, which finds every fault with its field,
and once into its top-level fields, each kept as raw JSON. What goes upstream is built from those fields, so
unknown ones pass through to the byte and a key that was sent twice can't mean two things.
https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Final, Self

import msgspec
from mypy_extensions import mypyc_attr

from gateway.envelopes import (
    ChatEnvelope,
    EmbeddingsEnvelope,
    FileSearch,
    ModerationsEnvelope,
    PromptUse,
    RagOptions,
    RerankEnvelope,
    field_fault,
)
from gateway.errors import BadRequest

JSON: Final = msgspec.json.Encoder()
_decode_any: Final = msgspec.json.Decoder().decode
_decode_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_chat: Final = msgspec.json.Decoder(ChatEnvelope).decode

# Where a call goes and with which key is the operator's to say: a request that names either is refused whole.
_OPERATORS_ONLY: Final = frozenset(
    {"api_base", "base_url", "api_key", "extra_headers", "extra_query", "custom_llm_provider"}
)
_NONE: Final[dict[str, str]] = {}
_LABELS: Final = frozenset({"sensitivity", "conversation_id"})  # what `metadata` says to the gateway itself
_TRUE_USAGE: Final = b'{"include_usage":true}'


# Else what is compiled can't be copied; and mypyc 2.4 does not call the `__init__` of what can, unless it may be derived
# from: so these have both, each class for itself.
@mypyc_attr(serializable=True, allow_interpreted_subclasses=True)
class ChatRequest:
    """One `POST /v1/chat/completions`. `fields` are the raw top-level values that go upstream."""

    endpoint: ClassVar[str] = "chat.completions"
    path: ClassVar[bytes] = b"/chat/completions"
    __slots__ = (
        "_messages", "conversation", "fields", "file_search", "include_usage", "logprobs", "max_tokens", "model",
        "prompt", "rag", "sensitivity", "stream", "thread", "user",
    )  # fmt: skip

    def __init__(self, body: bytes) -> None:
        """Raises BadRequest naming the field at fault."""
        envelope: ChatEnvelope
        envelope, self.fields = _decode(body, _decode_chat)
        self.model: str = envelope.model
        self.stream: bool = bool(envelope.stream)
        self.user: str | None = envelope.user
        metadata = envelope.metadata or _NONE
        self.sensitivity: str | None = metadata.get("sensitivity")
        self.conversation: str | None = metadata.get("conversation_id") or envelope.prompt_cache_key
        self.thread: str | None = None  # of a response that may be continued: the first one's id
        if not _LABELS.isdisjoint(metadata):
            _keep_labels_here(self.fields, metadata)
        self.max_tokens: int | None = envelope.max_completion_tokens or envelope.max_tokens
        self.logprobs = bool(envelope.logprobs)
        self.include_usage = bool(envelope.stream_options and envelope.stream_options.include_usage)
        self.rag: RagOptions | None = envelope.rag
        self.prompt: PromptUse | None = envelope.prompt  # whose variables stay in `fields` until it is rendered
        if not envelope.messages and self.prompt is None:
            raise field_fault("Expected `array` of length >= 1 - at `$.messages`")
        self._messages: list[dict[str, Any]] | None = None
        fields = self.fields
        self.file_search: FileSearch | None = None
        if envelope.tools and any(tool.type == "file_search" for tool in envelope.tools):
            self.file_search = _take_file_search(fields)
        if envelope.guided_regex is not None:
            _check_regex(envelope.guided_regex)
        if self.stream:
            # Usage is always asked for: without it a stream could not be accounted. The writer leaves the
            # extra chunk out again for a caller who did not ask.
            if not self.include_usage:
                options = fields.get("stream_options")
                merged = _decode_any(options) if options is not None else None
                fields["stream_options"] = msgspec.Raw(
                    JSON.encode({**merged, "include_usage": True}) if merged else _TRUE_USAGE
                )
        elif "stream_options" in fields:
            if envelope.stream_options is not None:
                raise BadRequest("stream_options is only allowed with stream: true.", param="stream_options")
            del fields["stream_options"]
        fields.pop("rag", None)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation as plain dicts; decoded when a stage first needs it."""
        if self._messages is None:
            self._messages = _decode_any(self.fields["messages"])
        return self._messages

    @messages.setter
    def messages(self, messages: list[dict[str, Any]]) -> None:
        self._messages = messages
        self.fields["messages"] = msgspec.Raw(JSON.encode(messages))

    @property
    def variables(self) -> Mapping[str, Any] | None:
        """What a template is to be filled with, as guardrails have left it; None where no template is named."""
        if self.prompt is None:
            return None
        said = self.fields.get("prompt")
        return (_decode_any(said).get("variables") if said is not None else self.prompt.variables) or {}

    def body_for(self, model: str) -> bytes:
        """The request's JSON as sent upstream, with the target's model name in place of the public one."""
        return _body(self.fields, model)

    def whole(self) -> ChatRequest:
        """The same request for a whole answer instead of a stream; its fields are its own."""
        made = copy(self)
        made.fields = {name: value for name, value in self.fields.items() if name not in ("stream", "stream_options")}
        made.stream = False
        return made


def _keep_labels_here(fields: dict[str, msgspec.Raw], metadata: Mapping[str, str]) -> None:
    """They are said to the gateway; OpenAI refuses `metadata` without `store`, and knows none beside embeddings."""
    others = {name: value for name, value in metadata.items() if name not in _LABELS}
    if others:
        fields["metadata"] = msgspec.Raw(JSON.encode(others))
    else:
        del fields["metadata"]


@mypyc_attr(serializable=True, allow_interpreted_subclasses=True)
class _PlainRequest:
    """What a request for numbers has in common with one for words."""

    variables: Mapping[str, Any] | None = None

    stream = False
    include_usage = False
    logprobs = False
    conversation: str | None = None
    thread: str | None = None
    rag: RagOptions | None = None
    prompt: PromptUse | None = None
    file_search: FileSearch | None = None
    __slots__ = ("fields", "model", "sensitivity", "user")
    envelope: ClassVar[Any]

    def __init__(self, body: bytes) -> None:
        """Raises BadRequest naming the field at fault."""
        envelope, self.fields = _decode(body, self.envelope.decode)
        self.model: str = envelope.model
        self.sensitivity: str | None = None
        self.user: str | None = envelope.user

    def body_for(self, model: str) -> bytes:
        return _body(self.fields, model)

    def whole(self) -> Self:
        """The same request; its fields are its own."""
        made = copy(self)
        made.fields = dict(self.fields)
        return made


@mypyc_attr(serializable=True, allow_interpreted_subclasses=True)
class EmbeddingsRequest(_PlainRequest):
    """One `POST /v1/embeddings`."""

    endpoint: ClassVar[str] = "embeddings"
    path: ClassVar[bytes] = b"/embeddings"
    envelope: ClassVar[Any] = msgspec.json.Decoder(EmbeddingsEnvelope)
    __slots__ = ()

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        metadata: dict[str, str] = _decode_any(self.fields["metadata"]) or _NONE if "metadata" in self.fields else _NONE
        self.sensitivity = metadata.get("sensitivity")
        if not _LABELS.isdisjoint(metadata):
            _keep_labels_here(self.fields, metadata)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The input texts, seen as messages, so that one guardrail stage serves both endpoints."""
        given = _decode_any(self.fields["input"])
        texts = [given] if isinstance(given, str) else given
        return [{"role": "user", "content": text} for text in texts if isinstance(text, str)]

    @messages.setter
    def messages(self, messages: list[dict[str, Any]]) -> None:
        texts = [message["content"] for message in messages]
        single = not bytes(self.fields["input"]).lstrip().startswith(b"[")
        self.fields["input"] = msgspec.Raw(JSON.encode(texts[0] if single else texts))


@mypyc_attr(serializable=True, allow_interpreted_subclasses=True)
class RerankRequest(_PlainRequest):
    """One `POST /v1/rerank`: https://docs.cohere.com/reference/rerank."""

    endpoint: ClassVar[str] = "rerank"
    path: ClassVar[bytes] = b"/rerank"
    envelope: ClassVar[Any] = msgspec.json.Decoder(RerankEnvelope)
    __slots__ = ()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The query and the documents, seen as messages."""
        documents = _decode_any(self.fields["documents"])
        texts = [_decode_any(self.fields["query"]), *(d if isinstance(d, str) else d["text"] for d in documents)]
        return [{"role": "user", "content": text} for text in texts]

    @messages.setter
    def messages(self, messages: list[dict[str, Any]]) -> None:
        query, *texts = (message["content"] for message in messages)
        documents = _decode_any(self.fields["documents"])
        screened = [t if isinstance(d, str) else {**d, "text": t} for d, t in zip(documents, texts, strict=True)]
        self.fields["query"] = msgspec.Raw(JSON.encode(query))
        self.fields["documents"] = msgspec.Raw(JSON.encode(screened))


@mypyc_attr(serializable=True, allow_interpreted_subclasses=True)
class ModerationsRequest(_PlainRequest):
    """One `POST /v1/moderations`: https://platform.openai.com/docs/api-reference/moderations/create."""

    endpoint: ClassVar[str] = "moderations"
    path: ClassVar[bytes] = b"/moderations"
    envelope: ClassVar[Any] = msgspec.json.Decoder(ModerationsEnvelope)
    __slots__ = ()

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        given = _decode_any(self.fields["input"])
        if isinstance(given, list) and len({isinstance(one, str) for one in given}) > 1:
            raise BadRequest("Either texts, or the parts of one input, please.", param="input")

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The texts, each seen as a message; texts and pictures that belong together as one of several parts."""
        given = _decode_any(self.fields["input"])
        contents = given if isinstance(given, list) and isinstance(given[0], str) else [given]
        return [{"role": "user", "content": content} for content in contents]

    @messages.setter
    def messages(self, messages: list[dict[str, Any]]) -> None:
        contents = [message["content"] for message in messages]
        given = _decode_any(self.fields["input"])
        several = isinstance(given, list) and isinstance(given[0], str)
        self.fields["input"] = msgspec.Raw(JSON.encode(contents if several else contents[0]))


Request = ChatRequest | EmbeddingsRequest | RerankRequest | ModerationsRequest


def _take_file_search(fields: dict[str, msgspec.Raw]) -> FileSearch:
    """The tool, taken out of `fields`: it is the gateway's to run. Raises BadRequest."""
    tools: list[dict[str, Any]] = _decode_any(fields["tools"])
    (order, asked), *more = [(n, tool) for n, tool in enumerate(tools) if tool.get("type") == "file_search"]
    if more:
        raise BadRequest(
            "There is one file_search at most: name all vector stores in it.", param=f"tools[{more[0][0]}]"
        )
    try:
        found = msgspec.convert(asked, FileSearch)
    except msgspec.ValidationError as fault:
        said, _, place = str(fault).partition(" - at ")
        inside = place.strip("`").removeprefix("$")
        raise field_fault(f"{said} - at `$.tools[{order}]{inside}`") from None
    others = [tool for tool in tools if tool is not asked]
    choice = _decode_any(fields["tool_choice"]) if "tool_choice" in fields else None
    if others:
        fields["tools"] = msgspec.Raw(JSON.encode(others))
    else:
        for name in ("tools", "parallel_tool_calls"):
            fields.pop(name, None)
    if not others or (isinstance(choice, dict) and choice.get("type") == "file_search"):
        fields.pop("tool_choice", None)
    return found


def _body(fields: dict[str, msgspec.Raw], model: str) -> bytes:
    fields["model"] = msgspec.Raw(JSON.encode(model))
    return JSON.encode(fields)


def _decode(body: bytes, decode: Any) -> tuple[Any, dict[str, msgspec.Raw]]:
    try:
        envelope = decode(body)
        fields = _decode_fields(body)
    except msgspec.ValidationError as fault:
        raise field_fault(str(fault)) from None
    except msgspec.DecodeError as fault:
        raise BadRequest(f"The request body is not valid JSON: {fault}.", code="invalid_json") from None
    except (RecursionError, UnicodeDecodeError):
        raise BadRequest(
            "The request body is not valid JSON: it is nested too deeply or not UTF-8.", code="invalid_json"
        ) from None
    if not _OPERATORS_ONLY.isdisjoint(fields):
        name = sorted(_OPERATORS_ONLY.intersection(fields))[0]
        raise BadRequest(f"{name} can't be set by a request: the gateway's configuration names providers.", param=name)
    return envelope, fields


def _check_regex(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as fault:
        raise BadRequest(f"guided_regex is not a regular expression: {fault}.", param="guided_regex") from None


def text_of(message: Mapping[str, Any]) -> str:
    """What a message says in words: its content, or the text parts of it."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return ""


def last_question(messages: Sequence[Mapping[str, Any]]) -> str:
    """The words of the last user message; "" where there is none."""
    return next((text_of(message) for message in reversed(messages) if message.get("role") == "user"), "")
