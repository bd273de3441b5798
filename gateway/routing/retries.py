"""How often and how soon a failed try is repeated, so that retries help a provider's hiccup and never feed an outage."""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime


class RetryBudget:
    """Tries beyond the first of each call, from one purse: a tenth of the calls, and a reserve for a sudden failure.

    While all is well the purse is full, and a failing target's whole traffic may move to another one; under a lasting
    outage of everything there is about one extra try in ten calls (Google SRE book, ch. 21, "Handling Overload").
    """

    __slots__ = ("_left", "_reserve", "_share")

    def __init__(self, share: float = 0.1, reserve: float = 200.0) -> None:
        self._share = share
        self._reserve = reserve
        self._left = reserve

    def call(self) -> None:
        """A call begins: it pays in its share."""
        if self._left < self._reserve:
            self._left += self._share

    def take(self) -> bool:
        """Whether one more try may be made; it is then paid for."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def pause(retry_after: str | None, attempt: int, backoff: float, longest: float) -> float | None:
    """Seconds until the next try at the same target; None when the provider asks for more than `longest`.

    Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    asked = seconds_of(retry_after)
    if asked is not None:
        return asked if asked <= longest else None
    return random.uniform(0, min(longest, backoff * 2.0**attempt))


def seconds_of(retry_after: str | None) -> float | None:
    """A Retry-After in seconds, from its two forms (RFC 9110, 10.2.3); None when absent or unreadable."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if seconds == seconds else None
