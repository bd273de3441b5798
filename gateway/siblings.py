"""The other workers of this gateway, as one of them sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

Answer = Callable[[Any], Awaitable[Any]]


class Siblings(Protocol):
    number: int  # of this worker; the first is 1

    @property
    def states(self) -> Mapping[str, str]:
        """Every worker's state by its number: starting, ready or leaving. Empty where there is only this process."""

    def answer(self, topic: str, how: Answer) -> None:
        """When some worker asks for `topic`, this one says what `how` makes of the question."""

    async def ask(self, topic: str, said: Any = None) -> Mapping[int, Any]:
        """What each worker that answers in time says to `topic`, by its number; this one's answer is among them.

        Questions and answers are JSON. Where there is only this process nobody is asked, and the answer is empty.
        """

    async def metrics(self) -> bytes | None:
        """The exposition of all workers together; None where there is only this process."""


class Alone:
    """One process serves."""

    number = 1
    states: Mapping[str, str] = {}

    def answer(self, topic: str, how: Answer) -> None:
        pass

    async def ask(self, topic: str, said: Any = None) -> Mapping[int, Any]:
        return {}

    async def metrics(self) -> bytes | None:
        return None
