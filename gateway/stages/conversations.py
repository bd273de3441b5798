"""Pseudonyms that hold for a whole conversation, and to whom a conversation belongs."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from functools import partial
from typing import TYPE_CHECKING

from gateway.chat import Request
from gateway.exchange import Exchange
from gateway.records.database import StoreUnavailable
from guardrails.pseudonyms import Pseudonyms

if TYPE_CHECKING:
    from gateway.records.pseudonyms import PseudonymStore

log = logging.getLogger(__name__)

STAGE = "pseudonyms"
_PATIENCE = 1.0  # seconds that a call waits for the store before it goes on without


class ConversationPseudonyms:
    """Each value's placeholder stays the same from call to call. While the store is away it still does; only what a
    call does not hold itself can't be put back into its answer then."""

    def __init__(self, store: PseudonymStore) -> None:
        self._store = store

    async def begin(self, request: Request, exchange: Exchange) -> Pseudonyms:
        """Those of the call's conversation; of the call alone where it names none."""
        conversation = conversation_of(request, exchange)
        if conversation is None:
            return Pseudonyms()
        try:
            async with asyncio.timeout(_PATIENCE):
                known = await asyncio.to_thread(self._store.find, conversation)
        except (StoreUnavailable, TimeoutError) as failure:
            _pass_over(exchange, failure)
            known = []
        return Pseudonyms(known, partial(self._store.placeholder, conversation))

    async def keep(self, request: Request, exchange: Exchange) -> None:
        """What has come since `begin` or the last `keep`. Called before the target is asked, so that the
        conversation's next call finds it, however early it comes."""
        conversation = conversation_of(request, exchange)
        if conversation is None or exchange.pseudonyms is None or not (new := exchange.pseudonyms.take_new()):
            return
        caller = exchange.caller
        owner = (caller.tenant, caller.user) if caller is not None and caller.user is not None else None
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.to_thread(self._store.add, conversation, new, owner)
        except (StoreUnavailable, TimeoutError) as failure:
            _pass_over(exchange, failure)


def conversation_of(request: Request, exchange: Exchange) -> bytes | None:
    """32 bytes for a conversation of one tenant's one user; None where the call names none.

    Callers that say nothing of a user are told apart by their keys.
    """
    if request.conversation is not None:
        name = ("named", request.conversation)
    elif request.thread is not None:
        name = ("thread", request.thread)
    else:
        return None
    caller = exchange.caller
    assert caller is not None, "only an identified caller is answered"
    whose = ("user", caller.user) if caller.user is not None else ("key", caller.key_id or caller.key_name)
    parts = [part.encode("utf-8", "surrogatepass") for part in (caller.tenant, *whose, *name)]
    return hashlib.sha256(b"".join([b"%d:%b" % (len(part), part) for part in parts])).digest()


def _pass_over(exchange: Exchange, failure: Exception) -> None:
    log.warning("the pseudonyms of conversations can't be had: %s", failure or "the record store is slow")
    if STAGE not in exchange.degraded:
        exchange.degraded.append(STAGE)
