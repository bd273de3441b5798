"""Messages between the supervisor and one of its workers: JSON, one a line, over a pair of connected sockets.

Either side may `tell` (no answer) or `ask` (one answer). When a process dies, in whatever way, the kernel closes its
end: the other side learns of it at once, and need not be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

log = logging.getLogger(__name__)

Handle = Callable[[str, Any], Awaitable[Any]]

_LONGEST = 1 << 28  # bytes of a message: the metrics of a gateway with very many models


class ChannelClosed(Exception):
    """The other process has gone."""


class Refused(Exception):
    """The other process could not do what it was asked; the text says why."""


class Channel:
    """One end. Make it with `open`, then keep `run` going."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handle) -> None:
        self._reader = reader
        self._writer = writer
        self._handle = handle
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._asked = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._encoder, self._decoder = msgspec.json.Encoder(), msgspec.json.Decoder()

    @classmethod
    async def open(cls, end: socket.socket, handle: Handle) -> Channel:
        """`handle` gets the kind and the body of each message. What it returns is the answer to one that was asked,
        and `Refused` that it raises is told the other side too; messages that were told are handled in order."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end, limit=_LONGEST), handle)

    async def run(self) -> None:
        """Handle what comes until the other side closes."""
        try:
            while True:
                try:
                    line = await self._reader.readline()
                except (ConnectionError, ValueError):
                    return
                if not line.endswith(b"\n"):
                    return
                message = self._decoder.decode(line)
                if "re" in message:
                    self._answered(message)
                elif "id" in message:
                    task = asyncio.ensure_future(self._answer(message))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                else:
                    await self._handled(message)
        finally:
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_exception(ChannelClosed())
            self._answers.clear()

    def tell(self, kind: str, body: Any = None) -> None:
        """Send; to one that has gone it comes to nothing."""
        self._send({"kind": kind, "body": body})

    async def ask(self, kind: str, body: Any = None, *, within: float) -> Any:
        """The answer. Raises Refused, ChannelClosed, or TimeoutError after `within` seconds."""
        if self._writer.is_closing() or self._reader.at_eof():
            raise ChannelClosed
        self._asked += 1
        number = self._asked
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._send({"kind": kind, "id": number, "body": body})
        try:
            async with asyncio.timeout(within):
                return await answer
        finally:
            self._answers.pop(number, None)

    async def flush(self) -> None:
        """Wait until what was told is on its way."""
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def aclose(self) -> None:
        for task in list(self._answering):
            task.cancel()
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def _send(self, message: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(self._encoder.encode(message) + b"\n")

    def _answered(self, message: dict[str, Any]) -> None:
        waiting = self._answers.get(message["re"])
        if waiting is None or waiting.done():
            return
        if (why := message.get("refused")) is not None:
            waiting.set_exception(Refused(why))
        else:
            waiting.set_result(message["body"])

    async def _answer(self, message: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"re": message["id"]}
        try:
            answer["body"] = await self._handle(message["kind"], message["body"])
        except Refused as why:
            answer["refused"] = str(why)
        except Exception as fault:
            log.exception("a message between processes could not be answered: %s", message["kind"])
            answer["refused"] = f"{type(fault).__name__}: {fault}"
        self._send(answer)

    async def _handled(self, message: dict[str, Any]) -> None:
        try:
            await self._handle(message["kind"], message["body"])
        except Exception:
            log.exception("a message between processes could not be handled: %s", message["kind"])
