"""Exchange: the facts of one call. Stages write them; headers, the call log, metrics and spans read them."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from features.vector import FeatureVector
    from gateway.values import Attempt, CacheKey, CacheWish, Caller, SemanticLook, Target, Usage
    from guardrails.pseudonyms import Pseudonyms
    from guardrails.verdicts import Verdict
    from retrieval.passages import Passage

# Identifiers need to be unique, not unguessable: a call is shown to its own tenant only.
_random_bits: Callable[[int], int] = random.Random(random.SystemRandom().getrandbits(256)).getrandbits


class Account(Protocol):
    """Where calls are accounted for.

    `recorded` settles a call and waits until its record is on the disk; None where no answer waits for that.
    """

    @property
    def recorded(self) -> Callable[[Exchange], Awaitable[None]] | None: ...

    def price(self, exchange: Exchange) -> None: ...

    def begin(self, exchange: Exchange) -> None: ...

    def settled(self, exchange: Exchange) -> None: ...


class Permit(Protocol):
    """What a call was granted of its limits, and holds of them until it is settled."""

    @property
    def refusal(self) -> tuple[str, str] | None:
        """The limit that refused this call, and whose it is: both as the configuration writes them."""

    def settle(self, exchange: Exchange) -> None:
        """Put what was really used in the place of what was reserved; say in the exchange what was charged to whom."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The `x-ratelimit-*` headers of the answer."""

    def beside(self, purpose: str) -> Permit | None:
        """For a call of the gateway's own that is made for this one; None where nobody is charged for it."""


class Exchange:
    """The one mutable record of a call, from its first byte in to its settled account.

    Times are `time.perf_counter_ns()`; `started_at` is wall-clock nanoseconds since the epoch.
    `stages` are (name, start, end); `cache` is hit | semantic | miss | off; `outcome` is ok | error | cancelled | blocked.
    """

    __slots__ = (
        "_at_end",
        "_heir",
        "account",
        "answer_id",
        "answer_text",
        "arm",
        "asked",
        "attempts",
        "cache",
        "cache_age",
        "cache_key",
        "cache_wish",
        "call_id",
        "caller",
        "charged",
        "charges",
        "cost",
        "cost_share",
        "degraded",
        "ended",
        "endpoint",
        "error_code",
        "error_message",
        "features",
        "finish_reason",
        "first_chunk",
        "left_out",
        "made_for",
        "messages",
        "mirrors",
        "model",
        "outcome",
        "passages",
        "permit",
        "propensity",
        "pseudonyms",
        "record_content",
        "request_id",
        "requested_model",
        "revision",
        "semantic",
        "sensitivity",
        "served_model",
        "span_id",
        "stages",
        "started",
        "started_at",
        "status",
        "stream",
        "target",
        "template",
        "trace_flags",
        "trace_id",
        "trace_parent",
        "trimmed",
        "upstream_id",
        "usage",
        "verdicts",
    )  # fmt: skip

    def __init__(self, endpoint: str) -> None:
        self.started = time.perf_counter_ns()
        self.started_at = time.time_ns()
        self.endpoint = endpoint  # "chat.completions", "embeddings": the operation, as metrics label it
        # The time in front keeps neighbours in time neighbours in the call log's index, as UUIDv7 does (RFC 9562).
        unique = f"{self.started_at // 1_000_000:012x}{_random_bits(80):020x}"
        self.call_id = "call_" + unique
        self.request_id = self.call_id  # the caller's x-request-id where it sent a sane one
        self.trace_id = unique
        self.trace_parent: str | None = None  # the caller's span id, from its traceparent
        self.trace_flags: str | None = None
        self.span_id = f"{_random_bits(64):016x}"
        self.caller: Caller | None = None
        self.requested_model: str | None = None
        self.model: str | None = None  # the public model, once it is known to exist
        self.stream = False
        self.revision = ""
        self.stages: list[tuple[str, int, int]] = []
        self.template: str | None = None
        self.trimmed: tuple[str, ...] = ()
        self.features: FeatureVector | None = None
        self.passages: Sequence[Passage] = ()
        self.verdicts: list[tuple[str, Verdict]] = []  # ("input" | "output", verdict)
        self.pseudonyms: Pseudonyms | None = None  # where a guardrail has replaced values by placeholders
        self.asked: Sequence[Mapping[str, Any]] | None = None  # the conversation, where a prompt is rendered round it
        self.messages: Sequence[Mapping[str, Any]] | None = None  # as rendered, where content may be recorded
        self.answer_text: str | None = None  # where content may be recorded
        self.record_content = False
        self.cache = "off"
        self.cache_age: float | None = None  # seconds since a kept answer was made
        self.cache_key: CacheKey | None = None  # where the model's answers are kept
        self.cache_wish: CacheWish | None = None  # what the caller's headers say of the cache
        self.degraded: list[str] = []  # stages that failed and were passed over, as the model allows
        self.attempts: list[Attempt] = []
        self.semantic: SemanticLook | None = None  # what a semantic cache found, where there is one
        self.sensitivity: str | None = None  # the label that residency went by, where it is configured
        self.target: Target | None = None
        self.upstream_id: str | None = None  # the provider's own id of the attempt that runs
        self.left_out: list[str] = []  # request fields that the target can't take and its configuration lets drop
        self.served_model: str | None = None
        self.answer_id: str | None = None
        self.usage: Usage | None = None
        self.cost: float | None = None  # USD; None where no price is known
        self.cost_share = 1.0  # of its price that the call costs: less for an answer that was kept
        self.finish_reason: str | None = None
        self.first_chunk = 0
        self.ended = 0
        self.status = 0
        self.outcome = "ok"
        self.error_code: str | None = None
        self.error_message: str | None = None
        self.account: Account | None = None
        self.permit: Permit | None = None  # where limits or budgets hold for this call
        self.charges: Sequence[tuple[str, str]] = ()  # whose budgets it was charged to: (subject, period)
        self.charged: float | None = None  # USD, to each of them
        self.arm: str | None = None  # of a model with arms
        self.propensity: float | None = None  # how likely this arm was to be chosen, 0 to 1
        self.made_for: tuple[str, str] | None = None  # a call of the gateway's own: (purpose, the caller's call_id)
        self.mirrors: list[str] = []  # call_ids of the copies that went to shadow targets
        self._at_end: list[Callable[[Exchange], None]] | None = None
        self._heir: Exchange | None = None  # whose the answer is now that was begun for this call

    def stage(self, name: str, started: int) -> None:
        """Note that stage `name` ran from `started` (perf_counter_ns) until now."""
        self.stages.append((name, started, time.perf_counter_ns()))

    def at_end(self, told: Callable[[Exchange], None]) -> None:
        """Have `told` called when this call is settled, whichever way it ends; or whoever has taken its answer over."""
        if self._heir is not None:
            self._heir.at_end(told)
            return
        if self.ended:  # nobody will settle it again, and what is held must not be held for ever
            told(self)
            return
        if self._at_end is None:
            self._at_end = []
        self._at_end.append(told)

    def bequeath(self, heir: Exchange) -> None:
        """Leave an answer that goes on to another call: what was, or will be, held for it is held until that one ends."""
        at_end, self._at_end, self._heir = self._at_end, None, heir
        for told in at_end or ():
            heir.at_end(told)

    def settle(self) -> None:
        """End the account once, however the call ended; later calls do nothing."""
        if self.ended:
            return
        self.ended = time.perf_counter_ns()
        if self.account is not None:
            self.account.price(self)
        if self.permit is not None:
            self.permit.settle(self)
        if self._at_end is not None:
            for told in self._at_end:
                told(self)
        if self.account is not None:
            self.account.settled(self)

    def beside(self, purpose: str) -> Exchange:
        """The exchange of a call that the gateway makes of its own, with all of this one that decides where it may go.

        Its account is begun; whoever makes the call settles it.
        """
        made = Exchange(self.endpoint)
        made.made_for = (purpose, self.call_id)
        made.trace_id, made.trace_parent, made.trace_flags = self.trace_id, self.span_id, self.trace_flags
        made.caller, made.revision = self.caller, self.revision
        made.requested_model, made.model, made.template = self.requested_model, self.model, self.template
        made.features, made.passages, made.verdicts = self.features, self.passages, list(self.verdicts)
        made.sensitivity = self.sensitivity
        made.record_content, made.messages = self.record_content, self.messages
        made.account = self.account
        made.permit = self.permit.beside(purpose) if self.permit is not None else None
        if made.account is not None:
            made.account.begin(made)
        return made
