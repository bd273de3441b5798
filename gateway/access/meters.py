"""Meters: one count for each ceiling and subject, kept while they count anything."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.access.rules import period_of
from gateway.access.windows import Level, Purse, Window

if TYPE_CHECKING:
    from gateway.access.rules import Ceiling, Rule

_MOST = 100_000  # subjects counted at a time, of all rules together; some 60 MB if every one of them is in use
_IDLE = 10.0  # seconds: a call may hold a meter that counts nothing yet
_LOOKED_AT = 2  # old meters looked at for each new one, so that idle ones go as fast as others come


class Meter:
    """What one subject has used of one ceiling. `state` is a Window, a Level or a Purse, as the measure asks."""

    __slots__ = ("ceiling", "key", "rule", "spelled", "state", "subject", "touched")

    def __init__(self, rule: Rule, ceiling: Ceiling, subject: tuple[str, ...]) -> None:
        self.rule = rule
        self.ceiling = ceiling  # as of the last call: a reload may have changed how much it is
        self.subject = subject
        self.key = ""  # in Redis, where it is counted there
        self.spelled = rule.spelled(subject)
        self.touched = 0.0  # when it was last asked
        if ceiling.measure == "budget":
            self.state: Any = Purse("", 0.0)
        else:
            self.state = Window(ceiling.span) if ceiling.span else Level()

    def purse(self, now: float) -> Purse:
        """The purse of the period that `now` lies in."""
        purse: Purse = self.state
        if now >= purse.ends:
            assert self.ceiling.period is not None
            self.state = purse = Purse(*period_of(self.ceiling.period, now))
        return purse


class Ask(msgspec.Struct, gc=False):
    """What one call needs of one meter; once it was granted, what it holds of it.

    `used` is the whole count after this call was granted, or as it was when it was not. `by` is what it is settled
    by. `wait` says when it would have fitted.
    """

    meter: Meter
    ceiling: Ceiling
    amount: int
    used: int = 0
    by: Any = None
    wait: float = 0.0
    entry: int = 0  # its number in Redis

    @property
    def left(self) -> int:
        return max(0, self.ceiling.most - self.used)


class Meters:
    """All meters of one process. Bounded: beyond that the longest idle or oldest is forgotten first."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._meters: OrderedDict[tuple[str, tuple[str, ...]], Meter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._meters)

    def __iter__(self) -> Iterator[Meter]:
        return iter(list(self._meters.values()))

    def meter(self, rule: Rule, ceiling: Ceiling, subject: tuple[str, ...], now: float) -> Meter:
        key = (ceiling.family, subject)
        meter = self._meters.get(key)
        if meter is None:
            self._tidy(now)
            meter = self._meters[key] = Meter(rule, ceiling, subject)
        elif meter.ceiling is not ceiling:
            meter.ceiling, meter.rule = ceiling, rule
        meter.touched = now
        return meter

    def find(self, ceiling: Ceiling, subject: tuple[str, ...]) -> Meter | None:
        return self._meters.get((ceiling.family, subject))

    def _tidy(self, now: float) -> None:
        meters = self._meters
        for _ in range(min(_LOOKED_AT, len(meters))):
            key = next(iter(meters))
            oldest = meters[key]
            if oldest.touched + _IDLE < now and oldest.state.idle(now):
                del meters[key]
            else:
                meters.move_to_end(key)
        while len(meters) >= self._most:
            meters.popitem(last=False)
