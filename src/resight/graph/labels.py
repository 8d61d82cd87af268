"""Semi-supervised traversal: labels of training photos as additional edges.

Paper: Chang, Yu, Wang, Volkovs, "Semi-supervised Exploration in Image Retrieval", CVPR workshop on landmark recognition
2019.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from resight.errors import ArrayError, UsageError
from resight.graph.adjacency import Adjacency, Symmetry, adjacency
from resight.graph.exploration import Classes, run_traversal
from resight.graph.published import published_traversal
from resight.types import Float32, Int64, KnnGraph, Ranking, as_array


def majority_labels(neighbours: KnnGraph, training_labels: Any, top: int) -> tuple[Int64, Float32]:
    """The label that more than half of a photo's `top` nearest training photos share, or -1.

    `neighbours` (M, k): rows of the training photos, from `resight.graph.knn_graph.neighbours` with k >= top.
    `training_labels` (T,) int64, -1 for none. Gives labels (M,) int64 and, as the strength of the vote, the highest
    similarity among the voters (M,) float32, -inf without a label. Published: top 3 for queries, 5 for the collection.
    Half of the votes, and so a tie, selects no label. Memory: M top^2 bytes.
    Raises `UsageError` for `top` outside 1 to k and `ArrayError` for ids without a label entry.
    """
    labels = _labels("training_labels", training_labels, None)
    if not 1 <= top <= neighbours.k:
        raise UsageError(f"{top} of {neighbours.k} neighbours cannot vote: choose 1 to {neighbours.k}")
    near, weights = neighbours.ids[:, :top], neighbours.weights[:, :top]
    _check_training(near, labels)
    voted = np.append(labels, -1)[near]
    agree = ((voted[:, :, None] == voted[:, None, :]) & (voted >= 0)[:, None, :]).sum(axis=2)
    winner = np.argmax(agree, axis=1)
    chosen = np.take_along_axis(voted, winner[:, None], axis=1)[:, 0]
    chosen = np.where(agree.max(axis=1) > top // 2, chosen, -1)
    strength = np.where((voted == chosen[:, None]) & (voted >= 0), weights, -np.inf).max(axis=1)
    return chosen.astype(np.int64), strength.astype(np.float32)


def nearest_of_class(neighbours: KnnGraph, training_labels: Any, labels: Any) -> Int64:
    """The first training photo in each list of `neighbours` (M, k) with that photo's label in `labels` (M,), or -1.

    These are the `bridges` of `semi_supervised`, (M,) int64. Raises `ArrayError` for ids without a label entry.
    """
    training = _labels("training_labels", training_labels, None)
    wanted = _labels("labels", labels, len(neighbours))
    _check_training(neighbours.ids, training)
    if neighbours.k == 0:
        return np.full(len(neighbours), -1, np.int64)
    hit = (np.append(training, -1)[neighbours.ids] == wanted[:, None]) & (wanted >= 0)[:, None]
    slots = np.where(hit.any(axis=1), hit.argmax(axis=1), neighbours.k)
    padded = np.pad(neighbours.ids.astype(np.int64), ((0, 0), (0, 1)), constant_values=-1)
    return np.take_along_axis(padded, slots[:, None], axis=1)[:, 0]


def semi_supervised(
    query_graph: KnnGraph,
    graph: KnnGraph | Adjacency,
    query_labels: Any,
    index_labels: Any,
    threshold: float,
    limit: int,
    *,
    index_votes: Any = None,
    training_labels: Any = None,
    bridges: Any = None,
    symmetrise: Symmetry | None = "max",
) -> Ranking:
    """Explore-exploit traversal that also follows the labels of training photos; online.

    `query_labels` (Q,) and `index_labels` (N,) int64, -1 for none: see `majority_labels`. A query
    with a label has edges, heavier than all others, to the photos of that label, in the order of `index_votes` (N,)
    float32, the best first (by row when absent). That is the form of the authors' challenge entry. With `bridges` (Q,)
    int64, a training photo per query or -1, the query has one such edge to that photo instead, and the photo those to
    the photos of its label: the form of the paper.
    `training_labels` (T,) int64: labels of T training photos that are the last nodes of `graph`, behind the N photos of
    the collection, and may also be neighbours in both graphs. They are traversed, and never returned.
    With `symmetrise="last"`, the published program is repeated in full (`resight.graph.published`): queries and
    training photos count among the rows that give reverse edges and are traversed, and the weight of a waiting entry
    changes with the best weight known for its photo, without being sorted anew. An `Adjacency` is then refused with
    `UsageError`, since its reverse edges were chosen without the queries.
    Raises as `explore_exploit` does, and `ArrayError` for labels of another length or bridges to no training photo.
    """
    query_labels = _labels("query_labels", query_labels, len(query_graph))
    index_labels = _labels("index_labels", index_labels, None)
    training = _labels("training_labels", np.empty(0, np.int64) if training_labels is None else training_labels, None)
    if len(graph) != len(index_labels) + len(training):
        raise ArrayError(
            f"the graph has {len(graph)} nodes, but there are {len(index_labels)} index labels and {len(training)} "
            "training labels: one per node is needed"
        )
    votes = np.zeros(len(index_labels)) if index_votes is None else index_votes
    members, starts, names = _classes(index_labels, as_array("index_votes", votes, np.float32, index_labels.shape))
    query_classes, bridge_nodes = _class_numbers(query_labels, names), np.full(len(query_graph), -1, np.int64)
    if bridges is not None:
        bridges = _labels("bridges", bridges, len(query_graph))
        if bridges.size and bridges.max() >= len(training):
            raise ArrayError(f"bridges name training photo {bridges.max()}, but there are {len(training)}")
        bridge_nodes = np.where(bridges < 0, -1, bridges + len(index_labels))
        query_classes = np.full(len(query_graph), -1, np.int64)
    classes = Classes(query_classes, bridge_nodes, _class_numbers(training, names), starts, members)
    if symmetrise == "last":
        if isinstance(graph, Adjacency):
            raise UsageError('symmetrise="last" needs the lists of the graph as they are: pass the KnnGraph itself')
        return published_traversal(query_graph, graph, threshold, limit, classes).ranking
    edges = graph if isinstance(graph, Adjacency) else adjacency(graph, symmetrise)
    return run_traversal(query_graph, edges, threshold, limit, classes, published=False).ranking


def _labels(name: str, values: Any, length: int | None) -> Int64:
    labels = as_array(name, values, np.int64, (length,))
    if (labels < -1).any():
        raise ArrayError(f"{name} hold {labels.min()}: labels start at 0, and -1 means none")
    return labels


def _check_training(ids: Any, labels: Int64) -> None:
    if ids.size and ids.max() >= len(labels):
        raise ArrayError(f"a neighbour is training photo {ids.max()}, but there are {len(labels)} training labels")


def _classes(labels: Int64, votes: Float32) -> tuple[Int64, Int64, Int64]:
    """Photos by class, best votes first and then by row; where each class starts; the sorted labels of the classes."""
    if np.isnan(votes).any():
        raise ArrayError("index_votes hold NaN")
    labelled = np.flatnonzero(labels >= 0)
    members = labelled[np.lexsort((labelled, -votes[labelled], labels[labelled]))]
    names, counts = np.unique(labels[labelled], return_counts=True)
    return members, np.concatenate(([0], np.cumsum(counts))).astype(np.int64), names


def _class_numbers(labels: Int64, names: Int64) -> Int64:
    """The class of each label, -1 for none and for labels that no photo of the collection has."""
    place = np.searchsorted(names, labels)
    known = np.append(names, -1)[place] == labels
    return np.where(known & (labels >= 0), place, -1)
