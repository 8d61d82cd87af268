"""The kNN graph: for every photo the k photos most like it.

All functions work in blocks. A photo is told from its duplicates by its row number, never by its similarity. Weights
are summed in double precision and rounded to float32 once, and lists are cut and ordered by the rule of `resight.ties`:
the same vectors give the same graph on every processor, whether it was built at once or grew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.arrays import Float64, finite_rows
from resight.errors import ArrayError, UsageError
from resight.graph.top_k import offer_columns, offer_lists, offer_rows, offer_triangle
from resight.products import lengths, longest, pair_products
from resight.ties import SLACK, TOLERANCE, nearest, run_ends, tie_order
from resight.types import Float32, Int64, KnnGraph, Searcher, as_array

MOST_EDGES = 1 << 30  # 12 GB
BLOCK = 2048
EDGE_BLOCK = 8192
INT32_ROWS = 2**31


def build_knn_graph(vectors: Float32, k: int, searcher: Searcher | None = None) -> KnnGraph:
    """The `k` nearest neighbours of every row of `vectors` (N, D) float32 by inner product, itself excluded.

    Without `searcher` the graph is exact. Every pair is compared once, and its weight is the same in both directions.
    Memory: 8 N (2 k + 16) bytes with the result, and 16 MiB for blocks. With `searcher`, an index over the same rows,
    the lists and the weights are what it answers; the row itself is taken out wherever it appears.
    Lists hold N - 1 entries and then -1 / -inf where k >= N. A zero vector has similarity 0 to every photo.
    Raises `UsageError` for k < 1 and more than 2^30 edges, `ArrayError` for vectors that are not finite, or ids the
    collection lacks.
    """
    vectors = finite_rows("vectors", vectors)
    if searcher is not None:
        return _searched_graph(vectors, k, searcher)
    empty = KnnGraph(np.empty((0, _checked_k(k, len(vectors))), row_dtype(len(vectors))), np.empty((0, k), np.float32))
    return add_nodes(empty, vectors)


def neighbours(queries: Float32, vectors: Float32, k: int) -> KnnGraph:
    """The `k` rows of `vectors` (N, D) nearest to each of `queries` (M, D) by inner product, exact, as (M, k) lists.

    Lists hold N entries and then -1 / -inf where k > N; a tie gets one weight, its best. Memory: 8 M k bytes for the
    result and 64 MiB for candidates.
    Raises as `build_knn_graph` does, and `ArrayError` where the dimensions differ.
    """
    vectors = finite_rows("vectors", vectors)
    queries = finite_rows("queries", queries)
    if queries.shape[1] != vectors.shape[1]:
        raise ArrayError(f"queries have {queries.shape[1]} dimensions and vectors {vectors.shape[1]}: they must agree")
    ids, _, weights = _nearest(queries, vectors, _checked_k(k, len(queries)))
    return KnnGraph(ids, weights)


def _nearest(queries: Float32, vectors: Float32, k: int) -> tuple[NDArray[Any], Float32, Float32]:
    """Rows, weights and levelled weights of the lists of `neighbours`."""
    ids, weights, _ = _empty_lists(len(queries), k, len(vectors))
    levels, width = weights.copy(), min(k, len(vectors))

    def candidates(which: Int64, m: int) -> tuple[Int64, Float32]:
        places = _offered(queries[which], vectors, m)
        return places, pair_products(queries[which], vectors, places)

    scale = lengths(queries) * longest(vectors)
    ids[:, :width], weights[:, :width], levels[:, :width] = nearest(
        candidates, len(queries), width, len(vectors), scale
    )
    return ids, weights, levels


def _offered(queries: Float32, vectors: Float32, m: int) -> Int64:
    """The `m` rows nearest to each of `queries` by float32 products, (Q, m)."""
    ids, weights = np.empty((len(queries), m), np.int64), np.empty((len(queries), m), np.float32)
    sizes = np.zeros(len(queries), np.int64)
    for first in range(0, len(queries), BLOCK):
        part = queries[first : first + BLOCK]
        for start in range(0, len(vectors), BLOCK):
            block = part @ vectors[start : start + BLOCK].T
            offer_columns(block, first, start, ids, weights, sizes)
    return ids


def cut(graph: KnnGraph, k: int) -> KnnGraph:
    """The same graph with the first `k` neighbours of every node: a graph of larger k serves every smaller one."""
    if not 1 <= k <= graph.k:
        raise UsageError(f"a graph of {graph.k} neighbours cannot be cut to {k}: choose 1 to {graph.k}")
    return KnnGraph(graph.ids[:, :k], graph.weights[:, :k])


def add_nodes(graph: KnnGraph, vectors: Float32) -> KnnGraph:
    """`graph` of the first N rows of `vectors` (N + M, D), grown to all of them: M (N + M) comparisons, no rebuild.

    The result is the graph that `build_knn_graph` gives for all rows.
    Raises `ArrayError` when `vectors` has fewer rows than the graph, or values that are not finite.
    """
    vectors = finite_rows("vectors", vectors)
    check_graph(graph)
    old, total = len(graph), len(vectors)
    if total < old:
        raise ArrayError(f"vectors have {total} rows, fewer than the {old} nodes of the graph: give old and new rows")
    ids, weights, sizes = _empty_lists(total, min(graph.k + SLACK, max(total - 1, graph.k)), total)
    offer_lists(graph.ids, graph.weights, ids, weights, sizes)
    for first in range(old, total, BLOCK):
        part = vectors[first : first + BLOCK]
        for start in range(0, first, BLOCK):
            block = part @ vectors[start : min(start + BLOCK, first)].T
            offer_columns(block, first, start, ids, weights, sizes)
            offer_rows(block, start, first, ids, weights, sizes)
        offer_triangle(part @ part.T, first, ids, weights, sizes)
    return _settled(graph, ids, weights, vectors)


def remove_nodes(graph: KnnGraph, rows: Any, vectors: Float32 | None = None) -> KnnGraph:
    """`graph` without the nodes `rows`; the others move up, keeping their order.

    Lists that named a removed node become shorter. Given `vectors` (N - removed, D), the descriptors of the nodes that
    stay, those lists are searched anew, and the result is the graph that `build_knn_graph` gives for them.
    Raises `ArrayError` for rows that the graph lacks.
    """
    check_graph(graph)
    rows = as_array("rows", rows, np.int64, (None,))
    if rows.size and not (rows.min() >= 0 and rows.max() < len(graph)):
        raise ArrayError(f"rows hold {rows.min()} to {rows.max()}, but the graph has rows 0 to {len(graph) - 1}")
    stays = np.ones(len(graph), bool)
    stays[rows] = False
    renamed = np.append(np.cumsum(stays) - 1, -1)
    renamed[:-1][~stays] = -1
    kept_ids, kept_weights = graph.ids[stays], graph.weights[stays]
    ids = renamed[kept_ids].astype(graph.ids.dtype)
    lost = ((ids < 0) & (kept_ids >= 0)).any(axis=1)
    result = _close_gaps(ids, np.where(ids < 0, np.float32(-np.inf), kept_weights), graph.k)
    return result if vectors is None else _refill(result, np.flatnonzero(lost), vectors)


def edge_products(rows: NDArray[Any], columns: NDArray[Any], left: Float32, right: Float32, nodes: int) -> Float64:
    """Inner products left[rows] . right[columns] in float64, (E,), for results that must not depend on rounding.

    Memory: 16 D bytes for each of 8192 edges at a time. Raises `ArrayError` unless `right` (nodes, D) covers all
    columns, and `left` all rows in the same dimension.
    """
    left, right = finite_rows("vectors", left), finite_rows("vectors", right)
    if len(right) != nodes or left.shape[1] != right.shape[1] or (rows.size and rows.max() >= len(left)):
        raise ArrayError(f"vectors of shapes {left.shape} and {right.shape} do not fit the {nodes} nodes of the graph")
    result = np.empty(len(rows))
    for first in range(0, len(rows), EDGE_BLOCK):
        part = slice(first, first + EDGE_BLOCK)
        a, b = left[rows[part]].astype(np.float64), right[columns[part]].astype(np.float64)
        result[part] = np.einsum("ed,ed->e", a, b)
    return result


def check_graph(graph: KnnGraph) -> None:
    """Raise `ArrayError` when a neighbour is not a node of `graph`."""
    if graph.ids.size and graph.ids.max() >= len(graph):
        raise ArrayError(f"the graph has {len(graph)} nodes but names neighbour {graph.ids.max()}: rows start at 0")


def row_dtype(rows: int) -> Any:
    """The integer type that holds so many row numbers: int32, and int64 from 2**31 rows."""
    return np.int32 if rows < INT32_ROWS else np.int64


def _checked_k(k: int, nodes: int) -> int:
    if k < 1:
        raise UsageError(f"a graph of {k} neighbours cannot be built: k must be at least 1")
    if k * nodes > MOST_EDGES:
        raise UsageError(f"k={k} for {nodes} photos: give at least 1, and at most {MOST_EDGES} edges in all")
    return k


def _empty_lists(nodes: int, k: int, rows: int) -> tuple[NDArray[Any], Float32, Int64]:
    ids = np.full((nodes, k), -1, row_dtype(rows))
    return ids, np.full((nodes, k), -np.inf, np.float32), np.zeros(nodes, np.int64)


def _settled(graph: KnnGraph, ids: NDArray[Any], weights: Float32, vectors: Float32) -> KnnGraph:
    """The graph of candidates `ids`, `weights` (N, k or more), in any order; `graph` has what they grew from."""
    old, total = len(graph), len(ids)
    result = KnnGraph(*_empty_lists(total, graph.k, total)[:2])
    result.ids[:old], result.weights[:old] = graph.ids, graph.weights
    scale = lengths(vectors) * longest(vectors)
    rows = _touched(graph, ids, weights, scale)
    unsure = [np.empty(0, np.int64)]
    for first in range(0, len(rows), BLOCK):
        part = rows[first : first + BLOCK]
        near = ids[part]
        known = np.where((part[:, None] < old) & (near < old), weights[part], np.float32(np.nan))
        scores = pair_products(vectors[part], vectors, near, known)
        order, levels = tie_order(near, scores, scale[part])
        full = (near >= 0).all(axis=1) & (near.shape[1] < total - 1)
        unsure.append(part[full & ~run_ends(levels, graph.k, scale[part])])
        result.ids[part] = np.take_along_axis(near, order, axis=1)[:, : graph.k]
        result.weights[part] = np.take_along_axis(scores, order, axis=1)[:, : graph.k]
    return _refill(result, np.concatenate(unsure), vectors)


def _touched(graph: KnnGraph, ids: NDArray[Any], weights: Float32, scale: NDArray[np.float64]) -> Int64:
    """New rows, and those old ones whose candidates hold a new row that may be among the first k."""
    old = len(graph)
    worst = graph.weights.min(axis=1, initial=np.inf)
    reach = worst - 3 * TOLERANCE * np.maximum(np.abs(np.where(np.isfinite(worst), worst, 0)), scale[:old])
    entered = ((ids[:old] >= old) & (weights[:old] >= reach[:, None])).any(axis=1)
    return np.concatenate([np.flatnonzero(entered), np.arange(old, len(ids))])


def _searched_graph(vectors: Float32, k: int, searcher: Searcher) -> KnnGraph:
    ids, weights, _ = _empty_lists(len(vectors), _checked_k(k, len(vectors)), len(vectors))
    for first in range(0, len(vectors), BLOCK):
        found = searcher.search(vectors[first : first + BLOCK], k + 1)
        if found.ids.size and found.ids.max() >= len(vectors):
            raise ArrayError(f"the searcher names row {found.ids.max()} of {len(vectors)}: index the same vectors")
        own = np.arange(first, first + len(found))[:, None]
        hidden = np.where(found.ids == own, -1, found.ids)
        part = _close_gaps(hidden, np.where(hidden < 0, np.float32(-np.inf), found.scores), k)
        ids[first : first + len(found), : part.k] = part.ids
        weights[first : first + len(found), : part.k] = part.weights
    return KnnGraph(ids, weights)


def _close_gaps(ids: NDArray[Any], weights: Float32, k: int) -> KnnGraph:
    """Move entries of id -1 behind the others, whose order stays, and keep `k` slots."""
    order = np.argsort(ids < 0, axis=1, kind="stable")[:, :k]
    return KnnGraph(np.take_along_axis(ids, order, axis=1), np.take_along_axis(weights, order, axis=1))


def _refill(graph: KnnGraph, lost: Int64, vectors: Float32) -> KnnGraph:
    vectors = finite_rows("vectors", vectors)
    if len(vectors) != len(graph):
        raise ArrayError(f"vectors have {len(vectors)} rows, expected the {len(graph)} nodes that stay")
    if not len(lost):
        return graph
    near, scores, _ = _nearest(vectors[lost], vectors, graph.k + 1)
    hidden = np.where(near == lost[:, None], -1, near)
    fresh = _close_gaps(hidden, np.where(hidden < 0, np.float32(-np.inf), scores), graph.k)
    ids, weights = graph.ids.copy(), graph.weights.copy()
    ids[lost], weights[lost] = fresh.ids, fresh.weights
    return KnnGraph(ids, weights)
