"""Re-ranking as DELG's authors do it: nearest neighbours within a distance, an affine transform, and its inliers.

Cao, Araujo and Sim, "Unifying deep local and global features for image search", ECCV 2020. Unlike
`resight.ranking.verification`, which weighs inliers by how improbable they are, they count as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from resight.errors import UsageError
from resight.matching.correspond import correspond
from resight.matching.geometry import Verification, verify_correspondences
from resight.ranking.pipeline import Composable, need, reorder
from resight.ranking.search import local_features
from resight.ranking.verification import VERIFIED, FeatureSource, describe
from resight.types import Evidence, Float32, Int64, LocalFeatures, Queries, Ranking

LEAST = 4  # correspondences that an affine transform is sought among


@dataclass(frozen=True, eq=False)
class NearestRerank(Composable):
    """Order the first `top` results of every query by their inliers, equal ones as they came, before all others.

    `features`: source of a photo's features. `distance`: of a query's feature to its nearest neighbour in the photo,
    beyond which they do not match; there is no ratio test. `tolerance`: pixels by which an inlier may be off. Scores
    become 1 and the inliers, with a fraction for the order in which they came; those of the others fall below 1.
    Online: a query needs the features of `top` photos. Raises `UsageError` on values out of range.
    """

    features: FeatureSource
    top: int = VERIFIED
    distance: float = 0.9
    tolerance: float = 20.0

    def __post_init__(self) -> None:
        if self.top < 1 or not self.distance > 0 or not self.tolerance > 0:
            raise UsageError(
                f"top={self.top} must be at least 1, distance={self.distance} and tolerance={self.tolerance} positive"
            )

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        ranking = need(ranking, "NearestRerank")
        ids, scores = ranking.ids.copy(), _below_one(ranking.scores)
        for q, query in enumerate(local_features(queries)):
            head = ids[q, : self.top][ids[q, : self.top] >= 0]
            inliers = np.array([found.inliers for found in self.verify(query, head)], np.int64)
            scores[q, : len(head)] = 1 + inliers + np.arange(len(head), 0, -1) / (len(head) + 1)
            ids[q, : len(head)], scores[q, : len(head)] = reorder(head, scores[q, : len(head)], ties=False)
        return Ranking(ids, scores)

    def verify(self, query: LocalFeatures, rows: Int64) -> list[Verification]:
        """The verification of `query` against each of `rows` (n,), transforms from the query to the photo."""
        candidates: Sequence[LocalFeatures] = self.features(rows) if len(rows) else ()
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda candidate: self._verify(query, candidate), candidates))

    def _verify(self, query: LocalFeatures, candidate: LocalFeatures) -> Verification:
        pairs = correspond(query, candidate, ratio=None, mutual=False, one_to_one=False, max_distance=self.distance)
        if len(pairs) < LEAST:
            pairs = type(pairs)(pairs.pairs[:0], pairs.distance[:0])
        return verify_correspondences(query, candidate, pairs, threshold=self.tolerance, use_frames=False)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The inliers and the transform between the query and result `row`."""
        (found,) = self.verify(local_features(queries)[query], np.array([row]))
        return (Evidence("NearestRerank", describe(found), {"verification": found}),)


def _below_one(scores: Float32) -> Float32:
    """Scores in the same order, all between 0 and 0.999; -inf where there is no result."""
    bounded = 0.999 * (np.arctan(scores.astype(np.float64)) / np.pi + 0.5)
    return np.where(np.isneginf(scores), scores, bounded).astype(np.float32)
