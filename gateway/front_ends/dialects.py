"""A call of a key with a front end, read in that one's dialect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.chat import ChatRequest

if TYPE_CHECKING:
    from gateway.chat import Request
    from gateway.exchange import Exchange
    from gateway.front_ends.open_webui import OpenWebui
    from gateway.values import FrontEnd


def dialect(
    front_end: FrontEnd, request: Request, lines: Sequence[tuple[bytes, bytes]], exchange: Exchange
) -> OpenWebui | None:
    """What answers in this dialect; None where it is the API's own. Raises BadRequest.

    `request` gets the user and the conversation that the headers name: whether such a user is believed is for the key
    to say.
    """
    if not isinstance(request, ChatRequest):
        return None
    from gateway.front_ends.open_webui import OpenWebui

    told = OpenWebui(request, lines, front_end)
    if told.user is not None:
        request.user = told.user
    exchange.side_call = told.side_call
    return told
