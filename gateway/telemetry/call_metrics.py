"""What a settled call adds to the metrics: a few additions, in the event loop, on what the call noted anyway.

Histograms are classic ones: Prometheus takes native ones only as protobuf, which prometheus_client does not write. Where
the GenAI conventions give a metric's buckets, they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from gateway.telemetry.labels import OTHER, ModelLabels, error_type, failed_in, finish
from gateway.telemetry.names import OPERATIONS
from gateway.telemetry.series import Count, Counts, Distribution, Distributions, Labels
from gateway.values import FROM_CACHE

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from gateway.exchange import Exchange
    from gateway.telemetry.labels import Configured

# https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai/gen-ai-metrics.md
_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_SECONDS_A_TOKEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
STAGE_SECONDS: Final = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PASSAGES: Final = (0, 1, 2, 3, 5, 8, 13, 20, 50)
_SCORES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
_MOST_TENANTS: Final = 200  # tenants that have a series of their own; the others are counted together

_SEARCHES: Final = frozenset({"retrieval", "file_search"})
_FAILED: Final = frozenset({"error", "blocked"})
_NO_FAILURE: Final = frozenset({"ok", "cancelled", ""})

# Endpoint, public model, provider, the provider's model, outcome, status.
_Key = tuple[str, str | None, str, str, str, int]


class _Series:
    """What one kind of call adds to, looked up once."""

    __slots__ = (
        "calls", "chunk_time", "duration", "ended", "first_chunk", "gen_ai", "input", "input_tokens", "labels", "output",
        "output_tokens", "token_time",
    )  # fmt: skip

    def __init__(self, metrics: CallMetrics, key: _Key, model: str, vendor: str) -> None:
        endpoint, _, provider, target, outcome, status = key
        of = (OPERATIONS[endpoint], vendor, target, model, provider)
        self.gen_ai = of
        self.labels = (model, provider)
        self.ended = (endpoint, model, provider, outcome, str(status))
        self.calls: Count | None = None  # from the first call of a caller's on
        self.duration = metrics.duration.of(*of, "") if outcome not in _FAILED else None
        self.first_chunk = metrics.first_chunk.of(*of)
        self.chunk_time = metrics.chunk_time.of(*of)
        self.token_time = metrics.token_time.of(*of)
        self.input_tokens = metrics.token_usage.of(*of, "input")
        self.output_tokens = metrics.token_usage.of(*of, "output")
        self.input, self.output = (metrics.tokens.of(model, provider, kind) for kind in ("input", "output"))


class CallMetrics:
    """The families that settled calls add to. Belongs to the event loop."""

    def __init__(self, configured: Configured) -> None:
        """`configured` tells which names may be labels."""
        of = (
            "gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "rag_gateway_model",
            "rag_gateway_provider",
        )  # fmt: skip
        self._families: list[Collector] = []

        def counts(name: str, help_: str, labels: Labels) -> Counts:
            made = Counts(name, help_, labels)
            self._families.append(made)
            return made

        def distributions(name: str, help_: str, labels: Labels, bounds: Sequence[float]) -> Distributions:
            made = Distributions(name, help_, labels, bounds)
            self._families.append(made)
            return made

        self.calls = counts(
            "rag_gateway_calls", "Calls that have ended.", ("endpoint", "model", "target", "outcome", "status")
        )
        self.own_calls = counts(
            "rag_gateway_own_calls", "Calls that the gateway made of its own, for a caller's.",
            ("purpose", "target", "outcome"),
        )  # fmt: skip
        self.duration = distributions(
            "gen_ai_client_operation_duration_seconds",
            "Calls from first byte in to last byte out.",
            (*of, "error_type"),
            _SECONDS,
        )
        self.first_chunk = distributions(
            "gen_ai_client_operation_time_to_first_chunk_seconds", "Streams until their first chunk.", of, _SECONDS
        )
        self.chunk_time = distributions(
            "gen_ai_client_operation_time_per_output_chunk_seconds",
            "From one chunk of a stream to the next: each stream's mean, for each of its chunks after the first.", of,
            _SECONDS,
        )  # fmt: skip
        self.token_time = distributions(
            "gen_ai_server_time_per_output_token_seconds", "Time per token of a stream after its first chunk.", of,
            _SECONDS_A_TOKEN,
        )  # fmt: skip
        self.token_usage = distributions(
            "gen_ai_client_token_usage", "Tokens of a call.", (*of, "gen_ai_token_type"), _TOKENS
        )
        self.tokens = counts(
            "rag_gateway_tokens", "Tokens, also of answers out of a cache; cached and reasoning ones are among the others.",
            ("model", "target", "type"),
        )  # fmt: skip
        self.cost = counts("rag_gateway_cost_usd", "What calls cost, where the price is known.", ("model", "target"))
        self.tenant_cost = counts("rag_gateway_tenant_cost_usd", "The same, by who pays.", ("tenant",))
        self.errors = counts(
            "rag_gateway_errors", "Calls that failed or were blocked, by the stage that they ended in.",
            ("model", "stage", "target", "error_type"),
        )  # fmt: skip
        self.failures = counts(
            "rag_gateway_failures",
            "Calls that failed and the caller was not to blame: what objectives count.",
            ("model",),
        )
        self.attempts = counts("rag_gateway_failed_attempts", "Tries at a target that failed.", ("target", "code"))
        self.finished = counts("rag_gateway_finished", "Answers by what ended them.", ("model", "finish_reason"))
        self.stages = distributions(
            "rag_gateway_stage_duration_seconds", "Time of each stage.", ("stage",), STAGE_SECONDS
        )
        self.cache = counts("rag_gateway_cache", "Answers by cache outcome.", ("model", "outcome"))
        self.saved_tokens = counts(
            "rag_gateway_cache_saved_tokens", "Tokens that a cache gave and no target had to.", ("model", "type")
        )
        self.saved_cost = counts(
            "rag_gateway_cache_saved_usd", "What answers out of a cache would have cost more.", ("model",)
        )
        self.verdicts = counts("rag_gateway_guardrail_verdicts", "What guardrails found.", ("stage", "check", "action"))
        self.searches = counts(
            "rag_gateway_retrieval", "Searches for passages: found, nothing, unavailable.", ("model", "outcome")
        )
        self.passages = distributions(
            "rag_gateway_retrieval_passages", "Passages that a prompt was given.", ("model",), _PASSAGES
        )
        self.scores = distributions(
            "rag_gateway_retrieval_best_score", "Score of the best passage of a search.", ("model",), _SCORES
        )
        self.limited = counts("rag_gateway_limited", "Calls refused by a limit or a budget.", ("limit", "per"))
        self.degraded = counts("rag_gateway_degraded", "Stages passed over because their service was away.", ("stage",))
        self.feedback = counts(
            "rag_gateway_feedback", "Feedback with a score: good from 0.5 on, bad below.", ("model", "sign")
        )
        self._configured, self._labels = configured, ModelLabels(configured.names)
        self._series: dict[_Key, _Series] = {}
        self._stages: dict[str, Distribution] = {}
        self._tenants: set[str] = set()

    def families(self) -> Iterable[Collector]:
        return self._families

    def observe(self, exchange: Exchange) -> None:
        """Account for a settled call."""
        target = exchange.target
        provider, upstream = (target.provider, target.model) if target is not None else ("none", "")
        key = (exchange.endpoint, exchange.model, provider, upstream, exchange.outcome, exchange.status)
        series = self._series.get(key)
        if series is None:
            series = self._made(key)
        if exchange.made_for is None:
            if series.calls is None:
                series.calls = self.calls.of(*series.ended)
            series.calls.value += 1
            started = exchange.started
            if series.duration is not None:
                series.duration.observe((exchange.ended - started) / 1e9)
            if exchange.stream and exchange.first_chunk:
                series.first_chunk.observe((exchange.first_chunk - started) / 1e9)
                more = exchange.output_chunks - 1
                if more > 0 and exchange.outcome == "ok" and exchange.cache not in FROM_CACHE:
                    # One clock for the stream instead of one for each chunk: what each chunk would pay.
                    series.chunk_time.observe_each((exchange.ended - exchange.first_chunk) / 1e9 / more, more)
        else:
            self.own_calls.add((exchange.made_for[0], provider, exchange.outcome))
        stages = self._stages
        for name, begin, end in exchange.stages:
            stage = stages.get(name)
            if stage is None:
                stage = stages[name] = self.stages.of(name)
            stage.observe((end - begin) / 1e9)
            if name in _SEARCHES:
                self._searched(name, exchange, series.labels[0])
        if exchange.usage is not None:
            self._used(exchange, series)
        if exchange.cache != "off":
            self.cache.add((series.labels[0], exchange.cache))
        if exchange.cost:
            self._paid(exchange, series)
        if exchange.finish_reason is not None:
            self.finished.add((series.labels[0], finish(exchange.finish_reason)))
        if exchange.outcome in _FAILED and exchange.made_for is None:
            self._failed(exchange, series)
        if exchange.verdicts:
            for where, verdict in exchange.verdicts:
                self.verdicts.add((where, verdict.check, verdict.action))
        for attempt in exchange.attempts:
            if attempt.outcome not in _NO_FAILURE:
                self.attempts.add((attempt.target.provider, error_type(attempt.outcome)))
        for name in exchange.degraded:
            self.degraded.add((name,))
        if exchange.permit is not None and (refusal := exchange.permit.refusal) is not None:
            self.limited.add(refusal)

    def rated(self, model: str | None, score: float) -> None:
        """Somebody has said what a call of that model was worth, from 0 to 1."""
        self.feedback.add((self._labels.of(model), "good" if score >= 0.5 else "bad"))

    def _made(self, key: _Key) -> _Series:
        label = self._labels.of(key[1])
        # A name that some caller wrote is not kept: whatever calls name, there is one series for all of it.
        named = key if label == key[1] else (key[0], label, key[2], "", *key[4:])
        series = self._series.get(named)
        if series is None:
            series = self._series[named] = _Series(self, named, label, self._configured.vendor(key[2]))
            self.failures.add((label,), 0.0)  # there before the first one, which a rate would not see otherwise
        return series

    def _used(self, exchange: Exchange, series: _Series) -> None:
        usage = exchange.usage
        assert usage is not None
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        series.input_tokens.observe(prompt)
        series.output_tokens.observe(completion)
        series.input.value += prompt
        series.output.value += completion
        if usage.cached_tokens:
            self.tokens.add((*series.labels, "cached"), usage.cached_tokens)
        if usage.reasoning_tokens:
            self.tokens.add((*series.labels, "reasoning"), usage.reasoning_tokens)
        if exchange.cache in FROM_CACHE:
            model = series.labels[0]
            self.saved_tokens.add((model, "input"), prompt)
            self.saved_tokens.add((model, "output"), completion)
            if exchange.saved:
                self.saved_cost.add((model,), exchange.saved)
        elif exchange.stream and exchange.first_chunk and completion > 1 and exchange.outcome == "ok":
            series.token_time.observe((exchange.ended - exchange.first_chunk) / 1e9 / (completion - 1))

    def _paid(self, exchange: Exchange, series: _Series) -> None:
        assert exchange.cost is not None
        self.cost.add(series.labels, exchange.cost)
        if exchange.caller is not None:
            tenant = exchange.caller.tenant
            if tenant not in self._tenants:
                if len(self._tenants) < _MOST_TENANTS:
                    self._tenants.add(tenant)
                else:
                    tenant = OTHER
            self.tenant_cost.add((tenant,), exchange.cost)

    def _failed(self, exchange: Exchange, series: _Series) -> None:
        stage, type_ = failed_in(exchange)
        self.duration.of(*series.gen_ai, type_).observe((exchange.ended - exchange.started) / 1e9)
        model, target = series.labels
        if exchange.target is None and exchange.attempts:
            target = exchange.attempts[-1].target.provider
        self.errors.add((model, stage, target, type_))
        # An error after the first byte of an answer has the status 200. That nothing was kept is an answer too.
        if exchange.outcome == "error" and (exchange.status >= 500 or exchange.status == 200) and type_ != "not_cached":
            self.failures.add((model,))

    def _searched(self, name: str, exchange: Exchange, model: str) -> None:
        passages = exchange.passages
        if passages:
            outcome = "found"
            self.scores.of(model).observe(max(passage.score for passage in passages))
        elif exchange.status == 400 and not exchange.attempts:
            return  # it was asked for wrongly, or broken off because the request was blocked
        else:
            away = name in exchange.degraded or exchange.error_code == "stage_unavailable"
            outcome = "unavailable" if away else "nothing"
        if outcome != "unavailable":
            self.passages.of(model).observe(len(passages))
        self.searches.add((model, outcome))
