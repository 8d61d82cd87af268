"""Re-ranking by deep spatial matching, and diffusion that starts from what it verifies.

Siméoni, Avrithis, Chum, "Local features and visual words emerge in activations", CVPR 2019. The matching itself is in
`resight.matching.deep_spatial`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from resight.errors import ArrayError, UsageError
from resight.graph.diffusion import affinity, diffuse, normalise
from resight.graph.knn_graph import build_knn_graph
from resight.matching.deep_spatial import THRESHOLD, DeepRegions, verify_regions
from resight.matching.geometry import Verification
from resight.ranking.bounded_cache import BoundedCache
from resight.ranking.pipeline import Composable, Pipeline, explain, need, reorder
from resight.ranking.search import GlobalSearch, VectorIndex
from resight.ranking.vector_database import VectorDatabase, ahead_of, checked_limit, only
from resight.ties import tie_order
from resight.types import Box, Evidence, Float32, Int64, Queries, Ranking, Stage

KEPT = 32 << 20  # bytes of regions of queries
RegionSource = Callable[[Int64], Sequence[DeepRegions]]
DescribeQuery = Callable[[str, Box | None], DeepRegions]  # of a photo's path and box


@dataclass(frozen=True, eq=False)
class DeepQueries(Queries):
    """Queries with their `regions`, one `DeepRegions` for each, described with query=True.

    Raises `ArrayError` when there is another number of them.
    """

    regions: tuple[DeepRegions, ...] = field(default=())

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "regions", tuple(self.regions))
        if len(self.regions) != len(self):
            raise ArrayError(f"{len(self)} queries came with regions of {len(self.regions)}: give one for each")

    def only(self, query: int) -> DeepQueries:
        """One of the queries, alone."""
        one = super().only(query)
        return DeepQueries(
            one.local, one.vectors, one.rows, one.more, one.photos, regions=self.regions[query : query + 1]
        )


@dataclass(frozen=True, eq=False)
class DescribeRegions(Composable):
    """`stage`, given queries whose regions `describe` makes of their photos (path and box); online. The regions of the
    last few queries are remembered.
    """

    describe: DescribeQuery
    stage: Stage
    _known: BoundedCache[tuple[str, str], DeepRegions] = field(default_factory=lambda: BoundedCache(KEPT), repr=False)

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return self.stage(self._described(queries), ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """What the stage itself says."""
        return explain(self.stage, self._described(queries.only(query)), 0, row, only(before, query))

    def _described(self, queries: Queries) -> DeepQueries:
        if queries.photos is None:
            raise UsageError("these queries name no photos: regions are described from pixels")
        regions = [self._regions(path, box) for path, box in queries.photos]
        return DeepQueries(
            queries.local, queries.vectors, queries.rows, queries.more, queries.photos, regions=tuple(regions)
        )

    def _regions(self, path: str, box: Box | None) -> DeepRegions:
        known = self._known.get((path, str(box)))
        if known is None:
            known = self.describe(path, box)
            self._known.put((path, str(box)), known, known.nbytes)
        return known


@dataclass(frozen=True, eq=False)
class DeepSpatialRerank(Composable):
    """Order the first `top` results of every `DeepQueries` by the inliers of deep spatial matching; equal ones, and all
    behind, keep their order. Online: a query needs the regions of `top` photos.

    `regions`: gives those of database rows, described with query=False. `threshold`: cells of a feature map. `jobs`:
    threads, None for one per core.
    """

    regions: RegionSource
    top: int = 100
    threshold: float = THRESHOLD
    jobs: int | None = None

    def __post_init__(self) -> None:
        _check_top(self.top)

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        ranking = need(ranking, "DeepSpatialRerank")
        ids, scores = ranking.ids.copy(), ranking.scores.copy()
        for q, own in enumerate(_regions(queries)):
            head = ids[q, : self.top][ids[q, : self.top] >= 0]
            inliers = [one.inliers for one in self._verify(own, head)]
            scores[q, : len(head)] = _above(scores[q], inliers)
            ids[q, : len(head)], scores[q, : len(head)] = reorder(head, scores[q, : len(head)], ties=False)
        return Ranking(ids, scores)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The regions of query and result `row` that one transform joins."""
        found = self._verify(_regions(queries)[query], np.array([row]))[0]
        summary = f"no view explains enough of the {found.tentative} pairs of regions of one channel"
        if found.verified:
            summary = f"{found.inliers} regions lie where one view puts them, of {found.tentative} pairs of one channel"
        return (Evidence("DeepSpatialRerank", summary, {"verification": found}),)

    def _verify(self, own: DeepRegions, rows: Int64) -> list[Verification]:
        return verify_regions(own, self.regions(rows), threshold=self.threshold, jobs=self.jobs)


@dataclass(frozen=True, eq=False)
class DeepSpatialDiffusion(Composable):
    """Diffusion whose seeds are the results with most inliers among the first `top` so far; transductive.

    `normalised` (N, N): from `resight.graph.diffusion.normalise`; `alpha`, `iterations` as in `diffuse`. `regions`,
    `threshold`, `jobs` as in `DeepSpatialRerank`, `seeds`, `faithful` as in `verified_seeds`. What the flow does not
    reach keeps its order behind what it reaches.
    """

    database: VectorDatabase
    normalised: scipy.sparse.csr_array
    regions: RegionSource
    top: int = 100
    seeds: int = 5
    faithful: bool = False
    alpha: float = 0.99
    iterations: int = 20
    limit: int | None = 1000
    threshold: float = THRESHOLD
    jobs: int | None = None

    def __post_init__(self) -> None:
        _check_top(self.top)
        _check_seeds(self.seeds, self.faithful)
        checked_limit(self.limit)
        if self.normalised.shape != (len(self.database), len(self.database)):
            nodes = len(self.database)
            raise ArrayError(f"the affinity has shape {self.normalised.shape}, the database {nodes} photos")

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        ranking = need(ranking, "DeepSpatialDiffusion")
        f = diffuse(self.normalised, self._seeds(queries, ranking)[0], self.alpha, self.iterations)
        order, values = (part[:, : self.limit] for part in tie_order(np.arange(f.shape[1]), f))
        found = Ranking(np.where(values > 0, order, -1), np.where(values > 0, values, -np.inf))
        return ahead_of(self.database.in_rows(found), ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The seeds of the query, with their weights and inliers."""
        before = need(before, "DeepSpatialDiffusion")
        one = Ranking(before.ids[[query]], before.scores[[query]])
        y, nodes, inliers = self._seeds(queries.only(query), one)
        rows = self.database.rows[y.indices]
        by_node = dict(zip(nodes[0].tolist(), inliers[0].tolist(), strict=True))
        counts = [by_node[node] for node in y.indices.tolist()]
        data = {"seeds": rows.tolist(), "weights": y.data.tolist(), "inliers": counts}
        if not len(rows):
            return (Evidence("DeepSpatialDiffusion", "no result was verified, so nothing flowed", data),)
        summary = f"scores flowed from {len(rows)} verified photos, the best with {max(counts)} inliers"
        return (Evidence("DeepSpatialDiffusion", summary, data),)

    def _seeds(self, queries: Queries, ranking: Ranking) -> tuple[scipy.sparse.csr_array, Any, Int64]:
        near = self.database.candidates(queries, ranking, self.top)
        inliers = np.zeros(near.ids.shape, np.int64)
        for q, own in enumerate(_regions(queries)):
            nodes = near.ids[q][near.ids[q] >= 0]
            found = verify_regions(
                own, self.regions(self.database.rows[nodes]), threshold=self.threshold, jobs=self.jobs
            )
            inliers[q, : len(nodes)] = [one.inliers for one in found]
        y = verified_seeds(near.ids, near.weights, inliers, len(self.database), self.seeds, faithful=self.faithful)
        return y, near.ids, inliers


def verified_seeds(
    ids: NDArray[Any], similarity: Float32, inliers: Any, nodes: int, seeds: int = 5, *, faithful: bool = False
) -> scipy.sparse.csr_array:
    """y of a diffusion from verified results: max(similarity, 0) times the share of the query's most inliers.

    `ids`, `similarity`, `inliers` (Q, K): results of each query, -1 past the end. Only the `seeds` with most inliers
    count, the earlier ones among equals; with `faithful` one less, as the published program has it. Where all of these
    are zero, the shares alone. Gives (Q, nodes) float64; empty rows for queries without inliers. Raises `ArrayError` on
    unequal shapes, `UsageError` on less than one seed.
    """
    _check_seeds(seeds, faithful)
    ids, inliers = np.asarray(ids, np.int64), np.asarray(inliers, np.float64)
    if ids.ndim != 2 or not ids.shape == inliers.shape == similarity.shape:
        shapes = ids.shape, similarity.shape, inliers.shape
        raise ArrayError(f"ids, similarity and inliers have shapes {shapes}: they must be equal, (Q, K)")
    inliers = np.where(ids >= 0, inliers, 0.0)
    order = np.argsort(-inliers, axis=1, kind="stable")[:, : seeds - faithful]
    chosen = np.take_along_axis(ids, order, axis=1)
    share = np.take_along_axis(inliers, order, axis=1)
    share /= np.maximum(share.max(axis=1, initial=0.0, keepdims=True), 1.0)
    near = np.take_along_axis(np.where(ids >= 0, similarity, 0.0), order, axis=1)
    y = np.maximum(near, 0.0) * share
    y = np.where((y > 0).any(axis=1, keepdims=True), y, share)
    rows, slots = np.nonzero(y > 0)
    return scipy.sparse.csr_array((y[rows, slots], (rows, chosen[rows, slots])), shape=(len(ids), nodes))


def deep_spatial(
    index: VectorIndex, regions: RegionSource, *, top: int = 100, allowed: Int64 | None = None, jobs: int | None = None
) -> Pipeline:
    """Nearest neighbours by global descriptor, the first `top` ordered by deep spatial matching.

    `allowed`: rows that may be returned, ascending; None for all.
    """
    return Pipeline((GlobalSearch(index, allowed=allowed), DeepSpatialRerank(regions, top, jobs=jobs)))


def deep_spatial_diffusion(
    database: VectorDatabase,
    regions: RegionSource,
    *,
    top: int = 100,
    k: int = 49,
    gamma: float = 3.0,
    seeds: int = 5,
    faithful: bool = False,
    alpha: float = 0.99,
    iterations: int = 20,
    limit: int | None = None,
    jobs: int | None = None,
) -> Pipeline:
    """Nearest neighbours, deep spatial matching of the first `top`, and diffusion from the best of them over the mutual
    graph of `k` neighbours (the paper's 50 count a photo itself). Builds the graph: once per collection.
    """
    normalised = normalise(affinity(build_knn_graph(database.vectors, k), gamma))
    stage = DeepSpatialDiffusion(
        database, normalised, regions, top, seeds, faithful, alpha, iterations, limit, jobs=jobs
    )
    return Pipeline((GlobalSearch(database.index), stage))


def _regions(queries: Queries) -> tuple[DeepRegions, ...]:
    if not isinstance(queries, DeepQueries):
        raise UsageError("these queries carry no regions: describe them with resight.matching.deep_spatial.describe")
    return queries.regions


def _above(scores: Float32, inliers: list[int]) -> NDArray[Any]:
    """Scores of the first results: their inliers, equal ones in the order they came in, all above the rest."""
    ties = np.arange(len(inliers), 0, -1) / (len(inliers) + 1)
    return np.asarray(max(float(scores[0]), 0.0) + 1 + np.array(inliers) + ties) if inliers else np.empty(0)


def _check_top(top: int) -> None:
    if top < 1:
        raise UsageError(f"top={top}: at least one result must be verified")


def _check_seeds(seeds: int, faithful: bool) -> None:
    if seeds - faithful < 1:
        raise UsageError(f"seeds={seeds}: at least one must be left" + (", the faithful form drops one" * faithful))
