"""Exchange: the facts of one call. Stages write them; headers, the call log, metrics and spans read them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gateway.identifiers import span_id, unique_hex
from gateway.values import Attempt

if TYPE_CHECKING:
    from features.vector import FeatureVector
    from gateway.values import (
        CacheKey,
        CacheWish,
        Caller,
        PromptPart,
        Residency,
        Searched,
        SemanticLook,
        SideCall,
        Target,
        Usage,
    )
    from guardrails.pseudonyms import Pseudonyms
    from guardrails.verdicts import Verdict
    from retrieval.passages import Dropped, Passage


class Account(Protocol):
    """Where calls are accounted for.

    `recorded` settles a call and waits until its record is on the disk; None where no answer waits for that.
    """

    @property
    def recorded(self) -> Callable[[Exchange], Awaitable[None]] | None: ...

    def price(self, exchange: Exchange) -> None: ...

    def begin(self, exchange: Exchange) -> None: ...

    def settled(self, exchange: Exchange) -> None: ...


class Ranked(Protocol):
    """A candidate of a strategy."""

    @property
    def target(self) -> Target: ...


class Asked(Protocol):
    """A request, as far as a record tells of it beside its messages: its raw fields, and what it says of retrieval."""

    @property
    def fields(self) -> Mapping[str, Any]: ...

    @property
    def rag(self) -> Any: ...

    @property
    def file_search(self) -> Any: ...


class Withheld(NamedTuple):
    """What a guardrail has blocked on its way in, masked as far as the others mask it: Asked, and its conversation."""

    messages: Sequence[Mapping[str, Any]]
    fields: Mapping[str, Any]
    rag: Any
    file_search: Any


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

    # What a call begins with stands on the class: most calls leave most of it as it is.
    trace_parent: str | None = None  # the caller's span id, from its traceparent
    trace_flags: str | None = None
    trace_state: str | None = None  # the caller's, passed on as it came
    given: Mapping[str, Any] | None = None  # the raw fields of its request, until it is settled, where spans are made
    conversation: str | None = None  # that it is a part of, as its caller says, where spans are made
    parameters: Mapping[str, bytes] | None = None  # what spans tell of these; only of a call that becomes spans
    caller: Caller | None = None
    requested_model: str | None = None
    model: str | None = None  # the public model, once it is known to exist
    stream: bool = False
    revision: str = ""
    template: str | None = None
    template_hash: str | None = None  # of the text that the version was made from
    prompt_parts: Sequence[PromptPart] = ()  # whose words each message of a rendered prompt is made of
    trimmed: tuple[str, ...] = ()
    features: FeatureVector | None = None
    headers: Mapping[bytes, bytes] | None = None  # those that features are looked up by
    passages: Sequence[Passage] = ()
    searches: list[tuple[str, int, int, int]] | None = None  # what was asked of others: (what, start, end, how many)
    searched: Searched | None = None  # what passages were searched for
    dropped: Sequence[Dropped] = ()  # the best of those that were found and are not shown
    pseudonyms: Pseudonyms | None = None  # where a guardrail has replaced values by placeholders
    asked: Sequence[Mapping[str, Any]] | None = None  # the conversation, where a prompt is rendered round it
    messages: Sequence[Mapping[str, Any]] | None = None  # as rendered, where content may be recorded
    said: Mapping[str, Any] | None = None  # its raw fields before a prompt was rendered, where content may be recorded
    withheld: Withheld | None = None  # where it may be recorded
    answer_text: str | None = None  # where content may be recorded
    answer_calls: Sequence[Mapping[str, Any]] = ()  # of tools, where spans are to hold what was said
    record_content: bool = False
    keep_content: bool = False  # `record_content`, or spans are to hold what was said
    cache: str = "off"
    cache_age: float | None = None  # seconds since a kept answer was made
    cache_key: CacheKey | None = None  # where the model's answers are kept
    cache_wish: CacheWish | None = None  # what the caller's headers say of the cache
    semantic: SemanticLook | None = None  # what a semantic cache found, where there is one
    sensitivity: str | None = None  # the label that residency went by, where it is configured
    strategy: str | None = None
    ranked: Sequence[Ranked] = ()  # what the strategy had to choose from, in its order
    passed_over: Sequence[tuple[str, str]] = ()  # of these (label, why) that were not tried
    target: Target | None = None
    trying: Attempt | None = None  # the attempt that began last
    served_model: str | None = None
    answer_id: str | None = None
    usage: Usage | None = None
    cost: float | None = None  # USD; None where no price is known
    cost_share: float = 1.0  # of its price that the call costs: less for an answer that was kept
    saved: float = 0.0  # USD of its price that the call does not cost, where that is known
    finish_reason: str | None = None
    first_chunk: int = 0
    output_chunks: int = 0  # of a stream: those that said something
    ended: int = 0
    status: int = 0
    outcome: str = "ok"
    error_code: str | None = None
    error_message: str | None = None
    charges: Sequence[tuple[str, str]] = ()  # whose budgets it was charged to: (subject, period)
    charged: float | None = None  # USD, to each of them
    arm: str | None = None  # of a model with arms
    propensity: float | None = None  # how likely this arm was to be chosen, 0 to 1
    wanted: str | None = None  # the target, or arm, that a tester has named for this call
    side_call: SideCall | None = None  # what a chat front end asks of its own
    made_for: tuple[str, str] | None = None  # a call of the gateway's own: (purpose, the caller's call_id)
    _at_end: list[Callable[[Exchange], None]] | None = None
    _at_own_end: list[Callable[[Exchange], None]] | None = None
    _heir: Exchange | None = None  # whose the answer is now that was begun for this call

    def __init__(self, endpoint: str) -> None:
        self.started = time.perf_counter_ns()
        self.started_at = time.time_ns()
        self.endpoint = endpoint  # "chat.completions", "embeddings": the operation, as metrics label it
        unique = unique_hex(self.started_at)
        self.trace_id = unique[:32]
        self.span_id = unique[32:]
        self.call_id = "call_" + self.trace_id
        self.request_id = self.call_id  # the caller's x-request-id where it sent a sane one
        self.stages: list[tuple[str, int, int]] = []
        self.verdicts: list[tuple[str, Verdict]] = []  # ("input" | "output", verdict)
        self.degraded: list[str] = []  # stages that failed and were passed over, as the model allows
        self.attempts: list[Attempt] = []
        self.left_out: list[str] = []  # request fields that the target can't take and its configuration lets drop
        self.mirrors: list[str] = []  # call_ids of the copies that went to shadow targets
        # Not on the class: mypyc gives no default to what is a Protocol of the same module.
        self.account: Account | None = None
        self.permit: Permit | None = None  # where limits or budgets hold for this call
        self.request: Asked | None = None  # where content may be recorded

    def stage(self, name: str, started: int) -> None:
        """Note that stage `name` ran from `started` (perf_counter_ns) until now."""
        self.stages.append((name, started, time.perf_counter_ns()))

    def pass_over(self, target: str, why: str) -> None:
        """Note that a target that was ranked is not tried."""
        self.passed_over = (*self.passed_over, (target, why))

    def attempt(self, target: Target, residency: Residency = "external") -> Attempt:
        """Begin a try at `target`: a provider that is asked now finds it as `trying`, and notes there where it went.

        Each has a span id of its own to tell the provider; without spans, that is the caller's.
        """
        if self.span_id == self.trace_parent:
            of_span = self.span_id
        elif self.trying is None:
            of_span = self.span_id[8:] + self.span_id[:8]
        else:
            of_span = span_id()
        self.trying = made = Attempt(target, residency=residency, began=time.perf_counter_ns(), span_id=of_span)
        return made

    def asked_others(self) -> list[tuple[str, int, int, int]]:
        """Where the searches for this call note what they ask of others."""
        if self.searches is None:
            self.searches = []
        return self.searches

    def trace_headers(self, attempt: Attempt) -> str:
        """What the provider is told of the trace: https://www.w3.org/TR/trace-context/. Whole lines, with CRLF."""
        told = f"traceparent: 00-{self.trace_id}-{attempt.span_id}-{self.trace_flags or '00'}\r\n"
        return told if self.trace_state is None else f"{told}tracestate: {self.trace_state}\r\n"

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

    def at_own_end(self, told: Callable[[Exchange], None]) -> None:
        """Have `told` called when this call itself is settled, whoever has its answer by then; before what waits for that."""
        if self._at_own_end is None:
            self._at_own_end = []
        self._at_own_end.append(told)

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
        if self._at_own_end is not None:
            for told in self._at_own_end:
                told(self)
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
        made.trace_state = self.trace_state
        if self.span_id == self.trace_parent:
            made.span_id = self.span_id  # no span is made here: the provider's hang below the caller's
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
