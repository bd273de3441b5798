"""How long each guardrail's check takes: told by the check's rule where it ran, also in a thread."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.telemetry.metrics import Metrics
    from gateway.telemetry.series import Distribution, Distributions


class CheckTimes:
    """Of one process. Policies are made before there are metrics: what they tell until then is not kept."""

    def __init__(self) -> None:
        self._family: Distributions | None = None
        self._guard = Lock()

    def of(self, check: str, side: str) -> Callable[[int], None]:
        """What is told of each text, or of each question to a judge: the nanoseconds that the check took for it."""
        series: Distribution | None = None

        def took(nanoseconds: int) -> None:
            nonlocal series
            with self._guard:
                if series is None:
                    if self._family is None:
                        return
                    series = self._family.of(check, side)
                series.observe(nanoseconds / 1e9)

        return took

    def tell(self, metrics: Metrics) -> None:
        self._family = metrics.histogram(
            "rag_gateway_guardrail_duration_seconds", "Time of each check, for each text or question to a judge.",
            ("check", "side"),
        )  # fmt: skip
