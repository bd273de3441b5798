"""What calls cost: maintained price data, or what the configuration says. An unknown price is unknown, never 0.

`genai-prices` (pydantic) brings the prices of the vendors' models with its package and fetches nothing. It takes a
tenth of a second and some 30 MB to load, so it is loaded by the first thread that needs a price, not at start.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from gateway.config.providers import HttpProvider, Prices
from gateway.values import Target, Usage

if TYPE_CHECKING:
    from gateway.config.providers import Provider

log = logging.getLogger(__name__)

_VENDORS: Final = {
    "openai": "openai",
    "azure_openai": "azure",
    "anthropic": "anthropic",
    "gemini": "google",
    "vertex": "google",
    "bedrock": "aws",
    "mistral": "mistral",
    "cohere": "cohere",
}


_UNASKED: Final = object()
# Targets whose price is kept: callers can make up names, of which the others are looked up each time.
_MOST: Final = 5_000


class Price(Protocol):
    def cost(self, usage: Usage) -> float:
        """USD."""


@dataclass(frozen=True, slots=True)
class Rates:
    """USD a million tokens. `cached_input` is what tokens cost that the vendor had in its prompt cache."""

    input: float
    output: float
    cached_input: float | None = None

    def cost(self, usage: Usage) -> float:
        cached = usage.cached_tokens if self.cached_input is not None else 0
        fresh = usage.prompt_tokens - cached
        return (fresh * self.input + cached * (self.cached_input or 0.0) + usage.completion_tokens * self.output) / 1e6


class _Listed:
    """A price by the maintained data, with its tiers and dates."""

    def __init__(self, model: str, vendor: str | None, url: str | None) -> None:
        self._arguments: dict[str, Any] = {"model_ref": model, "provider_id": vendor, "provider_api_url": url}

    def cost(self, usage: Usage) -> float:
        from genai_prices import Usage as Counted
        from genai_prices import calc_price

        counted = Counted(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            cache_read_tokens=usage.cached_tokens or None,
        )
        return float(calc_price(counted, **self._arguments).total_price)


class PriceBook:
    """The prices of targets, each looked up once. `configure` is called with every revision."""

    def __init__(self) -> None:
        self._providers: Mapping[str, Provider] = {}
        self._known: dict[tuple[str, str], Price | None] = {}
        self._lock = threading.Lock()

    @property
    def providers(self) -> Mapping[str, Provider]:
        """As last configured."""
        return self._providers

    def configure(self, providers: Mapping[str, Provider]) -> None:
        with self._lock:
            self._providers, self._known = providers, {}

    def known(self, target: Target) -> Price | None:
        """The target's price where it is configured, or was looked up before. Never waits."""
        price = self._known.get((target.provider, target.model), _UNASKED)
        if price is not _UNASKED:
            return price  # type: ignore[return-value]  # all but that object are prices or None
        settings = self._providers.get(target.provider)
        if isinstance(settings, HttpProvider) and not _written(settings, target):
            return None
        return self.price(target)

    def asked(self, target: Target) -> bool:
        """Whether `known` tells all that can be known."""
        key = (target.provider, target.model)
        return key in self._known or self.known(target) is not None or key in self._known

    def look_up(self, targets: Iterable[Target]) -> None:
        """Find the prices of vendors' targets before the first call asks for them. Not for the event loop."""
        for target in targets:
            settings = self._providers.get(target.provider)
            if settings is not None and settings.kind in _VENDORS:
                self.price(target)

    def price(self, target: Target) -> Price | None:
        """The target's price; None when nobody knows it. May load the price data: not for the event loop."""
        key, known = (target.provider, target.model), self._known
        if key in known:  # as nearly always; what is there stays as it is
            return known[key]
        with self._lock:
            if key in self._known:
                return self._known[key]
            price = self._found(target)
            if len(self._known) < _MOST:
                self._known[key] = price
            return price

    def _found(self, target: Target) -> Price | None:
        settings = self._providers.get(target.provider)
        if settings is None:
            return None
        if not isinstance(settings, HttpProvider):
            return Rates(0.0, 0.0)
        written = _written(settings, target)
        if written is not None:
            return Rates(written.input, written.output, written.cached_input)
        vendor = _VENDORS.get(settings.kind)
        url = getattr(settings, "base_url", None) if settings.kind == "openai_compatible" else None
        if vendor is None and (url is None or not _may_be_listed(url)):
            return None
        listed = _Listed(target.model, vendor, url)
        try:
            return _linear(listed) or listed
        except LookupError:
            return None
        except Exception:
            log.exception("the price of %s can't be read", target.label)
            return None


def _written(settings: HttpProvider, target: Target) -> Prices | None:
    return settings.prices.get(target.model) or settings.prices.get("*")


def _may_be_listed(url: str) -> bool:
    """Whether it may be a vendor's: those have domains, and not this machine, a container's name or a bare address."""
    host = urlsplit(url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." in host
    return False


def _linear(price: Price) -> Rates | None:
    """The same price as plain rates, which cost a hundredth of the time; None where it has tiers. Raises LookupError."""
    few, many = 1_000, 5_000_000
    rates = Rates(
        price.cost(Usage(few, 0)) / few * 1e6,
        price.cost(Usage(0, few)) / few * 1e6,
        price.cost(Usage(few, 0, cached_tokens=few)) / few * 1e6,
    )
    for usage in (Usage(many, many), Usage(many, 0, cached_tokens=many), Usage(few, few)):
        if abs(rates.cost(usage) - price.cost(usage)) > 1e-6 * rates.cost(usage):
            return None
    return rates
