"""Recipes over global descriptors and their kNN graph: what a collection of vectors can be searched with.

Each takes a `Neighbourhood` and gives a pipeline whose first stage is the search by descriptor. An option that is None
takes the value chosen for the collection (`resight graph tune`), else the published one. `limit`: results per query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import scipy.sparse

from resight.errors import UsageError
from resight.graph.adjacency import Adjacency, adjacency
from resight.graph.diffusion import affinity, normalise
from resight.graph.knn_graph import build_knn_graph, cut
from resight.graph.manifold import iterative_embedding
from resight.graph.offline import offline_diffusion
from resight.graph.spectral import spectral_basis
from resight.ranking.diffusion_stages import Diffusion, HybridDiffusion, OfflineDiffusion, SpectralRanking
from resight.ranking.expansion_stages import QueryExpansion, VerifiedExpansion, verified_augmentation
from resight.ranking.neighbourhood_stages import KReciprocal, ManifoldSearch, SuperGlobal
from resight.ranking.pipeline import Cut, Pipeline
from resight.ranking.propagation import ExploreExploit, SemiSupervised, TrainingPhotos
from resight.ranking.search import GlobalSearch
from resight.ranking.vector_database import VectorDatabase
from resight.ranking.verification import Verifier
from resight.types import KnnGraph, Stage

GAMMA = 3.0  # published power of similarities in diffusion


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """What graph recipes work on; parts that a collection lacks are None, and a recipe that needs one says so.

    `graph`: of similarities, `verified`: of inliers, both over the nodes of `database`. `verifier`: needs local
    features. `training`: labelled photos. `solved`: off-line diffusion (`solve_offline`). `build`: make
    graphs as recipes ask for them instead of asking for stored ones. `chosen`: option values that suit the collection,
    by recipe.
    """

    database: VectorDatabase
    graph: KnnGraph | None = None
    verified: KnnGraph | None = None
    verifier: Verifier | None = None
    training: TrainingPhotos | None = None
    solved: scipy.sparse.csr_array | None = None
    build: bool = False
    chosen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def search(self) -> GlobalSearch:
        """The first stage."""
        return GlobalSearch(self.database.index)

    def need_graph(self, k: int) -> KnnGraph:
        """The graph with `k` neighbours. Raises `UsageError` when there is none, or it has fewer neighbours."""
        if self.graph is None and self.build:
            return build_knn_graph(self.database.vectors, k)
        graph = _need(self.graph, "a kNN graph", "resight graph build")
        if k > graph.k and graph.k < len(graph) - 1:
            raise UsageError(f"k={k} is more than the {graph.k} neighbours of the stored graph: build one with --k {k}")
        return cut(graph, min(k, graph.k))

    def normalised(self, k: int, gamma: float) -> scipy.sparse.csr_array:
        """Its affinities for diffusion."""
        return normalise(affinity(self.need_graph(k), gamma))

    def option(self, recipe: str, name: str, given: Any, published: Any) -> Any:
        """`given`, or what was chosen for the collection, or what was published."""
        return given if given is not None else self.chosen.get(recipe, {}).get(name, published)


def alpha_expansion(
    here: Neighbourhood, *, n: int | None = None, alpha: float | None = None, limit: int | None = None
) -> Pipeline:
    """Alpha query expansion (Radenovic et al., TPAMI 2019); alpha 0 is average expansion. Online."""
    n = here.option("alpha-expansion", "n", n, 10)
    alpha = here.option("alpha-expansion", "alpha", alpha, 3.0)
    return _after_search(here, QueryExpansion(here.database, n, alpha, limit))


def verified_expansion(
    here: Neighbourhood, *, top: int = 10, least: int = 20, most: int = 2, limit: int | None = None
) -> Pipeline:
    """Expansion with the most reliable verified results (QE-SV). Online; needs local features."""
    verifier = _need(here.verifier, "local features", "a collection of recipe hybrid")
    return _after_search(here, VerifiedExpansion(here.database, verifier, top, least, most, limit))


def explore_exploit(
    here: Neighbourhood, *, threshold: float | None = None, k: int = 50, limit: int = 1000, verified: bool = False
) -> Pipeline:
    """Explore-exploit traversal (Chang et al., CVPR 2019), of the verified graph when `verified`. Online."""
    if verified:
        graph = _need(here.verified, "a verified graph", "resight graph build --verified")
        verifier = _need(here.verifier, "local features", "a collection of recipe hybrid")
        least = 40.0 if threshold is None else threshold
        return _after_search(
            here, ExploreExploit(here.database, adjacency(cut(graph, min(k, graph.k))), least, k, limit, verifier)
        )
    threshold = here.option("explore-exploit", "threshold", threshold, 0.42)
    return _after_search(here, ExploreExploit(here.database, _edges(here, k), threshold, k, limit))


def semi_supervised(here: Neighbourhood, *, threshold: float | None = None, k: int = 50, limit: int = 100) -> Pipeline:
    """Traversal that also follows the labels of training photos (Chang et al., CVPR workshops 2019). Online."""
    training = _need(here.training, "labelled photos", "resight label")
    threshold = here.option("explore-exploit", "threshold", threshold, 0.42)
    return _after_search(here, SemiSupervised(here.database, _edges(here, k), training, threshold, k, limit))


def diffusion(
    here: Neighbourhood,
    *,
    k: int | None = None,
    seeds: int | None = None,
    alpha: float | None = None,
    gamma: float = GAMMA,
    iterations: int = 20,
    limit: int | None = 1000,
) -> Pipeline:
    """Diffusion by conjugate gradients, DFS (Iscen et al., CVPR 2017). Transductive.

    The published k = 50 counts the photo itself.
    """
    k = here.option("diffusion", "k", k, 49)
    seeds = here.option("diffusion", "seeds", seeds, 10)
    alpha = here.option("diffusion", "alpha", alpha, 0.99)
    normalised = here.normalised(k, gamma)
    return _after_search(here, Diffusion(here.database, normalised, seeds, gamma, alpha, iterations, limit))


def late_diffusion(
    here: Neighbourhood,
    *,
    seeds: int = 10,
    k: int = 49,
    candidates: int = 999,
    alpha: float = 0.99,
    limit: int | None = 1000,
) -> Pipeline:
    """Diffusion solved off-line for every photo (Yang et al., AAAI 2019). Online.

    Where that is not stored, it is solved with `alpha` among `candidates` neighbours, of which `k` carry the affinity.
    """
    solved = here.solved
    if solved is None and here.build:
        solved = solve_offline(here.need_graph(max(candidates, k)), k, alpha)
    solved = _need(solved, "the off-line part of diffusion", "resight graph build --offline")
    return _after_search(here, OfflineDiffusion(here.database, solved, seeds, GAMMA, limit=limit))


def spectral_ranking(
    here: Neighbourhood,
    *,
    k: int = 49,
    rank: int = 1000,
    seeds: int = 10,
    alpha: float = 0.99,
    limit: int | None = 1000,
) -> Pipeline:
    """Fast spectral ranking with `rank` eigenvectors, FSR (Iscen et al., CVPR 2018). Online but for the basis."""
    basis = spectral_basis(here.normalised(k, GAMMA), min(rank, len(here.database)))
    return _after_search(here, SpectralRanking(here.database, basis, seeds, GAMMA, alpha, limit))


def hybrid_diffusion(
    here: Neighbourhood, *, k: int = 49, rank: int = 200, seeds: int = 10, alpha: float = 0.99, limit: int | None = 1000
) -> Pipeline:
    """Spectral ranking and diffusion together, DFS-FSR (Iscen et al., ACCV 2018). Transductive."""
    normalised = here.normalised(k, GAMMA)
    basis = spectral_basis(normalised, min(rank, len(here.database)))
    return _after_search(here, HybridDiffusion(here.database, normalised, basis, seeds, GAMMA, alpha, limit=limit))


def manifold(
    here: Neighbourhood, *, k: int = 5, components: int = 2048, rounds: int = 2, limit: int | None = None
) -> Pipeline:
    """Iterative manifold embedding, IME, up to 10 000 photos (Xu et al., IEEE TMM 2019). Online once embedded."""
    embedding = iterative_embedding(here.database.vectors, components, k, rounds)
    return Pipeline((ManifoldSearch(here.database, embedding, limit=limit),))


def k_reciprocal(
    here: Neighbourhood, *, top: int = 400, k1: int = 20, k2: int = 6, original_weight: float = 0.3
) -> Pipeline:
    """Re-ranking by k-reciprocal neighbours (Zhong et al., CVPR 2017). Online."""
    return _after_search(here, KReciprocal(here.database, top, k1, k2, original_weight))


def super_global(here: Neighbourhood, *, top: int = 400, k: int = 9, beta: float = 0.15) -> Pipeline:
    """Re-ranking by refined descriptors (Shao et al., ICCV 2023). Online."""
    return _after_search(here, SuperGlobal(here.database, top, k, beta))


def landmark2019(
    here: Neighbourhood, *, threshold: float | None = None, k: int = 50, least: int = 20, limit: int = 100
) -> Pipeline:
    """The pipeline of the Google landmark challenge 2019: verified expansion of the query and of every photo, then
    traversal, with labels where there are training photos; 100 results. Needs local features and a verified graph.
    """
    verifier = _need(here.verifier, "local features", "a collection of recipe hybrid")
    verified = _need(here.verified, "a verified graph", "resight graph build --verified")
    vectors = verified_augmentation(here.database.vectors, verified, least)
    database = VectorDatabase.over(vectors, here.database.rows)
    threshold = here.option("explore-exploit", "threshold", threshold, 0.42)
    last: Stage = ExploreExploit(database, _edges(here, k), threshold, k, limit)
    if here.training is not None:
        last = SemiSupervised(database, _edges(here, k), here.training, threshold, k, limit)
    search = GlobalSearch(database.index)
    return Pipeline((search, VerifiedExpansion(database, verifier, 10, least, 2), last, Cut(limit)))


def solve_offline(graph: KnnGraph, k: int = 49, alpha: float = 0.99) -> scipy.sparse.csr_array:
    """Off-line diffusion over a graph of many neighbours, of which `k` carry the affinity, (N, N)."""
    return offline_diffusion(normalise(affinity(cut(graph, min(k, graph.k)), GAMMA)), graph, alpha)


GRAPH_RECIPES: dict[str, Callable[..., Pipeline]] = {
    "alpha-expansion": alpha_expansion,
    "verified-expansion": verified_expansion,
    "explore-exploit": explore_exploit,
    "semi-supervised": semi_supervised,
    "diffusion": diffusion,
    "offline-diffusion": late_diffusion,
    "spectral-ranking": spectral_ranking,
    "hybrid-diffusion": hybrid_diffusion,
    "manifold-embedding": manifold,
    "k-reciprocal": k_reciprocal,
    "super-global": super_global,
    "landmark2019": landmark2019,
}


def _after_search(here: Neighbourhood, stage: Stage) -> Pipeline:
    return Pipeline((here.search, stage))


def _edges(here: Neighbourhood, k: int) -> Adjacency:
    return adjacency(here.need_graph(k))


def _need(part: Any, what: str, how: str) -> Any:
    if part is None:
        raise UsageError(f"this recipe needs {what}, which the collection lacks: {how} makes it")
    return part
