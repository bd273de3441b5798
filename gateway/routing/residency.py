"""Data that may not leave the premises goes only to targets that are on them.

Sensitivity follows the data: every source that shaped a prompt may carry a label, and the strictest one decides for
the whole call, and so for its fallbacks, hedges, shadows and judges, which all come through the same filter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.chat import Request
from gateway.errors import BadRequest, Forbidden
from gateway.exchange import Exchange
from gateway.routing.candidates import Ranking


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels from open to strict, and the first of them that may not leave.

    `findings`: what a guardrail's finding makes of the text, by check (`pii`) or by kind (`pii.IBAN_CODE`).
    `default` is what a call is without any label.
    """

    ordered: tuple[str, ...]
    stays: str
    default: str
    findings: Mapping[str, str]

    def strictest(self, labels: Iterable[str | None]) -> str:
        """Raises BadRequest for a label that is not one of ours: an unknown word must never mean "open"."""
        strict = self.ordered.index(self.default)
        for label in labels:
            if label is None:
                continue
            if label not in self.ordered:
                known = ", ".join(self.ordered)
                raise BadRequest(f"'{label}' is not a sensitivity label here; there are {known}.", param="metadata")
            strict = max(strict, self.ordered.index(label))
        return self.ordered[strict]

    def leaves(self, label: str) -> bool:
        return self.ordered.index(label) < self.ordered.index(self.stays)


class ResidencyFilter:
    """Keeps a call that may not leave to the targets on the premises."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def keep(self, ranked: Ranking, request: Request, exchange: Exchange) -> Ranking:
        """Raises Forbidden when no target may take the call."""
        label = self.label(request, exchange)
        exchange.sensitivity = label
        if self._labels.leaves(label):
            return ranked
        kept = [candidate for candidate in ranked if candidate.line.residency == "on_premises"]
        for candidate in ranked:
            if candidate.line.residency != "on_premises":
                exchange.pass_over(candidate.target.label, "residency")
        if not kept:
            raise Forbidden(
                f"This call is labelled '{label}', which may not leave the premises, and the model "
                f"'{exchange.model}' has no target on them.",
                code="residency",
            )
        return kept

    def label(self, request: Request, exchange: Exchange) -> str:
        """The strictest of: the request's own, the key's, passages', features', guardrails' findings'."""
        caller, features = exchange.caller, exchange.features
        found = self._labels.findings
        labels: list[str | None] = [exchange.sensitivity, request.sensitivity, caller.sensitivity if caller else None]
        labels += [passage.sensitivity for passage in exchange.passages]
        if features is not None:
            labels += features.sensitivity
            if features.sensitive:
                labels.append(self._labels.stays)
        if found:
            for _, verdict in exchange.verdicts:
                if verdict.action in ("mask", "pseudonymise"):
                    continue  # what was found is not in the prompt any more
                for finding in verdict.findings:
                    labels.append(found.get(f"{verdict.check}.{finding.kind}") or found.get(verdict.check))
        return self._labels.strictest(labels)
