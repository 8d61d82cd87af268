"""Off-line diffusion: every photo's diffusion is solved once, so that a query is a sum of a few sparse rows.

Paper: Yang, Hinami, Matsui, Ly, Satoh, "Efficient image retrieval via decoupling diffusion into online and offline
processing", AAAI 2019.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.sparse
from numba import njit
from numpy.typing import NDArray

from resight.errors import ArrayError, UsageError
from resight.graph.knn_graph import check_graph
from resight.types import KnnGraph, as_array

Array = NDArray[Any]
BLOCK = 512


def offline_diffusion(
    normalised: scipy.sparse.csr_array,
    candidates: KnnGraph,
    alpha: float = 0.99,
    iterations: int = 20,
    tolerance: float = 1e-6,
    rows: Any = None,
) -> scipy.sparse.csr_array:
    """Diffusion from every photo, kept to its neighbourhood: a sparse matrix (N, N) float32; done once per collection.

    `normalised`: S (N, N), the whole collection's (late truncation). `candidates` (N, n): a kNN graph; row i of the
    result solves (I - alpha S) f = e_i among photo i and its n candidates, and is zero elsewhere. The same graph, cut
    to its first neighbours, serves `affinity`. The scores of a query are then seeds @ result: `seeds(query_graph, N)`.
    `rows` (R,): solve these only, and give (R, N); see `stale_rows`. Runs on all cores.
    Memory: 8 bytes per entry of the result, at most N (n + 1), and about 16 (n + 1) times the degree per core.
    Raises `UsageError` for alpha outside [0, 1), iterations < 1 or a negative tolerance, `ArrayError` for other shapes.
    """
    count = len(candidates)
    if normalised.shape != (count, count):
        raise ArrayError(f"the normalised affinity has shape {normalised.shape}, the candidates {count} nodes")
    if not 0 <= alpha < 1 or iterations < 1 or not tolerance >= 0:
        raise UsageError(f"alpha={alpha} must be in [0, 1), iterations={iterations} >= 1, tolerance={tolerance} >= 0")
    check_graph(candidates)
    nodes = np.arange(count) if rows is None else as_array("rows", rows, np.int64, (None,))
    if nodes.size and not (nodes.min() >= 0 and nodes.max() < count):
        raise ArrayError(f"rows hold {nodes.min()} to {nodes.max()}, but the graph has rows 0 to {count - 1}")
    matrix = scipy.sparse.csr_array(normalised)
    values, starts = matrix.data.astype(np.float32), matrix.indptr.astype(np.int64)

    def solve(part: Array) -> tuple[Array, Array, Array]:
        solved: tuple[Array, Array, Array] = _solve_rows(
            part, candidates.ids, starts, matrix.indices, values, alpha, iterations, tolerance
        )
        return solved

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(solve, (nodes[first : first + BLOCK] for first in range(0, len(nodes), BLOCK))))
    lengths = np.concatenate([np.zeros(1, np.int64), *(part[0] for part in parts)])
    columns = np.concatenate([np.empty(0, np.int64), *(part[1] for part in parts)])
    data = np.concatenate([np.empty(0, np.float32), *(part[2] for part in parts)])
    result = scipy.sparse.csr_array((data, columns, np.cumsum(lengths)), shape=(len(nodes), count))
    result.sort_indices()
    return result


def stale_rows(
    old: tuple[scipy.sparse.csr_array, KnnGraph], new: tuple[scipy.sparse.csr_array, KnnGraph]
) -> NDArray[np.int64]:
    """Rows of an off-line diffusion that photos added at the end of a collection change, (R,) int64.

    `old` and `new`: (normalised affinity, candidates) before and after. The other rows may be kept: their
    candidates, and all affinities among them, are the same to the last bit. Grow the graph with `add_nodes`, which
    keeps the weights, since one built anew may differ in that bit. Raises `ArrayError` when the collection shrank.
    """
    (old_matrix, old_graph), (new_matrix, new_graph) = old, new
    if len(new_graph) < len(old_graph):
        raise ArrayError(f"the collection shrank from {len(old_graph)} to {len(new_graph)} photos: solve all rows anew")
    count, kept = len(new_graph), len(old_graph)
    starts = np.append(old_matrix.indptr, np.full(count - kept, old_matrix.indptr[-1]))
    grown = scipy.sparse.csr_array((old_matrix.data, old_matrix.indices, starts), shape=(count, count))
    changed = np.diff(abs(grown - new_matrix).tocsr().indptr) > 0
    moved = np.ones(count, bool)
    moved[:kept] = True if old_graph.k != new_graph.k else (old_graph.ids != new_graph.ids[:kept]).any(axis=1)
    near = np.append(changed, False)[new_graph.ids].any(axis=1)
    return np.flatnonzero(moved | changed | near)


@njit(cache=True, nogil=True)
def _solve_rows(
    nodes: Array,
    candidates: Array,
    starts: Array,
    ids: Array,
    values: Array,
    alpha: float,
    iterations: int,
    tolerance: float,
) -> tuple[Array, Array, Array]:
    """Lengths (R,), and columns and values of all entries that are not zero, of the rows `nodes` (R,)."""
    width = candidates.shape[1] + 1
    place = np.full(candidates.shape[0], -1, np.int64)
    members, local_starts = np.empty(width, np.int64), np.empty(width + 1, np.int64)
    local_ids, local_values = np.empty(16 * width, np.int32), np.empty(16 * width, np.float32)
    work = np.empty((4, width))
    lengths = np.zeros(len(nodes), np.int64)
    columns, data = np.empty(len(nodes) * width, np.int64), np.empty(len(nodes) * width, np.float32)
    written = 0
    for r in range(len(nodes)):
        room = _mark(nodes[r], candidates[nodes[r]], starts, place, width)
        if room > len(local_ids):
            local_ids, local_values = np.empty(2 * room, np.int32), np.empty(2 * room, np.float32)
        size = _gather(nodes[r], starts, ids, values, place, width, members, local_starts, local_ids, local_values)
        _solve(size, local_starts, local_ids, local_values, alpha, iterations, tolerance, work)
        for i in range(size):
            if work[0, i] != 0:
                columns[written], data[written] = members[i], work[0, i]
                written += 1
                lengths[r] += 1
        for candidate in candidates[nodes[r]]:
            if candidate >= 0:
                place[candidate] = -1
        place[nodes[r]] = -1
    return lengths, columns[:written].copy(), data[:written].copy()


@njit(cache=True, nogil=True)
def _mark(node: int, candidates: Array, starts: Array, place: Array, width: int) -> int:
    """Give the candidates place `width`, not yet met, and the node itself place 0; the number of all their edges."""
    edges = starts[node + 1] - starts[node]
    for candidate in candidates:
        if candidate >= 0:
            place[candidate] = width
            edges += starts[candidate + 1] - starts[candidate]
    place[node] = 0
    return int(edges)


@njit(cache=True, nogil=True)
def _gather(
    node: int,
    starts: Array,
    ids: Array,
    values: Array,
    place: Array,
    width: int,
    members: Array,
    local_starts: Array,
    local_ids: Array,
    local_values: Array,
) -> int:
    """Collect, breadth first, what the graph joins to the node among the marked: all else cannot have a score.

    Fills `members` and their edges as a local sparse matrix; gives the number of members.
    """
    members[0], size, edges, member = node, 1, 0, 0
    while member < size:
        local_starts[member] = edges
        for e in range(starts[members[member]], starts[members[member] + 1]):
            other = place[ids[e]]
            if other < 0:
                continue
            if other == width:
                other = size
                place[ids[e]], members[size] = size, ids[e]
                size += 1
            local_ids[edges], local_values[edges] = other, values[e]
            edges += 1
        member += 1
    local_starts[size] = edges
    return size


@njit(cache=True, nogil=True)
def _solve(
    size: int, starts: Array, ids: Array, values: Array, alpha: float, iterations: int, tolerance: float, work: Array
) -> None:
    """Conjugate gradients on (I - alpha S) x = e_0 with the local S; `work` (4, width) holds x in its first row."""
    x, residual, direction, image = work[0], work[1], work[2], work[3]
    x[:size], residual[:size], direction[:size] = 0, 0, 0
    residual[0] = direction[0] = energy = 1.0
    for _ in range(iterations):
        if energy <= tolerance * tolerance:
            break
        along = 0.0
        for i in range(size):
            total = 0.0
            for e in range(starts[i], starts[i + 1]):
                total += values[e] * direction[ids[e]]
            image[i] = direction[i] - alpha * total
            along += direction[i] * image[i]
        step, before, energy = energy / along, energy, 0.0
        for i in range(size):
            x[i] += step * direction[i]
            residual[i] -= step * image[i]
            energy += residual[i] * residual[i]
        for i in range(size):
            direction[i] = residual[i] + energy / before * direction[i]
