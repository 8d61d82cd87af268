"""One rule for near-equal scores: they are ties, and ties rank by row number.

The last bits of a similarity depend on the processor, its vector instructions, the number of threads and the block
that a matrix product was computed in: the same pair gave 0.99999964 in one block and 0.9999994 in another. Whatever
cuts or orders a list of neighbours therefore goes through `tie_order`: from the best score downwards, all scores that
lie within the tolerance of the best one left form a *run*, and the photos of a run rank by row.

What is ranked was scored in double precision and rounded to float32 once (`resight.products`), since float32 products
of the same unit vectors differ by up to 1.1e-6 between the kernels of OpenBLAS (`benchmarks/rounding.py`); they only
choose the candidates. What is left is the rounding of the vectors themselves and of the result, 1e-7. `TOLERANCE` is
1e-6, so that scores that are equal by meaning share a run, far below what distinguishes two photos: half precision
alone moves similarities by 2e-4 to 5e-4. It is relative: to the lengths of both vectors for inner products (`scale`),
so absolute for unit vectors, and to the best score of the run for all other scores.

No such rule is free of borders: two scores a tolerance apart may be one run on one machine and two on another. That
takes two unrelated scores at just this distance, where equality takes none; a grid (rounding to some decimals) would
tear apart equal scores that lie on a line of it, and joining every two scores closer than the tolerance would make one
run of a whole large collection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from resight.types import Int64

TOLERANCE = 1e-6
SLACK = 16  # candidates beyond k, so that the run at the end of a list is known
CELLS = 1 << 22  # candidates that are held at a time
_LAST = np.uint64(2**32 - 1)
Array = NDArray[Any]
Candidates = Callable[[Int64, int], tuple[Array, Array]]


def tie_order(rows: Any, scores: Any, scale: Any = 0.0) -> tuple[Int64, Array]:
    """The order that ranks `scores` best first, ties by row, and the scores so ordered, each tie at its best score.

    `rows` and `scores` (m,) or (Q, m), the order of the same shape, int64; the levelled scores keep their type, float32
    or float64, never rise, and differ from the scores by less than the tolerance. `scale`, or one per list (Q,): scores
    are ties within TOLERANCE * max(scale, best of the run). No score may be NaN.
    """
    values = np.atleast_2d(np.asarray(scores))
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    order = np.ascontiguousarray(_falling(values))
    levels = np.take_along_axis(values, order, axis=1)
    found = np.take_along_axis(np.broadcast_to(rows, values.shape), order, axis=1).astype(np.int64)
    _level(levels, found, np.broadcast_to(np.asarray(scale, np.float64), len(levels)).copy(), order)
    shape = np.shape(scores)
    return order.reshape(shape), levels.reshape(shape)


def nearest(candidates: Candidates, queries: int, k: int, total: int, scale: Any = 0.0) -> tuple[Int64, Array, Array]:
    """Rows, scores and levelled scores (Q, k) of the `k` best of `total` for each of so many `queries`, ties by row.

    `candidates(which, m)` gives the `m` best rows and their scores, (n, m) each, for the queries `which` (n,); they may
    be off by a tolerance in their choice, though of equal scores the first rows come, and in any order. Where the run
    at the end of a list goes on beyond the candidates, four times as many are asked for. `scale` as for `tie_order`;
    k is at most `total`.
    """
    scales = np.broadcast_to(np.asarray(scale, np.float64), queries)
    rows, scores, levels = np.empty((queries, k), np.int64), np.empty((queries, k)), np.empty((queries, k))
    left, width = np.arange(queries if k else 0), min(k + SLACK, total)
    while len(left):
        unfinished = []
        for which in np.array_split(left, -(-len(left) * width // CELLS)):
            found, values = candidates(which, width)
            order, level = tie_order(found, values, scales[which])
            done = run_ends(level, k, scales[which]) if width < total else np.ones(len(which), bool)
            chosen, kept = which[done], order[done, :k]
            rows[chosen] = np.take_along_axis(found[done], kept, axis=1)
            scores[chosen] = np.take_along_axis(values[done], kept, axis=1)
            levels[chosen] = level[done, :k]
            unfinished.append(which[~done])
        left, width = np.concatenate(unfinished), min(4 * width, total)
    return rows, scores, levels


def run_ends(levels: Array, k: int, scale: Any) -> NDArray[np.bool_]:
    """Whether the run of place k - 1 ends within `levels` (Q, m), from `tie_order`: nothing left out belongs to it.

    Three tolerances are left, since what was left out was compared by scores that may be off. Without a tolerance, in
    a run of zeros, the scores are equal, and candidates have come by row already.
    """
    if levels.shape[1] < k:
        return np.ones(len(levels), bool)
    last = levels[:, k - 1].astype(np.float64)
    finite = np.where(np.isfinite(last), last, 0.0)
    margin = 3 * TOLERANCE * np.maximum(np.abs(finite), np.asarray(scale))
    return np.asarray((levels[:, -1] < last - margin) | np.isneginf(levels[:, -1]) | (margin == 0))


def score_keys(scores: NDArray[np.float32], first: int = 0) -> NDArray[np.uint64]:
    """One integer per entry of `scores` (Q, m) that sorts by score, then by column descending; no two are equal.

    Columns count from `first`, up to 2**32 - 1. `key_columns` and `key_scores` give both back.
    """
    bits = (scores + np.float32(0)).view(np.uint32)  # + 0 turns -0 into 0, which must tie with it
    keys = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= _LAST - np.arange(first, first + scores.shape[1], dtype=np.uint64)
    return keys


def key_columns(keys: NDArray[np.uint64]) -> Int64:
    """The columns that `score_keys` put in."""
    return (_LAST - (keys & _LAST)).astype(np.int64)


def key_scores(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    """The scores that `score_keys` put in."""
    ordered = (keys >> np.uint64(32)).astype(np.uint32)
    return np.where(ordered >> 31, ordered & np.uint32(2**31 - 1), ~ordered).astype(np.uint32).view(np.float32)


def _falling(scores: Array) -> Int64:
    """The stable order (Q, m) in which scores fall."""
    if scores.dtype == np.float32:
        return key_columns(np.sort(score_keys(scores), axis=1)[:, ::-1])
    return np.argsort(-scores, axis=1, kind="stable")


_LISTS = types.int64[:, ::1]


@njit(
    [
        types.void(types.float32[:, ::1], _LISTS, types.float64[::1], _LISTS),
        types.void(types.float64[:, ::1], _LISTS, types.float64[::1], _LISTS),
    ],
    cache=True,
    nogil=True,
)
def _level(scores: Array, rows: Array, scale: Array, order: Array) -> None:
    """Raise falling `scores` (Q, m) to the best of their run and sort `order` by `rows` within each, in place."""
    for q in range(scores.shape[0]):
        start, floor, mixed = 0, np.inf, False
        for i in range(scores.shape[1] + 1):
            if i and i < scores.shape[1] and scores[q, i] >= floor:
                mixed |= rows[q, i] < rows[q, i - 1]
                scores[q, i] = scores[q, start]
                continue
            if mixed:
                order[q, start:i] = order[q, start:i][np.argsort(rows[q, start:i], kind="mergesort")]
            if i < scores.shape[1]:
                best = scores[q, i]
                floor = best - TOLERANCE * max(abs(best), scale[q]) if np.isfinite(best) else best
                start, mixed = i, False
