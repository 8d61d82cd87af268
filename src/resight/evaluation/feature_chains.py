"""Recipes for feature files that need more than descriptors: what geometry proves, and labelled training photos.

Functions of queries and a `Database`, whose keyword arguments are their settings; settings that name files are text.
"""

from __future__ import annotations

import numpy as np

from resight.errors import UsageError
from resight.evaluation.feature_database import Database
from resight.evaluation.list_files import read_lists
from resight.evaluation.training_files import Labelled, read_training
from resight.graph.adjacency import adjacency, with_isolated
from resight.graph.knn_graph import build_knn_graph
from resight.graph.labels import nearest_of_class
from resight.graph.labels import semi_supervised as follow_labels
from resight.graph.traversal import explore_exploit
from resight.ranking.expansion import verified_expansion as expand_verified
from resight.ranking.propagation import INDEX_VOTES, QUERY_VOTES
from resight.ranking.search import global_vectors
from resight.ranking.vector_database import VectorDatabase, ahead_of
from resight.types import Float32, Int64, Queries, Ranking


def verified_expansion(
    queries: Queries, database: Database, *, index_lists: str = "", query_lists: str = "", most: int = 2
) -> Ranking:
    """Search after the `most` most reliable verified results of each query have expanded it, and those of every photo
    that photo (QE-SV; Chang et al., CVPR workshops 2019).

    `query_lists`, `index_lists`: npy files of integers (Q, K) and (N, K): the rows that geometry proves among the first
    results, published: ten, the most inliers first, -1 past the end. Without one of them, that side stays as it is.
    """
    points, nodes = _expanded(queries, database, index_lists, query_lists, most)
    return nodes.index.search(global_vectors(points), max(len(nodes), 1))


def semi_supervised(
    queries: Queries,
    database: Database,
    *,
    training: str = "",
    labels: str = "",
    threshold: float = 0.42,
    k: int = 50,
    limit: int = 100,
    bridges: bool = False,
    proven: str = "",
    query_proven: str = "",
) -> Ranking:
    """Traversal that also follows the labels of training photos (Chang et al., CVPR workshops 2019).

    `training`: their descriptors, npy, h5 or parquet, read in blocks; `labels`: a csv file of as many rows with a
    column `landmark_id` or `label`. Three of them vote for the label of a query, five for that of a photo.
    `bridges`: a query leads to the nearest training photo of its label, and that to the photos of the label, as in the
    paper; otherwise a query leads to these photos itself. Training photos are never returned. `proven`, `query_proven`:
    npy files of integers (N, K) and (Q, K), the training photos that geometry proves, -1 past the end; their label is
    united with that of the vote. `limit` results. Online, but for the graph.
    """
    vectors, given = database.all(), read_training(training, labels)
    labelled = (
        given.label(vectors, INDEX_VOTES, proven),
        given.label(global_vectors(queries), QUERY_VOTES, query_proven),
    )
    return _by_labels(queries, VectorDatabase.over(vectors), given.labels, labelled, threshold, k, limit, bridges)


def landmark2019(
    queries: Queries,
    database: Database,
    *,
    index_lists: str = "",
    query_lists: str = "",
    most: int = 2,
    threshold: float = 0.42,
    k: int = 50,
    limit: int = 100,
    training: str = "",
    labels: str = "",
    bridges: bool = False,
    proven: str = "",
    query_proven: str = "",
) -> Ranking:
    """The landmark challenge of 2019: `verified_expansion` of queries and photos, the graph of the result, traversal,
    and, where `training` photos are given, their labels as in `semi_supervised`; labels are voted for by descriptors
    before expansion. `limit` results.
    """
    points, nodes = _expanded(queries, database, index_lists, query_lists, most)
    if not training:
        found = explore_exploit(nodes.nearest(points, k), build_knn_graph(nodes.vectors, k), threshold, limit)
        return ahead_of(found, nodes.index.search(global_vectors(points), limit)).top(limit)
    given = read_training(training, labels)
    labelled = (
        given.label(database.all(), INDEX_VOTES, proven),
        given.label(global_vectors(queries), QUERY_VOTES, query_proven),
    )
    return _by_labels(points, nodes, given.labels, labelled, threshold, k, limit, bridges)


def _by_labels(
    queries: Queries,
    nodes: VectorDatabase,
    training: Int64,
    labelled: tuple[Labelled, Labelled],
    threshold: float,
    k: int,
    limit: int,
    bridges: bool,
) -> Ranking:
    """Traversal with the labels of photos and queries, and what it does not reach in the order of the search."""
    photos, asked = labelled
    edges = adjacency(build_knn_graph(nodes.vectors, k))
    found = follow_labels(
        nodes.nearest(queries, k),
        with_isolated(edges, len(training)) if bridges else edges,
        asked.labels,
        photos.labels,
        threshold,
        limit,
        index_votes=photos.votes,
        training_labels=training if bridges else None,
        bridges=nearest_of_class(asked.near, training, asked.labels) if bridges else None,
    )
    return ahead_of(found, nodes.index.search(global_vectors(queries), limit)).top(limit)


def _expanded(
    queries: Queries, database: Database, index_lists: str, query_lists: str, most: int
) -> tuple[Queries, VectorDatabase]:
    """Queries and photos after verified expansion, each from the descriptors before it."""
    if not (index_lists or query_lists):
        raise UsageError("give what geometry proves: --set query_lists=FILE.npy, --set index_lists=FILE.npy or both")
    vectors, points = database.all(), global_vectors(queries)
    moved = _moved(points, vectors, query_lists, most)
    return (
        Queries(vectors=moved, rows=queries.rows, local=queries.local),
        VectorDatabase.over(_moved(vectors, vectors, index_lists, most)),
    )


def _moved(points: Float32, vectors: Float32, lists: str, most: int) -> Float32:
    """Each of `points` (M, D) plus the first `most` photos that its list in the file names, normalised; no photo is
    added to itself.
    """
    if not lists:
        return points
    listed = read_lists(lists, len(points), len(vectors))
    own = np.arange(len(points))[:, None] if points is vectors else -1
    reliable = np.where((listed >= 0) & (listed != own), listed.shape[1] - np.arange(listed.shape[1]), 0)
    in_order = Ranking(listed, np.where(listed >= 0, np.float32(0), -np.inf))
    return expand_verified(points, vectors, in_order, reliable, 1, most)
