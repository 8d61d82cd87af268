"""Bounded best-k lists that are filled block by block: the inner loops of graph construction, compiled by numba.

A list is a binary heap whose root is its worst entry: the smallest weight, and of equal weights the largest row. So the
entries never depend on the order in which candidates arrive; they are left in the order of the heap. No kernel checks
bounds; the callers do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _worse(weight: float, row: int, other_weight: float, other_row: int) -> bool:
    """Whether the first entry ranks behind the second."""
    return weight < other_weight or (weight == other_weight and row > other_row)


@njit(cache=True, nogil=True)
def _sink(ids: Array, weights: Array, size: int, row: int, weight: float) -> None:
    """Put an entry at the root of a heap of `size` and let it sink to its place."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _worse(weights[child + 1], ids[child + 1], weights[child], ids[child]):
            child += 1
        if not _worse(weights[child], ids[child], weight, row):
            break
        ids[at], weights[at] = ids[child], weights[child]
        at = child
    ids[at], weights[at] = row, weight


@njit(cache=True, nogil=True)
def _offer(ids: Array, weights: Array, sizes: Array, node: int, row: int, weight: float) -> None:
    """Offer one candidate to the list of `node`."""
    heap_ids, heap_weights, size = ids[node], weights[node], sizes[node]
    if size == len(heap_ids):
        if size and _worse(heap_weights[0], heap_ids[0], weight, row):
            _sink(heap_ids, heap_weights, size, row, weight)
        return
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if not _worse(weight, row, heap_weights[parent], heap_ids[parent]):
            break
        heap_ids[at], heap_weights[at] = heap_ids[parent], heap_weights[parent]
        at = parent
    heap_ids[at], heap_weights[at] = row, weight
    sizes[node] = size + 1


@njit(cache=True, nogil=True)
def offer_columns(block: Array, first_node: int, first_row: int, ids: Array, weights: Array, sizes: Array) -> None:
    """Offer block[i, j] as row first_row + j to the list of first_node + i.

    `block` (m, n) float32; `ids` (N, k) integers, `weights` (N, k) float32 and `sizes` (N,) int64 hold the lists.
    """
    k = ids.shape[1]
    for i in range(block.shape[0]):
        node = first_node + i
        values = block[i]
        for j in range(block.shape[1]):
            if sizes[node] == k and values[j] < weights[node, 0]:
                continue
            _offer(ids, weights, sizes, node, first_row + j, values[j])


@njit(cache=True, nogil=True)
def offer_rows(block: Array, first_node: int, first_row: int, ids: Array, weights: Array, sizes: Array) -> None:
    """Offer block[i, j] as row first_row + i to the list of first_node + j: the same block, read the other way."""
    k = ids.shape[1]
    for i in range(block.shape[0]):
        values = block[i]
        for j in range(block.shape[1]):
            node = first_node + j
            if sizes[node] == k and values[j] < weights[node, 0]:
                continue
            _offer(ids, weights, sizes, node, first_row + i, values[j])


@njit(cache=True, nogil=True)
def offer_triangle(block: Array, first: int, ids: Array, weights: Array, sizes: Array) -> None:
    """Offer every pair of nodes first + i > first + j to each other with weight block[i, j]; no node to itself."""
    k = ids.shape[1]
    for i in range(block.shape[0]):
        node = first + i
        values = block[i]
        for j in range(i):
            other = first + j
            if sizes[node] < k or values[j] >= weights[node, 0]:
                _offer(ids, weights, sizes, node, other, values[j])
            if sizes[other] < k or values[j] >= weights[other, 0]:
                _offer(ids, weights, sizes, other, node, values[j])


@njit(cache=True, nogil=True)
def offer_lists(old_ids: Array, old_weights: Array, ids: Array, weights: Array, sizes: Array) -> None:
    """Offer every entry of the lists `old_ids`, `old_weights` (M, k'), -1 padded, to the first M lists."""
    for node in range(old_ids.shape[0]):
        for slot in range(old_ids.shape[1]):
            if old_ids[node, slot] >= 0:
                _offer(ids, weights, sizes, node, old_ids[node, slot], old_weights[node, slot])


@njit(cache=True, nogil=True)
def offer_edges(nodes: Array, rows: Array, values: Array, ids: Array, weights: Array, sizes: Array) -> None:
    """Offer rows[e] with weight values[e] to the list of nodes[e], for every edge e, unless it stands there already."""
    for e in range(len(nodes)):
        if rows[e] not in ids[nodes[e], : sizes[nodes[e]]]:
            _offer(ids, weights, sizes, nodes[e], rows[e], values[e])


@njit(cache=True, nogil=True)
def offer_pairs(nodes: Array, rows: Array, values: Array, ids: Array, weights: Array, sizes: Array) -> None:
    """Offer nodes[e] and rows[e] to each other's list with weight values[e], unless they stand there already."""
    k = ids.shape[1]
    for e in range(len(nodes)):
        for side in range(2):
            node, row = (nodes[e], rows[e]) if side == 0 else (rows[e], nodes[e])
            size = sizes[node]
            if size == k and values[e] < weights[node, 0]:
                continue
            known = False
            for slot in range(size):
                if ids[node, slot] == row:
                    known = True
                    break
            if not known:
                _offer(ids, weights, sizes, node, row, values[e])


@njit(cache=True, nogil=True)
def second_neighbours(nodes: Array, lists: Array, first: int, marks: Array) -> Array:
    """The `first` neighbours, in `lists` (N, k), of the `first` neighbours of all `nodes` (n,), but for those that the
    node lists itself, -1 padded: (n, m) int64. `marks` (N,) int64 holds no node of `nodes` before."""
    first = min(first, lists.shape[1])
    found, most = np.full((len(nodes), first * first), -1, np.int64), 0
    for i in range(len(nodes)):
        node, count = nodes[i], 0
        marks[node] = node
        for other in lists[node]:
            if other >= 0:
                marks[other] = node
        for near in lists[node, :first]:
            if near < 0:
                break
            for other in lists[near, :first]:
                if other >= 0 and marks[other] != node:
                    marks[other] = node
                    found[i, count] = other
                    count += 1
        most = max(most, count)
    return found[:, :most].copy()
