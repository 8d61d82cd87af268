"""The kNN graph of a large collection: its lists are searched in an index, and followed when photos come and go.

Comparing all pairs takes hours from a million photos on. An index that looks where neighbours are likely finds all but
a hundredth of them in minutes, and says how many: `sampled_recall`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from resight.errors import ArrayError, UsageError
from resight.graph.knn_graph import MOST_EDGES, remove_nodes, row_dtype
from resight.graph.top_k import offer_edges, offer_lists, offer_pairs, second_neighbours
from resight.progress import Progress, silent
from resight.ties import SLACK, tie_order
from resight.types import Float32, Int64, KnnGraph, as_array

BLOCK = 4096
SAMPLE = 256
JOINED = 16  # first neighbours of the first neighbours that are compared with a photo
BOTH = 3  # times k: how far every photo is searched for those whose lists it may enter
WIDER = 8  # times k: how far the lists of new photos are searched for those whose lists they enter


class Neighbourhoods(Protocol):
    """An index that knows its own rows, such as `resight.index.refined.RefinedIndex`."""

    def near(self, rows: Any, k: int, *, exact: bool = False) -> tuple[Int64, Float32]:
        """The `k` nearest rows of stored `rows` (n,), themselves left out: ids (n, k), scores, -1 and -inf padded."""

    def scores(self, rows: Any, others: Any) -> Float32:
        """Inner products (n, m) of stored `rows` (n,) and stored rows `others` (n, m), -inf where those hold -1."""


def build_searched_graph(
    index: Neighbourhoods, rows: Int64, k: int, order: Int64 | None = None, progress: Progress = silent
) -> KnnGraph:
    """The graph of `k` neighbours of all `rows` (N,) ascending of `index`, as nodes 0 to N - 1.

    Each photo is searched for 3 k, and enters their lists as they enter its own: what one search misses, because it
    lies in a list of the index that was not scanned, mostly finds the photo by its own search. Then it is compared with
    its neighbours' neighbours (Dong, Moses, Li, WWW 2011).
    `order` (N,): nodes in the order in which they are searched, so that photos that look alike come together and read
    the same vectors. Memory: 16 bytes an edge, and what 4096 searches take. Raises `UsageError` for k < 1 and more than
    2^30 edges, `ArrayError` when the index names a row that is none of `rows`.
    """
    rows = _checked_rows(rows)
    if k < 1 or k * len(rows) > MOST_EDGES:
        raise UsageError(f"k={k} for {len(rows)} photos: give at least 1, and at most {MOST_EDGES} edges in all")
    heaps, sizes = _empty(len(rows), k + SLACK), np.zeros(len(rows), np.int64)
    nodes = np.arange(len(rows)) if order is None else as_array("order", order, np.int64, (len(rows),))
    for start in range(0, len(nodes), BLOCK):
        progress("searching neighbours", start, len(nodes))
        part = nodes[start : start + BLOCK]
        ids, weights = _searched(index, rows, part, BOTH * k)
        found = ids >= 0
        source = np.broadcast_to(part[:, None], ids.shape)[found]
        offer_pairs(source, ids[found], weights[found], heaps.ids, heaps.weights, sizes)
    progress("searching neighbours", len(nodes), len(nodes))
    _join(index, rows, nodes, _ordered(heaps, k).ids, heaps, sizes)
    return _ordered(heaps, k)


def add_searched(graph: KnnGraph, rows: Int64, index: Neighbourhoods) -> KnnGraph:
    """`graph` of the first N of `rows` (N + M,) ascending, grown to all of them, which the `index` holds.

    New photos are searched for 8 k, compared with their neighbours' neighbours, and enter the lists of all these. Time
    grows with M, beside one copy of the graph. Raises `ArrayError` when rows are fewer than nodes.
    """
    rows, old, k = _checked_rows(rows), len(graph), graph.k
    if len(rows) < old:
        raise ArrayError(f"{len(rows)} rows are fewer than the {old} nodes of the graph: give old and new rows")
    grown = _empty(len(rows), k)
    grown.ids[:old], grown.weights[:old] = graph.ids, graph.weights
    for start in range(old, len(rows), BLOCK):
        part = np.arange(start, min(start + BLOCK, len(rows)))
        ids, weights = _searched(index, rows, part, WIDER * k)
        grown.ids[part], grown.weights[part] = ids[:, :k], weights[:, :k]
        _enter(grown, part, ids, weights, old)
    marks = np.full(len(rows), -1, np.int64)
    for start in range(old, len(rows), BLOCK):
        part = np.arange(start, min(start + BLOCK, len(rows)))
        near = second_neighbours(part, grown.ids, JOINED, marks)
        weights = index.scores(rows[part], np.where(near < 0, -1, rows[near]))
        _enter(grown, part, near, weights, old)
        ids, weights = np.hstack([grown.ids[part], near]), np.hstack([grown.weights[part], weights])
        order = tie_order(ids, weights)[0][:, :k]
        grown.ids[part], grown.weights[part] = (np.take_along_axis(each, order, axis=1) for each in (ids, weights))
    return grown


def remove_searched(graph: KnnGraph, gone: Any, rows: Int64, index: Neighbourhoods) -> KnnGraph:
    """`graph` without the nodes `gone` (G,); the others move up and are then `rows` (N - G,) ascending of `index`.

    Lists that named a removed node are searched anew. Raises `ArrayError` for nodes that the graph lacks, and when
    `rows` are not as many as those that stay.
    """
    rows, left = _checked_rows(rows), remove_nodes(graph, gone)
    if len(rows) != len(left):
        raise ArrayError(f"{len(rows)} rows are given for the {len(left)} nodes that stay: give one of each")
    full = min(graph.k, max(len(left) - 1, 1))
    lost = np.flatnonzero(left.ids[:, full - 1] < 0)
    for start in range(0, len(lost), BLOCK):
        part = lost[start : start + BLOCK]
        left.ids[part], left.weights[part] = _searched(index, rows, part, graph.k)
    return left


def sampled_recall(graph: KnnGraph, rows: Int64, index: Neighbourhoods, seed: int = 0) -> float:
    """The share of the exact neighbours of 256 nodes that `graph` lists, 0 to 1. Costs 256 N comparisons."""
    rows = _checked_rows(rows)
    if not len(rows):
        return 1.0
    nodes = np.sort(np.random.default_rng(seed).choice(len(rows), min(SAMPLE, len(rows)), replace=False))
    exact = _as_nodes(index.near(rows[nodes], graph.k, exact=True)[0], rows)
    found = [np.isin(truth[truth >= 0], listed) for truth, listed in zip(exact, graph.ids[nodes], strict=True)]
    return float(np.concatenate(found).mean()) if len(rows) > 1 else 1.0


def _searched(index: Neighbourhoods, rows: Int64, nodes: Int64, k: int) -> tuple[Any, Float32]:
    found, weights = index.near(rows[nodes], k)
    return _as_nodes(found, rows).astype(row_dtype(len(rows))), weights


def _as_nodes(found: Int64, rows: Int64) -> Int64:
    nodes = np.minimum(np.searchsorted(rows, found), len(rows) - 1)
    strange = (rows[nodes] != found) & (found >= 0)
    if strange.any():
        raise ArrayError(f"the index names row {found[strange][0]}, which is none of the photos of the graph")
    return np.where(found < 0, -1, nodes)


def _enter(graph: KnnGraph, new: Int64, ids: Any, weights: Float32, old: int) -> None:
    """Put `new` nodes into the lists of those nodes below `old` that they found, where they belong, in place."""
    slots = (ids >= 0) & (ids < old)
    source, target = np.broadcast_to(new[:, None], ids.shape)[slots], ids[slots].astype(np.int64)
    values = weights[slots]
    better = values >= graph.weights[target].min(axis=1)
    touched, at = np.unique(target[better], return_inverse=True)
    heap = _empty(len(touched), graph.k)
    sizes = np.zeros(len(touched), np.int64)
    offer_lists(graph.ids[touched], graph.weights[touched], heap.ids, heap.weights, sizes)
    offer_edges(at, source[better], values[better], heap.ids, heap.weights, sizes)
    order, _ = tie_order(heap.ids, heap.weights)
    graph.ids[touched] = np.take_along_axis(heap.ids, order, axis=1)
    graph.weights[touched] = np.take_along_axis(heap.weights, order, axis=1)


def _join(index: Neighbourhoods, rows: Int64, nodes: Int64, lists: Any, heaps: KnnGraph, sizes: Int64) -> None:
    """Offer all `nodes` and the neighbours of their neighbours in `lists` (N, k) to each other."""
    marks = np.full(len(rows), -1, np.int64)
    for start in range(0, len(nodes), BLOCK):
        part = nodes[start : start + BLOCK]
        near = second_neighbours(part, lists, JOINED, marks)
        found = near >= 0
        weights = index.scores(rows[part], np.where(found, rows[near], -1))
        source = np.broadcast_to(part[:, None], near.shape)[found]
        offer_pairs(source, near[found], weights[found], heaps.ids, heaps.weights, sizes)


def _ordered(heaps: KnnGraph, k: int) -> KnnGraph:
    """The first `k` of every list, best first, ties by row."""
    graph = _empty(len(heaps), k)
    for start in range(0, len(heaps), BLOCK):
        part = slice(start, start + BLOCK)
        order, _ = tie_order(heaps.ids[part], heaps.weights[part])
        graph.ids[part] = np.take_along_axis(heaps.ids[part], order[:, :k], axis=1)
        graph.weights[part] = np.take_along_axis(heaps.weights[part], order[:, :k], axis=1)
    return graph


def _empty(nodes: int, k: int) -> KnnGraph:
    return KnnGraph(np.full((nodes, k), -1, row_dtype(nodes)), np.full((nodes, k), -np.inf, np.float32))


def _checked_rows(rows: Any) -> Int64:
    checked: Int64 = as_array("rows", rows, np.int64, (None,))
    if (np.diff(checked) <= 0).any():
        raise ArrayError("rows must rise: give each photo once, ascending")
    return checked
