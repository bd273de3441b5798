"""A request's key: everything that shapes its answer, and nothing else.

Two calls have the same key only where tenant, endpoint, public model with all of its settings, sensitivity, every
field of the request as it goes upstream, and every passage in its version are the same. Earlier turns, the template's
text, the values of features and what guardrails masked are in the rendered messages, and so in the key.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from gateway.chat import JSON
from gateway.prompts.fences import fence_word
from gateway.values import CacheKey

if TYPE_CHECKING:
    from gateway.chat import Request
    from gateway.exchange import Exchange

# How an answer travels, who asked, how it is filed and which provider's own cache it may use do not shape it.
NOT_SHAPING: Final = frozenset({
    "stream", "stream_options", "model", "user", "safety_identifier", "metadata", "store", "prompt_cache_key",
    "prompt_cache_retention",
})  # fmt: skip


def key_of(scope: str, request: Request, exchange: Exchange) -> CacheKey:
    """`scope` names the public model and all of its settings that shape an answer."""
    caller = exchange.caller
    assert caller is not None
    fields = request.fields
    parts: dict[str, Any] = {"tenant": caller.tenant, "model": scope, "endpoint": request.endpoint}
    if exchange.template_hash is not None:
        parts["template"] = exchange.template_hash  # where a label names it, the scope does not
    for name in sorted(fields):
        if name not in NOT_SHAPING:
            parts["request." + name] = fields[name]
    if exchange.passages:
        _add_passages(parts, exchange)
    features = exchange.features
    if request.sensitivity or caller.sensitivity or (features is not None and features.sensitivity):
        # By these it was decided which targets may make the answer.
        labels = (request.sensitivity, caller.sensitivity, features.sensitivity if features is not None else ())
        parts["sensitivity"] = JSON.encode(labels).decode()
    # One JSON object, whose values are JSON too: no two sets of parts can spell the same bytes.
    return CacheKey(hashlib.sha256(JSON.encode(parts)).digest(), parts)


def _add_passages(parts: dict[str, Any], exchange: Exchange) -> None:
    told = [
        (passage.collection, passage.section_id, passage.version, passage.sensitivity) for passage in exchange.passages
    ]
    parts["passages"] = JSON.encode(told).decode()
    if "request.messages" in parts:
        # The word that fences passages off is this process's own, and follows from them: the text on both sides of it
        # stands for the prompt in every process. Hex digits, so no caller's messages, which are a list, can spell it.
        word = fence_word(exchange.passages).encode()
        messages = bytes(parts["request.messages"])
        between = [b"%d:%b" % (len(piece), piece) for piece in messages.split(word)]
        parts["request.messages"] = hashlib.sha256(b"".join(between)).hexdigest()
