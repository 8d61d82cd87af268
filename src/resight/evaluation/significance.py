"""How sure is a mean, and is one system better? Bootstrap intervals and paired randomisation tests over queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resight.errors import ArrayError, UsageError
from resight.types import as_array

Z = 1.959964  # standard deviations on either side that hold 95 % of a normal distribution
_BLOCK = 1 << 22  # draws held at a time, so that 10000 resamples of 100000 queries fit in memory


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same queries: `difference` = `mean_a` - `mean_b` with its 95 % interval `low` to `high`.

    `p_value`: two-sided, of the hypothesis that the systems are exchangeable. `queries` were compared, `empty` queries
    (NaN in both) were left out.
    """

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p_value: float
    queries: int
    empty: int


def interval(scores: ArrayLike, *, seed: int, resamples: int = 10000) -> tuple[float, float]:
    """The 95 % interval of the mean of per-query `scores` (Q,): percentiles 2.5 and 97.5 of the mean over bootstrap
    samples of the queries (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993). Scores of 0 and 1 alone get
    Wilson's (JASA 1927): a bootstrap of nothing but hits would claim to be certain. Queries of NaN are left out; NaN
    where none is left. Memory: some 100 MB.
    """
    values = as_array("scores", scores, np.float64, (None,))
    values = values[~np.isnan(values)]
    if not values.size:
        return np.nan, np.nan
    if np.isin(values, (0, 1)).all():
        return _wilson(float(values.mean()), len(values))
    low, high = np.percentile(_bootstrap(values, np.random.default_rng(seed), resamples), [2.5, 97.5])
    return float(low), float(high)


def _wilson(share: float, n: int) -> tuple[float, float]:
    middle, scale = share + Z**2 / (2 * n), 1 + Z**2 / n
    width = Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, float((middle - width) / scale)), min(1.0, float((middle + width) / scale))


def compare(ap_a: ArrayLike, ap_b: ArrayLike, *, seed: int, resamples: int = 10000) -> Comparison:
    """Compare per-query scores (Q,) of two systems on the same queries in the same order.

    Interval: percentiles 2.5 and 97.5 of the mean difference over bootstrap samples of the queries. p-value: share of
    random sign flips of the differences whose mean is at least as far from zero, the observed one counted (Smucker et
    al., "A comparison of statistical significance tests for information retrieval evaluation", CIKM 2007). Memory: some
    100 MB. Raises `ArrayError` when lengths differ, nothing is left to compare, or a query is NaN in one system only.
    """
    if resamples < 1:
        raise UsageError(f"{resamples} resamples were asked for: at least 1 is needed")
    a = as_array("ap_a", ap_a, np.float64, (None,))
    b = as_array("ap_b", ap_b, np.float64, a.shape)
    lone = np.flatnonzero(np.isnan(a) != np.isnan(b))
    if lone.size:
        raise ArrayError(f"{lone.size} queries have a score in one system only, the first is {lone[0]}")
    scored = ~np.isnan(a)
    if not scored.any():
        raise ArrayError(f"none of the {len(a)} queries has a score to compare")
    a, b = a[scored], b[scored]
    difference = a - b
    rng = np.random.default_rng(seed)
    low, high = np.percentile(_bootstrap(difference, rng, resamples), [2.5, 97.5])
    return Comparison(
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        difference=float(difference.mean()),
        low=float(low),
        high=float(high),
        p_value=_randomisation(difference, rng, resamples),
        queries=len(a),
        empty=int((~scored).sum()),
    )


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """`p_values` (n,) of n tests corrected for their number (Holm, "A simple sequentially rejective multiple test
    procedure", Scandinavian Journal of Statistics 1979): below 0.05 each, all are true at once but 1 time in 20.
    """
    p = as_array("p_values", p_values, np.float64, (None,))
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(raised, 1.0)
    return corrected


def _bootstrap(difference: NDArray[np.float64], rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    n = len(difference)
    return np.concatenate([difference[rng.integers(n, size=(rows, n))].mean(axis=1) for rows in _blocks(resamples, n)])


def _randomisation(difference: NDArray[np.float64], rng: np.random.Generator, resamples: int) -> float:
    n = len(difference)
    # sums of the same numbers in another order differ in the last bits: those must count as equal
    observed = abs(difference.sum()) - 1e-9 * np.abs(difference).sum()
    extreme = 0
    for rows in _blocks(resamples, n):
        signs = 1.0 - 2.0 * rng.integers(2, size=(rows, n), dtype=np.int8)
        extreme += int((np.abs(signs @ difference) >= observed).sum())
    return (extreme + 1) / (resamples + 1)


def _blocks(resamples: int, n: int) -> Iterator[int]:
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        yield min(step, resamples - start)
