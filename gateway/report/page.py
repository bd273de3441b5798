"""The report as one HTML file, which asks for nothing from anywhere."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gateway.drift.findings import Finding
from gateway.report import figures
from gateway.report.facts import Facts

_Z = 1.96  # the normal distribution's 97.5 % point
_STRONG = {"block": figures.COLOURS[5], "mask": figures.COLOURS[1], "drop": figures.COLOURS[3]}


def page(facts: Facts, findings: Sequence[Finding] | None, title: str) -> str:
    """`findings` are those of drift, None where nothing was compared. Whatever callers wrote is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        count=_count, money=_money, percent=_percent, ms=_ms, day=_day, decimal=_decimal, probability=_probability
    )
    return environment.get_template("page.html.j2").render(
        title=title, facts=facts, totals=facts.totals, own=facts.rows["own_cost"][0], plots=_plots(facts),
        saved=sum(row["saved"] or 0.0 for row in facts.rows["savings"]), findings=_told(findings),
        drift=_drift(findings), made=datetime.datetime.now(datetime.UTC),
    )  # fmt: skip


def _plots(facts: Facts) -> dict[str, Markup | None]:
    """None where there is nothing to show."""
    rows, width = facts.rows, facts.period.width
    drawn: dict[str, str | None] = {}
    for name, money in (("traffic", False), ("cost", True), ("errors", False)):
        times, series = facts.series(name)
        drawn[name] = figures.stacked(name, times, series, width, money) if times else None
    drawn["latency"] = _lines(
        "latency", rows, {"p50": "median", "p95": "95th percentile", "p99": "99th", "first": "first chunk, median"}, "s"
    )
    drawn["cache"] = _lines("cache", rows, {"exact": "same question", "semantic": "same meaning"}, "%")
    drawn["retrieval"] = _lines(
        "retrieval",
        rows,
        {"score": "best score, mean", "nothing": "nothing found", "cites": "answers that cite"},
        "%",
        4.6,
    )
    found = rows["scores"]
    drawn["scores"] = figures.histogram(
        "scores", [row["score"] for row in found], [row["value"] for row in found], 0.05, "score of the best passage"
    ) if found else None  # fmt: skip
    guards = rows["guardrails"]
    drawn["guardrails"] = figures.bars(
        "guardrails", [f"{row['check']}: {row['action']}" for row in guards], [row["value"] for row in guards],
        [_STRONG.get(row["action"], "#94a3b8") for row in guards],
    ) if guards else None  # fmt: skip
    said = rows["feedback"]
    drawn["feedback"] = figures.ratings(
        "feedback", [f"{row['model']}, {row['arm']} ({row['ratings']:,})" for row in said],
        [row["score"] for row in said], [_Z * (row["spread"] or 0.0) / row["ratings"] ** 0.5 for row in said],
    ) if said else None  # fmt: skip
    return {
        name: None if svg is None else Markup(svg) for name, svg in drawn.items()
    }  # what is in it was escaped when it was drawn


def _lines(name: str, rows: Any, shown: dict[str, str], unit: str, inches: float = 8.6) -> str | None:
    found = rows[name]
    series = {label: [row[column] for row in found] for column, label in shown.items()}
    series = {label: values for label, values in series.items() if any(value is not None for value in values)}
    return figures.lines(name, [row["moment"] for row in found], series, unit, inches) if found and series else None


def _drift(findings: Sequence[Finding] | None) -> Markup | None:
    if not findings:
        return None
    shown = sorted(findings, key=lambda one: (not one.drifted, -one.comparison.effect))[:24]
    return Markup(figures.effects(  # what is in it was escaped when it was drawn
        "drift", [f"{one.name}: {one.what}" if one.kind != "feature" else one.name for one in shown],
        [one.comparison.effect for one in shown], [one.threshold for one in shown], [one.drifted for one in shown],
    ))  # fmt: skip


def _told(findings: Sequence[Finding] | None) -> Sequence[Finding] | None:
    if findings is None:
        return None
    return sorted(findings, key=lambda one: (not one.drifted, one.name, one.kind))


def _count(value: float | None) -> str:
    return "0" if value is None else f"{value:,.0f}"


def _money(value: float | None) -> str:
    if value is None:
        return "–"
    return f"${value:,.2f}" if abs(value) >= 1 or not value else f"${value:.4f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.2g} %" if value < 0.1 else f"{value * 100:.0f} %"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value / 1000:,.2f} s" if value >= 1000 else f"{value:,.0f} ms"


def _day(value: datetime.datetime | float) -> str:
    at = value if isinstance(value, datetime.datetime) else datetime.datetime.fromtimestamp(value, datetime.UTC)
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _probability(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else "< 0.0001"
