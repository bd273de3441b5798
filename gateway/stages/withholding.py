"""What a guardrail has blocked on its way in, for a record that is to have it: masked as far as other rules mask it."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.chat import ChatRequest, Request
from gateway.exchange import Exchange, Withheld
from gateway.stages.request_texts import fields_of, places_of
from gateway.stages.verdicts import screened
from guardrails.policy import Policy

_decode = msgspec.json.Decoder().decode
_MASKS = ("mask", "pseudonymise")


async def withheld(policy: Policy, request: Request, exchange: Exchange) -> Withheld | None:
    """The request as it came to `policy`, which has blocked it, behind those of its rules that mask.

    None where a rule over whole texts masks, since it was not asked any more; and where nothing was asked in words.
    """
    if not isinstance(request, ChatRequest):
        return None
    if policy.judges is not None and any(rule.acts and rule.action == "mask" for rule in policy.judges.rules):
        return None
    if exchange.asked is not None:  # a tenant's own template was blocked: the caller's words had been let pass
        said = exchange.said if exchange.said is not None else {}
        return Withheld(exchange.asked, said, request.rag, request.file_search)
    messages: list[dict[str, Any]] = _decode(request.fields.get("messages", b"[]"))
    fields = fields_of(request)
    masks = Policy([rule for rule in policy.rules if rule.action in _MASKS and not rule.monitor])
    for place in places_of(messages, fields) if masks.rules else ():
        told = await screened(masks, place.holder[place.key], exchange.pseudonyms, in_json=place.json)
        place.holder[place.key] = told.text
    return Withheld(messages, {**request.fields, **fields}, request.rag, request.file_search)
