"""Counts in this process's memory: what was used in any span of time, what is held now, what a period has cost.

All three are asked and told in the same way: `wait` says when something fits, `take` counts it and gives what it is
settled by, `settle` puts what was really used in the place of what was taken. Times are seconds of one steady clock.
They belong to the event loop, and remember no call: their size does not grow with traffic.
"""

from __future__ import annotations

from math import inf


def width(span: float) -> float:
    """Into what pieces a span is counted, in seconds: a minute by tenths of a second, a day by ten minutes."""
    return span / 600 if span <= 3_600 else span / 144


class Piece:
    """Neighbours in time, counted together: they count until the last of them is a whole span old."""

    __slots__ = ("amount", "counts", "first", "last")

    def __init__(self, now: float, amount: int) -> None:
        self.first = self.last = now
        self.amount = amount
        self.counts = True


class Window:
    """What was used in the last `span` seconds, whatever moment it is asked at: a sliding window, not a clock's.

    What fits by it never adds up to more in any `span` seconds, across the edge of a minute too. It may hold something
    back for the width of a piece longer than it must, never shorter.
    """

    __slots__ = ("_pieces", "_width", "span", "used")

    def __init__(self, span: float) -> None:
        self.span = span
        self._width = width(span)
        self._pieces: list[Piece] = []
        self.used = 0

    def wait(self, now: float, amount: int, most: float) -> float:
        """Seconds until `amount` fits below `most`, if nothing else is taken: 0 when it does, infinite if never."""
        pieces = self._pieces
        while pieces and pieces[0].last + self.span <= now:
            gone = pieces.pop(0)
            gone.counts = False
            self.used -= gone.amount
        over = self.used + amount - most
        if over <= 0:
            return 0.0
        if amount <= most:
            for piece in pieces:
                over -= piece.amount
                if over <= 0:
                    return piece.last + self.span - now
        return inf

    def take(self, now: float, amount: int) -> Piece:
        self.used += amount
        pieces = self._pieces
        if pieces:
            newest = pieces[-1]
            if now - newest.first < self._width:
                newest.amount += amount
                if now > newest.last:
                    newest.last = now
                return newest
        piece = Piece(now, amount)
        pieces.append(piece)
        return piece

    def settle(self, piece: Piece, taken: int, real: int) -> None:
        """`real` instead of `taken`, at the time that it was taken."""
        if piece.counts:
            piece.amount += real - taken
            self.used += real - taken

    def share(self, most: int, share: float) -> float:
        return max(most * share, min(most, 1))

    def clears(self, now: float) -> float:
        """Seconds until nothing is counted any more."""
        return max(0.0, self._pieces[-1].last + self.span - now) if self._pieces else 0.0

    def idle(self, now: float) -> bool:
        return self.clears(now) == 0.0


class Level:
    """How much is held at this moment."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0

    def wait(self, now: float, amount: int, most: float) -> float:
        """0 when `amount` more fits; else a second, since nobody knows when a call ends. Infinite if never."""
        if self.used + amount <= most:
            return 0.0
        return 1.0 if amount <= most else inf

    def take(self, now: float, amount: int) -> None:
        self.used += amount

    def settle(self, by: None, taken: int, real: int) -> None:
        self.used -= taken

    def share(self, most: int, share: float) -> float:
        return max(most * share, min(most, 1))

    def clears(self, now: float) -> float:
        return 0.0

    def idle(self, now: float) -> bool:
        return self.used == 0


class Purse:
    """What one period of a budget has cost, and what calls that run are reserved for; in billionths of a USD.

    A call fits while something is left beside what is reserved. So all that is there can be spent, and no more is
    overspent than the calls in flight were reserved for.
    """

    __slots__ = ("base", "ends", "held", "key", "known", "period", "spent")

    def __init__(self, period: str, ends: float) -> None:
        self.period = period
        self.ends = ends
        self.spent = 0
        self.held = 0
        self.base = 0  # spent by everybody, when that was last known
        self.key = ""  # in Redis, where it is counted there
        self.known = False  # whether what was spent before this process began has been read

    @property
    def used(self) -> int:
        return self.spent + self.held

    def wait(self, now: float, amount: int, most: float) -> float:
        """0 when a call fits. A second where only calls that run stand in its way; else until the period ends."""
        if self.spent + self.held < most:
            return 0.0
        return 1.0 if self.spent < most else max(0.0, self.ends - now)

    def take(self, now: float, amount: int) -> Purse:
        self.held += amount
        return self

    def settle(self, by: Purse, taken: int, real: int) -> None:
        self.held -= taken
        self.spent += real

    def share(self, most: int, share: float) -> float:
        """A share of what was left when everybody's spending was last known."""
        return self.base + max(0, most - self.base) * share

    def learn(self, spent: int) -> None:
        """What the record store knows: it may lag behind, so it can only raise what is held to be spent."""
        self.spent = self.base = max(self.spent, spent)
        self.known = True

    def clears(self, now: float) -> float:
        return max(0.0, self.ends - now)

    def idle(self, now: float) -> bool:
        return self.held == 0 and self.ends <= now
