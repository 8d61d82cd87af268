"""Query expansion and database augmentation: a descriptor moves towards those of its nearest photos.

All functions take and give L2-normalised rows, float32. Expanding a query is online: one search before, one after.
Augmenting the database is a pass over the collection, done once. A vector that sums to zero stays zero.

Papers: Chum, Philbin, Sivic, Isard, Zisserman, "Total recall: automatic query expansion with a generative feature model
for object retrieval", ICCV 2007; Arandjelovic, Zisserman, "Three things everyone should know to improve object
retrieval", CVPR 2012; Radenovic, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from resight.arrays import finite_rows, unit_rows
from resight.errors import ArrayError, UsageError
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.types import Float32, KnnGraph, Ranking, as_array


def average_expansion(queries: Float32, vectors: Float32, n: int) -> Float32:
    """Sum of each query and its `n` nearest `vectors`, normalised: (Q, D).

    `queries` (Q, D), `vectors` (N, D). All vectors count where n > N. Raises `UsageError` for n < 1 and `ArrayError`
    for other shapes and values that are not finite.
    """
    return alpha_expansion(queries, vectors, n, alpha=0.0)


def alpha_expansion(queries: Float32, vectors: Float32, n: int, alpha: float = 3.0) -> Float32:
    """Each query plus its `n` nearest `vectors`, weighted by similarity to the power of `alpha`, normalised: (Q, D).

    A negative similarity counts as 0, so any `alpha` >= 0 is defined; 0 weighs all alike, whatever their sign.
    Raises as `average_expansion` does, and `UsageError` for a negative `alpha`.
    """
    queries = finite_rows("queries", queries)
    return expand(queries, vectors, neighbours(queries, vectors, n), alpha)


def database_augmentation(vectors: Float32, n: int, alpha: float = 0.0, *, count_self: bool = False) -> Float32:
    """Each of `vectors` (N, D) plus its `n` nearest others, weighted as in `alpha_expansion`, normalised: (N, D).

    The photo itself has weight 1 and is told from its duplicates by row. With `count_self` it is also the first of its
    n neighbours and so counts twice, as in the published program of EGT (2 neighbours: itself again and one other).
    Memory: 8 N n bytes for the graph, and the result. Raises as `alpha_expansion` does.
    """
    vectors = finite_rows("vectors", vectors)
    if not count_self:
        return expand(vectors, vectors, build_knn_graph(vectors, n), alpha)
    graph = build_knn_graph(vectors, n)
    own = np.arange(len(vectors), dtype=graph.ids.dtype)[:, None]
    similarity = np.einsum("nd,nd->n", vectors, vectors)[:, None]
    ids, weights = np.hstack((own, graph.ids[:, : n - 1])), np.hstack((similarity, graph.weights[:, : n - 1]))
    return expand(vectors, vectors, KnnGraph(ids, weights), alpha)


def verified_expansion(
    queries: Float32, vectors: Float32, ranking: Ranking, inliers: Any, least: int, most: int = 2
) -> Float32:
    """Sum of each query and its `most` most reliable verified results, normalised: (Q, D).

    `ranking` (Q, K): candidates, rows of `vectors` (N, D); `inliers` (Q, K): inlier counts of their verification.
    A result with fewer than `least` inliers never counts; of the others those with the most inliers do, and of equal
    counts the better ranked. A query with none stays as it is. The same call augments the collection: its own vectors
    are the queries, and the ranking must not name a photo as a result of its own.
    Raises `UsageError` for `least` or `most` below 1, and `ArrayError` for other shapes and ids outside `vectors`.
    """
    if least < 1 or most < 1:
        raise UsageError(f"least={least} and most={most} must both be at least 1")
    queries, vectors = finite_rows("queries", queries), finite_rows("vectors", vectors)
    counts = as_array("inliers", inliers, np.int64, ranking.ids.shape)
    if len(ranking) != len(queries):
        raise ArrayError(f"there are {len(queries)} queries and {len(ranking)} rankings: one each is needed")
    counts = np.where((counts >= least) & (ranking.ids >= 0), counts, 0)
    order = np.argsort(-counts, axis=1, kind="stable")[:, :most]
    ids, counts = np.take_along_axis(ranking.ids, order, axis=1), np.take_along_axis(counts, order, axis=1)
    return _sum(queries, vectors, np.where(counts > 0, ids, -1), np.ones(ids.shape, np.float32))


def expand(queries: Float32, vectors: Float32, near: KnnGraph, alpha: float) -> Float32:
    """Each query plus the `vectors` (N, D) that `near` (Q, k) lists, weighted as in `alpha_expansion`: (Q, D)."""
    if not alpha >= 0:
        raise UsageError(f"alpha={alpha} must be 0 or more: it is the power of a similarity")
    return _sum(queries, vectors, near.ids, source_weights(near, alpha))


def source_weights(near: KnnGraph, alpha: float) -> Float32:
    """What each neighbour in `near` weighs in an expansion, (Q, k): its similarity, if positive, to the power."""
    return np.asarray(np.maximum(near.weights, np.float32(0)) ** np.float32(alpha), np.float32)


def _sum(queries: Float32, vectors: Float32, ids: NDArray[Any], weights: Float32) -> Float32:
    """queries + sum of weights * vectors[ids], normalised; entries of id -1 do not count."""
    vectors = finite_rows("vectors", vectors)
    if ids.size and ids.max() >= len(vectors):
        raise ArrayError(f"result {ids.max()} is outside the {len(vectors)} vectors")
    row, slot = np.nonzero(ids >= 0)
    shape = (len(queries), len(vectors))
    picked = scipy.sparse.csr_array((weights[row, slot], (row, ids[row, slot])), shape=shape)
    return np.asarray(unit_rows(queries + picked @ vectors), np.float32)
