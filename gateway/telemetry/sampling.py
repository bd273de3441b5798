"""Which calls become spans: decided when a call is known, so that its provider can be told; and once more at its end,
for those that are kept whatever was decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.telemetry.keeping import Room
from gateway.telemetry.parameters import parameters

if TYPE_CHECKING:
    from gateway.config.telemetry import SampleRule, Traces
    from gateway.exchange import Exchange

_ALL: Final = 1 << 64
_MOST_KNOWN: Final = 10_000  # models, tenants and keys together that a share is remembered for


class Sampler:
    """By the trace id, so that every process which asks for the same share of the same calls keeps the same."""

    def __init__(self, settings: Traces) -> None:
        self._rules = settings.rules
        self._share = _threshold(settings.sample)
        self._honours = settings.parent == "honour"
        keep = settings.keep
        self._always = frozenset(
            (("error",) if keep.errors else ()) + (("blocked",) if keep.blocked else ())
        )  # outcomes
        self._slow = int(keep.slow * 1e9) if keep.slow != "off" else None
        self._room = Room(keep.a_second)
        self._known: dict[tuple[str | None, str | None, str | None], int] = {}

    def flags(self, exchange: Exchange) -> str:
        """The trace flags of the call's spans: "01" where they are exported by this alone."""
        if self._honours and exchange.trace_flags is not None:
            return exchange.trace_flags
        share = self._share if not self._rules else self._share_of(exchange)
        return "01" if int(exchange.trace_id[16:], 16) < share else "00"

    def settled(self, exchange: Exchange) -> None:
        """Have a call that becomes spans keep what they tell of its request, and the others let go of it."""
        if self.keeps(exchange):
            exchange.parameters = parameters(exchange.given) if exchange.given is not None else {}
        exchange.given = None

    def keeps(self, exchange: Exchange) -> bool:
        """Whether a call that has ended becomes spans."""
        # Before a call's model is known, nothing is decided: the flags are then what anybody wrote, with or without a key.
        flags = exchange.trace_flags if exchange.model is not None else None
        if flags == "01" or (flags is not None and int(flags, 16) & 1):
            return True
        if exchange.outcome in self._always or (
            self._slow is not None and exchange.ended - exchange.started > self._slow
        ):
            return self._room.takes(exchange.caller.tenant if exchange.caller is not None else None, exchange.ended)
        return False

    def _share_of(self, exchange: Exchange) -> int:
        caller = exchange.caller
        of = (exchange.model, caller.tenant if caller else None, caller.key_name if caller else None)
        share = self._known.get(of)
        if share is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            key_id = caller.key_id if caller else ""
            share = next((_threshold(rule.sample) for rule in self._rules if _about(rule, *of, key_id)), self._share)
            self._known[of] = share
        return share


def _threshold(share: float) -> int:
    return int(share * _ALL)


def _about(rule: SampleRule, model: str | None, tenant: str | None, key: str | None, key_id: str) -> bool:
    of = {"model": (model,), "tenant": (tenant,), "key": (key, key_id)}
    return all(any(name in names for name in of[dimension]) for dimension, names in rule.when.items())
