"""The similarity that separates near from far: a percentile of all pairwise similarities of a collection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from resight.errors import ArrayError, UsageError
from resight.types import Float32, Int64, as_array

EXACT_ROWS = 4096  # up to which all similarities are held: 64 MiB
SAMPLED_ROWS = 2048
GROUPS = 16  # into which the sampled rows are divided to see how much they differ
BINS = 1 << 17  # over -1 to 1
BLOCK = 1024


@dataclass(frozen=True)
class Percentile:
    """A percentile of similarities. `error`: what it may be off by, two standard errors of the sampling and half a bin
    of the histogram; 0 where it is exact."""

    value: float
    error: float


def similarity_percentile(
    e: Float32, percentile: float, *, exact_rows: int = EXACT_ROWS, sampled_rows: int = SAMPLED_ROWS, seed: int = 0
) -> Percentile:
    """The `percentile` of the inner products of all N² pairs of L2-normalised rows `e` (N, D), each with itself too.

    Exact, by linear interpolation, up to `exact_rows` rows. Above, `sampled_rows` random rows (all, where there are not
    more) are compared with every row, in blocks, and counted in a histogram of 2^17 bins.
    Memory: 4 N² bytes, or 32 MiB. Raises `UsageError` for a percentile outside 0 to 100 and `ArrayError` for no rows.
    """
    if not 0 <= percentile <= 100:
        raise UsageError(f"percentile {percentile} must lie between 0 and 100")
    e = as_array("e", e, np.float32, (None, None))
    if not len(e):
        raise ArrayError("there are no rows: a percentile of similarities needs at least one")
    if len(e) <= exact_rows:
        return Percentile(float(np.percentile(e @ e.T, percentile)), 0.0)
    size = min(sampled_rows, len(e))
    rows = np.random.default_rng(seed).permutation(len(e))[:size]
    counts = np.stack([histogram(e[group], e) for group in np.array_split(rows, min(GROUPS, size))])
    value = _quantile(counts.sum(axis=0), percentile)
    spread = np.std([_quantile(group, percentile) for group in counts], ddof=1) if len(counts) > 1 else 2.0
    correction = np.sqrt(1 - size / len(e))  # nothing is left to chance where every row is taken
    return Percentile(value, float(2 * spread / np.sqrt(len(counts)) * correction + 1 / BINS))


def histogram(left: Float32, right: Float32) -> Int64:
    """Numbers of inner products of rows `left` (M, D) with rows `right` (N, D) in 2^17 equal bins from -1 to 1."""
    counts = np.zeros(BINS, np.int64)
    for start in range(0, len(left), BLOCK):
        for first in range(0, len(right), 4 * BLOCK):
            _count(left[start : start + BLOCK] @ right[first : first + 4 * BLOCK].T, counts)
    return counts


def _quantile(counts: Int64, percentile: float) -> float:
    """The value at `percentile`, linear between two neighbours in order; the members of a bin lie evenly in it."""
    below = np.cumsum(counts)
    wanted = percentile / 100 * (below[-1] - 1)
    orders = np.array([np.floor(wanted), np.ceil(wanted)])
    places = np.searchsorted(below, orders, side="right")
    inside = (orders - (below[places] - counts[places]) + 0.5) / counts[places]
    low, high = -1 + 2 * (places + inside) / BINS
    return float(low + (wanted - orders[0]) * (high - low))


@njit(cache=True)
def _count(products: NDArray[Any], counts: NDArray[Any]) -> None:
    for value in products.ravel():
        place = int((value + 1) * (BINS // 2))
        counts[min(max(place, 0), BINS - 1)] += 1
