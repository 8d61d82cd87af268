"""Exact nearest neighbours by inner product: a matrix product in blocks, and a heap per query."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import config, njit, types
from numpy.typing import NDArray

from resight.arrays import check_finite
from resight.errors import ArrayError, UsageError
from resight.index.half_precision import half_products, widen
from resight.products import inner_products, lengths, longest, run_all
from resight.ties import nearest
from resight.types import Float32, Int64, Ranking, as_array

QUERY_BLOCK = 1024
VECTOR_BLOCK = 1024
QUERIES_PER_THREAD = 128  # fewer are scanned sooner than a thread is woken


class ExactIndex:
    """Vectors (N, D) float32 by row number, searched without approximation; score = inner product.

    `half`: they are kept as float16, half the memory, rounded to 11 significant bits; queries and sums are not rounded.

    A search sees the vectors of one moment, also while another thread adds or removes. Memory: the vectors, up to half
    as much again after additions, and some 8 MiB per search, 16 MiB at D = 2048 when rows are filtered or halved;
    64 MiB more where a tie goes on behind the last result.
    """

    def __init__(self, dim: int, *, half: bool = False) -> None:
        if dim < 1:
            raise UsageError(f"dim={dim}: vectors need at least one dimension")
        self.dim, self.half = dim, half
        self._buffer = np.empty((0, dim), _dtype(half))  # rows beyond the held ones are room to grow
        self._held: tuple[Int64, NDArray[Any], float] = (np.empty(0, np.int64), self._buffer, 0.0)

    @staticmethod
    def over(vectors: Any, *, half: bool = False) -> ExactIndex:
        """An index over `vectors` (N, D) as rows 0 to N - 1.

        Float32 arrays, with `half` float16 arrays, memory maps too, are used in place.
        """
        checked = finite_vectors(vectors, None, half)
        index = ExactIndex(checked.shape[1], half=half)
        index._held = (np.arange(len(checked)), checked, longest(checked))
        return index

    def __len__(self) -> int:
        return len(self._held[0])

    @property
    def rows(self) -> Int64:
        """Rows in the index, ascending, (N,) int64."""
        return self._held[0].copy()

    def add(self, rows: Any, vectors: Any) -> None:
        """Add `vectors` (n, D) under `rows` (n,), in any order.

        Raises `UsageError` when a row is in the index already: that is `update`; `ArrayError` on other shapes, negative
        or repeated rows, NaN or infinity, and with `half` values beyond 65504.
        """
        rows, vectors = checked_entries(rows, vectors, self.dim, self.half)
        held = rows[np.isin(rows, self._held[0])]
        if len(held):
            raise UsageError(f"row {held[0]} is in the index already: use update to replace it")
        self._insert(rows, vectors)

    def remove(self, rows: Any) -> None:
        """Take `rows` (n,) out, in one copy of the rest. Raises `UsageError` when a row is not in the index."""
        rows = as_array("rows", rows, np.int64, (None,))
        absent = rows[~np.isin(rows, self._held[0])]
        if len(absent):
            raise UsageError(f"row {absent[0]} is not in the index: nothing was removed")
        self._drop(rows)

    def update(self, rows: Any, vectors: Any) -> None:
        """Replace the vectors of `rows`; a row that is not in the index is added. Arguments as for `add`."""
        rows, vectors = checked_entries(rows, vectors, self.dim, self.half)
        self._drop(rows)
        self._insert(rows, vectors)

    def search(self, queries: Any, k: int, allowed: Any = None) -> Ranking:
        """The `k` best rows of each query (Q, D), fewer where the index holds fewer; ties by row number.

        Scores are ties as in `resight.ties`: within a millionth of the product of the lengths, and get one score.
        `allowed` (n,): rows that may be returned, in any order; those not in the index are passed over. Only their
        vectors are read, so a filter that few rows pass makes a search faster and stays exact. Scores are summed in
        double precision, whatever the batch. Raises `UsageError` unless k is at least 1, `ArrayError` on bad queries.
        """
        if k < 1:
            raise UsageError(f"{k} results were asked for: give at least 1")
        points = finite_vectors(queries, self.dim)
        rows, vectors, length = self._held
        chosen = None if allowed is None else _positions(rows, as_array("allowed", allowed, np.int64, (None,)))
        width = min(k, len(rows) if chosen is None else len(chosen))
        ids, scores = np.empty((len(points), width), np.int64), np.empty((len(points), width), np.float32)
        for start in range(0, len(points) if width else 0, QUERY_BLOCK):
            part = points[start : start + QUERY_BLOCK]
            positions, _, levels = nearest(
                lambda which, m, part=part: best_of(part[which], vectors, chosen, m),  # type: ignore[misc]
                len(part),
                width,
                len(rows) if chosen is None else len(chosen),
                lengths(part) * length,
            )
            ids[start : start + QUERY_BLOCK], scores[start : start + QUERY_BLOCK] = rows[positions], levels
        return Ranking(ids, scores)

    def candidates(self, queries: Float32, k: int, allowed: Int64 | None = None) -> tuple[Int64, Float32]:
        """Rows and inner products (Q, m) of the `k` best, or of all that there are, unordered and without the rule for
        ties: what an index over several such ones merges."""
        rows, vectors, _ = self._held
        chosen = None if allowed is None else _positions(rows, allowed)
        width = min(k, len(rows) if chosen is None else len(chosen))
        if not width:
            return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        positions, scores = best_of(queries, vectors, chosen, width)
        return rows[positions], scores

    @property
    def longest(self) -> float:
        """Length of the longest vector, which ties are relative to."""
        return self._held[2]

    def _insert(self, new_rows: Int64, new: NDArray[Any]) -> None:
        rows, vectors, length = self._held
        total = len(rows) + len(new)
        if vectors.base is not self._buffer or total > len(self._buffer):
            self._buffer = np.empty((total + total // 2, self.dim), _dtype(self.half))
            self._buffer[: len(rows)] = vectors
        joined = np.concatenate([rows, new_rows])
        self._buffer[len(rows) : total] = new  # beyond what a search in progress reads
        if len(rows) and len(new) and new_rows[0] < rows[-1]:
            order = np.argsort(joined)
            joined, self._buffer = joined[order], self._buffer[order]
        self._held = (joined, self._buffer[:total], max(length, longest(new)))

    def _drop(self, rows: Int64) -> None:
        kept = ~np.isin(self._held[0], rows)
        if not kept.all():
            self._buffer = self._held[1][kept]
            self._held = (self._held[0][kept], self._buffer[:], longest(self._buffer))


def checked_entries(rows: Any, vectors: Any, dim: int, half: bool) -> tuple[Int64, NDArray[Any]]:
    """`rows` (n,) int64 ascending and their `vectors` (n, D), float32 or, for `half`, float16; errors as of `add`."""
    vectors = finite_vectors(vectors, dim, half)
    rows = as_array("rows", rows, np.int64, (len(vectors),))
    order = np.argsort(rows, kind="stable")
    if len(rows) and rows[order[0]] < 0:
        raise ArrayError(f"rows hold {rows[order[0]]}: rows start at 0")
    repeated = np.flatnonzero(np.diff(rows[order]) == 0)
    if len(repeated):
        raise ArrayError(f"row {rows[order[repeated[0]]]} is given twice")
    return rows[order], vectors[order]


def _dtype(half: bool) -> type[np.floating[Any]]:
    return np.float16 if half else np.float32


def finite_vectors(vectors: Any, dim: int | None, half: bool = False) -> NDArray[Any]:
    """`vectors` (n, D) as float32, float16 where `half`. Raises `ArrayError` when they are not, or not finite."""
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        array = as_array("vectors", vectors, _dtype(half), (None, dim))
    check_finite("vectors (half precision ends at 65504)" if half else "vectors", array)
    return array


def _positions(rows: Int64, allowed: Int64) -> Int64:
    return np.flatnonzero(np.isin(rows, allowed))


def best_of(queries: Float32, vectors: NDArray[Any], chosen: Int64 | None, k: int) -> tuple[Int64, Float32]:
    """Positions and scores (Q, k) of the best of `vectors`, or of those `chosen`: found in float32, scored in double.

    `k` is at most the number of vectors, or of those chosen.
    """
    count = len(vectors) if chosen is None else len(chosen)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    places = np.full((len(queries), k), count, np.int64)
    product = np.empty(len(queries) * min(VECTOR_BLOCK, count), np.float32)
    halved = vectors.dtype == np.float16
    wide = np.empty((min(VECTOR_BLOCK, count) if halved else 0, vectors.shape[1]), np.float32)
    threads = config.NUMBA_NUM_THREADS
    bounds = np.linspace(0, len(queries), min(threads, 1 + len(queries) // QUERIES_PER_THREAD) + 1).astype(int)
    shares = list(itertools.pairwise(bounds.tolist()))
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, VECTOR_BLOCK):
            span = slice(start, min(start + VECTOR_BLOCK, count))
            block = vectors[span] if chosen is None else vectors[chosen[span]]
            if halved:
                block = widen(block.view(np.uint16), wide[: len(block)])
            found = product[: len(block) * len(queries)].reshape(len(block), len(queries))
            np.matmul(block, queries.T, out=found)  # with few queries faster than its transpose
            run_all(
                pool, keep_best, ((found, start, first, scores[first:end], places[first:end]) for first, end in shares)
            )
        positions = places if chosen is None else chosen[places]
        # By position, so that a vector wanted by many queries is read from memory once.
        parts = np.array_split(np.argsort(positions, axis=None, kind="stable"), threads)
        if halved:
            run_all(
                pool, half_products, ((queries, vectors.view(np.uint16), positions, part, scores) for part in parts)
            )
        else:
            run_all(pool, inner_products, ((queries, vectors, positions, part, scores) for part in parts))
    return positions, scores


_MATRIX = types.Array(types.float32, 2, "C", readonly=True)


@njit(types.void(types.float32[::1], types.int64[::1], types.float32, types.int64), cache=True, nogil=True)
def _replace_root(scores: NDArray[Any], places: NDArray[Any], value: float, place: int) -> None:
    node, child = 0, 1
    while child < len(scores):
        right = child + 1
        if right < len(scores) and (
            scores[right] < scores[child] or (scores[right] == scores[child] and places[right] > places[child])
        ):
            child = right
        if scores[child] >= value:  # among equal ones the new one, which came last, is the worst
            break
        scores[node], places[node] = scores[child], places[child]
        node, child = child, 2 * child + 1
    scores[node], places[node] = value, place


@njit(types.void(_MATRIX, types.int64, types.int64, types.float32[:, ::1], types.int64[:, ::1]), cache=True, nogil=True)
def keep_best(found: NDArray[Any], start: int, first: int, scores: NDArray[Any], places: NDArray[Any]) -> None:
    """Push the columns of `found` (B, Q) from `first` on, scores of places start, start + 1, ..., onto heaps (n, m).

    The root of a heap is its worst entry: the lowest score, and among equal ones the highest place. Places come in
    ascending order, so that a later one never replaces an earlier one of equal score.
    """
    worst = scores[:, 0].copy()
    for j in range(len(found)):
        for q in range(len(worst)):
            value = found[j, first + q]
            if value > worst[q]:
                _replace_root(scores[q], places[q], value, start + j)
                worst[q] = scores[q, 0]
