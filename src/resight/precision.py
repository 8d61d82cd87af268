"""Average precision: the mean, over all relevant rows of a query, of the precision at each; 0 where not retrieved."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.types import Int64, as_array


def average_precision(relevant: Any, totals: Any = None, counted: Any = None) -> NDArray[np.float64]:
    """Non-interpolated average precision (Q,) float64 of ranked lists, NaN for queries with nothing relevant.

    `relevant` (Q, K) bool: whether each result, best first, is relevant. `totals` (Q,) int: relevant rows of each
    query, retrieved or not; None for those in its list. `counted` (Q, K) bool: results that take a rank, all by
    default; padding and the query itself take none. Raises `ArrayError` for other shapes or types.
    """
    hits = as_array("relevant", relevant, np.bool_, (None, None))
    query, rank = np.nonzero(hits)
    if counted is not None:
        ranks = np.cumsum(as_array("counted", counted, np.bool_, hits.shape), axis=1) - 1
        rank = ranks[query, rank]
    sizes = hits.sum(axis=1) if totals is None else as_array("totals", totals, np.int64, hits.shape[:1])
    return precision_of_ranks(query, rank, sizes)


def precision_of_ranks(query: Int64, rank: Int64, totals: Int64) -> NDArray[np.float64]:
    """`average_precision` (Q,) from where the relevant rows stand: `query` (P,) ascending and 0-based `rank` (P,),
    ascending within a query. Precisions are summed in that order, so that every processor gets the same."""
    nth = np.arange(len(query)) - np.searchsorted(query, query)
    sums = np.bincount(query, weights=(nth + 1) / (rank + 1), minlength=len(totals))
    return np.where(totals > 0, sums / np.maximum(totals, 1), np.nan)
