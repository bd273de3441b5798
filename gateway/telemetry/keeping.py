"""Room for calls that are kept in any case, so many a second, shared so that no tenant's flood takes another's.

Three quarters of the room are for those who asked in the second before: an equal part for each, and what some leave of
theirs in equal parts for the others. The last quarter is there for whoever comes new, whatever the others ask for; so one
tenant alone has three quarters. Callers that nobody knows are together one more tenant, and have half of all at most:
being refused costs them nothing.
"""

from __future__ import annotations

_SECOND = 1_000_000_000
_SHARED = 0.75
_UNKNOWN = 0.5
_MOST_TENANTS = 1_000  # that are told apart in one second; the others are as one
_OTHERS = ""


class Room:
    """Belongs to the event loop."""

    def __init__(self, a_second: int) -> None:
        self._most = a_second
        self._second = 0
        self._kept = 0  # in this second
        self._kept_of: dict[str | None, int] = {}
        self._asked: dict[str | None, int] = {}  # in this second
        self._part = _SHARED * a_second  # of each, after what was asked for in the one before

    def takes(self, tenant: str | None, now: int) -> bool:
        """Whether a call of this tenant's, None where nobody is known to have made it, is kept in the second of `now`,
        in nanoseconds of a clock that never goes back.
        """
        second = now // _SECOND
        if second != self._second:
            self._turn(second)
        if tenant not in self._asked and len(self._asked) >= _MOST_TENANTS:
            tenant = _OTHERS
        self._asked[tenant] = self._asked.get(tenant, 0) + 1
        kept = self._kept_of.get(tenant, 0)
        most = self._part if tenant is not None else min(self._part, _UNKNOWN * self._most)
        if self._kept >= self._most or kept >= most:
            return False
        self._kept += 1
        self._kept_of[tenant] = kept + 1
        return True

    def _turn(self, second: int) -> None:
        before = sorted(self._asked.values()) if second == self._second + 1 else []
        self._second, self._kept, self._kept_of, self._asked = second, 0, {}, {}
        left = self._part = _SHARED * self._most
        for served, asked in enumerate(before):
            self._part = left / (len(before) - served)
            if asked >= self._part:
                break  # and so do all that follow
            left -= asked
