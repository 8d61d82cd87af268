"""Re-ranking by geometry: candidates that one transform proves rise, the others keep their order.

Sorting by inliers alone lowers real results, since accidents give a few inliers to many pairs. Here inliers count by
how improbable they are (`resight.matching.geometry.significance`) and are added to the similarity, both in units of
what unrelated photos of the collection show.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np

from resight.errors import UsageError
from resight.features.local.compact import Compact, compact
from resight.matching.geometry import Model, Verification, verify_many
from resight.matching.matchers import Matcher
from resight.ranking.bounded_cache import BoundedCache
from resight.ranking.pipeline import Composable, Pipeline, need, reorder, run_stage
from resight.ranking.search import Scale, local_features
from resight.types import Evidence, Float32, Int64, LocalFeatures, Queries, Ranking

VERIFIED = 100  # candidates that geometry looks at, unless a recipe is told otherwise
WEIGHT = 4.0  # standard deviations of similarity that a factor of 10 in improbability is worth
ONSET = -4.0  # significance from which geometry counts; of unrelated candidates on Holidays, 1 in 160 passes it
# The same for features without scale and angle, of which nothing is asked but where they lie: of unrelated candidates
# on Holidays, 1 in 7 passes -4, 1 in 100 is proven.
BARE_ONSET = 0.0
CEILING = 8.0  # beyond, more inliers say no more about being the same thing
MOST_EVIDENCE = WEIGHT * (CEILING - ONSET)
REMEMBERED = 64  # queries whose verifications are kept: some 30 MB
HOT_BYTES = 256 << 20  # of photos kept ready to be matched: some 1500 of 1000 features

FeatureSource = Callable[[Int64], Sequence[LocalFeatures]]
CompactSource = Callable[[Int64], Sequence[Compact]]


@dataclass(frozen=True, eq=False)
class Verifier:
    """Verifies queries against database rows; remembers what it found for the last few queries, and photos that were
    looked at lately, ready to be matched, in at most `HOT_BYTES`. Threads may share it.

    `features`: source of a photo's features. `compact`: of their compact form, which is faster to read; None to make it
    of `features`. `model`, `threshold` (pixels), `min_inliers`, `ratio` as in `resight.matching.geometry.verify`.
    `coarse`: positions are those of cells of maps, so an inlier may be off by the half of one, and neighbouring cells
    and scales are one place. `onset`: significance from which geometry counts. `matcher`: what proposes correspondences
    to geometry, None for nearest descriptors.
    """

    features: FeatureSource
    compact: CompactSource | None = None
    model: Model = "affine"
    threshold: float = 4.0
    min_inliers: int = 5
    ratio: float = 0.9
    jobs: int | None = None
    coarse: bool = False
    onset: float = ONSET
    matcher: Matcher | None = None
    _memory: OrderedDict[int, tuple[LocalFeatures, dict[int, Verification]]] = field(
        default_factory=OrderedDict, repr=False
    )
    _hot: BoundedCache[int, Compact] = field(default_factory=lambda: BoundedCache(HOT_BYTES), repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __call__(self, query: LocalFeatures, rows: Any) -> list[Verification]:
        """The verification of `query` against each of `rows` (n,), transforms from the query to the photo."""
        known = self._remember(query)
        missing = np.array([row for row in map(int, rows) if row not in known], np.int64)
        if len(missing):
            known.update(zip(missing.tolist(), self._verified(query, missing), strict=True))
        return [known[int(row)] for row in rows]

    def _verified(self, query: LocalFeatures, rows: Int64) -> Sequence[Verification]:
        return verify_many(
            query,
            self._candidates(rows),
            self.model,
            threshold=self.threshold,
            min_inliers=self.min_inliers,
            ratio=self.ratio,
            coarse=self.coarse,
            jobs=self.jobs,
            matcher=self.matcher,
        )

    def _candidates(self, rows: Int64) -> list[Compact]:
        """The photos of `rows` (n,), ready to be matched; those that are not hot are read."""
        found = {row: hot for row in rows.tolist() if (hot := self._hot.get(row)) is not None}
        cold = np.array([row for row in rows.tolist() if row not in found], np.int64)
        for row, features in zip(cold.tolist(), self._read(cold) if len(cold) else (), strict=True):
            found[row] = features
            self._hot.put(row, features, features.nbytes)
        return [found[row] for row in rows.tolist()]

    def _read(self, rows: Int64) -> Sequence[Compact]:
        if self.compact is not None:
            return self.compact(rows)
        return [compact(features) for features in self.features(rows)]

    def _remember(self, query: LocalFeatures) -> dict[int, Verification]:
        # The features are kept beside their identity, so that it cannot pass to other features meanwhile.
        with self._lock:
            _, known = self._memory.setdefault(id(query), (query, {}))
            self._memory.move_to_end(id(query))
            while len(self._memory) > REMEMBERED:
                self._memory.popitem(last=False)
        return known

    def worth(self, verification: Verification) -> float:
        """What `verification` adds to a score: its `evidence`, nothing where positions are coarse. That such cells
        agree tells less than what they look like: on Holidays, any weight lowers the mAP of HOW.
        """
        return 0.0 if self.coarse else evidence(verification, self.onset)


def inliers_between(verifier: Verifier, rows: Int64) -> Callable[[int, Int64], Int64]:
    """What `resight.graph.verified.build_verified_graph` asks, for a graph whose node i is row `rows`[i]: the inliers
    of a node and others (n,), 0 where geometry proves nothing.
    """
    one = replace(verifier, jobs=1)  # blocks of photos are verified in parallel already

    def inliers(node: int, nodes: Int64) -> Int64:
        found = one(one.features(rows[[node]])[0], rows[nodes])
        return np.array([verification.inliers if verification.verified else 0 for verification in found], np.int64)

    return inliers


def evidence(verification: Verification, onset: float = ONSET) -> float:
    """What a verification adds to a score: 0 for what chance gives often, below `onset`, at most 48, and 16 without
    proof.
    """
    most = CEILING if verification.verified else 0.0
    return WEIGHT * (min(max(verification.significance, onset), most) - onset)


@dataclass(frozen=True, eq=False)
class SpatialRerank(Composable):
    """Add the geometric evidence of the first `top` results of every query to their standardised similarity.

    Nothing is dropped; evidence is never negative, so results behind `top` stay behind. Online: a query needs the
    features of `top` photos. `strict`: order these by their inliers alone, as most papers do, and worse on real photos.
    """

    verifier: Verifier
    scale: Scale
    top: int = VERIFIED
    strict: bool = False

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"top={self.top}: at least one result must be verified")

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        ranking = need(ranking, "SpatialRerank")
        ids, scores = ranking.ids.copy(), self.scale.standardise(ranking.scores)
        for q, query in enumerate(local_features(queries)):
            head = ids[q, : self.top][ids[q, : self.top] >= 0]
            proofs = self.verifier(query, head)
            if self.strict:
                scores[q, : len(head)] = _above(scores[q], [proof.inliers for proof in proofs])
            else:
                scores[q, : len(head)] += [self.verifier.worth(proof) for proof in proofs]
            ids[q, : len(head)], scores[q, : len(head)] = reorder(head, scores[q, : len(head)], ties=not self.strict)
        return Ranking(ids, scores)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The inliers and the transform between the query and result `row`."""
        verification = self.verifier(local_features(queries)[query], [row])[0]
        return (Evidence("SpatialRerank", describe(verification), {"verification": verification}),)


def _above(scores: Float32, inliers: list[int]) -> Any:
    """Scores (n,) of the first results: their inliers, equal ones in the order they came in, all above the rest."""
    ties = np.arange(len(inliers), 0, -1) / (len(inliers) + 1)
    return max(float(scores[0]), 0.0) + 1 + np.array(inliers) + ties if inliers else []


def describe(verification: Verification) -> str:
    """One sentence about a verification."""
    if not verification.verified:
        return f"no {verification.model} view explains enough of the {verification.tentative} tentative matches"
    chance = min(verification.significance, 99.0)
    return (
        f"{verification.inliers} of {verification.tentative} matched features agree on one {verification.model} view; "
        f"chance gives that once in 10^{chance:.0f} photos"
    )


def with_own_scores(pipeline: Pipeline, queries: Queries) -> tuple[Ranking, Ranking]:
    """The answer of a pipeline, and what results owe to the queries alone: the ranking after its first verification,
    before any expansion; in pipelines without verification the answer itself.
    """
    own, ranking = None, None
    for stage in pipeline.stages:
        ranking = run_stage(stage, queries, ranking)
        own = ranking if own is None and isinstance(stage, SpatialRerank) else own
    found = need(ranking, "an answer")
    return found, found if own is None else own
