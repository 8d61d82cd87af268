"""Guided similarity separation as a stage: queries become refined descriptors and search among refined photos.

Paper: see `resight.graph.separation`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from resight.errors import UsageError
from resight.graph.knn_graph import cut
from resight.ranking.expansion_stages import verified_inliers
from resight.ranking.pipeline import Composable, explain
from resight.ranking.search import global_vectors
from resight.ranking.vector_database import VectorDatabase, ahead_of, checked_limit, only
from resight.ranking.verification import Verifier
from resight.types import Evidence, Float32, KnnGraph, Queries, Ranking, Stage

if TYPE_CHECKING:
    from resight.graph.separation import SimilaritySeparation


def centred(vectors: Float32, mean: Float32) -> Float32:
    """`vectors` (n, D) moved by `mean` (D,) and L2-normalised again; one that equals the mean becomes its own."""
    moved = vectors - mean
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(np.where(norms > 1e-6, moved / np.maximum(norms, 1e-6), vectors), np.float32)


@dataclass(frozen=True, eq=False)
class Separation(Composable):
    """Rank by refined descriptors.

    `model`: has embedded the `vectors` of `database`, the descriptors (N, D) less their `mean` (D,), which is taken
    from those of queries too. `refined`: the embeddings, and those of photos that came later. A query's edges go to the
    first `k` results so far, which geometry may have put in order, or, as a first stage, to its `k` nearest photos.
    With a `verifier`, they go to those of the first `verify` that geometry proves, the most inliers first (GSS_V-SV);
    where it proves none, as without. `limit`: results per query, None for all. Online: a query costs one search,
    `verify` verifications, k D + L D² operations, and one more search. Raises `UsageError` for k, limit or verify
    below 1.
    """

    model: SimilaritySeparation
    database: VectorDatabase
    refined: VectorDatabase
    mean: Float32
    k: int = 5
    limit: int | None = None
    verifier: Verifier | None = None
    verify: int = 20

    def __post_init__(self) -> None:
        if self.k < 1 or self.verify < 1:
            raise UsageError(f"k={self.k} and verify={self.verify}: a query needs at least 1 neighbour")
        checked_limit(self.limit)

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        points = global_vectors(self.refine(queries, ranking))
        found = self.refined.index.search(points, min(self.limit or len(self.refined), len(self.refined)))
        return ahead_of(found, ranking)

    def refine(self, queries: Queries, ranking: Ranking | None = None) -> Queries:
        """The same queries with refined descriptors. Raises `UsageError` when they carry none."""
        moved = replace(queries, vectors=centred(global_vectors(queries), self.mean))
        return replace(queries, vectors=self.model.extend(global_vectors(moved), self._near(moved, ranking)))

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The similarity to result `row` before and after, and the photos whose neighbourhood the query took up."""
        one, ranking = queries.only(query), only(before, query)
        node, place = int(self.database.nodes(row)), int(self.refined.nodes(row))
        if place < 0:
            return (Evidence("Separation", "it has no refined descriptor", {}),)
        moved = replace(one, vectors=centred(global_vectors(one), self.mean))
        near = self._near(moved, ranking).ids[0]
        rows = self.database.rows[near[near >= 0]].tolist()
        after = float(global_vectors(self.refine(one, ranking))[0] @ self.refined.vectors[place])
        data = {"neighbours": rows, "refined": after}
        plain = "added later"
        if node >= 0:
            data["plain"] = float(global_vectors(moved)[0] @ self.database.vectors[node])
            plain = f"{data['plain']:.3f} before"
        summary = f"similarity {after:.3f} with the neighbourhoods of both written in, {plain}"
        return (Evidence("Separation", summary, data),)

    def _near(self, moved: Queries, ranking: Ranking | None) -> KnnGraph:
        if self.verifier is None:
            return self.database.candidates(moved, ranking, self.k)
        near = self.database.candidates(moved, ranking, max(self.verify, self.k))
        inliers = verified_inliers(self.database, self.verifier, moved, cut(near, min(self.verify, near.k)))
        inliers = np.pad(inliers, ((0, 0), (0, near.k - inliers.shape[1])))
        order = np.argsort(-inliers, axis=1, kind="stable")[:, : self.k]
        kept = np.take_along_axis(inliers, order, axis=1) > 0
        kept |= ~kept.any(axis=1, keepdims=True)
        ids, weights = np.take_along_axis(near.ids, order, axis=1), np.take_along_axis(near.weights, order, axis=1)
        return KnnGraph(np.where(kept, ids, -1), np.where(kept, weights, -np.inf))


@dataclass(frozen=True, eq=False)
class Refined(Composable):
    """Another stage, such as traversal, diffusion or expansion over the refined photos, given refined queries."""

    separation: Separation
    stage: Stage

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return self.stage(self.separation.refine(queries, ranking), ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """What the stage itself says."""
        one, ranking = queries.only(query), only(before, query)
        return explain(self.stage, self.separation.refine(one, ranking), 0, row, ranking)
