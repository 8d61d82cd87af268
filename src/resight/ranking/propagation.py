"""Traversal of the kNN graph as stages: photos that a chain of look-alikes links to the query.

Behind another stage, what the traversal does not reach keeps its order behind what it does. Papers: see
`resight.graph.traversal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from resight.arrays import finite_rows
from resight.errors import ArrayError, UsageError
from resight.graph.adjacency import Adjacency
from resight.graph.exploration import Exploration, checked_limits
from resight.graph.knn_graph import neighbours
from resight.graph.labels import majority_labels, nearest_of_class, semi_supervised, united_labels, verified_labels
from resight.graph.traversal import explore
from resight.products import pair_products
from resight.ranking.expansion_stages import verified_inliers
from resight.ranking.pipeline import Composable
from resight.ranking.search import global_vectors
from resight.ranking.vector_database import VectorDatabase, ahead_of, only
from resight.ranking.verification import Verifier
from resight.types import Evidence, Float32, Int64, KnnGraph, Queries, Ranking, as_array

QUERY_VOTES, INDEX_VOTES = 3, 5  # nearest training photos that vote for a label, as published


@dataclass(frozen=True, eq=False)
class ExploreExploit(Composable):
    """Explore-exploit traversal of `edges`, the symmetric graph of the database (`resight.graph.adjacency`).

    A query's own edges go to the first `k` results so far, or, as a first stage, to its `k` nearest photos. Where the
    edges of the graph are weighted by inliers, give the `verifier`: a query's edges then are the verified ones among
    the `k`, weighted alike. `threshold` is in the unit of the weights. `limit`: photos taken per query, fewer where
    the graph ends. Online: one search, at most `limit` neighbour lists, and `k` verifications.
    """

    database: VectorDatabase
    edges: Adjacency
    threshold: float
    k: int = 50
    limit: int = 1000
    verifier: Verifier | None = None

    def __post_init__(self) -> None:
        _check(self.database, self.edges, self.threshold, self.k, self.limit)

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return ahead_of(self.database.in_rows(self._explore(queries, ranking).ranking), ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The path from the query's neighbour to result `row`, and the weight of each of its edges."""
        found = self._explore(queries.only(query), only(before, query))
        node = int(self.database.nodes(row))
        if node < 0 or node not in found.ranking.ids[0]:
            return (Evidence("ExploreExploit", "no chain of look-alikes led from the query to it", {}),)
        path = found.path(0, node)
        near = self._query_edges(queries.only(query), only(before, query))
        weights = [float(near.weights[0][near.ids[0] == path[0]][0])]
        weights += [_weight(self.edges, a, b) for a, b in pairwise(path)]
        rows = self.database.rows[path].tolist()
        between = "directly" if len(rows) == 1 else f"through {len(rows) - 1} other photo{'s' if len(rows) > 2 else ''}"
        summary = f"the query leads to it {between}; the weakest edge of the chain weighs {min(weights):.3g}"
        return (Evidence("ExploreExploit", summary, {"path": rows, "weights": weights}),)

    def _explore(self, queries: Queries, ranking: Ranking | None) -> Exploration:
        return explore(self._query_edges(queries, ranking), self.edges, self.threshold, self.limit)

    def _query_edges(self, queries: Queries, ranking: Ranking | None) -> KnnGraph:
        near = self.database.candidates(queries, ranking, self.k)
        if self.verifier is None:
            return near
        return _by_inliers(near, verified_inliers(self.database, self.verifier, queries, near))


@dataclass(frozen=True, eq=False)
class TrainingPhotos:
    """Labelled photos outside the collection: `vectors` (T, D) float32 as the collection's, `labels` (T,) int64 from 0.

    `index_labels` and `index_votes` (N, s): labels of each photo of the collection, -1 for none, and the similarity of
    the nearest training photo that votes for it; see `label_collection`.
    """

    vectors: Float32
    labels: Int64
    index_labels: Int64
    index_votes: Float32


def label_collection(database: VectorDatabase, vectors: Any, labels: Any, proven: Any = None) -> TrainingPhotos:
    """Label the photos of `database` by training photos `vectors` (T, D) with `labels` (T,); done once.

    The majority of the five nearest decides. `proven` (N, k): rows of training photos that geometry proves to show the
    same, the most inliers first, -1 past the end; the label of most of them stands beside, even where both conflict.
    Raises `ArrayError` for other shapes, a negative label, or fewer than five training photos.
    """
    vectors = finite_rows("training vectors", vectors)
    labels = as_array("training labels", labels, np.int64, (len(vectors),))
    if len(vectors) < INDEX_VOTES or labels.min() < 0:
        raise ArrayError(f"{len(vectors)} training photos: at least {INDEX_VOTES} are needed, with labels from 0")
    near = neighbours(database.vectors, vectors, INDEX_VOTES)
    found, votes = majority_labels(near, labels, INDEX_VOTES)
    if proven is None:
        return TrainingPhotos(vectors, labels, found[:, None], votes[:, None])
    similarity = pair_products(database.vectors, vectors, proven)
    return TrainingPhotos(vectors, labels, *united_labels(found, votes, *verified_labels(proven, labels, similarity)))


@dataclass(frozen=True, eq=False)
class SemiSupervised(Composable):
    """`ExploreExploit` that also follows the labels of training photos, which are traversed but never returned.

    A query whose three nearest training photos agree by majority has edges, heavier than all others, to the photos of
    their label. `edges`: of the database alone; or of the database and behind it the training photos, and then the
    query is bridged by the most similar training photo of its label, as in the paper. Online: two searches and at most
    `limit` neighbour lists.
    """

    database: VectorDatabase
    edges: Adjacency
    training: TrainingPhotos
    threshold: float
    k: int = 50
    limit: int = 100

    def __post_init__(self) -> None:
        _check(self.database, self.edges, self.threshold, self.k, self.limit, len(self.training.labels))

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        labels, near = self._labels(queries)
        bridged = len(self.edges) > len(self.database)
        found = semi_supervised(
            self.database.candidates(queries, ranking, self.k),
            self.edges,
            labels,
            self.training.index_labels,
            self.threshold,
            self.limit,
            index_votes=self.training.index_votes,
            training_labels=self.training.labels if bridged else None,
            bridges=nearest_of_class(near, self.training.labels, labels) if bridged else None,
        )
        return ahead_of(self.database.in_rows(found), ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The label that the query got, and whether result `row` has it."""
        label = int(self._labels(queries.only(query))[0][0])
        if label < 0:
            return (Evidence("SemiSupervised", "the training photos near the query do not agree on a label", {}),)
        node = int(self.database.nodes(row))
        same = node >= 0 and label in self.training.index_labels[node].tolist()
        summary = f"the query looks like training photos of label {label}, and {'so does' if same else 'not so'} it"
        return (Evidence("SemiSupervised", summary, {"label": label, "same": same}),)

    def _labels(self, queries: Queries) -> tuple[Int64, KnnGraph]:
        near = neighbours(global_vectors(queries), self.training.vectors, QUERY_VOTES)
        return majority_labels(near, self.training.labels, QUERY_VOTES)[0], near


def _check(database: VectorDatabase, edges: Adjacency, threshold: float, k: int, limit: int, more: int = 0) -> None:
    checked_limits(threshold, limit)
    if k < 1:
        raise UsageError(f"k={k}: a query needs at least 1 edge")
    if len(edges) not in (len(database), len(database) + more):
        raise ArrayError(f"the graph has {len(edges)} nodes, the database {len(database)}: build it over the same")


def _by_inliers(near: KnnGraph, inliers: Int64) -> KnnGraph:
    """The verified edges of `near` (Q, k), the most inliers first."""
    order = np.argsort(-inliers, axis=1, kind="stable")
    ids, counts = np.take_along_axis(near.ids, order, axis=1), np.take_along_axis(inliers, order, axis=1)
    return KnnGraph(np.where(counts > 0, ids, -1), np.where(counts > 0, counts, -np.inf))


def _weight(edges: Adjacency, node: int, other: int) -> float:
    ids, weights = edges.neighbours_of(node)
    return float(weights[ids == other][0])
