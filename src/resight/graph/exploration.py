"""What a traversal of the kNN graph gives back, and the call of its compiled loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError, UsageError
from resight.graph.adjacency import Adjacency
from resight.graph.frontier import traverse
from resight.graph.frontier_state import ClassEdges, Edges, Found
from resight.types import Int64, KnnGraph, Ranking


@dataclass(frozen=True, eq=False)
class Exploration:
    """A traversal with its evidence.

    `ranking`: photos in the order in which they were taken; a score is the weakest edge taken so far, so scores never
    rise. `sources` (Q, K) int64: the row whose edge led to each result, -1 for the query itself and for no result.
    `lookups` (Q,) int64: neighbour lists read. `rounds` (Q,) int64: explore steps, each one batch of look-ups.
    """

    ranking: Ranking
    sources: Int64
    lookups: Int64
    rounds: Int64

    def path(self, query: int, row: int) -> list[int]:
        """Rows from the query's neighbour to `row`, strongest chain found. Raises `UsageError` if it is no result.

        Where a training photo led to a result, the path starts at that photo, whose row lies behind the collection's.
        """
        if not 0 <= query < len(self.ranking):
            raise UsageError(f"there is no query {query}: the exploration has {len(self.ranking)}")
        ids = self.ranking.ids[query]
        source_of = dict(zip(ids[ids >= 0].tolist(), self.sources[query].tolist(), strict=False))
        if row not in source_of:
            raise UsageError(f"row {row} is no result of query {query}")
        path = [row]
        while (source := source_of.get(path[0], -1)) >= 0:
            path.insert(0, source)
        return path


@dataclass(frozen=True, eq=False)
class Classes:
    """Extra edges that labels give; classes are numbered from 0, and -1 means none. All int64.

    `of_query` (Q,): a query's edges to the photos of a class. `bridge` (Q, b): a query's edges to training photos, as
    nodes. `of_training` (T,): class of every training photo. `starts` (C + 1,), `members`: photos of every class.
    """

    of_query: Int64
    bridge: Int64
    of_training: Int64
    starts: Int64
    members: Int64


def no_classes(queries: int) -> Classes:
    """No labels at all, for so many queries."""
    none, empty = np.full(queries, -1, np.int64), np.empty(0, np.int64)
    return Classes(none, none[:, None], empty, np.zeros(1, np.int64), empty)


def checked_limits(threshold: float, limit: int) -> float:
    """`threshold` rounded to float32, the type of the weights. Raises `UsageError` when it is NaN or `limit` < 1."""
    if limit < 1:
        raise UsageError(f"a traversal cannot stop at {limit} results: the limit must be at least 1")
    if np.isnan(threshold):
        raise UsageError("the threshold of a traversal is NaN: give a number, in the unit of the edge weights")
    return float(np.float32(threshold))


def run_traversal(
    query_graph: KnnGraph, edges: Adjacency, threshold: float, limit: int, classes: Classes, published: bool
) -> Exploration:
    """Traverse `edges` from every query. The first N nodes are photos, the last T training photos, never returned."""
    threshold = checked_limits(threshold, limit)
    returnable = len(edges) - len(classes.of_training)
    if query_graph.ids.size and query_graph.ids.max() >= len(edges):
        raise ArrayError(f"a query has neighbour {query_graph.ids.max()}, but the graph has {len(edges)} nodes")
    shape = (len(query_graph), min(limit, returnable))
    ids, sources = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
    scores = np.full(shape, -np.inf, np.float32)
    lookups, rounds = np.zeros(len(query_graph), np.int64), np.zeros(len(query_graph), np.int64)
    weight = _class_weight(query_graph.weights, edges.weights) if len(classes.members) else 0.0
    traverse(
        query_graph.ids.astype(edges.ids.dtype, copy=False),
        query_graph.weights,
        Edges(edges.starts, edges.ids, edges.weights, returnable),
        ClassEdges(classes.of_query, classes.bridge, classes.of_training, classes.starts, classes.members, weight),
        threshold,
        True if published else None,
        Found(ids, scores, sources, lookups, rounds),
    )
    return Exploration(Ranking(ids, scores), sources, lookups, rounds)


def _class_weight(*weights: NDArray[Any]) -> float:
    """A whole number above every weight, so that class edges, which count up from it, are heavier than all others."""
    return float(np.ceil(max(float(w.max(initial=0.0)) for w in weights)))
