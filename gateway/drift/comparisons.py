"""Two samples of one thing compared: how far apart they are, 0 to 1, and how likely that much is without any change.

The statistics are scipy's. scipy is there wherever retrieval is; evidently, which wraps the same tests, would bring
twenty more packages (an HTTP framework, plotly, nltk, statsmodels, a telemetry client) into the gateway's environment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp, norm

_FEWEST_EXPECTED = 5.0  # of a category; rarer ones are counted together, as the chi-squared test wants it
_MOST_VECTORS = 250  # of each sample: a kernel of 500 by 500, and its permutations
_PERMUTATIONS = (1_000, 30_000)  # the second only where the first saw nothing as large: enough for 300 comparisons
_BINS = 10
_FLOOR = 1e-4  # the share that an empty bin has in the population stability index

Numbers = Sequence[float] | NDArray[np.float64]
Vectors = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`effect` from 0, the same, to 1, nothing in common; `p` for the test named; `psi` where it is customary."""

    effect: float
    p: float
    test: str
    reference: int
    window: int
    psi: float | None = None


def compare_numbers(reference: Numbers, window: Numbers) -> Comparison:
    """Kolmogorov and Smirnov's two-sample test: the largest distance of the two distribution functions."""
    first, second = np.asarray(reference, float), np.asarray(window, float)
    found = ks_2samp(first, second, method="asymp" if max(len(first), len(second)) > 1_000 else "auto")
    return Comparison(
        float(found.statistic), float(found.pvalue), "Kolmogorov-Smirnov", len(first), len(second),
        _psi(*_binned(first, second)),
    )  # fmt: skip


def compare_categories(reference: Iterable[Hashable], window: Iterable[Hashable]) -> Comparison:
    """The chi-squared test of homogeneity; the effect is the total variation distance."""
    first, second = Counter(reference), Counter(window)
    n, m = first.total(), second.total()
    table = _table(first, second)
    shares = table / table.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    p = float(chi2_contingency(table, correction=False).pvalue) if table.shape[1] > 1 else 1.0
    return Comparison(distance, p, "chi-squared", n, m, _psi(shares[0], shares[1]))


def compare_shares(reference: Sequence[bool], window: Sequence[bool]) -> Comparison:
    """Fisher's exact test; the effect is the difference of the two shares."""
    n, m, k, l = len(reference), len(window), sum(reference), sum(window)  # noqa: E741  # as they are written
    p = float(fisher_exact([[k, n - k], [l, m - l]]).pvalue)
    return Comparison(abs(k / n - l / m), p, "Fisher's exact", n, m)


def compare_vectors(reference: Vectors, window: Vectors, seed: int = 0) -> Comparison:
    """The maximum mean discrepancy with a Gaussian kernel as wide as the median distance, tested by permutations.

    Gretton et al., A Kernel Two-Sample Test, JMLR 13 (2012): the unbiased estimate, whose root is the effect.
    """
    random = np.random.default_rng(seed)
    first, second = _some(reference, random), _some(window, random)
    n, m = len(first), len(second)
    distances = cdist(*[np.vstack([first, second])] * 2, "sqeuclidean")
    width = float(np.median(distances[np.triu_indices(n + m, 1)])) or 1.0
    kernel = np.exp(-distances / width)
    np.fill_diagonal(kernel, 0.0)
    seen = _discrepancies(kernel, np.arange(n + m)[None, :] < n, n, m)[0]
    above, done = 0, 0
    for permutations in _PERMUTATIONS:
        for begin in range(0, permutations, 1_000):
            order = random.permuted(np.tile(np.arange(n + m) < n, (min(1_000, permutations - begin), 1)), axis=1)
            above += int((_discrepancies(kernel, order, n, m) >= seen - 1e-12).sum())
            done += len(order)
        if above:
            break
    effect = min(1.0, float(np.sqrt(max(0.0, seen))))
    return Comparison(effect, (above + 1) / (done + 1), "maximum mean discrepancy", len(reference), len(window))


def compare_in_strata(
    reference: Sequence[tuple[Hashable, float]], window: Sequence[tuple[Hashable, float]]
) -> Comparison | None:
    """Mean scores compared among like with like: (stratum, score). The effect is the weighted difference of the means.

    The mean score statistic of Landis, Heyman and Koch, Average Partial Association in Three-way Contingency Tables,
    Int. Stat. Rev. 46 (1978). None where no stratum has both.
    """
    strata: dict[Hashable, tuple[list[float], list[float]]] = {}
    for side, sample in enumerate((reference, window)):
        for stratum, score in sample:
            strata.setdefault(stratum, ([], []))[side].append(score)
    total = variance = weights = 0.0
    n = m = 0
    for before, after in strata.values():
        if not before or not after:
            continue
        weight = len(before) * len(after) / (len(before) + len(after))
        total += weight * float(np.mean(after) - np.mean(before))
        spread = float(np.var([*before, *after], ddof=1))
        variance += weight**2 * spread * (1 / len(before) + 1 / len(after))
        weights += weight
        n, m = n + len(before), m + len(after)
    if not weights:
        return None
    p = float(2 * norm.sf(abs(total) / variance**0.5)) if variance else 1.0
    return Comparison(min(1.0, abs(total / weights)), p, "stratified mean scores", n, m)


def _discrepancies(kernel: NDArray[np.float64], firsts: NDArray[np.bool_], n: int, m: int) -> NDArray[np.float64]:
    """The unbiased estimate for each row of `firsts`, which says who is in the first sample. The diagonal is zero."""
    one, two = firsts.astype(float), (~firsts).astype(float)
    to_one = one @ kernel
    within_one = (to_one * one).sum(axis=1)
    across = (to_one * two).sum(axis=1)
    within_two = float(kernel.sum()) - within_one - 2 * across
    found: NDArray[np.float64] = within_one / (n * (n - 1)) + within_two / (m * (m - 1)) - 2 * across / (n * m)
    return found


def _some(vectors: Vectors, random: np.random.Generator) -> Vectors:
    if len(vectors) <= _MOST_VECTORS:
        return vectors
    return vectors[random.choice(len(vectors), _MOST_VECTORS, replace=False)]


def _table(first: Counter[Hashable], second: Counter[Hashable]) -> NDArray[np.float64]:
    """Two rows of counts, the rare categories in one column."""
    n, m = first.total(), second.total()
    common, rare = [], [0, 0]
    for category in {**first, **second}:
        counts = [first[category], second[category]]
        if sum(counts) * min(n, m) / (n + m) >= _FEWEST_EXPECTED:
            common.append(counts)
        else:
            rare = [rare[0] + counts[0], rare[1] + counts[1]]
    return np.array([*common, *([rare] if any(rare) else [])], float).T


def _binned(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares in the bins between the reference's deciles."""
    edges = np.unique(np.quantile(first, np.linspace(0, 1, _BINS + 1)[1:-1]))
    shares = [np.bincount(np.searchsorted(edges, sample), minlength=len(edges) + 1) for sample in (first, second)]
    return shares[0] / len(first), shares[1] / len(second)


def _psi(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The population stability index: below 0.1 nothing, above 0.25 a change, as it is commonly read."""
    first, second = np.maximum(first, _FLOOR), np.maximum(second, _FLOOR)
    return float(((second - first) * np.log(second / first)).sum())
