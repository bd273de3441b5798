"""What a report tells, out of the lake: each question one query."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.lake.query import Queries

_HOUR = 3_600
_MOST_SERIES = 6

Rows = list[dict[str, Any]]

# Calls of callers; what the gateway asks for itself is counted with its cost only.
_WITHIN = "started_at >= $since AND started_at < $until AND date >= CAST($since AS DATE)"
_OWN = f"{_WITHIN} AND purpose IS NULL"
_BUCKET = "time_bucket(to_seconds($width), started_at) AS moment"

_QUERIES = {
    "totals": f"""
        SELECT count(*) AS calls, count(DISTINCT (tenant, "user")) FILTER ("user" IS NOT NULL) AS users,
               count(DISTINCT tenant) AS tenants, sum(cost) AS cost,
               sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
               avg(CAST(outcome = 'error' AS INT)) AS errors, avg(CAST(outcome = 'blocked' AS INT)) AS blocked,
               quantile_cont(duration_ms, 0.5) AS median_ms, quantile_cont(duration_ms, 0.95) AS p95_ms,
               quantile_cont(first_chunk_ms, 0.5) AS first_ms,
               count(*) FILTER (cache IN ('hit', 'semantic')) AS hits, count(*) FILTER (cache <> 'off') AS cacheable
        FROM calls WHERE {_OWN}""",
    "own_cost": f"SELECT sum(cost) AS cost, count(*) AS calls FROM calls WHERE {_WITHIN} AND purpose IS NOT NULL",
    "traffic": f"SELECT {_BUCKET}, coalesce(model, 'unknown') AS series, count(*) AS value FROM calls WHERE {_OWN} GROUP BY ALL",
    "cost": f"SELECT {_BUCKET}, coalesce(model, 'unknown') AS series, sum(cost) AS value FROM calls WHERE {_WITHIN} AND cost > 0 GROUP BY ALL",
    "latency": f"""
        SELECT {_BUCKET}, quantile_cont(duration_ms, 0.5) AS p50, quantile_cont(duration_ms, 0.95) AS p95,
               quantile_cont(duration_ms, 0.99) AS p99, quantile_cont(first_chunk_ms, 0.5) AS first
        FROM calls WHERE {_OWN} AND outcome = 'ok' AND cache NOT IN ('hit', 'semantic') GROUP BY ALL ORDER BY moment""",
    "errors": f"""
        SELECT {_BUCKET}, coalesce(error_code, outcome) AS series, count(*) AS value
        FROM calls WHERE {_OWN} AND outcome <> 'ok' GROUP BY ALL""",
    "cache": f"""
        SELECT {_BUCKET}, avg(CAST(cache = 'hit' AS INT)) AS exact, avg(CAST(cache = 'semantic' AS INT)) AS semantic
        FROM calls WHERE {_OWN} AND cache <> 'off' GROUP BY ALL ORDER BY moment""",
    "savings": f"""
        WITH missed AS (SELECT model, avg(cost) AS cost, avg(duration_ms) AS ms FROM calls
                        WHERE {_OWN} AND cache NOT IN ('hit', 'semantic') AND outcome = 'ok' GROUP BY model)
        SELECT calls.model, count(*) AS hits, sum(missed.cost - coalesce(calls.cost, 0)) AS saved,
               avg(missed.ms - calls.duration_ms) AS ms
        FROM calls JOIN missed USING (model) WHERE {_OWN} AND cache IN ('hit', 'semantic')
        GROUP BY ALL ORDER BY hits DESC LIMIT 10""",
    "guardrails": f"""
        SELECT g.check AS check, g.action AS action, count(*) AS value
        FROM (SELECT unnest(guardrails) AS g FROM calls WHERE {_OWN}) GROUP BY ALL ORDER BY value DESC LIMIT 30""",
    "models": f"""
        SELECT coalesce(model, 'unknown') AS model, count(*) AS calls, sum(cost) AS cost,
               sum(prompt_tokens) + sum(completion_tokens) AS tokens, avg(CAST(outcome = 'error' AS INT)) AS errors,
               quantile_cont(duration_ms, 0.95) AS p95
        FROM calls WHERE {_OWN} GROUP BY ALL ORDER BY calls DESC LIMIT 15""",
    "tenants": f"""
        SELECT tenant, count(*) AS calls, sum(cost) AS cost FROM calls WHERE {_WITHIN}
        GROUP BY ALL ORDER BY cost DESC NULLS LAST, calls DESC LIMIT 10""",
    "feedback": """
        SELECT c.model, coalesce(c.arm, 'all') AS arm, count(*) AS ratings, avg(f.score) AS score,
               stddev_samp(f.score) AS spread
        FROM feedback f JOIN calls c USING (call_id)
        WHERE f.score IS NOT NULL AND f.given_at >= $since AND f.given_at < $until AND c.started_at >= $since
        GROUP BY c.model, coalesce(c.arm, 'all') QUALIFY row_number() OVER (ORDER BY count(*) DESC, c.model) <= 24 ORDER BY c.model, arm""",
    "scores": f"""
        SELECT floor(top_score * 20) / 20 AS score, count(*) AS value FROM calls
        WHERE {_OWN} AND top_score BETWEEN 0 AND 1 GROUP BY ALL ORDER BY score""",
    "retrieval": f"""
        SELECT {_BUCKET}, avg(CAST(passage_count = 0 AS INT)) AS nothing, avg(top_score) AS score,
               avg(CAST(cited > 0 AS INT)) AS cites
        FROM calls WHERE {_OWN} AND passage_count IS NOT NULL GROUP BY ALL ORDER BY moment""",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Period:
    """Seconds since the epoch."""

    since: float
    until: float

    @property
    def width(self) -> int:
        """Seconds that a point of a plot stands for."""
        length = self.until - self.since
        return next(width for width in (_HOUR, 6 * _HOUR, 24 * _HOUR, 10**12) if length / width <= 72 or width > 10**9)


@dataclass(frozen=True, slots=True)
class Facts:
    """Each query's rows, by its name."""

    period: Period
    rows: Mapping[str, Rows]

    @property
    def totals(self) -> dict[str, Any]:
        return self.rows["totals"][0]

    def series(self, name: str) -> tuple[Sequence[datetime.datetime], Mapping[str, Sequence[float]]]:
        """The times, and for each of the largest series its values there; the others are one."""
        return _series(self.rows[name])


def gather(queries: Queries, period: Period) -> Facts:
    """Raises what the lake raises."""
    known = {
        "since": datetime.datetime.fromtimestamp(period.since, datetime.UTC),
        "until": datetime.datetime.fromtimestamp(period.until, datetime.UTC),
        "width": period.width,
    }

    def ask(sql: str) -> Rows:
        return list(queries.run(sql, {name: value for name, value in known.items() if f"${name}" in sql}).to_pylist())

    return Facts(period, {name: ask(sql) for name, sql in _QUERIES.items()})


def _series(rows: Rows) -> tuple[Sequence[datetime.datetime], Mapping[str, Sequence[float]]]:
    totals: dict[str, float] = {}
    for row in rows:
        totals[row["series"]] = totals.get(row["series"], 0.0) + float(row["value"])
    largest = sorted(totals, key=lambda name: -totals[name])
    shown = set(largest[: _MOST_SERIES if len(largest) <= _MOST_SERIES else _MOST_SERIES - 1])
    times = sorted({row["moment"] for row in rows})
    place = {at: index for index, at in enumerate(times)}
    found: dict[str, list[float]] = {name: [0.0] * len(times) for name in largest if name in shown}
    for row in rows:
        name = row["series"] if row["series"] in shown else "others"
        found.setdefault(name, [0.0] * len(times))[place[row["moment"]]] += float(row["value"])
    return times, found
