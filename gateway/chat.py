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
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from gateway.errors import BadRequest

JSON = msgspec.json.Encoder()
_decode_any = msgspec.json.Decoder().decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Part(msgspec.Struct):
    type: str
    text: str | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Function(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class _Tool(msgspec.Struct):
    type: str
    function: _Function | None = None


class _Ranking(msgspec.Struct, forbid_unknown_fields=True):
    ranker: str | None = None
    score_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    hybrid_search: dict[str, float] | None = None


class FileSearch(msgspec.Struct, forbid_unknown_fields=True):
    """The `file_search` tool: the gateway searches these vector stores before it asks the model.

    https://platform.openai.com/docs/api-reference/responses/create#responses-create-tools
    """

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=10)]
    max_num_results: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10
    filters: dict[str, Any] | None = None
    ranking_options: _Ranking | None = None


class _ResponseFormat(msgspec.Struct):
    type: str


_Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)] | None
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None


class RagOptions(msgspec.Struct, forbid_unknown_fields=True):
    """The `rag` object of a request: what a caller may say about retrieval. It can only narrow."""

    top_k: Annotated[int, msgspec.Meta(ge=1, le=50)] | None = None
    min_score: Annotated[float, msgspec.Meta(ge=-1, le=1)] | None = None
    filters: dict[str, Any] | None = None
    mode: Literal["hybrid", "dense", "keyword"] | None = None
    rerank: bool | None = None
    rewrite_query: bool | None = None
    cache: bool | None = None


_PromptName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class PromptUse(msgspec.Struct, forbid_unknown_fields=True):
    """The `prompt` object of a request: a template by its name, and what to fill it with.

    Without an `id` it is the model's own. `version` is a number or a label.
    https://platform.openai.com/docs/api-reference/responses/create#responses-create-prompt
    """

    id: _PromptName | None = None
    version: _PromptName | Annotated[int, msgspec.Meta(ge=1, le=999_999_999)] | None = None
    variables: dict[str, Any] | None = None


class ChatEnvelope(msgspec.Struct):
    """What is checked of a chat request; unknown fields go upstream as they are."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    frequency_penalty: _Penalty = None
    presence_penalty: _Penalty = None
    max_tokens: _Tokens = None
    max_completion_tokens: _Tokens = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    tools: list[_Tool] | None = None
    parallel_tool_calls: bool | None = None
    response_format: _ResponseFormat | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    guided_regex: str | None = None
    rag: RagOptions | None = None
    prompt: PromptUse | None = None


class EmbeddingsEnvelope(msgspec.Struct):
    """What is checked of an embeddings request."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    input: (
        Annotated[str, msgspec.Meta(min_length=1)]
        | Annotated[list[str | int | list[int]], msgspec.Meta(min_length=1, max_length=2048)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None


class _Text(msgspec.Struct):
    text: str


class RerankEnvelope(msgspec.Struct):
    """What is checked of a rerank request: Cohere's and Jina's shape, which vLLM serves too."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    query: Annotated[str, msgspec.Meta(min_length=1)]
    documents: Annotated[list[str | _Text], msgspec.Meta(min_length=1, max_length=10_000)]
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: Annotated[int, msgspec.Meta(ge=1, le=2**31)] | None = None
    user: str | None = None


class _Picture(msgspec.Struct):
    url: str


class _ModeratedText(msgspec.Struct, tag="text", tag_field="type"):
    text: str


class _ModeratedPicture(msgspec.Struct, tag="image_url", tag_field="type"):
    image_url: _Picture


class ModerationsEnvelope(msgspec.Struct):
    """What is checked of a moderation request."""

    input: str | Annotated[list[str | _ModeratedText | _ModeratedPicture], msgspec.Meta(min_length=1, max_length=2048)]
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] = "omni-moderation-latest"
    user: str | None = None


_decode_chat = msgspec.json.Decoder(ChatEnvelope).decode

# Where a call goes and with which key is the operator's to say: a request that names either is refused whole.
_OPERATORS_ONLY = frozenset({"api_base", "base_url", "api_key", "extra_headers", "extra_query", "custom_llm_provider"})
_NONE: dict[str, str] = {}
_LABELS = frozenset({"sensitivity", "conversation_id"})  # what `metadata` says to the gateway itself
_TRUE_USAGE = b'{"include_usage":true}'


class ChatRequest:
    """One `POST /v1/chat/completions`. `fields` are the raw top-level values that go upstream."""

    endpoint = "chat.completions"
    path = b"/chat/completions"
    __slots__ = (
        "_messages", "conversation", "fields", "file_search", "include_usage", "logprobs", "max_tokens", "model",
        "prompt", "rag", "sensitivity", "stream", "thread", "user",
    )  # fmt: skip

    def __init__(self, body: bytes) -> None:
        """Raises BadRequest naming the field at fault."""
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


class _PlainRequest:
    """What a request for numbers has in common with one for words."""

    variables: Mapping[str, Any] | None = None

    stream = False
    include_usage = False
    logprobs = False
    sensitivity: str | None = None
    conversation: str | None = None
    thread: str | None = None
    rag: RagOptions | None = None
    prompt: PromptUse | None = None
    file_search: FileSearch | None = None
    __slots__ = ("fields", "model", "user")
    envelope: ClassVar[msgspec.json.Decoder[Any]]

    def __init__(self, body: bytes) -> None:
        """Raises BadRequest naming the field at fault."""
        envelope, self.fields = _decode(body, self.envelope.decode)
        self.model: str = envelope.model
        self.user: str | None = envelope.user

    def body_for(self, model: str) -> bytes:
        return _body(self.fields, model)


class EmbeddingsRequest(_PlainRequest):
    """One `POST /v1/embeddings`."""

    endpoint = "embeddings"
    path = b"/embeddings"
    envelope = msgspec.json.Decoder(EmbeddingsEnvelope)
    __slots__ = ("sensitivity",)

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        metadata: dict[str, str] = _decode_any(self.fields["metadata"]) or _NONE if "metadata" in self.fields else _NONE
        self.sensitivity: str | None = metadata.get("sensitivity")
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


class RerankRequest(_PlainRequest):
    """One `POST /v1/rerank`: https://docs.cohere.com/reference/rerank."""

    endpoint = "rerank"
    path = b"/rerank"
    envelope = msgspec.json.Decoder(RerankEnvelope)
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


class ModerationsRequest(_PlainRequest):
    """One `POST /v1/moderations`: https://platform.openai.com/docs/api-reference/moderations/create."""

    endpoint = "moderations"
    path = b"/moderations"
    envelope = msgspec.json.Decoder(ModerationsEnvelope)
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


def field_fault(fault: str) -> BadRequest:
    """What a decoder's fault means to a caller: "Expected `int` >= 1 - at `$.n`" is an invalid value for 'n'."""
    said, _, path = fault.partition(" - at ")
    param = path.strip("`").removeprefix("$").removeprefix(".") or None
    if missing := re.search(r"missing required field `([^`]+)`", said):
        param = f"{param}.{missing[1]}" if param else missing[1]
        return BadRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if unknown := re.search(r"unknown field `([^`]+)`", said):
        param = f"{param}.{unknown[1]}" if param else unknown[1]
        return BadRequest(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
    said = said.replace("`", "")
    return BadRequest(f"Invalid value for '{param or 'body'}': {said[:1].lower()}{said[1:]}.", param=param)


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
