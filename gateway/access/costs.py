"""What calls cost, in billionths of a USD: before they are made at most, after them truly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.access.rules import NANO
from gateway.errors import Forbidden

if TYPE_CHECKING:
    from gateway.pricing import Price, PriceBook
    from gateway.values import Target, Usage

log = logging.getLogger(__name__)

_MOST_UNPRICED = 200  # targets that are named in the log


class Costs:
    """What calls of a model may cost, by the targets that may serve it."""

    def __init__(self, prices: PriceBook, targets: Callable[[str], Sequence[Target]], *, refuse_unknown: bool) -> None:
        self._prices = prices
        self._targets = targets
        self._refuse = refuse_unknown
        self._unpriced: set[str] = set()

    async def dearest(self, model: str, usage: Usage, target: Target | None = None) -> int:
        """The most that `usage` can cost, at `target` or wherever `model` may be answered; in billionths of a USD.

        An unknown price counts as 0. Raises Forbidden where it is to be refused.
        """
        targets = self._targets(model) if target is None else (target,)
        for target in targets:
            if not self._prices.asked(target):
                await asyncio.to_thread(self._prices.price, target)
        return self._dearest(targets, model, usage, refuse=self._refuse)

    def guessed(self, model: str, usage: Usage) -> int:
        """The same for what is over: by the prices that are at hand."""
        return self._dearest(self._targets(model), model, usage, refuse=False)

    def of(self, target: Target, usage: Usage) -> int:
        """What it did cost there: 0 where nobody knows, which is logged once."""
        price = self._prices.known(target)
        if price is not None:
            return nano(price.cost(usage))
        if target.label not in self._unpriced and len(self._unpriced) < _MOST_UNPRICED:
            self._unpriced.add(target.label)
            log.warning("no price is known for %s: its calls cost budgets nothing", target.label)
        return 0

    def _dearest(self, targets: Sequence[Target], model: str, usage: Usage, *, refuse: bool) -> int:
        most = 0
        for target in targets:
            price: Price | None = self._prices.known(target)
            if price is not None:
                most = max(most, nano(price.cost(usage)))
            elif refuse:
                raise Forbidden(
                    f"Nobody knows what {target.label} costs, and this call is charged to a budget. Ask whoever runs "
                    "this gateway to write its `prices` into the configuration.",
                    param="model",
                    code="unknown_price",
                )
        return most


def nano(usd: float) -> int:
    return round(usd * NANO)
