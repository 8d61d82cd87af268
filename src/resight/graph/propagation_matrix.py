"""The normalised neighbour graph that a graph convolution multiplies with, for a collection and for unseen queries.

Edges come from the graph, weights always from the descriptors: an edge weighs the inner product of its two ends, so a
graph of verified pairs, whose weights are inlier counts, only chooses who is joined (Liu et al., NeurIPS 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from resight.arrays import Float64, finite_rows
from resight.errors import ArrayError, UsageError
from resight.graph.knn_graph import edge_products
from resight.types import Float32, Int64, KnnGraph, as_array

UNIT = 1e-3  # tolerated error of a descriptor's length
SIMILARITY = 0.02  # tolerated error of the similarities in a graph: approximate indexes keep 16 bits
SAMPLED_EDGES = 10_000


@dataclass(frozen=True, eq=False)
class Propagation:
    """`matrix` (N, N) CSR float32, D^-1/2 (A + I) D^-1/2, symmetric; `degrees` (N,) float64, the row sums of A + I."""

    matrix: scipy.sparse.csr_array
    degrees: Float64


@dataclass(frozen=True, eq=False)
class QueryRows:
    """Rows of unseen queries below a `Propagation`: `matrix` (Q, N) CSR float32 to the collection, `own` (Q,) float32
    the weight of the query itself."""

    matrix: scipy.sparse.csr_array
    own: Float32


def propagation_matrix(vectors: Float32, graph: KnnGraph) -> Propagation:
    """The matrix of `graph` over L2-normalised `vectors` (N, D) float32: A joins two rows where either lists the other.

    A holds inner products, negative ones too, and a zero diagonal. A row without neighbours keeps to itself, and
    duplicates are neighbours like others. Memory: 80 bytes per edge, and 16 D bytes for 8192 edges at a time.
    Raises `ArrayError` when the vectors are not finite, not L2-normalised or all the same, when the graph has another
    number of nodes or similarities that are not those of these vectors, or when the weights of a row add up to 0 or
    less; `UsageError` when the graph lists as many neighbours as there are rows, or joins nothing.
    """
    vectors = checked_unit_rows("vectors", vectors)
    count = len(vectors)
    if count and not (vectors != vectors[0]).any():
        raise ArrayError(f"all {count} vectors are the same: there is nothing to separate")
    if len(graph) != count:
        raise ArrayError(f"the graph has {len(graph)} nodes for {count} vectors: it belongs to another collection")
    if graph.k >= count:
        raise UsageError(f"{graph.k} neighbours of {count} photos: build the graph with k of at most {count - 1}")
    rows, columns = _listed(graph, count)
    _check_similarities(graph, vectors, vectors)
    first, second = _pairs(np.minimum(rows, columns), np.maximum(rows, columns), count, different=True)
    if not len(first):
        raise UsageError("the graph joins no two photos: build it with more neighbours or a weaker verification")
    weights = edge_products(first, second, vectors, vectors, len(vectors))
    ends = (np.concatenate([first, second]), np.concatenate([second, first]))
    degrees: Float64 = 1.0 + np.bincount(ends[0], np.concatenate([weights, weights]), count).astype(np.float64)
    _check_degrees(degrees, "photo")
    every = np.arange(count)
    scaled = weights / np.sqrt(degrees[first] * degrees[second])
    values = np.concatenate([scaled, scaled, 1 / degrees]).astype(np.float32)
    places = (np.concatenate([ends[0], every]), np.concatenate([ends[1], every]))
    matrix = scipy.sparse.csr_array((values, places), shape=(count, count))
    matrix.sort_indices()
    return Propagation(matrix, degrees)


def query_rows(queries: Float32, query_graph: KnnGraph, vectors: Float32, degrees: Float64) -> QueryRows:
    """The rows of L2-normalised `queries` (Q, D) whose neighbours among `vectors` (N, D) are in `query_graph`.

    They are the query rows of the joint matrix of queries and collection, whose edges only lead from queries to the
    collection. `degrees` (N,): of the collection's `Propagation`. Raises as `propagation_matrix` does.
    """
    queries = checked_unit_rows("queries", queries)
    if len(query_graph) != len(queries):
        raise ArrayError(f"the graph has {len(query_graph)} lists for {len(queries)} queries: give one per query")
    rows, columns = _listed(query_graph, len(vectors))
    _check_similarities(query_graph, queries, vectors)
    rows, columns = _pairs(rows, columns, len(vectors), different=False)
    weights = edge_products(rows, columns, queries, vectors, len(vectors))
    sums: Float64 = 1.0 + np.bincount(rows, weights, len(queries)).astype(np.float64)
    _check_degrees(sums, "query")
    values = (weights / np.sqrt(sums[rows] * degrees[columns])).astype(np.float32)
    matrix = scipy.sparse.csr_array((values, (rows, columns)), shape=(len(queries), len(vectors)))
    return QueryRows(matrix, (1 / sums).astype(np.float32))


def listed_graph(lists: Any, queries: Float32, vectors: Float32, k: int, *, same: bool = False) -> KnnGraph:
    """A graph (Q, k) of given neighbour lists (Q, at least k), best first, such as those of spatial verification.

    The first `k` entries of each list become edges, weighed by inner product; -1 ends a list. `same`: queries and
    vectors are the same rows, and an entry that names its own row takes a place in the first `k` but makes no edge (the
    published lists of verified neighbours start with the photo itself).
    Raises `ArrayError` on lists that are shorter, or that name rows which `vectors` lacks.
    """
    ids = as_array("lists", lists, np.int64, (len(queries), None))
    if not 1 <= k <= ids.shape[1]:
        raise ArrayError(f"lists hold {ids.shape[1]} entries: k={k} neighbours cannot be taken from them")
    ids = np.where(ids[:, :k] == np.arange(len(ids))[:, None], -1, ids[:, :k]) if same else ids[:, :k].copy()
    order = np.argsort(ids < 0, axis=1, kind="stable")
    ids = np.take_along_axis(ids, order, axis=1)
    rows, slots = np.nonzero(ids >= 0)
    weights = np.full(ids.shape, -np.inf, np.float32)
    _check_rows(ids, len(vectors))
    weights[rows, slots] = edge_products(rows, ids[rows, slots], queries, vectors, len(vectors))
    return KnnGraph(ids, weights)


def checked_unit_rows(name: str, vectors: Any) -> Float32:
    """`vectors` as (N, D) float32 with rows of length 1. Raises `ArrayError` when they are anything else."""
    array = finite_rows(name, vectors)
    error = np.abs(np.einsum("nd,nd->n", array, array) - 1)
    if error.size and error.max() > 2 * UNIT:
        row = int(np.argmax(error))
        length = float(np.linalg.norm(array[row]))
        raise ArrayError(f"{name} must be L2-normalised, but row {row} has length {length:.4g}")
    return array


def _listed(graph: KnnGraph, count: int) -> tuple[Int64, Int64]:
    """Row and neighbour of every entry of `graph`."""
    _check_rows(graph.ids, count)
    rows, slots = np.nonzero(graph.ids >= 0)
    return rows, graph.ids[rows, slots].astype(np.int64)


def _check_rows(ids: NDArray[Any], count: int) -> None:
    if ids.size and ids.max() >= count:
        raise ArrayError(f"the graph names neighbour {ids.max()} of {count} vectors: it belongs to another collection")


def _pairs(rows: Int64, columns: Int64, count: int, *, different: bool) -> tuple[Int64, Int64]:
    """The same pairs, each once, in ascending order; `different` leaves out pairs of a row with itself."""
    keys = np.unique(rows * count + columns)
    rows, columns = keys // count, keys % count
    return (rows[rows != columns], columns[rows != columns]) if different else (rows, columns)


def _check_similarities(graph: KnnGraph, left: Float32, right: Float32) -> None:
    """Whole numbers are counts, which choose edges only; anything else must be similarities of these very vectors."""
    rows, slots = np.nonzero(graph.ids >= 0)
    step = max(1, len(rows) // SAMPLED_EDGES)
    rows, slots = rows[::step], slots[::step]
    weights = graph.weights[rows, slots]
    if not len(rows) or (weights == np.round(weights)).all():
        return
    products = edge_products(rows, graph.ids[rows, slots], left, right, len(right))
    error = np.abs(products - weights)
    if error.max() > SIMILARITY:
        worst = int(np.argmax(error))
        raise ArrayError(
            f"the graph gives row {rows[worst]} a neighbour of similarity {weights[worst]:.4f}, but the vectors give "
            f"{products[worst]:.4f}: build the graph from these vectors"
        )


def _check_degrees(degrees: Float64, what: str) -> None:
    if degrees.size and degrees.min() <= 0:
        row = int(np.argmin(degrees))
        raise ArrayError(
            f"the neighbours of {what} {row} are so unlike it that its weights add up to {degrees[row]:.4f}: "
            "use fewer neighbours"
        )
