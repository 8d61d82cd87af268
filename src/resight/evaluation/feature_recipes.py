"""Recipes for feature files: functions of queries and a `Database`, whose keyword arguments are their settings.

Those that re-rank put what they do not reach behind, in the order of the search. All but `search` hold the descriptors
of the whole database in memory, distractors too; those of the graph also hold the graph, 8 k bytes per photo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from resight.errors import UsageError
from resight.evaluation.array_files import DAMAGED, load_npy
from resight.evaluation.streaming import rank_blocks, stream_vectors
from resight.evaluation.training_files import read_training
from resight.graph.adjacency import adjacency, with_isolated
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.graph.labels import nearest_of_class
from resight.graph.labels import semi_supervised as semi_supervised_traversal
from resight.graph.propagation_matrix import listed_graph
from resight.matching.similarity import load_similarity
from resight.ranking.expansion import database_augmentation
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.propagation import INDEX_VOTES, QUERY_VOTES
from resight.ranking.search import global_vectors
from resight.ranking.similarity import deep_similarity
from resight.ranking.vector_database import VectorDatabase, ahead_of
from resight.recipes.catalogue import RECIPES, pipeline
from resight.recipes.resources import ArrayResources
from resight.types import Float32, Queries, Ranking


@dataclass(frozen=True, eq=False)
class Database:
    """Descriptors of a benchmark's own photos, `vectors` (N, D), and a file of distractors behind them."""

    vectors: Float32
    distractors: Path | None = None

    def blocks(self) -> Iterator[Float32]:
        """All descriptors in row order, a block at a time."""
        yield self.vectors
        if self.distractors is not None:
            yield from stream_vectors(self.distractors, self.vectors.shape[1])

    def all(self) -> Float32:
        """All descriptors at once, (N, D): what recipes that need a graph hold in memory."""
        return self.vectors if self.distractors is None else np.concatenate(list(self.blocks()))


def search(queries: Queries, database: Database, *, k: int | None = None) -> Ranking:
    """The `k` best rows by inner product (all by default), a block of the database at a time."""
    return rank_blocks(_vectors(queries), database.blocks(), k)


def average_expansion(queries: Queries, database: Database, *, n: int = 10) -> Ranking:
    """Average query expansion with the `n` nearest, then search (Chum et al., ICCV 2007)."""
    return QueryExpansion(VectorDatabase.over(database.all()), n, 0.0)(queries)


def augmentation(
    queries: Queries, database: Database, *, n: int = 10, alpha: float = 3.0, query_n: int = 10
) -> Ranking:
    """Alpha database augmentation with `n` photos, and query expansion with `query_n` of the result."""
    return QueryExpansion(VectorDatabase.over(database_augmentation(database.all(), n, alpha)), query_n, alpha)(queries)


def learned(queries: Queries, database: Database, *, weights: str = "", top: int | None = None) -> Ranking:
    """The first `top` results (all by default) in the order of a learned similarity, read from the file `weights`."""
    if not weights:
        raise UsageError("give the file of the learned similarity: --weights FILE")
    similarity = load_similarity(weights)
    nodes = VectorDatabase.over(database.all())
    if similarity.dim != nodes.vectors.shape[1]:
        raise UsageError(
            f"{weights} compares {similarity.dim} dimensions, the descriptors have {nodes.vectors.shape[1]}"
        )
    return deep_similarity(nodes.index, similarity, nodes.rows, nodes.vectors, top=top or max(len(nodes), 1))(queries)


def separation(
    queries: Queries,
    database: Database,
    *,
    k: int = 4,
    query_k: int = 5,
    layers: int = 2,
    residual: float = 0.3,
    beta_percentile: float = 98.0,
    epochs: int = 200,
    seed: int = 0,
    index_lists: str = "",
    query_lists: str = "",
) -> Ranking:
    """Guided similarity separation, trained on the database without labels for all `epochs` (Liu et al., NeurIPS 2019).

    The published k = 5 of the database counts the photo itself. `index_lists`, `query_lists`: npy files of neighbours,
    integers (N, K) and (Q, K), best first, such as geometry proves them; their first `k` and `query_k` are the edges
    instead of the nearest. Transductive.
    """
    from resight.training.separation import fit_separation

    nodes, points = VectorDatabase.over(database.all()), global_vectors(queries)
    if index_lists:
        graph = listed_graph(_lists(index_lists), nodes.vectors, nodes.vectors, k, same=True)
    else:
        graph = build_knn_graph(nodes.vectors, k)
    model = fit_separation(
        nodes.vectors,
        graph,
        layers=layers,
        residual=residual,
        beta_percentile=beta_percentile,
        epochs=epochs,
        seed=seed,
    )
    if query_lists:
        near = listed_graph(_lists(query_lists), points, nodes.vectors, query_k)
    else:
        near = neighbours(points, nodes.vectors, query_k)
    refined = VectorDatabase.over(model.embed(nodes.vectors, graph))
    return refined.index.search(model.extend(points, near), max(len(nodes), 1))


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
    given = read_training(training, labels)
    nodes, points = VectorDatabase.over(database.all()), global_vectors(queries)
    known, votes, _ = given.label(nodes.vectors, INDEX_VOTES, proven)
    asked, _, near = given.label(points, QUERY_VOTES, query_proven)
    edges = adjacency(build_knn_graph(nodes.vectors, k))
    found = semi_supervised_traversal(
        nodes.nearest(queries, k),
        with_isolated(edges, len(given.labels)) if bridges else edges,
        asked,
        known,
        threshold,
        limit,
        index_votes=votes,
        training_labels=given.labels if bridges else None,
        bridges=nearest_of_class(near, given.labels, asked) if bridges else None,
    )
    return ahead_of(found, nodes.index.search(points, limit)).top(limit)


def _over(name: str) -> Callable[..., Ranking]:
    """A recipe of collections, its graphs made from the descriptors as it asks for them."""

    @wraps(RECIPES[name].build)
    def rank(queries: Queries, database: Database, **options: Any) -> Ranking:
        resources = ArrayResources(VectorDatabase.over(database.all()))
        return pipeline(name, resources, options)(queries)

    return rank


FEATURE_RECIPES: dict[str, Callable[..., Ranking]] = {
    "search": search,
    "average-expansion": average_expansion,
    "alpha-augmentation": augmentation,
    "oasis": learned,
    "deep-similarity": learned,
    "separation": separation,
    "semi-supervised": semi_supervised,
    **{name: _over(name) for name, recipe in RECIPES.items() if recipe.descriptors and not recipe.others},
}


def _vectors(queries: Queries) -> Float32:
    if queries.vectors is None:
        raise UsageError("these queries carry no descriptors: give a file of them")
    return queries.vectors


def _lists(path: str) -> Any:
    try:
        return load_npy(Path(path))
    except DAMAGED as error:
        raise UsageError(f"{path} cannot be read as an npy file of neighbours: {error}") from error
