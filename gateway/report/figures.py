"""The report's plots: matplotlib's, as SVG that stands in the page and asks for nothing.

It is imported where something is drawn: where no program of this user has done so before, its import asks the system for
its fonts and writes down what it finds.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's, which most colour-blind people can tell apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
_INK, _GRID = "#475569", "#e2e8f0"
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a model may have dollars in its name
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Segoe UI", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _GRID,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_LONGEST = 40  # characters of a name
_HALF = 4.6  # inches

Times = Sequence[Any]  # datetimes, which matplotlib takes and does not say so


def stacked(name: str, times: Times, series: Mapping[str, Sequence[float]], width: int, money: bool = False) -> str:
    """Bars on each other, one for each `width` seconds."""
    with _Drawing(name) as (figure, axes):
        below = [0.0] * len(times)
        length: Any = datetime.timedelta(seconds=width * 0.86)
        for colour, (label, values) in zip(_colours(series), series.items(), strict=True):
            axes.bar(
                list(times), list(values), bottom=below, width=length, align="edge",
                color=colour, label=_short(label), linewidth=0,
            )  # fmt: skip
            below = [low + value for low, value in zip(below, values, strict=True)]
        _in_time(axes, figure)
        axes.yaxis.set_major_formatter(_dollars if money else _thousands)
        _legend(axes, len(series))
        return _svg(figure, name)


def lines(name: str, times: Times, series: Mapping[str, Sequence[float | None]], unit: str, inches: float = 8.6) -> str:
    """`unit` is s or %; values are milliseconds or shares."""
    with _Drawing(name, width=inches) as (figure, axes):
        for colour, (label, values) in zip(_colours(series), series.items(), strict=True):
            drawn = [float("nan") if value is None else float(value) for value in values]
            marker = "o" if len(times) < 3 else ""
            axes.plot(list(times), drawn, color=colour, label=_short(label), linewidth=1.8, marker=marker, markersize=4)
        _in_time(axes, figure)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(_seconds if unit == "s" else _percent)
        _legend(axes, len(series))
        return _svg(figure, name)


def histogram(name: str, edges: Sequence[float], counts: Sequence[float], width: float, label: str) -> str:
    with _Drawing(name, width=_HALF) as (figure, axes):
        axes.bar(list(edges), list(counts), width=width * 0.92, align="edge", color=COLOURS[0], linewidth=0)
        axes.set_xlabel(label)
        axes.yaxis.set_major_formatter(_thousands)
        return _svg(figure, name)


def bars(name: str, labels: Sequence[str], values: Sequence[float], colours: Sequence[str]) -> str:
    """Lying, the first one on top."""
    from matplotlib.ticker import MaxNLocator

    with _Drawing(name, 0.9 + 0.28 * max(2, len(labels))) as (figure, axes):
        places = list(range(len(labels)))[::-1]
        axes.barh(places, list(values), color=list(colours), height=0.72, linewidth=0)
        axes.set_yticks(places, [_short(label) for label in labels])
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(_thousands)
        return _svg(figure, name)


def ratings(name: str, labels: Sequence[str], means: Sequence[float], errors: Sequence[float]) -> str:
    """Mean scores with the half width of their intervals."""
    with _Drawing(name, 0.9 + 0.3 * max(2, len(labels))) as (figure, axes):
        places = list(range(len(labels)))[::-1]
        axes.errorbar(
            list(means), places, xerr=list(errors), fmt="o", color=COLOURS[0], ecolor="#94a3b8", capsize=3, markersize=6
        )
        axes.set_yticks(places, [_short(label) for label in labels])
        axes.set_ylim(-0.6, len(labels) - 0.4)
        axes.set_xlim(0, 1)
        axes.grid(axis="x")
        axes.set_xlabel("mean score, with its 95 % interval")
        return _svg(figure, name)


def effects(
    name: str, labels: Sequence[str], scores: Sequence[float], limits: Sequence[float], marks: Sequence[bool]
) -> str:
    """Effects as bars, each with its threshold as a line; those that count stand out."""
    with _Drawing(name, 0.9 + 0.28 * max(2, len(labels))) as (figure, axes):
        places = list(range(len(labels)))[::-1]
        colours = [COLOURS[5] if mark else "#94a3b8" for mark in marks]
        axes.barh(places, list(scores), color=colours, height=0.66, linewidth=0)
        axes.vlines(
            list(limits), [p - 0.42 for p in places], [p + 0.42 for p in places], color="#0f172a", linewidth=1.4
        )
        axes.set_yticks(places, [_short(label, 60) for label in labels])
        axes.set_xlim(0, max([0.4, *scores, *limits]) * 1.05)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x")
        axes.set_xlabel("effect, 0 to 1; the black lines are the thresholds")
        return _svg(figure, name)


class _Drawing:
    def __init__(self, name: str, height: float = 2.9, width: float = 8.6) -> None:
        """Inches; narrow ones stand beside each other."""
        import matplotlib as mpl

        self._context = mpl.rc_context({**_STYLE, "svg.hashsalt": name})
        self._size = width, height

    def __enter__(self) -> tuple[Figure, Axes]:
        from matplotlib.figure import Figure

        self._context.__enter__()
        figure = Figure(figsize=self._size, layout="constrained")
        return figure, figure.subplots()

    def __exit__(self, *exc: Any) -> None:
        self._context.__exit__(*exc)


def _svg(figure: Figure, name: str) -> str:
    """The element alone: without prologue and metadata, whose addresses nobody needs."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    begin, end = text.find("<metadata"), text.find("</metadata>")
    if begin >= 0:
        text = text[:begin] + text[end + len("</metadata>") :]
    return text.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)


def _in_time(axes: Axes, figure: Figure) -> None:
    from matplotlib import dates

    locator = dates.AutoDateLocator(tz=datetime.UTC, minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=datetime.UTC))


def _legend(axes: Axes, count: int) -> None:
    if count > 1:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=min(count, 4 if _is_wide(axes) else 2),
            borderaxespad=0.2,
            handlelength=1.1,
        )


def _is_wide(axes: Axes) -> bool:
    figure = axes.get_figure(root=True)
    return figure is not None and bool(figure.get_size_inches()[0] > _HALF)


def _colours(series: Mapping[str, Any]) -> list[str]:
    return [COLOURS[index % len(COLOURS)] if name != "others" else "#cbd5e1" for index, name in enumerate(series)]


def _short(label: str, longest: int = _LONGEST) -> str:
    """One line of signs that can be shown; SVG takes no others."""
    plain = "".join(sign if sign.isprintable() else "?" for sign in label)
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def _thousands(value: float, _: Any = None) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _dollars(value: float, _: Any = None) -> str:
    return f"${value:,.2f}" if abs(value) < 10 else f"${value:,.0f}"


def _seconds(value: float, _: Any = None) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"


def _percent(value: float, _: Any = None) -> str:
    return f"{value * 100:.3g} %"
