"""Re-ranking by k-reciprocal neighbours: photos whose neighbourhoods overlap are alike.

Paper: Zhong, Zheng, Cao, Li, "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numba import njit
from numpy.typing import NDArray

from resight.arrays import Float64, finite_rows
from resight.errors import ArrayError, UsageError
from resight.graph.knn_graph import build_knn_graph, edge_products
from resight.ties import tie_order
from resight.types import Float32, Int64, KnnGraph, Ranking

Array = NDArray[Any]
BLOCK = 1024


def k_reciprocal(
    queries: Float32,
    vectors: Float32,
    k1: int = 20,
    k2: int = 6,
    original_weight: float = 0.3,
    *,
    limit: int | None = None,
    faithful: bool = False,
) -> Ranking:
    """Rows of `vectors` (N, D) for each of `queries` (Q, D), L2-normalised, best first; transductive.

    A photo is described by its k-reciprocal neighbours: its `k1` nearest that also have it among theirs, and those of
    them that share two thirds with it, weighted by exp(-distance) and averaged over its `k2` nearest, itself the first.
    The final distance is (1 - w) times the Jaccard distance of two descriptions plus w = `original_weight` times the
    squared Euclidean distance, divided by the largest of the row. A score is minus that distance. Queries are part of
    the neighbourhoods, as in the paper, so a result depends on the queries asked with it.
    `faithful` squares the squared distances once more, as PyRetri does. `limit`: results per query, N by default.
    Memory: about 12 k1^2 bytes per photo at most, and 8 (Q + N) bytes per query; two passes over all pairs, in blocks.
    Raises `UsageError` for k1, k2 or limit below 1, k2 > k1 + 1 or a weight outside [0, 1], `ArrayError` for shapes.
    """
    queries, vectors = finite_rows("queries", queries), finite_rows("vectors", vectors)
    if queries.shape[1] != vectors.shape[1]:
        raise ArrayError(f"queries have {queries.shape[1]} dimensions and vectors {vectors.shape[1]}: they must agree")
    if k1 < 1 or not 1 <= k2 <= k1 + 1:
        raise UsageError(f"k1={k1} must be at least 1 and k2={k2} between 1 and k1 + 1")
    if not 0 <= original_weight <= 1:
        raise UsageError(f"original_weight={original_weight} must be between 0 and 1")
    if limit is not None and limit < 1:
        raise UsageError(f"a ranking cannot have {limit} results: at least 1 is needed")
    both, power = np.vstack((queries, vectors)), 2.0 if faithful else 1.0
    graph, farthest = build_knn_graph(both, k1), _farthest(both)
    encoded = _encode(graph, both, farthest, k1, k2, power)
    columns = encoded.tocsc()
    count = len(queries)
    ids, scores = [], []
    for query in range(count):
        shared = _shared(
            query, encoded.indptr, encoded.indices, encoded.data, columns.indptr, columns.indices, columns.data
        )
        similarity = vectors.astype(np.float64) @ queries[query].astype(np.float64)
        jaccard = 1 - shared[count:] / (2 - shared[count:])
        original = _scaled(similarity, farthest[query], power)
        distance = (1 - original_weight) * jaccard + original_weight * original
        # Distances lie in 0..1. PyRetri's order knows no ties.
        order, levels = _exact(-distance) if faithful else tie_order(np.arange(len(distance)), -distance, 1.0)
        ids.append(order[:limit])
        scores.append(levels[:limit])
    return Ranking.from_lists(ids, scores)


def _exact(scores: Float64) -> tuple[NDArray[np.int64], Float64]:
    order = np.argsort(-scores, kind="stable")
    return order, scores[order]


def _scaled(similarity: Float64, farthest: Float64, power: float) -> Float64:
    """Squared Euclidean distances to a power, over the largest of the row; 0 where all photos are one."""
    distance = np.maximum(2 - 2 * similarity, 0.0)
    return np.asarray((distance / np.where(farthest > 0, farthest, 1.0)) ** power)


def _farthest(vectors: Float32) -> Float64:
    """The largest squared distance of every row to any other, (M,)."""
    least = np.full(len(vectors), np.inf)
    for first in range(0, len(vectors), BLOCK):
        part = vectors[first : first + BLOCK]
        for start in range(0, len(vectors), BLOCK):
            found = (part @ vectors[start : start + BLOCK].T).min(axis=1)
            least[first : first + BLOCK] = np.minimum(least[first : first + BLOCK], found)
    return np.asarray(np.maximum(2 - 2 * least, 0.0))


def _mutual(graph: KnnGraph, k: int) -> scipy.sparse.csr_array:
    """1 where two nodes are among each other's k nearest or are one node, (M, M)."""
    listed = _lists(graph, k)
    return scipy.sparse.csr_array(listed.multiply(listed.T))


def _lists(graph: KnnGraph, k: int) -> scipy.sparse.csr_array:
    """1 at every node and at its k nearest, (M, M)."""
    count = len(graph)
    rows, slots = np.nonzero(graph.ids[:, :k] >= 0)
    own = np.arange(count)
    columns = np.concatenate((own, graph.ids[rows, slots]))
    return scipy.sparse.csr_array((np.ones(len(columns)), (np.concatenate((own, rows)), columns)), shape=(count, count))


def _encode(
    graph: KnnGraph, vectors: Float32, farthest: Float64, k1: int, k2: int, power: float
) -> scipy.sparse.csr_array:
    """The description of every node, rows that sum to 1, (M, M) sparse."""
    near, nearer = _mutual(graph, k1), _mutual(graph, int(np.around(k1 / 2)))
    sizes = np.asarray(nearer.sum(axis=1)).ravel()
    overlap = scipy.sparse.csr_array((near @ nearer.T).multiply(near))
    overlap.data = (overlap.data > 2 / 3 * sizes[overlap.indices]).astype(np.float64)
    members = scipy.sparse.csr_array(near + overlap @ nearer)
    members.eliminate_zeros()
    members.sort_indices()
    rows: Int64 = np.repeat(np.arange(len(graph)), np.diff(members.indptr))
    similarity = edge_products(rows, members.indices, vectors, vectors, len(graph))
    weights = np.exp(-_scaled(similarity, farthest[rows], power))
    weights /= np.bincount(rows, weights, minlength=len(graph))[rows]
    encoded = scipy.sparse.csr_array((weights, members.indices, members.indptr), shape=members.shape)
    around = _lists(graph, k2 - 1)
    counts = np.asarray(around.sum(axis=1)).ravel()
    around.data /= np.repeat(counts, np.diff(around.indptr))
    return scipy.sparse.csr_array(around @ encoded)


@njit(cache=True, nogil=True)
def _shared(
    row: int, starts: Array, ids: Array, values: Array, column_starts: Array, column_rows: Array, column_values: Array
) -> Array:
    """Sum of min(V[row], V[j]) for every row j, (M,): a walk along the columns that `row` has."""
    shared = np.zeros(len(starts) - 1)
    for e in range(starts[row], starts[row + 1]):
        for p in range(column_starts[ids[e]], column_starts[ids[e] + 1]):
            shared[column_rows[p]] += min(values[e], column_values[p])
    return shared
