"""Inner products of chosen pairs of vectors, summed in double precision: the same on every processor.

A float32 matrix product is fast and depends, in its last bits, on the processor and on the block. It finds candidates;
what they score is computed here, once per pair, and rounded to float32 at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import config, njit, types
from numpy.typing import NDArray

from resight.types import Float32

BLOCK = 1024
SMALL = 1e-30  # squares below it are summed in double precision, as are those that overflow
_MATRIX = types.Array(types.float32, 2, "C", readonly=True)
_PLACES = types.Array(types.int64, 2, "C", readonly=True)
_ENTRIES = types.Array(types.int64, 1, "C", readonly=True)


def pair_products(queries: Float32, vectors: Float32, positions: Any, known: Any = None) -> Float32:
    """Inner products (Q, m) float32 of each query (Q, D) with the `vectors` (N, D) at `positions` (Q, m).

    A position of -1 gives -inf. `known` (Q, m) float32: products that need not be computed where it is not NaN.
    """
    places = np.ascontiguousarray(positions, np.int64)
    scores = np.full(places.shape, np.nan, np.float32) if known is None else known.astype(np.float32)
    scores[places < 0] = -np.inf
    wanted = np.flatnonzero(np.isnan(scores))
    # By position, so that a vector wanted by many queries is read from memory once.
    wanted = wanted[np.argsort(places.ravel()[wanted], kind="stable")]
    threads = config.NUMBA_NUM_THREADS
    with ThreadPoolExecutor(threads) as pool:
        parts = np.array_split(wanted, min(threads, 1 + len(wanted) // BLOCK))
        run_all(pool, inner_products, ((queries, vectors, places, part, scores) for part in parts))
    return scores


def lengths(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """The Euclidean length of each of `vectors` (N, D), float32 or float16; memory: 1024 of them at a time."""
    result = np.empty(len(vectors))
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK].astype(np.float32, copy=False)
        with np.errstate(over="ignore"):
            squares = np.einsum("nd,nd->n", block, block)
        if not ((squares > SMALL) & np.isfinite(squares)).all():
            squares = np.einsum("nd,nd->n", block, block, dtype=np.float64)
        result[start : start + BLOCK] = np.sqrt(squares)
    return result


def longest(vectors: NDArray[Any]) -> float:
    """The greatest length of `vectors` (N, D), 0 without any."""
    return float(lengths(vectors).max(initial=0.0))


def run_all(pool: ThreadPoolExecutor, function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
    """Call `function` with each of `arguments`, in threads when there are several."""
    calls = list(arguments)
    if len(calls) == 1:
        function(*calls[0])
        return
    for future in [pool.submit(function, *one) for one in calls]:
        future.result()


# Sums may be reordered, to use vector instructions, but in one way only: equal vectors get equal scores.
@njit(
    types.void(_MATRIX, _MATRIX, _PLACES, _ENTRIES, types.float32[:, ::1]),
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract", "nsz"},
)
def inner_products(
    queries: NDArray[Any], vectors: NDArray[Any], positions: NDArray[Any], order: NDArray[Any], scores: NDArray[Any]
) -> None:
    """scores[q, i] = inner product of queries[q] and vectors[positions[q, i]], summed in double precision.

    `positions` and `scores` (Q, m); `order` names those entries, q·m + i, that are computed.
    """
    for entry in order:
        q, i = divmod(entry, positions.shape[1])
        total, vector = 0.0, positions[q, i]
        for d in range(queries.shape[1]):
            total += np.float64(queries[q, d]) * np.float64(vectors[vector, d])
        scores[q, i] = total
