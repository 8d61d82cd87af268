"""Diffusion: similarity flows from the query's neighbours along the edges of the kNN graph.

All scores of a query solve (I - alpha S) f = y, where S is the normalised affinity of the collection and y the query's
similarity to its nearest photos. Conjugate gradients do it in a few sparse products.

Papers: Iscen, Tolias, Avrithis, Furon, Chum, "Efficient diffusion on region manifolds", CVPR 2017; Yang, Hinami,
Matsui, Ly, Satoh, "Efficient image retrieval via decoupling diffusion into online and offline processing", AAAI 2019.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from resight.arrays import Float64
from resight.errors import ArrayError, UsageError
from resight.graph.adjacency import adjacency
from resight.graph.conjugate import minus_product, solve_block
from resight.graph.knn_graph import edge_products
from resight.graph.offline import offline_diffusion
from resight.ties import tie_order
from resight.types import Float32, KnnGraph, Ranking

__all__ = ["affinity", "diffuse", "normalise", "offline_diffusion", "ranked", "seeds", "truncated_diffusion"]

BLOCK_VALUES = 1 << 21


def affinity(graph: KnnGraph, gamma: float = 3.0, vectors: Float32 | None = None) -> scipy.sparse.csr_array:
    """Affinity of mutual neighbours, max(similarity, 0)^gamma, as a symmetric sparse matrix (N, N) float64.

    An edge counts where each node lists the other; the diagonal is zero. The papers count a photo among its own k
    neighbours: their k is this graph's k + 1. Weights are float32; given `vectors` (N, D), the similarities of the
    edges are computed anew in float64. Memory: 12 bytes per mutual edge for the result, twice that while it runs.
    Raises `UsageError` for gamma <= 0, `ArrayError` for a damaged graph or another number of vectors.
    """
    _check_gamma(gamma)
    edges = adjacency(graph, "mutual")
    weights = edges.weights.astype(np.float64)
    if vectors is not None:
        rows = np.repeat(np.arange(len(edges)), np.diff(edges.starts))
        weights = edge_products(rows, edges.ids, vectors, vectors, len(graph))
    values = np.maximum(weights, 0.0) ** gamma
    matrix = scipy.sparse.csr_array((values, edges.ids.copy(), edges.starts.copy()), shape=(len(edges), len(edges)))
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def normalise(affinities: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """D^-1/2 A D^-1/2 with the row sums D of `affinities` (N, N); isolated nodes keep empty rows."""
    _check_square(affinities)
    degrees = np.asarray(affinities.sum(axis=1)).ravel()
    scale = np.zeros(len(degrees))
    np.divide(1.0, np.sqrt(degrees, where=degrees > 0, out=np.ones(len(degrees))), out=scale, where=degrees > 0)
    rows = np.repeat(scale, np.diff(affinities.indptr))
    values = affinities.data * rows * scale[affinities.indices]
    return scipy.sparse.csr_array((values, affinities.indices, affinities.indptr), shape=affinities.shape)


def seeds(
    query_graph: KnnGraph,
    nodes: int,
    gamma: float = 3.0,
    queries: Float32 | None = None,
    vectors: Float32 | None = None,
) -> scipy.sparse.csr_array:
    """y: max(similarity, 0)^gamma at the neighbours of each query, as a sparse matrix (Q, nodes) float64.

    `query_graph` (Q, k): from `neighbours`, cut to the number of seeds (10 for global descriptors in the paper). Given
    `queries` (Q, D) and `vectors` (nodes, D), the similarities are computed anew in float64.
    Raises `UsageError` for gamma <= 0, or one of `queries` and `vectors` alone, `ArrayError` for ids beyond `nodes`.
    """
    _check_gamma(gamma)
    if (queries is None) != (vectors is None):
        raise UsageError("seeds need both queries and vectors to compute similarities anew, or neither")
    rows, slots = np.nonzero(query_graph.ids >= 0)
    ids = query_graph.ids[rows, slots]
    if ids.size and ids.max() >= nodes:
        raise ArrayError(f"a query has neighbour {ids.max()}, but the graph has {nodes} nodes")
    weights = query_graph.weights[rows, slots].astype(np.float64)
    if queries is not None and vectors is not None:
        weights = edge_products(rows, ids, queries, vectors, nodes)
    values = np.maximum(weights, 0.0) ** gamma
    result = scipy.sparse.csr_array((values, (rows, ids)), shape=(len(query_graph), nodes))
    result.eliminate_zeros()
    return result


def diffuse(
    normalised: scipy.sparse.csr_array,
    seeds: scipy.sparse.csr_array | Float64,
    alpha: float = 0.99,
    iterations: int = 20,
    tolerance: float = 1e-6,
) -> Float64:
    """f that solves (I - alpha S) f = y for every query, (Q, N) float64, by conjugate gradients; transductive.
    Runs on all cores.

    `normalised`: S (N, N) from `normalise`. `seeds`: y (Q, N), sparse or dense. A query ends after `iterations`, or
    when its residual is below `tolerance` times the norm of y. 20 iterations, the published choice, leave an error of
    about 1 % of the largest score; some 200 are exact. Photos that no path joins to a seed have score 0.
    Memory: the result, and 130 MiB per core for blocks of queries (more above 2 million nodes).
    Raises `UsageError` for alpha outside [0, 1), iterations < 1 or a negative tolerance, `ArrayError` for other shapes.
    """
    _check_square(normalised)
    _check_solver(alpha, iterations, tolerance)
    if seeds.ndim != 2 or seeds.shape[1] != normalised.shape[0]:
        raise ArrayError(f"seeds have shape {seeds.shape}, expected (queries, {normalised.shape[0]})")
    matrix = (normalised.indptr, normalised.indices, normalised.data)
    result = np.empty(seeds.shape)

    def solve(part: slice) -> None:
        rows = seeds[part]
        y = rows.toarray() if scipy.sparse.issparse(rows) else np.asarray(rows, np.float64)
        if not np.isfinite(y).all():
            raise ArrayError("seeds hold NaN or infinity")
        columns = np.ascontiguousarray(y.T)
        result[part] = solve_block(lambda x: minus_product(*matrix, alpha, x), columns, iterations, tolerance).T

    cores = os.cpu_count() or 1
    block = max(min(BLOCK_VALUES // max(seeds.shape[1], 1), -(-seeds.shape[0] // cores)), 1)
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(solve, (slice(first, first + block) for first in range(0, seeds.shape[0], block))))
    return result


def truncated_diffusion(
    affinities: scipy.sparse.csr_array,
    seeds: scipy.sparse.csr_array,
    shortlist: Ranking,
    alpha: float = 0.99,
    iterations: int = 20,
    tolerance: float = 1e-6,
) -> Ranking:
    """Diffusion among the photos of each query's `shortlist` (Q, n) only, best first; photos of equal score keep order.

    The affinities of the shortlist are cut out and normalised by their own degrees, and seeds outside it are dropped.
    Online: the time of a query depends on n and the degrees, not on N. Raises as `diffuse` does.
    """
    _check_square(affinities)
    _check_solver(alpha, iterations, tolerance)
    if seeds.shape != (len(shortlist), affinities.shape[0]):
        raise ArrayError(f"seeds have shape {seeds.shape}, expected {(len(shortlist), affinities.shape[0])}")
    if shortlist.ids.size and shortlist.ids.max() >= affinities.shape[0]:
        raise ArrayError(f"the shortlist names row {shortlist.ids.max()} of {affinities.shape[0]}")
    ids, scores = [], []
    for query, row in enumerate(shortlist.ids):
        rows = row[row >= 0]
        part = normalise(affinities[rows][:, rows])
        y = seeds[[query]][:, rows].toarray()
        f = diffuse(part, y, alpha, iterations, tolerance)[0]
        order, levels = tie_order(np.arange(len(f)), f)
        ids.append(rows[order])
        scores.append(levels)
    return Ranking.from_lists(ids, scores)


def ranked(scores: NDArray[Any], limit: int) -> Ranking:
    """The `limit` rows with the highest of `scores` (Q, N), best first, ties (`resight.ties`) by row.

    Raises `UsageError` for limit < 1 and `ArrayError` for scores that are not a finite (Q, N) array.
    """
    if limit < 1:
        raise UsageError(f"a ranking cannot have {limit} results: at least 1 is needed")
    scores = np.asarray(scores)
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise ArrayError(f"scores must be finite and of shape (queries, rows), got shape {scores.shape}")
    order, levels = tie_order(np.arange(scores.shape[1]), scores)
    return Ranking(order[:, :limit], levels[:, :limit])


def _check_gamma(gamma: float) -> None:
    if not gamma > 0:
        raise UsageError(f"gamma={gamma} must be above 0: it is the power of a similarity")


def _check_solver(alpha: float, iterations: int, tolerance: float) -> None:
    if not 0 <= alpha < 1:
        raise UsageError(f"alpha={alpha} must be at least 0 and below 1: with 1 the diffusion has no end")
    if iterations < 1 or not tolerance >= 0:
        raise UsageError(f"iterations={iterations} must be at least 1 and tolerance={tolerance} 0 or more")


def _check_square(matrix: Any) -> None:
    if not isinstance(matrix, scipy.sparse.csr_array) or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ArrayError(f"the affinity must be a square scipy.sparse.csr_array, got {type(matrix).__name__}")
