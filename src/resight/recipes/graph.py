"""Recipes over global descriptors and their kNN graph: what a collection of vectors can be searched with.

Each gives a pipeline whose first stage is the search by descriptor. An option that is None takes the value chosen for
the collection (`resight graph tune`), else the published one. `limit`: results per query. `allowed`: rows that may be
returned, ascending; paths may lead through the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from resight.graph.adjacency import adjacency, with_isolated
from resight.graph.knn_graph import cut
from resight.ranking.diffusion_stages import Diffusion, HybridDiffusion, OfflineDiffusion, SpectralRanking
from resight.ranking.expansion_stages import (
    Augmentation,
    QueryExpansion,
    VerifiedExpansion,
    verified_augmentation,
)
from resight.ranking.neighbourhood_stages import KReciprocal, ManifoldSearch, SuperGlobal
from resight.ranking.pipeline import Pipeline
from resight.ranking.propagation import ExploreExploit, SemiSupervised
from resight.ranking.search import Filter, GlobalSearch
from resight.ranking.vector_database import VectorDatabase
from resight.recipes.options import check_verify
from resight.recipes.resources import (
    GAMMA,
    Resources,
    need_augmented,
    need_basis,
    need_database,
    need_edges,
    need_embedding,
    need_graph,
    need_offline,
    need_training,
    need_verified_graph,
    need_verifier,
    normalised_graph,
)
from resight.types import Int64, Stage

V = TypeVar("V", int, float)


def alpha_expansion(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    n: int | None = None,
    alpha: float | None = None,
    limit: int | None = None,
) -> Pipeline:
    """Alpha query expansion (Radenovic et al., TPAMI 2019); alpha 0 is average expansion. Online."""
    n = _option(resources, "expansion", "n", n, 10)
    alpha = _option(resources, "expansion", "alpha", alpha, 3.0)
    return _spread(resources, allowed, limit, lambda most: QueryExpansion(need_database(resources), n, alpha, most))


def verified_expansion(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    verify: int = 10,
    least: int = 20,
    most: int = 2,
    augment: bool = False,
    limit: int | None = None,
) -> Pipeline:
    """Expansion with those `most` of the first `verify` results that have the most inliers, `least` or more (QE-SV).
    `augment`: every photo of the collection is expanded in the same way first, for which a verified graph is needed.
    Online; needs local features.
    """
    check_verify(verify)
    database, verifier = need_database(resources), need_verifier(resources)
    if augment:
        near = need_graph(resources, verify) if resources.builds or resources.graph is None else resources.graph
        proven = need_verified_graph(resources, verify)
        moved = verified_augmentation(database.vectors, proven, least, most, cut(near, min(verify, near.k)))
        database = VectorDatabase.over(moved, database.rows)
    return _spread(
        resources,
        allowed,
        limit,
        lambda cut_: VerifiedExpansion(database, verifier, verify, least, most, cut_),
        GlobalSearch(database.index),
    )


def explore_exploit(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    threshold: float | None = None,
    k: int = 50,
    limit: int = 1000,
    verified: bool = False,
) -> Pipeline:
    """Explore-exploit traversal (Chang et al., CVPR 2019), of the verified graph when `verified`. Online."""
    database, verifier = need_database(resources), need_verifier(resources) if verified else None
    if verified:
        graph = need_verified_graph(resources, k)
        edges, least = adjacency(cut(graph, min(k, graph.k))), 40.0 if threshold is None else threshold
    else:
        edges, least = need_edges(resources, k), _option(resources, "traversal", "threshold", threshold, 0.42)
    return _spread(
        resources,
        allowed,
        limit,
        lambda most: ExploreExploit(database, edges, least, k, most or max(len(database), 1), verifier),
    )


def semi_supervised(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    threshold: float | None = None,
    k: int = 50,
    limit: int = 100,
    bridges: bool = False,
) -> Pipeline:
    """Traversal that also follows the labels of training photos (Chang et al., CVPR workshops 2019). Online.

    A labelled query leads to the photos of its label; with `bridges`, as in the paper, to the nearest training photo of
    its label, and that to the photos.
    """
    database, training, edges = need_database(resources), need_training(resources), need_edges(resources, k)
    if bridges:
        edges = with_isolated(edges, len(training.labels))
    least = _option(resources, "traversal", "threshold", threshold, 0.42)
    return _spread(
        resources,
        allowed,
        limit,
        lambda most: SemiSupervised(database, edges, training, least, k, most or max(len(database), 1)),
    )


def diffusion(
    resources: Resources,
    allowed: Int64 | None = None,
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
    k = _option(resources, "diffusion", "k", k, 49)
    seeds = _option(resources, "diffusion", "seeds", seeds, 10)
    alpha = _option(resources, "diffusion", "alpha", alpha, 0.99)
    database, normalised = need_database(resources), normalised_graph(resources, k, gamma)
    return _spread(
        resources, allowed, limit, lambda most: Diffusion(database, normalised, seeds, gamma, alpha, iterations, most)
    )


def offline_diffusion(
    resources: Resources,
    allowed: Int64 | None = None,
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
    database, solved = need_database(resources), need_offline(resources, k, candidates, alpha)
    return _spread(resources, allowed, limit, lambda most: OfflineDiffusion(database, solved, seeds, GAMMA, limit=most))


def spectral_ranking(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    k: int = 49,
    rank: int = 1000,
    seeds: int = 10,
    alpha: float = 0.99,
    limit: int | None = 1000,
) -> Pipeline:
    """Fast spectral ranking with `rank` eigenvectors, FSR (Iscen et al., CVPR 2018). Online but for the basis."""
    database = need_database(resources)
    basis = need_basis(resources, k, rank)
    return _spread(resources, allowed, limit, lambda most: SpectralRanking(database, basis, seeds, GAMMA, alpha, most))


def hybrid_diffusion(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    k: int = 49,
    rank: int = 200,
    seeds: int = 10,
    alpha: float = 0.99,
    limit: int | None = 1000,
) -> Pipeline:
    """Spectral ranking and diffusion together, DFS-FSR (Iscen et al., ACCV 2018). Transductive."""
    database, normalised = need_database(resources), normalised_graph(resources, k)
    basis = need_basis(resources, k, rank)
    return _spread(
        resources,
        allowed,
        limit,
        lambda most: HybridDiffusion(database, normalised, basis, seeds, GAMMA, alpha, limit=most),
    )


def manifold_embedding(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    k: int = 5,
    components: int = 2048,
    rounds: int = 2,
    limit: int | None = None,
) -> Pipeline:
    """Iterative manifold embedding, IME, up to 10 000 photos (Xu et al., IEEE TMM 2019). Online once embedded."""
    database = need_database(resources)
    embedding = need_embedding(resources, k, components, rounds)
    if allowed is None:
        return Pipeline((ManifoldSearch(database, embedding, limit=limit),))
    found: Pipeline = ManifoldSearch(database, embedding) >> Filter(allowed)
    return found if limit is None else found % limit


def k_reciprocal(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    rerank: int = 400,
    k1: int = 20,
    k2: int = 6,
    original_weight: float = 0.3,
) -> Pipeline:
    """Re-ranking of the first `rerank` by k-reciprocal neighbours (Zhong et al., CVPR 2017). Online."""
    database = need_database(resources)
    return GlobalSearch(database.index, allowed=allowed) >> KReciprocal(database, rerank, k1, k2, original_weight)


def super_global(
    resources: Resources, allowed: Int64 | None = None, *, rerank: int = 400, k: int = 9, beta: float = 0.15
) -> Pipeline:
    """Re-ranking of the first `rerank` by refined descriptors (Shao et al., ICCV 2023). Online."""
    database = need_database(resources)
    return GlobalSearch(database.index, allowed=allowed) >> SuperGlobal(database, rerank, k, beta)


def landmark2019(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    threshold: float | None = None,
    k: int = 50,
    least: int = 20,
    limit: int = 100,
    bridges: bool = False,
) -> Pipeline:
    """The pipeline of the Google landmark challenge 2019: verified expansion of the query and of every photo, then
    traversal of the graph of the result, with labels where there are training photos, through `bridges` as in
    `semi-supervised`; 100 results. Needs local features, a verified graph, and that of augmented descriptors.
    """
    verifier = need_verifier(resources)
    database, graph = need_augmented(resources, k, Augmentation(least=least))
    edges = adjacency(graph)
    threshold = _option(resources, "traversal", "threshold", threshold, 0.42)
    most = limit if allowed is None else max(len(database), 1)
    traversal: Stage = ExploreExploit(database, edges, threshold, k, most)
    if resources.training is not None:
        if bridges:
            edges = with_isolated(edges, len(resources.training.labels))
        traversal = SemiSupervised(database, edges, resources.training, threshold, k, most)
    found = GlobalSearch(database.index) >> VerifiedExpansion(database, verifier, 10, least, 2) >> traversal
    return (found if allowed is None else found >> Filter(allowed)) % limit


def _spread(
    resources: Resources,
    allowed: Int64 | None,
    limit: int | None,
    stage: Callable[[int | None], Stage],
    first: GlobalSearch | None = None,
) -> Pipeline:
    """`first`, by default search by descriptor, then the stage that `stage` makes for a number of results; a condition
    is applied before any cut.
    """
    search = first or GlobalSearch(need_database(resources).index)
    if allowed is None:
        return search >> stage(limit)
    found: Pipeline = search >> stage(None) >> Filter(allowed)
    return found if limit is None else found % limit


def _option(resources: Resources, method: str, name: str, given: V | None, published: V) -> V:
    """`given`, or what was chosen for the collection, or what was published."""
    if given is not None:
        return given
    chosen: V = resources.tuned.get(method, {}).get(name, published)
    return chosen
