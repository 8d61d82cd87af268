"""Iterative manifold embedding: descriptors whose inner products follow paths along the kNN graph.

Paper: Xu, Wang, Qi, Shi, Xiao, "Iterative manifold embedding layer learned by incomplete data for large-scale image
retrieval", IEEE Transactions on Multimedia 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.csgraph import shortest_path

from resight.arrays import Float64, finite_rows, unit_rows
from resight.errors import ArrayError, UsageError
from resight.graph.knn_graph import build_knn_graph
from resight.types import Float32

MOST_ROUNDS = 100  # two are published
MOST_ROWS = 10_000


@dataclass(frozen=True, eq=False)
class ManifoldEmbedding:
    """`database` (N, C) float32: the embedded collection, L2-normalised. `projection` (D, C) float64: the map to it."""

    database: Float32
    projection: Float64

    def embed(self, vectors: Float32) -> Float32:
        """Embed descriptors (M, D) that the embedding has not seen, as L2-normalised rows (M, C); online.

        Raises `ArrayError` for another dimension and for values that are not finite.
        """
        vectors = finite_rows("vectors", vectors)
        if vectors.shape[1] != len(self.projection):
            raise ArrayError(f"vectors have {vectors.shape[1]} dimensions, expected {len(self.projection)}")
        return unit_rows(unit_rows(vectors.astype(np.float64)) @ self.projection).astype(np.float32)


def iterative_embedding(
    vectors: Float32, components: int = 2048, k: int = 5, rounds: int = 2, *, faithful: bool = False
) -> ManifoldEmbedding:
    """Embed `vectors` (N, D) float32 in `rounds` rounds; transductive.

    One round, from rows F: the graph of distances to the `k` nearest neighbours, squared as a matrix; the lengths d of
    its shortest paths; the kernel 1 / (1 + d^2) + 2 / (1 + |f - f'|^2); its `components` leading kernel principal
    components (N - 1 at most), L2-normalised. Afterwards a ridge regression maps the first descriptors to the last.
    Two photos that no path joins have d = infinity; with `faithful` they have d = 0, as in the published program.
    Needs the N x N kernel: at most 10 000 rows, 32 bytes per pair. Time grows with N^2 components.
    Raises `UsageError` for arguments below 1 and for more rows, `ArrayError` for a wrong shape or values not finite.
    """
    vectors = finite_rows("vectors", vectors)
    if min(components, k, rounds) < 1 or rounds > MOST_ROUNDS:
        raise UsageError(
            f"components={components}, k={k} and rounds={rounds} must be at least 1, rounds at most {MOST_ROUNDS}"
        )
    if not 2 <= len(vectors) <= MOST_ROWS:
        raise UsageError(f"{len(vectors)} rows cannot be embedded: between 2 and {MOST_ROWS} are possible")
    first = unit_rows(vectors.astype(np.float64))
    rows = first
    for _ in range(rounds):
        rows = _components(_kernel(rows, k, faithful), min(components, len(rows) - 1))
    ridge = first.T @ first + np.eye(first.shape[1])
    projection = scipy.linalg.solve(ridge, first.T @ rows, assume_a="pos")
    return ManifoldEmbedding(rows.astype(np.float32), projection)


def _kernel(rows: Float64, k: int, faithful: bool) -> Float64:
    """The kernel of one round, (N, N)."""
    count = len(rows)
    graph = build_knn_graph(rows.astype(np.float32), k)
    node, slot = np.nonzero(graph.ids >= 0)
    other = graph.ids[node, slot]
    lengths = np.sqrt(np.maximum(2 - 2 * np.einsum("ed,ed->e", rows[node], rows[other]), 0.0))
    steps = scipy.sparse.csr_array((lengths, (node, other)), shape=(count, count))
    paths = np.asarray(shortest_path(scipy.sparse.csr_array(steps @ steps), directed=False))
    if faithful:
        paths[np.isinf(paths)] = 0.0
    kernel = 1 / (1 + paths**2)
    kernel += 2 / (3 - 2 * (rows @ rows.T))
    return np.asarray(kernel)


def _components(kernel: Float64, count: int) -> Float64:
    """L2-normalised rows of the leading kernel principal components, (N, count); negative eigenvalues count as 0."""
    means = kernel.mean(axis=0)
    kernel -= means
    kernel -= means[:, None]
    kernel += means.mean()
    size = len(kernel)
    values, vectors = scipy.linalg.eigh(kernel, subset_by_index=[size - count, size - 1], overwrite_a=True)
    return unit_rows(vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0.0)))
