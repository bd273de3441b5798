"""The span of a call to a model, with all its tries: the GenAI conventions' client span.

https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai/gen-ai-spans.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.telemetry import names
from gateway.telemetry.labels import error_type
from gateway.telemetry.spans import CLIENT, INTERNAL, answer_span_of

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.telemetry.call_spans import Facts
    from gateway.telemetry.spans import Span, Tree, Value
    from gateway.values import Attempt, Target

_decode = msgspec.json.Decoder().decode
_OUTPUTS = {"text": "text", "json_object": "json", "json_schema": "json"}
_TALKS = frozenset({"chat", "text_completion"})
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,128}").fullmatch
_OURS = frozenset({"extractive", "local_embeddings"})  # they run in this process, or beside it


def inference_span(
    exchange: Exchange,
    tree: Tree,
    facts: Facts,
    attempts: Sequence[Attempt],
    begin: int,
    end: int,
    offset: int,
    *,
    last: bool,
) -> Span | None:
    """None where no model was asked, since none could be."""
    answered = exchange.target if last else None
    target = answered or (attempts[-1].target if attempts else None)
    if target is None:
        return None
    provider = facts.provider(target.provider)
    model = target.model or exchange.model or ""
    operation = names.OPERATIONS[exchange.endpoint]
    attributes: dict[str, Value] = {names.OPERATION: operation, names.PROVIDER: provider, names.REQUEST_MODEL: model}
    sent = next((each.sent for each in reversed(attempts) if each.target == target and each.sent is not None), None)
    if sent is not None:
        attributes[names.SERVER_ADDRESS], attributes[names.SERVER_PORT] = sent[0].address, sent[0].port
    if provider == "openai" and operation == "chat":
        attributes[names.OPENAI_API] = "chat_completions"
    if exchange.stream and operation != "embeddings":
        attributes[names.REQUEST_STREAM] = True
    if exchange.conversation is not None and operation in _TALKS and _word(exchange.conversation):
        attributes[names.CONVERSATION] = exchange.conversation
    _asked(attributes, exchange.parameters or {}, operation, provider, facts)
    if exchange.template is not None and (name := facts.names.prompt_name) and facts.names.prompt_version:
        attributes[name], _, attributes[facts.names.prompt_version] = exchange.template.partition("@")
    attributes[names.TARGET] = target.label
    attributes[names.ATTEMPTS] = len(attempts)
    failed = _fault(exchange, attempts, answered)
    if failed is not None:
        attributes[names.ERROR_TYPE] = failed
    if last and answered is not None:
        _answered(attributes, exchange, begin, operation)
    kind = INTERNAL if provider in _OURS else CLIENT
    # What is found out of an answer later stands below its span, whose id is known without the tree.
    known = answer_span_of(tree.root) if last else None
    span = tree.add(f"{operation} {model}", kind, tree.root, begin + offset, end + offset, attributes, known)
    if failed is not None:
        span.failed = True
        span.events.append((names.OPERATION_EXCEPTION, span.end, {names.EXCEPTION_TYPE: failed}))
    return span


def _fault(exchange: Exchange, attempts: Sequence[Attempt], answered: Target | None) -> str | None:
    """What the call to the model failed by; what failed after it went well is not its fault."""
    if answered is None:
        outcome = attempts[-1].outcome if attempts else ""
        return None if outcome in ("ok", "cancelled") else error_type(outcome)
    code = exchange.error_code
    if exchange.outcome == "error" and code is not None and code.startswith("upstream_"):
        return error_type(code)  # its stream broke off
    return None


def _answered(attributes: dict[str, Value], exchange: Exchange, begin: int, operation: str) -> None:
    if exchange.stream and exchange.first_chunk >= begin and operation != "embeddings":
        attributes[names.TIME_TO_FIRST_CHUNK] = (exchange.first_chunk - begin) / 1e9
    if exchange.served_model is not None:
        attributes[names.RESPONSE_MODEL] = exchange.served_model
    if exchange.answer_id is not None and operation != "embeddings":
        attributes[names.RESPONSE_ID] = exchange.answer_id
    if exchange.finish_reason is not None:
        attributes[names.FINISH_REASONS] = [exchange.finish_reason]
    usage = exchange.usage
    if usage is not None:
        attributes[names.INPUT_TOKENS] = usage.prompt_tokens
        if operation == "embeddings":
            return
        attributes[names.OUTPUT_TOKENS] = usage.completion_tokens
        if usage.cached_tokens:
            attributes[names.CACHED_TOKENS] = usage.cached_tokens
        if usage.reasoning_tokens:
            attributes[names.REASONING_TOKENS] = usage.reasoning_tokens


def _asked(
    attributes: dict[str, Value], given: Mapping[str, bytes], operation: str, provider: str, facts: Facts
) -> None:
    """The settings of the request, each in the conventions' type."""
    for name, raw in given.items():
        value = _read(raw)
        if name in names.FLOATS:
            if _number(value):
                attributes[names.FLOATS[name]] = float(value)
        elif name in names.INTEGERS:
            if _number(value) and float(value).is_integer():
                attributes[names.INTEGERS[name]] = int(value)
        elif name == "top_k" and operation == "chat":
            if _number(value):
                attributes["gen_ai.request.top_k"] = int(value) if facts.names.top_k_is_integer else float(value)
        elif name == "n":
            if _number(value) and value != 1:
                attributes[names.CHOICE_COUNT] = int(value)
        elif name == "response_format":
            if (kind := _OUTPUTS.get(_format(raw, value))) is not None:
                attributes[names.OUTPUT_TYPE] = kind
        elif name == "service_tier":
            if provider == "openai" and _word(value) and value != "auto":
                attributes[names.OPENAI_TIER] = value
        elif name == "reasoning_effort":
            if facts.names.reasoning_level is not None and _word(value):
                attributes[facts.names.reasoning_level] = value
        elif name == "dimensions" and operation == "embeddings":
            if _number(value):
                attributes[names.DIMENSIONS] = int(value)
        elif name == "encoding_format" and operation == "embeddings" and isinstance(value, str):
            attributes[names.ENCODING_FORMATS] = [value]


def _read(raw: bytes) -> Any:
    try:
        return _decode(raw)
    except (msgspec.DecodeError, RecursionError):  # cut short, since it was long
        return None


def _format(raw: bytes, value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("type"))
    return "json_schema" if b'"json_schema"' in raw else ""


def _word(value: Any) -> bool:
    """Whether this is an id or a setting's value: a caller may write anything there, and it is told unmasked."""
    return isinstance(value, str) and _WORD(value) is not None


def _number(value: Any) -> bool:
    """Whether this is one that an attribute can be: a caller may write one of a hundred digits."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1 << 63
