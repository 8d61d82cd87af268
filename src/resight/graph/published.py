"""The graph that the published program of semi-supervised exploration walks, and its walk.

That program reads one text whose rows are the queries, then the training photos, then the photos of the collection, and
in which the edges that a label gives stand in front of a row's own. It makes all of it symmetric in its own way: a node
gains one reverse edge, from the last row that lists it, be that a photo, a training photo or another query. So queries
are nodes: one may lead to what is near another, and a ranking depends on the queries that are asked together.

Paper: Chang, Yu, Wang, Volkovs, "Semi-supervised Exploration in Image Retrieval", CVPR workshop on landmark recognition
2019. Meant for repeating its rankings only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError
from resight.graph.adjacency import Adjacency, adjacency
from resight.graph.exploration import Classes, Exploration, no_classes, run_traversal
from resight.types import Float32, Int64, KnnGraph

Array = NDArray[Any]
HEAVIEST = 10_000_000.0  # weight of a label's first edge in the published text


class Listed(NamedTuple):
    """Edges one after another: `source` lists `target` with `weight`, each (E,)."""

    source: Int64
    target: Int64
    weight: Float32


def published_traversal(
    query_graph: KnnGraph, graph: KnnGraph, threshold: float, limit: int, classes: Classes
) -> Exploration:
    """The traversal of the published program. Arguments as for `resight.graph.exploration.run_traversal`.

    A source in the result is a row, and for a query, which may lie on the way too, the number of nodes of `graph` plus
    that of the query. Memory: 60 bytes an edge, those of labels included. Raises `ArrayError` for ids outside `graph`,
    and as `adjacency` does.
    """
    adjacency(graph, None)  # for its checks
    nodes, queries = len(graph), len(query_graph)
    if query_graph.ids.size and query_graph.ids.max() >= nodes:
        raise ArrayError(f"a query has neighbour {query_graph.ids.max()}, but the graph has {nodes} nodes")
    listed = _rows_of_the_text(query_graph, graph, classes)
    lists = _symmetric(listed, nodes + queries)
    asked = _chosen(listed, listed.source >= nodes)
    starts = _padded(asked._replace(source=asked.source - nodes), queries)
    unlabelled = no_classes(queries)
    hidden = np.full(len(classes.of_training) + queries, -1, np.int64)
    only_nodes = Classes(unlabelled.of_query, unlabelled.bridge, hidden, unlabelled.starts, unlabelled.members)
    return run_traversal(starts, lists, threshold, limit, only_nodes, published=True)


def _rows_of_the_text(query_graph: KnnGraph, graph: KnnGraph, classes: Classes) -> Listed:
    """All edges in the order of the text; query q is node len(graph) + q."""
    nodes, photos = len(graph), len(graph) - len(classes.of_training)
    top = max(HEAVIEST, _above_all(query_graph, graph) + int(np.diff(classes.starts).max(initial=0)))
    bridged, slot = np.nonzero(classes.bridge >= 0)
    bridges = Listed(nodes + bridged, classes.bridge[bridged, slot], np.full(len(bridged), top + 1, np.float32))
    asked = _of_classes(np.arange(len(query_graph)) + nodes, classes.of_query, classes, top)
    taught = _of_classes(np.arange(photos, nodes), classes.of_training, classes, top)
    own = _flat(graph, 0)
    queries = _merged(bridges, asked, _flat(query_graph, nodes))
    return _joined(queries, _merged(taught, _chosen(own, own.source >= photos)), _chosen(own, own.source < photos))


def _of_classes(nodes: Int64, numbers: Int64, classes: Classes, top: float) -> Listed:
    """The edges of `nodes` to the photos of their classes `numbers`, -1 for none: `top`, `top` - 1, and so on."""
    known = numbers >= 0
    sizes = np.diff(classes.starts)[numbers[known]]
    rank = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    members = classes.members[np.repeat(classes.starts[numbers[known]], sizes) + rank]
    return Listed(np.repeat(nodes[known], sizes), members, (top - rank).astype(np.float32))


def _flat(graph: KnnGraph, first: int) -> Listed:
    row, slot = np.nonzero(graph.ids >= 0)
    return Listed(row + first, graph.ids[row, slot].astype(np.int64), graph.weights[row, slot])


def _merged(*parts: Listed) -> Listed:
    """The edges of all `parts`, for each source those of the first part first; an edge that stands twice stays once."""
    every = _joined(*parts)
    ordered = _chosen(every, np.argsort(every.source, kind="stable"))
    _, first = np.unique(np.stack((ordered.source, ordered.target)), axis=1, return_index=True)
    return _chosen(ordered, np.sort(first))


def _joined(*parts: Listed) -> Listed:
    return Listed(
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.weight for part in parts]),
    )


def _chosen(listed: Listed, where: Array) -> Listed:
    """The edges `where` a mask or places say."""
    return Listed(listed.source[where], listed.target[where], listed.weight[where])


def _symmetric(listed: Listed, nodes: int) -> Adjacency:
    """Adjacency lists of `listed`, each with the one reverse edge behind; a node in two directions is listed twice."""
    last = np.full(nodes, -1)
    last[listed.target] = np.arange(len(listed.target))  # of edges to one node, the last one stays
    target = np.flatnonzero(last >= 0)
    source, weight = listed.source[last[target]], listed.weight[last[target]]
    # Where the node lists that row itself, the larger weight counts.
    keys = listed.source * nodes + listed.target
    order = np.argsort(keys)
    wanted = target * nodes + source
    place = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    weight = np.where(keys[place] == wanted, np.maximum(weight, listed.weight[place]), weight)
    rows = np.concatenate((listed.source, target))
    by_row = np.argsort(rows, kind="stable")
    starts = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=nodes))))
    ids, weights = np.concatenate((listed.target, source))[by_row], np.concatenate((listed.weight, weight))[by_row]
    return Adjacency(starts, ids, weights.astype(np.float32))


def _padded(listed: Listed, rows: int) -> KnnGraph:
    """Edges sorted by source as lists of equal length."""
    sizes = np.bincount(listed.source, minlength=rows)
    slot = np.arange(len(listed.source)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    ids = np.full((rows, sizes.max(initial=0)), -1, np.int64)
    weights = np.full(ids.shape, -np.inf, np.float32)
    ids[listed.source, slot], weights[listed.source, slot] = listed.target, listed.weight
    return KnnGraph(ids, weights)


def _above_all(*graphs: KnnGraph) -> float:
    """A whole number that no weight exceeds."""
    return float(np.ceil(max((float(graph.weights.max()) for graph in graphs if graph.weights.size), default=0.0)))
