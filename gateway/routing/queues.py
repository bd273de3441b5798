"""The queues of this process, one before each server that has one; and whether there is room in any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from gateway.errors import QueueFull
from gateway.routing.queueing import ServerQueue, part_of, sooner

if TYPE_CHECKING:
    from gateway.config.queueing import ServerQueue as Settings
    from gateway.exchange import Exchange
    from gateway.routing.candidates import Candidate
    from gateway.telemetry.metrics import Metrics


class Queues:
    """Those of this process, by provider; they outlive reloads."""

    def __init__(self, part: tuple[int, int] = (1, 1)) -> None:
        """`part`: which worker this is, and of how many."""
        self._part = part
        self._queues: dict[str, ServerQueue] = {}
        self.settings: Mapping[str, Settings] = {}
        self._observing: Callable[[str], Callable[[float], None]] | None = None

    def prepare(self, settings: Mapping[str, Settings]) -> None:
        """What is to be in force from `start` on. Raises ValueError. Any thread may, one at a time."""
        made = {
            name: ServerQueue(name, asked, self._part) for name, asked in settings.items() if name not in self._queues
        }
        for name, asked in settings.items():
            part_of(name, asked.concurrency, self._part)
        for queue in made.values():
            self._watch(queue)
        self._queues = self._queues | made
        self.settings = dict(settings)

    def get(self, name: str) -> ServerQueue | None:
        """The queue of a provider that has one."""
        return self._queues[name] if name in self.settings else None

    def start(self) -> None:
        """What was prepared is in force. In the event loop."""
        for name, settings in self.settings.items():
            self._queues[name].configure(settings, self._part)

    def tell(self, metrics: Metrics) -> None:
        waits = metrics.histogram("rag_gateway_queue_wait_seconds", "Time in a provider's queue.", ("provider",))
        self._observing = lambda name: waits.of(name).observe
        for queue in self._queues.values():
            self._watch(queue)
        metrics.levels(
            "rag_gateway_queue_length", "Calls that wait in a provider's queue.", ("provider", "priority"),
            lambda: {
                (name, priority): count
                for name, queue in self._queues.items() for priority, count in queue.by_class().items()
            },
        )  # fmt: skip
        metrics.levels(
            "rag_gateway_queue_running", "Calls that a provider with a queue has now.", ("provider",),
            lambda: {(name,): queue.running for name, queue in self._queues.items()},
        )  # fmt: skip
        metrics.counted(
            "rag_gateway_queue_shed", "Times a provider's queue had no room for a call.", ("provider", "reason"),
            lambda: {
                (name, reason): count for name, queue in self._queues.items() for reason, count in queue.shed.items()
            },
        )  # fmt: skip

    def _watch(self, queue: ServerQueue) -> None:
        if self._observing is not None:
            queue.observe = self._observing(queue.name)


class Room:
    """Asked before work is done for a call: whether any of the targets that may serve it has room for it to wait."""

    def __init__(self, queues: Sequence[ServerQueue]) -> None:
        self._queues = queues

    def check(self, exchange: Exchange) -> None:
        """Raises QueueFull, the one that is over soonest."""
        error: QueueFull | None = None
        for queue in self._queues:
            try:
                return queue.check(exchange)
            except QueueFull as full:
                error = full if error is None else sooner(error, full)
        if error is not None:
            raise error


def room_of(candidates: Sequence[Candidate]) -> Room | None:
    """None where a call may go to a target that has no queue."""
    queues = {candidate.queue.name: candidate.queue for candidate in candidates if candidate.queue is not None}
    if not candidates or any(candidate.queue is None for candidate in candidates):
        return None
    return Room(list(queues.values()))
