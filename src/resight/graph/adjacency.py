"""The kNN graph as adjacency lists of varying length, one-sided or made symmetric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import scipy.sparse
from numba import njit
from numpy.typing import NDArray

from resight.errors import ArrayError, UsageError
from resight.graph.knn_graph import check_graph
from resight.types import Float32, Int64, KnnGraph, as_array

Array = NDArray[Any]
Symmetry = Literal["max", "union", "mutual", "last"]


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Neighbours of every node, in the order in which a traversal meets them.

    Node v has the neighbours ids[starts[v]:starts[v + 1]]. `starts` (N + 1,) int64; `ids` (E,) int32 or int64 and
    `weights` (E,) float32, 8 bytes an edge. Raises `ArrayError` where they do not fit together.
    """

    starts: Int64
    ids: Array
    weights: Float32

    def __post_init__(self) -> None:
        starts = as_array("Adjacency.starts", self.starts, np.int64, (None,))
        dtype = np.int64 if np.asarray(self.ids).dtype == np.int64 else np.int32
        ids = as_array("Adjacency.ids", self.ids, dtype, (None,))
        weights = as_array("Adjacency.weights", self.weights, np.float32, ids.shape)
        if not starts.size or starts[0] != 0 or starts[-1] != len(ids) or (np.diff(starts) < 0).any():
            raise ArrayError(f"Adjacency.starts must rise from 0 to the {len(ids)} edges")
        if ids.size and not (ids.min() >= 0 and ids.max() < len(starts) - 1):
            raise ArrayError(f"Adjacency.ids hold {ids.min()} to {ids.max()}, but there are {len(starts) - 1} nodes")
        if np.isnan(weights).any():
            raise ArrayError("Adjacency.weights hold NaN")
        for name, value in (("starts", starts), ("ids", ids), ("weights", weights)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def neighbours_of(self, node: int) -> tuple[Array, Float32]:
        """Ids and weights of the neighbours of one node."""
        part = slice(self.starts[node], self.starts[node + 1])
        return self.ids[part], self.weights[part]

    def matrix(self) -> scipy.sparse.csr_array:
        """The same as a sparse matrix (N, N) of float32 with sorted columns. Copies the edges."""
        n = len(self)
        result = scipy.sparse.csr_array((self.weights.copy(), self.ids.copy(), self.starts.copy()), shape=(n, n))
        result.sort_indices()
        return result


def with_isolated(edges: Adjacency, count: int) -> Adjacency:
    """`edges` with `count` further nodes behind its own that have no neighbours."""
    return Adjacency(np.append(edges.starts, np.full(count, edges.starts[-1])), edges.ids, edges.weights)


def adjacency(graph: KnnGraph, symmetrise: Symmetry | None = "max") -> Adjacency:
    """`graph` with edges in both directions; own neighbours come first, then reverse ones by row.

    - "max": an edge where either node lists the other, with the larger of the two weights.
    - "union": the same edges; a listed weight stays, a reverse edge takes the weight of the edge it mirrors.
    - "mutual": an edge where both list each other, with the smaller of the two weights.
    - "last": as the program of Chang et al. (CVPR 2019) does it: a node gains one reverse edge at most, from the last
      row that lists it. Meant for repeating its published rankings only.
    - None: the lists as they are.

    Memory: 8 bytes per resulting edge, and 12 per listed edge while it runs. Raises `ArrayError` for a neighbour that
    is no node, or is named twice in one list, and `UsageError` for another word.
    """
    if symmetrise is not None and symmetrise not in get_args(Symmetry):
        raise UsageError(f"symmetrise={symmetrise!r} is unknown: choose one of {get_args(Symmetry)} or None")
    check_graph(graph)
    mode = -1 if symmetrise is None else get_args(Symmetry).index(symmetrise)
    degrees = (graph.ids >= 0).sum(axis=1).astype(np.int64)
    back_starts, back_ids, back_weights = _reverse(graph.ids, graph.weights, len(graph) if mode >= 0 else 0)
    counts = np.zeros(len(graph) + 1, np.int64)
    if _count(mode, graph.ids, degrees, back_starts, back_ids, counts) >= 0:
        node = int(_count(mode, graph.ids, degrees, back_starts, back_ids, counts))
        raise ArrayError(f"the graph lists a neighbour of node {node} twice, or the node itself")
    starts = np.cumsum(counts)
    ids, weights = np.empty(starts[-1], graph.ids.dtype), np.empty(starts[-1], np.float32)
    _fill(mode, graph.ids, graph.weights, degrees, back_starts, back_ids, back_weights, starts, ids, weights)
    return Adjacency(starts, ids, weights)


MAX, UNION, MUTUAL, LAST = range(4)


@njit(cache=True, nogil=True)
def _reverse(ids: Array, weights: Array, nodes: int) -> tuple[Array, Array, Array]:
    """Who lists each node, in row order, as starts, rows and weights; nothing for 0 `nodes`."""
    starts = np.zeros(ids.shape[0] + 1, np.int64)
    for i in range(nodes):
        for j in ids[i]:
            if j >= 0:
                starts[j + 1] += 1
    for node in range(ids.shape[0]):
        starts[node + 1] += starts[node]
    nxt = starts[:-1].copy()
    rows, values = np.empty(starts[-1], ids.dtype), np.empty(starts[-1], np.float32)
    for i in range(nodes):
        for slot in range(ids.shape[1]):
            j = ids[i, slot]
            if j >= 0:
                rows[nxt[j]], values[nxt[j]] = i, weights[i, slot]
                nxt[j] += 1
    return starts, rows, values


@njit(cache=True, nogil=True)
def _count(mode: int, ids: Array, degrees: Array, back_starts: Array, back_ids: Array, counts: Array) -> int:
    """Number of resulting edges of node v to counts[v + 1]. Gives a node that lists itself or another twice, or -1."""
    seen = np.full(len(degrees), -1, np.int64)
    for node in range(len(degrees)):
        seen[node] = node
        for j in ids[node, : degrees[node]]:
            if seen[j] == node:
                return node
            seen[j] = node
        both = 0
        for i in back_ids[back_starts[node] : back_starts[node + 1]]:
            both += seen[i] == node
        listed = back_starts[node + 1] - back_starts[node]
        if mode == MUTUAL:
            counts[node + 1] = both
        elif mode == LAST:
            counts[node + 1] = degrees[node] + (listed > 0)
        else:
            counts[node + 1] = degrees[node] + listed - both
    return -1


@njit(cache=True, nogil=True)
def _fill(
    mode: int,
    ids: Array,
    weights: Array,
    degrees: Array,
    back_starts: Array,
    back_ids: Array,
    back_weights: Array,
    starts: Array,
    out_ids: Array,
    out_weights: Array,
) -> None:
    """Write the edges of every node behind starts[node]."""
    slot_of = np.full(len(degrees), -1, np.int64)
    for node in range(len(degrees)):
        at, degree = starts[node], degrees[node]
        first, last = back_starts[node], back_starts[node + 1]
        if mode == MUTUAL:
            for p in range(first, last):
                slot_of[back_ids[p]] = p
            for slot in range(degree):
                p = slot_of[ids[node, slot]]
                if p >= first:
                    out_ids[at], out_weights[at] = ids[node, slot], min(weights[node, slot], back_weights[p])
                    at += 1
            continue
        for slot in range(degree):
            out_ids[at + slot], out_weights[at + slot] = ids[node, slot], weights[node, slot]
            slot_of[ids[node, slot]] = at + slot
        end = at + degree
        for p in range(last - 1 if mode == LAST and last > first else first, last):
            own = slot_of[back_ids[p]]
            listed = own >= at and own < at + degree
            if mode == LAST:
                weight = max(back_weights[p], out_weights[own]) if listed else back_weights[p]
                out_ids[end], out_weights[end] = back_ids[p], weight
            elif not listed:
                out_ids[end], out_weights[end] = back_ids[p], back_weights[p]
                end += 1
            elif mode == MAX:
                out_weights[own] = max(out_weights[own], back_weights[p])
