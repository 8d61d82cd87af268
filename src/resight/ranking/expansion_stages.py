"""Query expansion as stages: the query moves towards its sources, and searches again.

A photo that asks for its own look-alikes is never a source of its own. Papers: see `resight.ranking.expansion`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError, UsageError
from resight.ranking.expansion import expand, source_weights, verified_expansion
from resight.ranking.pipeline import Composable, need
from resight.ranking.search import global_vectors, local_features
from resight.ranking.vector_database import VectorDatabase, ahead_of, checked_limit
from resight.ranking.verification import Verifier
from resight.types import Evidence, Float32, Int64, KnnGraph, Queries, Ranking


@dataclass(frozen=True, eq=False)
class QueryExpansion(Composable):
    """Search again with each query plus its `n` sources, weighted by similarity to the power of `alpha`.

    The sources are the first `n` results of the ranking so far, or, as a first stage, the `n` nearest photos; alpha 0
    is average expansion. `limit`: results per query, None for all. Online: at most two searches.
    """

    database: VectorDatabase
    n: int = 10
    alpha: float = 3.0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.n < 1 or not self.alpha >= 0:
            raise UsageError(f"n={self.n} must be at least 1 and alpha={self.alpha} at least 0")
        checked_limit(self.limit)

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        sources = self.database.candidates(queries, ranking, self.n)
        moved = expand(global_vectors(queries), self.database.vectors, sources, self.alpha)
        return _search(self.database, moved, self.limit, ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The rows that the query moved towards, and what each weighed beside the query's 1."""
        sources = self.database.candidates(queries, before, self.n)
        rows = self.database.rows[sources.ids[query][sources.ids[query] >= 0]]
        weights = source_weights(sources, self.alpha)[query][: len(rows)]
        return (_evidence("QueryExpansion", "nearest", rows.tolist(), weights.tolist(), row),)


@dataclass(frozen=True, eq=False)
class VerifiedExpansion(Composable):
    """Search again with each query plus its `most` most reliable verified results.

    Verifies the first `top` results so far; one with fewer than `least` inliers is no source, and a query without a
    source searches as it is. `limit`: results per query, None for all. Online: the local features of `top` photos, and
    one search.
    """

    database: VectorDatabase
    verifier: Verifier
    top: int = 10
    least: int = 20
    most: int = 2
    limit: int | None = None

    def __post_init__(self) -> None:
        if min(self.top, self.least, self.most) < 1:
            raise UsageError(f"top={self.top}, least={self.least} and most={self.most} must be at least 1")
        checked_limit(self.limit)

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        near, inliers = self._verified(queries, ranking)
        points = global_vectors(queries)
        moved = verified_expansion(points, self.database.vectors, _in_order(near), inliers, self.least, self.most)
        return _search(self.database, moved, self.limit, ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The rows that the query moved towards, and their inliers; nothing where there were none."""
        near, inliers = self._verified(queries, before)
        counts = inliers[query]
        best = [slot for slot in np.argsort(-counts, kind="stable")[: self.most] if counts[slot] >= self.least]
        if not best:
            return ()
        rows = self.database.rows[near.ids[query][best]].tolist()
        return (_evidence("VerifiedExpansion", "verified", rows, counts[best].tolist(), row),)

    def _verified(self, queries: Queries, ranking: Ranking | None) -> tuple[KnnGraph, Int64]:
        """The first results of every query as nodes, (Q, top), and their inliers, 0 where geometry proves nothing."""
        near = self.database.candidates(queries, need(ranking, "VerifiedExpansion"), self.top)
        return near, verified_inliers(self.database, self.verifier, queries, near)


def verified_inliers(database: VectorDatabase, verifier: Verifier, queries: Queries, near: KnnGraph) -> Int64:
    """Inliers of every query and the nodes that `near` (Q, k) lists, (Q, k); 0 where geometry proves nothing."""
    inliers = np.zeros(near.ids.shape, np.int64)
    for query, features in enumerate(local_features(queries)):
        nodes = near.ids[query][near.ids[query] >= 0]
        proofs = verifier(features, database.rows[nodes])
        inliers[query, : len(nodes)] = [proof.inliers if proof.verified else 0 for proof in proofs]
    return inliers


@dataclass(frozen=True)
class Augmentation:
    """Which neighbours of a photo its descriptor moves towards: of the `first` nearest, those `most` with the most
    inliers, `least` or more.
    """

    first: int = 10
    least: int = 20
    most: int = 2

    @property
    def name(self) -> str:
        """Its numbers as text: graphs of descriptors that were augmented otherwise differ in it."""
        return f"first {self.first}, least {self.least}, most {self.most}"


def verified_augmentation(
    vectors: Float32, verified: KnnGraph, least: int = 20, most: int = 2, near: KnnGraph | None = None
) -> Float32:
    """Each of `vectors` (N, D) plus its `most` most reliable neighbours in a verified graph, normalised: (N, D).

    `verified`: from `resight.graph.verified`, inlier counts as weights; an edge below `least` does not count, nor,
    where `near` (N, k) is given, one to a photo that is not among these neighbours. The same as `VerifiedExpansion`,
    for the photos of the collection; transductive, done once. Raises `ArrayError` when a graph has another number of
    nodes.
    """
    for graph in (verified,) if near is None else (verified, near):
        if len(graph) != len(vectors):
            raise ArrayError(f"the graph has {len(graph)} nodes and there are {len(vectors)} vectors: they must agree")
    inliers = np.where(verified.ids >= 0, verified.weights, 0).astype(np.int64)
    if near is not None:
        inliers *= _listed(verified.ids, near.ids)
    return verified_expansion(vectors, vectors, _in_order(verified), inliers, least, most)


def _listed(ids: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of `ids` (N, k) stand in the same row of `others` (N, m)."""
    nodes = np.int64(max(ids.max(initial=0), others.max(initial=0)) + 2)
    row = np.arange(len(ids), dtype=np.int64)[:, None] * nodes
    return np.isin(ids + 1 + row, (others + 1 + row)[others >= 0]) & (ids >= 0)


def _in_order(near: KnnGraph) -> Ranking:
    """Neighbours as a ranking in the order they have, whatever their weights."""
    return Ranking(near.ids, np.where(near.ids >= 0, np.float32(0), -np.inf))


def _search(database: VectorDatabase, moved: Float32, limit: int | None, before: Ranking | None) -> Ranking:
    count = max(len(database), 1)
    return ahead_of(database.index.search(moved, min(limit or count, count)), before)


def _evidence(stage: str, kind: str, rows: list[int], weights: list[Any], row: int) -> Evidence:
    summary = f"the query moved towards {len(rows)} {kind} photo{'s' if len(rows) != 1 else ''}"
    summary += ", this one among them" if row in rows else ""
    return Evidence(stage, summary, {"sources": rows, "weights": weights})
