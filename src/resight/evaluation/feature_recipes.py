"""Recipes for feature files: functions of queries and a `Database`, whose keyword arguments are their settings.

Those that re-rank put what they do not reach behind, in the order of the search. All but `search` hold the descriptors
of the whole database in memory, distractors too; those of the graph also hold the graph, 8 k bytes per photo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse

from resight.errors import UsageError
from resight.evaluation.streaming import rank_blocks, stream_vectors
from resight.graph.adjacency import adjacency
from resight.graph.diffusion import affinity, normalise, offline_diffusion
from resight.graph.knn_graph import build_knn_graph, cut
from resight.graph.manifold import iterative_embedding
from resight.graph.spectral import spectral_basis
from resight.ranking.diffusion_stages import Diffusion, HybridDiffusion, OfflineDiffusion, SpectralRanking
from resight.ranking.expansion import database_augmentation
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.neighbourhood_stages import KReciprocal, ManifoldSearch, SuperGlobal
from resight.ranking.pipeline import Pipeline
from resight.ranking.propagation import ExploreExploit
from resight.ranking.search import GlobalSearch
from resight.ranking.vector_database import VectorDatabase
from resight.types import Float32, Queries, Ranking, Stage


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


def alpha_expansion(queries: Queries, database: Database, *, n: int = 50, alpha: float = 3.0) -> Ranking:
    """Alpha query expansion with the `n` nearest, then search (Radenovic et al., TPAMI 2019)."""
    return QueryExpansion(VectorDatabase.over(database.all()), n, alpha)(queries)


def augmentation(
    queries: Queries, database: Database, *, n: int = 10, alpha: float = 3.0, query_n: int = 10
) -> Ranking:
    """Alpha database augmentation with `n` photos, and query expansion with `query_n` of the result."""
    return QueryExpansion(VectorDatabase.over(database_augmentation(database.all(), n, alpha)), query_n, alpha)(queries)


def explore_exploit(
    queries: Queries, database: Database, *, k: int = 50, threshold: float = 0.42, limit: int = 1000
) -> Ranking:
    """Explore-exploit traversal of the graph of `k` neighbours (Chang et al., CVPR 2019)."""
    vectors = database.all()
    nodes = VectorDatabase.over(vectors)
    return ExploreExploit(nodes, adjacency(build_knn_graph(vectors, k)), threshold, k, limit)(queries)


def diffusion(
    queries: Queries,
    database: Database,
    *,
    k: int = 49,
    seeds: int = 10,
    gamma: float = 3.0,
    alpha: float = 0.99,
    iterations: int = 20,
) -> Ranking:
    """Diffusion by conjugate gradients on the mutual graph of `k` neighbours (Iscen et al., CVPR 2017)."""
    nodes, normalised = _graph(database, k, gamma)
    return _rerank(queries, nodes, Diffusion(nodes, normalised, seeds, gamma, alpha, iterations, None))


def off_line_diffusion(
    queries: Queries,
    database: Database,
    *,
    k: int = 49,
    candidates: int = 999,
    seeds: int = 10,
    gamma: float = 3.0,
    alpha: float = 0.99,
) -> Ranking:
    """Diffusion solved for every photo among its `candidates` nearest (Yang et al., AAAI 2019)."""
    if not 1 <= k <= candidates:
        raise UsageError(f"k={k} must be between 1 and candidates={candidates}")
    vectors = database.all()
    wide = build_knn_graph(vectors, candidates)
    solved = offline_diffusion(normalise(affinity(cut(wide, k), gamma)), wide, alpha)
    nodes = VectorDatabase.over(vectors)
    return _rerank(queries, nodes, OfflineDiffusion(nodes, solved, seeds, gamma, None))


def spectral(
    queries: Queries,
    database: Database,
    *,
    rank: int = 1000,
    k: int = 49,
    seeds: int = 10,
    gamma: float = 3.0,
    alpha: float = 0.99,
) -> Ranking:
    """Fast spectral ranking with the `rank` leading eigenvectors (Iscen et al., CVPR 2018)."""
    nodes, normalised = _graph(database, k, gamma)
    basis = spectral_basis(normalised, min(rank, len(nodes)))
    return _rerank(queries, nodes, SpectralRanking(nodes, basis, seeds, gamma, alpha, None))


def hybrid(
    queries: Queries,
    database: Database,
    *,
    rank: int = 200,
    k: int = 49,
    seeds: int = 10,
    gamma: float = 3.0,
    alpha: float = 0.99,
    iterations: int = 20,
) -> Ranking:
    """Hybrid diffusion: spectral ranking and what it lacks (Iscen et al., ACCV 2018)."""
    nodes, normalised = _graph(database, k, gamma)
    basis = spectral_basis(normalised, min(rank, len(nodes)))
    return _rerank(queries, nodes, HybridDiffusion(nodes, normalised, basis, seeds, gamma, alpha, iterations, None))


def manifold(queries: Queries, database: Database, *, components: int = 2048, k: int = 5, rounds: int = 2) -> Ranking:
    """Iterative manifold embedding, up to 10 000 photos (Xu et al., IEEE TMM 2019)."""
    vectors = database.all()
    return ManifoldSearch(VectorDatabase.over(vectors), iterative_embedding(vectors, components, k, rounds))(queries)


def reciprocal(
    queries: Queries, database: Database, *, top: int = 400, k1: int = 20, k2: int = 6, original_weight: float = 0.3
) -> Ranking:
    """k-reciprocal re-ranking of the `top` nearest (Zhong et al., CVPR 2017)."""
    nodes = VectorDatabase.over(database.all())
    return _rerank(queries, nodes, KReciprocal(nodes, top, k1, k2, original_weight))


def super_global(queries: Queries, database: Database, *, top: int = 400, k: int = 9, beta: float = 0.15) -> Ranking:
    """SuperGlobal refinement of the `top` nearest (Shao et al., ICCV 2023)."""
    nodes = VectorDatabase.over(database.all())
    return _rerank(queries, nodes, SuperGlobal(nodes, top, k, beta))


FEATURE_RECIPES: dict[str, Callable[..., Ranking]] = {
    "search": search,
    "average-expansion": average_expansion,
    "alpha-expansion": alpha_expansion,
    "alpha-augmentation": augmentation,
    "explore-exploit": explore_exploit,
    "diffusion": diffusion,
    "offline-diffusion": off_line_diffusion,
    "spectral-ranking": spectral,
    "hybrid-diffusion": hybrid,
    "manifold-embedding": manifold,
    "k-reciprocal": reciprocal,
    "super-global": super_global,
}


def _vectors(queries: Queries) -> Float32:
    if queries.vectors is None:
        raise UsageError("these queries carry no descriptors: give a file of them")
    return queries.vectors


def _graph(database: Database, k: int, gamma: float) -> tuple[VectorDatabase, scipy.sparse.csr_array]:
    """The database and the affinity of its mutual graph. The papers' k = 50 counts a photo itself."""
    vectors = database.all()
    return VectorDatabase.over(vectors), normalise(affinity(build_knn_graph(vectors, k), gamma))


def _rerank(queries: Queries, nodes: VectorDatabase, stage: Stage) -> Ranking:
    return Pipeline((GlobalSearch(nodes.index), stage))(queries)
