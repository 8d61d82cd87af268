"""Explore-exploit traversal of the kNN graph: photos that a chain of look-alikes links to the query.

The query's neighbours enter a queue. *Explore* takes the photo behind the strongest edge out of it, whatever that edge
weighs; *exploit* goes on while the strongest edge weighs more than the threshold. Then the neighbours of all photos
just taken enter the queue, and so on, until enough photos are found. Photos rank in the order in which they are taken.

Papers: Chang, Yu, Wang, Volkovs, "Explore-Exploit Graph Traversal for Image Retrieval", CVPR 2019, and "Semi-supervised
Exploration in Image Retrieval", CVPR workshop on landmark recognition 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

import numpy as np

from resight.errors import ArrayError
from resight.graph.adjacency import Adjacency, Symmetry, adjacency
from resight.graph.exploration import Exploration, checked_limits, no_classes, run_traversal
from resight.graph.labels import semi_supervised
from resight.graph.prebuild import read_prebuild, write_prebuild
from resight.types import Int64, KnnGraph, Ranking

__all__ = [
    "Exploration",
    "explore",
    "explore_exploit",
    "explore_online",
    "read_prebuild",
    "semi_supervised",
    "write_prebuild",
]


def explore_exploit(
    query_graph: KnnGraph,
    graph: KnnGraph | Adjacency,
    threshold: float,
    limit: int,
    symmetrise: Symmetry | None = "max",
) -> Ranking:
    """Photos linked to each query through `graph`, at most `limit`, in the order in which they are taken.

    `query_graph` (Q, k): nearest rows of each query, from `neighbours`. `graph`: of the collection, from
    `build_knn_graph`, or verified with inlier counts as weights; `symmetrise` adds its reverse edges as in
    `adjacency`. Pass `adjacency(graph, ...)` itself to prepare it once for many calls; `symmetrise` is then unused.
    `threshold`: the weight that an edge must exceed to be exploited, compared in float32. Below every weight the graph
    is read round by round; above every weight it is always the strongest edge that is followed.
    Online: an unseen query needs one search and as many neighbour lists as photos are taken, whatever the collection's
    size; memory grows with those, and 16 bytes per node once. A list ends early where the graph offers nothing more.
    Raises `UsageError` for a limit below 1 or a threshold that is NaN, `ArrayError` for ids outside the graph.
    """
    return explore(query_graph, graph, threshold, limit, symmetrise).ranking


def explore(
    query_graph: KnnGraph,
    graph: KnnGraph | Adjacency,
    threshold: float,
    limit: int,
    symmetrise: Symmetry | None = "max",
) -> Exploration:
    """`explore_exploit` with its evidence: which row led to each result, and how many neighbour lists were read."""
    edges = graph if isinstance(graph, Adjacency) else adjacency(graph, symmetrise)
    return run_traversal(query_graph, edges, threshold, limit, no_classes(len(query_graph)), published=False)


def explore_online(
    query_graph: KnnGraph, look_up: Callable[[Int64], KnnGraph], threshold: float, limit: int
) -> Exploration:
    """`explore` over a graph that lies elsewhere: `look_up(rows)` gives the neighbour lists of those rows, in order.

    One call per explore step, with all rows that the step took, and no row twice for one query. The results are those
    of `explore` over the same lists. Memory grows with the lists that were read only. Raises as `explore_exploit` does.
    """
    threshold = checked_limits(threshold, limit)
    runs = [
        _explore_one(ids[ids >= 0].tolist(), weights[ids >= 0].tolist(), look_up, threshold, limit)
        for ids, weights in zip(query_graph.ids, query_graph.weights, strict=True)
    ]
    ranking = Ranking.from_lists([run[0] for run in runs], [run[1] for run in runs])
    sources = np.full(ranking.ids.shape, -1, np.int64)
    for query, run in enumerate(runs):
        sources[query, : len(run[2])] = run[2]
    counts = np.array([run[3:] for run in runs], np.int64).reshape(-1, 2)
    return Exploration(ranking, sources, counts[:, 0], counts[:, 1])


def _explore_one(
    ids: list[int], weights: list[float], look_up: Callable[[Int64], KnnGraph], threshold: float, limit: int
) -> tuple[list[int], list[float], list[int], int, int]:
    """Results, scores and sources of one query, and its numbers of look-ups and rounds."""
    queue: list[tuple[float, int, int, int]] = []
    best: dict[int, float] = {}
    source_of: dict[int, int] = {}
    scores: list[float] = []
    edges = [(-1, other, weight) for other, weight in zip(ids, weights, strict=True)]
    pushed = lookups = rounds = 0
    lowest = np.inf
    while True:
        for source, other, weight in edges:
            if other not in source_of and weight > best.get(other, -np.inf):
                best[other] = weight
                heappush(queue, (-weight, pushed, other, source))
                pushed += 1
        if not queue:
            break
        rounds += 1
        fresh: list[int] = []
        while True:
            weight, _, row, source = heappop(queue)
            lowest = min(lowest, -weight)
            if row not in source_of:
                source_of[row] = source
                scores.append(lowest)
                fresh.append(row)
            if len(source_of) >= limit or not queue or not -queue[0][0] > threshold:
                break
        if len(source_of) >= limit:
            break
        edges = _edges(look_up(np.array(fresh, np.int64)), fresh) if fresh else []
        lookups += len(fresh)
    return list(source_of), scores, list(source_of.values()), lookups, rounds


def _edges(lists: KnnGraph, rows: list[int]) -> list[tuple[int, int, float]]:
    """(row, neighbour, weight) of all lists in order."""
    if len(lists) != len(rows):
        raise ArrayError(f"look_up gave {len(lists)} lists for {len(rows)} rows: one per row, in order, is needed")
    where, slots = np.nonzero(lists.ids >= 0)
    sources = np.array(rows, np.int64)[where]
    return list(
        zip(sources.tolist(), lists.ids[where, slots].tolist(), lists.weights[where, slots].tolist(), strict=True)
    )
