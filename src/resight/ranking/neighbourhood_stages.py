"""Stages that re-rank by neighbourhoods or in an embedding: manifold embedding, k-reciprocal, SuperGlobal refinement.

Papers: see `resight.graph.manifold` and `resight.graph.reciprocal`; Shao, Chen, Karpur, Cui, Araujo, Cao, "Global
features are all you need for image retrieval and reranking", ICCV 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resight.arrays import unit_rows
from resight.errors import ArrayError, UsageError
from resight.graph.manifold import ManifoldEmbedding
from resight.graph.reciprocal import k_reciprocal
from resight.index.exact import ExactIndex
from resight.ranking.pipeline import Composable, need, reorder
from resight.ranking.search import global_vectors
from resight.ranking.vector_database import VectorDatabase, ahead_of, checked_limit
from resight.ties import tie_order
from resight.types import Evidence, Float32, Int64, Queries, Ranking


@dataclass(frozen=True, eq=False)
class ManifoldSearch(Composable):
    """Nearest neighbours in an iterative manifold embedding of the database; online, once `embedding` is fitted.

    Queries are mapped to the embedding (`ManifoldEmbedding.embed`). `limit`: results per query, None for all.
    """

    database: VectorDatabase
    embedding: ManifoldEmbedding
    limit: int | None = None

    def __post_init__(self) -> None:
        checked_limit(self.limit)
        if len(self.embedding.database) != len(self.database):
            raise ArrayError(
                f"the embedding has {len(self.embedding.database)} photos and the database {len(self.database)}: fit "
                "it to the same vectors"
            )

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        index = ExactIndex.over(self.embedding.database)
        points = self.embedding.embed(global_vectors(queries))
        found = index.search(points, min(self.limit or len(self.database), len(self.database)))
        return ahead_of(self.database.in_rows(found), ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The similarity of the query and result `row` before and after the embedding."""
        node = int(self.database.nodes(row))
        if node < 0:
            return (Evidence("ManifoldSearch", "it has no global descriptor", {}),)
        point = global_vectors(queries)[query]
        plain = float(self.database.vectors[node] @ point)
        embedded = float(self.embedding.database[node] @ self.embedding.embed(point[None])[0])
        summary = f"along the manifold its similarity is {embedded:.3f}, of the descriptors alone {plain:.3f}"
        return (Evidence("ManifoldSearch", summary, {"plain": plain, "embedded": embedded}),)


@dataclass(frozen=True, eq=False)
class KReciprocal(Composable):
    """Re-rank the first `top` results so far by k-reciprocal neighbours among them; online: `top`^2 similarities.

    As a first stage, all photos are compared with all: transductive. `k1`, `k2`, `original_weight` as in
    `resight.graph.reciprocal.k_reciprocal`; queries are asked one by one, so that they do not change each other's
    answers. Scores are minus the distance.
    """

    database: VectorDatabase
    top: int = 400
    k1: int = 20
    k2: int = 6
    original_weight: float = 0.3

    def __post_init__(self) -> None:
        checked_limit(self.top)
        if self.k1 < 1 or not 1 <= self.k2 <= self.k1 + 1 or not 0 <= self.original_weight <= 1:
            raise UsageError(
                f"k1={self.k1} must be at least 1, k2={self.k2} between 1 and k1 + 1, and "
                f"original_weight={self.original_weight} between 0 and 1"
            )

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        ids, scores = [], []
        for query, point in enumerate(global_vectors(queries)):
            nodes = _head(self.database, ranking, query, self.top)
            found = k_reciprocal(
                point[None], self.database.vectors[nodes], self.k1, self.k2, self.original_weight, limit=self.top
            )
            ids.append(self.database.rows[nodes][found.ids[0]])
            scores.append(found.scores[0])
        return ahead_of(Ranking.from_lists(ids, scores), ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """How far the neighbourhoods of the query and result `row` overlap: 1 minus their Jaccard distance."""
        nodes = _head(self.database, before, query, self.top)
        place = np.flatnonzero(self.database.rows[nodes] == row)
        if not len(place):
            return (Evidence("KReciprocal", f"it is not among the first {len(nodes)} results, which are compared", {}),)
        point = global_vectors(queries)[query]
        found = k_reciprocal(point[None], self.database.vectors[nodes], self.k1, self.k2, 0.0)
        overlap = min(1 + float(found.scores[0][found.ids[0] == place[0]][0]), 1.0)
        summary = f"its neighbourhood overlaps that of the query by {overlap:.0%}"
        return (Evidence("KReciprocal", summary, {"overlap": overlap}),)


@dataclass(frozen=True, eq=False)
class SuperGlobal(Composable):
    """Refine the query and the first `top` results so far by each other; online: `top`^2 similarities.

    Each of the `top` photos x moves to (x + beta sum s_j x_j) / (1 + beta sum s_j) over the `k` - 1 photos of them that
    are most like it, s_j their similarities where positive. The query q' is the element-wise maximum of q and the `k`
    refined photos x' nearest to it, L2-normalised. A score is the mean of q x' and q' x.
    Memory: 4 k D bytes for each of the `top` photos.
    """

    database: VectorDatabase
    top: int = 400
    k: int = 9
    beta: float = 0.15

    def __post_init__(self) -> None:
        if self.top < 1 or self.k < 1 or not 0 <= self.beta < np.inf:
            raise UsageError(f"top={self.top} and k={self.k} must be at least 1, beta={self.beta} 0 or more")

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        ranking = need(ranking, "SuperGlobal")
        ids, scores = [], []
        for query, point in enumerate(global_vectors(queries)):
            nodes = _head(self.database, ranking, query, self.top)
            found, values = reorder(
                self.database.rows[nodes], self._scores(point, self.database.vectors[nodes])[0], 1.0
            )
            ids.append(found)
            scores.append(values)
        return ahead_of(Ranking.from_lists(ids, scores), ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The rows whose maximum is the refined query."""
        nodes = _head(self.database, need(before, "SuperGlobal"), query, self.top)
        _, sources = self._scores(global_vectors(queries)[query], self.database.vectors[nodes])
        rows = self.database.rows[nodes[sources]].tolist()
        summary = f"the query was refined by {len(rows)} photos" + (", this one among them" if row in rows else "")
        return (Evidence("SuperGlobal", summary, {"sources": rows}),)

    def _scores(self, point: Float32, vectors: Float32) -> tuple[Float32, Int64]:
        """Scores of the `vectors` (M, D) of one query, and which of them refined it."""
        if not len(vectors):
            return np.empty(0, np.float32), np.empty(0, np.int64)
        refined = _refined(vectors, self.k, self.beta)
        first = refined @ point
        sources = tie_order(np.arange(len(first)), first, 1.0)[0][: self.k]
        pooled = np.maximum(refined[sources].max(axis=0), point)
        second = vectors @ unit_rows(pooled)
        return np.asarray((first + second) / 2, np.float32), sources


def _refined(vectors: Float32, k: int, beta: float) -> Float32:
    """Each of `vectors` (M, D) averaged with the k - 1 others most like it, told from it by place."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    near = tie_order(np.arange(len(vectors)), similarity, 1.0)[0][:, : min(k, len(vectors)) - 1]
    weights = beta * np.maximum(np.take_along_axis(similarity, near, axis=1), 0)
    moved = vectors + np.einsum("mk,mkd->md", weights, vectors[near])
    return np.asarray(moved / (1 + weights.sum(axis=1, keepdims=True)), np.float32)


def _head(database: VectorDatabase, ranking: Ranking | None, query: int, top: int) -> Int64:
    """Nodes of the first `top` results of a query that have a descriptor; all nodes without a ranking."""
    if ranking is None:
        return np.arange(len(database))
    nodes = database.nodes(ranking.ids[query])
    return nodes[nodes >= 0][:top]
