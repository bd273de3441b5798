"""Who always gets the same arm: a user, or a conversation, as a place between 0 and 1 that never moves.

An arm with a share takes the places below it, so that a growing share adds units and moves none back.
"""

from __future__ import annotations

import hashlib
import random
from typing import Literal

from gateway.chat import Request, text_of
from gateway.exchange import Exchange

Sticky = Literal["user", "conversation", "call"]


def place(model: str, sticky: Sticky, request: Request, exchange: Exchange) -> float:
    """Where this call's unit stands, in [0, 1), independently for each model."""
    unit = unit_of(sticky, request, exchange)
    if unit is None:
        return random.random()
    digest = hashlib.blake2b(f"{model}\0{unit}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def unit_of(sticky: Sticky, request: Request, exchange: Exchange) -> str | None:
    """The unit's name, never shown; None where each call stands for itself.

    A user is the one that the key vouches for; a conversation is what the client says it is, else how it began.
    Where nobody is signed in, conversations stand in for users.
    """
    if sticky == "call":
        return None
    caller = exchange.caller
    if sticky == "user" and caller is not None and caller.user is not None:
        return f"user\0{caller.tenant}\0{caller.user}"
    if request.conversation is not None:
        return f"conversation\0{request.conversation}"
    first = next((text_of(message) for message in request.messages if message.get("role") == "user"), None)
    return None if first is None else f"begun\0{first}"
