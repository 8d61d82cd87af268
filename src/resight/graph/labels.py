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
    chosen, count = _most_voted(voted)
    chosen = np.where(count > top // 2, chosen, -1)
    return chosen, _strength(voted, chosen, weights)


def verified_labels(listed: Any, training_labels: Any, similarity: Any) -> tuple[Int64, Float32]:
    """The label that most of the training photos share which geometry proves to show the same as a photo, or -1.

    `listed` (M, k): rows of those training photos, the most inliers first, -1 padded. `training_labels` (T,) int64, -1
    for none. `similarity` (M, k) float32: of the descriptors. Gives labels (M,) int64 and the highest similarity among
    their voters (M,) float32, -inf without one, in the unit of `majority_labels`, so that both can be united
    (`united_labels`). Of labels with equally many voters, that with the most inliers wins. Memory: M k^2 bytes.
    Raises `ArrayError` for ids without a label entry and other shapes.
    """
    labels = _labels("training_labels", training_labels, None)
    ids = as_array("listed training photos", listed, np.int64, (None, None))
    weights = as_array("similarity", similarity, np.float32, ids.shape)
    _check_training(ids, labels)
    voted = np.append(labels, -1)[np.where(ids >= 0, ids, -1)]
    chosen = _most_voted(voted)[0]
    return chosen, _strength(voted, chosen, weights)


def united_labels(labels: Any, votes: Any, others: Any, other_votes: Any) -> tuple[Int64, Float32]:
    """Labels and votes (M,) of two sources together, (M, 2): on conflict a photo keeps both, -1 where it has fewer.

    Where both say the same, it stands once with the higher vote. The first source's label comes first.
    """
    first = _labels("labels", labels, None)
    second = _labels("other labels", others, len(first))
    strength = as_array("votes", votes, np.float32, first.shape)
    other = as_array("other votes", other_votes, np.float32, first.shape)
    same = (first == second) & (first >= 0)
    both = np.stack((first, np.where(same, -1, second)), axis=1)
    strengths = np.stack((np.where(same, np.maximum(strength, other), strength), other), axis=1)
    return both, np.where(both >= 0, strengths, -np.inf).astype(np.float32)


def nearest_of_class(neighbours: KnnGraph, training_labels: Any, labels: Any) -> Int64:
    """The first training photo in each list of `neighbours` (M, k) with that photo's label in `labels`, or -1.

    `labels` (M,), or (M, s) for photos with several. The result has their shape; it is the `bridges` of
    `semi_supervised`. Raises `ArrayError` for ids without a label entry.
    """
    training = _labels("training_labels", training_labels, None)
    wanted = _several("labels", labels, len(neighbours))
    _check_training(neighbours.ids, training)
    named = np.append(training, -1)[neighbours.ids][:, None, :]
    hit = (named == wanted[:, :, None]) & (wanted >= 0)[:, :, None]
    slots = np.where(hit.any(axis=2), hit.argmax(axis=2) if neighbours.k else 0, neighbours.k)
    padded = np.pad(neighbours.ids.astype(np.int64), ((0, 0), (0, 1)), constant_values=-1)
    return np.take_along_axis(padded, slots, axis=1).reshape(np.shape(labels))


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

    `query_labels` (Q,) and `index_labels` (N,) int64, -1 for none: see `majority_labels`; or (Q, s) and (N, s) for
    photos with several labels (`united_labels`). A query with a label has edges, heavier than all others, to the photos
    of its labels, in the order of `index_votes` of the shape of `index_labels`, the best first (by row when absent).
    That is the form of the authors' challenge entry. With `bridges` of the shape of `query_labels`, a training photo
    for each or -1, the query has such edges to these photos instead, and they those to the photos of their label: the
    form of the paper.
    `training_labels` (T,) int64: labels of T training photos that are the last nodes of `graph`, behind the N photos of
    the collection, and may also be neighbours in both graphs. They are traversed, and never returned.
    With `symmetrise="last"`, the published program is repeated in full (`resight.graph.published`): queries and
    training photos count among the rows that give reverse edges and are traversed, and the weight of a waiting entry
    changes with the best weight known for its photo, without being sorted anew. An `Adjacency` is then refused with
    `UsageError`, since its reverse edges were chosen without the queries.
    Raises as `explore_exploit` does, and `ArrayError` for labels of another length or bridges to no training photo.
    """
    asked = _several("query_labels", query_labels, len(query_graph))
    indexed = _several("index_labels", index_labels, None)
    training = _labels("training_labels", np.empty(0, np.int64) if training_labels is None else training_labels, None)
    if len(graph) != len(indexed) + len(training):
        raise ArrayError(
            f"the graph has {len(graph)} nodes, but there are {len(indexed)} index labels and {len(training)} "
            "training labels: one per node is needed"
        )
    votes = np.zeros(np.shape(index_labels)) if index_votes is None else index_votes
    votes = as_array("index_votes", votes, np.float32, np.shape(index_labels)).reshape(indexed.shape)
    members, member_votes, starts, names = _classes(indexed, votes)
    bridge_nodes = np.full((len(query_graph), 0), -1, np.int64)
    query_classes = _class_numbers(asked, names)
    if bridges is not None:
        bridged = _several("bridges", bridges, len(query_graph))
        if bridged.size and bridged.max() >= len(training):
            raise ArrayError(f"bridges name training photo {bridged.max()}, but there are {len(training)}")
        bridge_nodes = np.where(bridged < 0, -1, bridged + len(indexed))
        query_classes = np.full((len(query_graph), 0), -1, np.int64)
    numbers, starts, members = _merged_classes(query_classes, starts, members, member_votes)
    classes = Classes(numbers, bridge_nodes, _class_numbers(training, names), starts, members)
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


def _several(name: str, values: Any, length: int | None) -> Int64:
    """Labels as (M, s), whether photos have one or several."""
    labels = np.asarray(values)
    shape = (length, None) if labels.ndim == 2 else (length,)
    labels = as_array(name, labels, np.int64, shape)
    if (labels < -1).any():
        raise ArrayError(f"{name} hold {labels.min()}: labels start at 0, and -1 means none")
    return labels.reshape(len(labels), -1) if labels.size else labels.reshape(len(labels), 0)


def _most_voted(voted: Int64) -> tuple[Int64, Int64]:
    """The label that stands most often in each row of `voted` (M, k), the first of equals, and how often; -1: none."""
    if voted.shape[1] == 0:
        return np.full(len(voted), -1, np.int64), np.zeros(len(voted), np.int64)
    agree = ((voted[:, :, None] == voted[:, None, :]) & (voted >= 0)[:, None, :]).sum(axis=2)
    winner = np.argmax(agree, axis=1)
    return np.take_along_axis(voted, winner[:, None], axis=1)[:, 0].astype(np.int64), agree.max(axis=1)


def _strength(voted: Int64, chosen: Int64, weights: Float32) -> Float32:
    """The highest weight among those that voted for the `chosen` label, (M,); -inf where none did."""
    voters = (voted == chosen[:, None]) & (voted >= 0)
    return np.asarray(np.where(voters, weights, -np.inf).max(axis=1, initial=-np.inf), np.float32)


def _check_training(ids: Any, labels: Int64) -> None:
    if ids.size and ids.max() >= len(labels):
        raise ArrayError(f"a neighbour is training photo {ids.max()}, but there are {len(labels)} training labels")


def _classes(labels: Int64, votes: Float32) -> tuple[Int64, Float32, Int64, Int64]:
    """Photos by class, best votes first and then by row, and their votes; where each class starts; the sorted labels.

    `labels`, `votes` (N, s).
    """
    if np.isnan(votes).any():
        raise ArrayError("index_votes hold NaN")
    row, slot = np.nonzero(labels >= 0)
    named, vote = labels[row, slot], votes[row, slot]
    order = np.lexsort((row, -vote, named))
    row, named, vote = row[order], named[order], vote[order]
    if labels.shape[1] > 1:  # a label that one photo has twice counts with its best vote
        first = np.sort(np.unique(np.stack((named, row)), axis=1, return_index=True)[1])
        row, named, vote = row[first], named[first], vote[first]
    names, counts = np.unique(named, return_counts=True)
    return row, vote, np.concatenate(([0], np.cumsum(counts))).astype(np.int64), names


def _merged_classes(numbers: Int64, starts: Int64, members: Int64, votes: Float32) -> tuple[Int64, Int64, Int64]:
    """One class per query, (Q,), where `numbers` (Q, s) are several; a class that unites others stands behind them."""
    numbers = -np.sort(-numbers, axis=1)
    repeated = np.zeros(numbers.shape, bool)
    repeated[:, 1:] = numbers[:, 1:] == numbers[:, :-1]
    numbers = -np.sort(-np.where(repeated, -1, numbers), axis=1)
    one = numbers[:, 0].copy() if numbers.shape[1] else np.full(len(numbers), -1, np.int64)
    several = np.flatnonzero((numbers >= 0).sum(axis=1) > 1)
    if not len(several):
        return one, starts, members
    unions, which = np.unique(numbers[several], axis=0, return_inverse=True)
    parts = [_united(union[union >= 0], starts, members, votes) for union in unions]
    one[several] = len(starts) - 1 + np.ravel(which)
    ends = len(members) + np.cumsum([len(part) for part in parts])
    return one, np.concatenate((starts, ends)), np.concatenate((members, *parts))


def _united(union: Int64, starts: Int64, members: Int64, votes: Float32) -> Int64:
    """The photos of several classes, best votes first and then by row, each once."""
    places = np.concatenate([np.arange(starts[number], starts[number + 1]) for number in union])
    ordered = members[places[np.lexsort((members[places], -votes[places]))]]
    return np.asarray(ordered[np.sort(np.unique(ordered, return_index=True)[1])], np.int64)


def _class_numbers(labels: Int64, names: Int64) -> Int64:
    """The class of each label, -1 for none and for labels that no photo of the collection has."""
    place = np.searchsorted(names, labels)
    known = np.append(names, -1)[place] == labels
    return np.where(known & (labels >= 0), place, -1)
