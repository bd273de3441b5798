"""Questions and their answers in this process's memory, for a gateway of one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.cache.protocol import Purge
from gateway.cache.questions import EVERYBODY, Alike, Asked, KeptAnswer

_MOST_GIVEN = 5
_FIRST_ROWS = 8
Vector = NDArray[np.float32]


class MemoryQuestions:
    """`most` answers at most: a new one takes the place of the oldest."""

    def __init__(self, most: int, clock: Callable[[], float] = time.time) -> None:
        self.most = most
        self._clock = clock
        self._partitions: dict[str, _Partition] = {}
        self._ages: dict[tuple[str, str], None] = {}  # partition and key, the oldest first

    @property
    def full(self) -> bool:
        return False

    async def alike(self, asked: Asked, vector: Sequence[float], least: float) -> list[Alike]:
        partition = self._partitions.get(asked.partition)
        return partition.alike(_unit(vector), asked.audience, least, self._clock()) if partition is not None else []

    async def keep(self, answer: KeptAnswer, vector: Sequence[float]) -> None:
        unit = _unit(vector)
        partition = self._partitions.setdefault(answer.partition, _Partition(len(unit)))
        partition.put(answer, unit)
        name = (answer.partition, answer.key)
        self._ages.pop(name, None)
        self._ages[name] = None
        while len(self._ages) > self.most:
            self._drop([next(iter(self._ages))])

    async def purge(self, what: Purge) -> int:
        key = what.key.hex() if what.key is not None else None
        return self._drop([
            (answer.partition, answer.key)
            for answer in self._answers()
            if key in (None, answer.key) and what.fits(answer.kept.origin)
        ])  # fmt: skip

    async def tidy(self) -> int:
        now = self._clock()
        return self._drop([(answer.partition, answer.key) for answer in self._answers() if answer.expires <= now])

    async def size(self) -> int:
        return len(self._ages)

    def _answers(self) -> Iterable[KeptAnswer]:
        return (answer for partition in self._partitions.values() for answer in partition.answers)

    def _drop(self, names: Sequence[tuple[str, str]]) -> int:
        for name in names:
            del self._ages[name]
            partition, key = name
            self._partitions[partition].drop(key)
            if not self._partitions[partition].answers:
                del self._partitions[partition]
        return len(names)


class _Partition:
    """Answers with their vectors as the rows of one matrix, which grows by doubling; the last fills a gap."""

    __slots__ = ("_places", "_vectors", "answers")

    def __init__(self, dimension: int) -> None:
        self.answers: list[KeptAnswer] = []
        self._places: dict[str, int] = {}
        self._vectors = np.empty((_FIRST_ROWS, dimension), np.float32)

    def put(self, answer: KeptAnswer, unit: Vector) -> None:
        place = self._places.get(answer.key)
        if place is None:
            place = self._places[answer.key] = len(self.answers)
            self.answers.append(answer)
            if place == len(self._vectors):
                self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        self.answers[place] = answer
        self._vectors[place] = unit

    def drop(self, key: str) -> None:
        place, last = self._places.pop(key), self.answers.pop()
        if last.key != key:
            self.answers[place] = last
            self._vectors[place] = self._vectors[len(self.answers)]
            self._places[last.key] = place

    def alike(self, unit: Vector, audience: str, least: float, now: float) -> list[Alike]:
        cosines = self._vectors[: len(self.answers)] @ unit
        found = []
        for place in np.flatnonzero(cosines >= least)[np.argsort(-cosines[cosines >= least], kind="stable")]:
            answer = self.answers[place]
            if answer.expires > now and answer.audience in (EVERYBODY, audience):
                found.append(Alike(float(cosines[place]), answer))
                if len(found) == _MOST_GIVEN:
                    break
        return found


def _unit(vector: Sequence[float]) -> Vector:
    made: Vector = np.asarray(vector, dtype=np.float32)
    return made / max(float(np.linalg.norm(made)), 1e-12)
