"""What recipes work on: indexes, graphs and models of a collection, or made of arrays on demand.

A part that is not there is None; the `need_*` functions say which command makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import scipy.sparse

from resight.errors import UsageError
from resight.graph.adjacency import Adjacency, adjacency
from resight.graph.diffusion import affinity, normalise
from resight.graph.knn_graph import build_knn_graph, cut
from resight.graph.manifold import ManifoldEmbedding, iterative_embedding
from resight.graph.offline import offline_diffusion
from resight.graph.spectral import SpectralBasis, spectral_basis
from resight.graph.verified import build_verified_graph
from resight.index.asmk import Asmk
from resight.ranking.confidence import UNKNOWN, Confidence
from resight.ranking.deep_spatial import DescribeQuery, RegionSource
from resight.ranking.expansion_stages import Augmentation, verified_augmentation
from resight.ranking.propagation import TrainingPhotos
from resight.ranking.search import VectorIndex
from resight.ranking.similarity import PairScorer
from resight.ranking.vector_database import VectorDatabase
from resight.ranking.verification import FeatureSource, Verifier, inliers_between
from resight.types import Float32, Int64, KnnGraph, Queries, Stage

T = TypeVar("T")
GAMMA = 3.0  # published power of similarities in diffusion

Tuned = Mapping[str, Mapping[str, Any]]  # option values that suit a collection, by method (`resight.ranking.tuning`)


class SeparatedDescriptors(Protocol):
    """Descriptors after guided similarity separation, and the stage that searches them."""

    @property
    def confidence(self) -> Confidence:
        """What unrelated photos score."""

    def stage(
        self, limit: int | None, allowed: Int64 | None, *, k: int | None, verifier: Verifier | None, verify: int
    ) -> Stage:
        """The stage that searches them."""


@dataclass(frozen=True, eq=False)
class IndexedKind:
    """One kind of local features: its `index`, what unrelated photos score in it, and the source of its features."""

    index: Asmk
    confidence: Confidence
    features: FeatureSource


class Resources(Protocol):
    """Parts that recipes work on, read when a recipe first asks for them.

    Of local features: `kinds`, key -> name of those that are kept, the one that verifies first; the `index` of that
    one, its `confidence` (what unrelated photos score), and `verifier`; `kind` gives any of them. Of global
    descriptors: `database`, the `vector_index` that searches it, its `vector_confidence`, the graph of similarities
    `graph`, its `edges` in both directions where they are kept, `verified_graph` of inliers, `augmented_graph` of
    descriptors moved by it, `offline` diffusion, `spectral_basis` and manifold `embedding` where they are kept,
    labelled photos `training`, and `regions` of activation maps, which `describe_regions` makes of a query. Learned:
    `fusion_weights` by key, `tuned` options, `separation`, `similarity`. `describe`: makes the global descriptors
    (Q, D) of queries that carry none.
    """

    @property
    def kinds(self) -> Mapping[str, str]: ...
    def kind(self, key: str) -> IndexedKind | None: ...
    @property
    def index(self) -> Asmk | None: ...
    @property
    def confidence(self) -> Confidence: ...
    @property
    def verifier(self) -> Verifier | None: ...
    @property
    def database(self) -> VectorDatabase | None: ...
    @property
    def vector_index(self) -> VectorIndex | None: ...
    @property
    def vector_confidence(self) -> Confidence: ...
    @property
    def describe(self) -> Callable[[Queries], Float32] | None: ...
    @property
    def graph(self) -> KnnGraph | None: ...
    @property
    def edges(self) -> Adjacency | None: ...
    @property
    def verified_graph(self) -> KnnGraph | None: ...
    def augmented_graph(self, how: Augmentation, /) -> KnnGraph | None: ...
    @property
    def offline(self) -> scipy.sparse.csr_array | None: ...
    def spectral_basis(self, k: int, rank: int, /) -> SpectralBasis | None: ...
    def embedding(self, k: int, components: int, rounds: int, /) -> ManifoldEmbedding | None: ...
    @property
    def regions(self) -> RegionSource | None: ...
    @property
    def describe_regions(self) -> DescribeQuery | None: ...
    @property
    def training(self) -> TrainingPhotos | None: ...
    @property
    def fusion_weights(self) -> Mapping[str, float] | None: ...
    @property
    def tuned(self) -> Tuned: ...
    @property
    def separation(self) -> SeparatedDescriptors | None: ...
    @property
    def similarity(self) -> PairScorer | None: ...
    @property
    def builds(self) -> bool:
        """Whether graphs are made when a recipe asks for them, instead of read."""


@dataclass(frozen=True, eq=False)
class ArrayResources:
    """Resources over descriptors alone, whose graphs are built as recipes ask for them."""

    database: VectorDatabase
    index: Asmk | None = None
    confidence: Confidence = UNKNOWN
    verifier: Verifier | None = None
    vector_confidence: Confidence = UNKNOWN
    describe: Callable[[Queries], Float32] | None = None
    graph: KnnGraph | None = None
    edges: Adjacency | None = None
    verified_graph: KnnGraph | None = None
    offline: scipy.sparse.csr_array | None = None
    regions: RegionSource | None = None
    describe_regions: DescribeQuery | None = None
    training: TrainingPhotos | None = None
    fusion_weights: Mapping[str, float] | None = None
    tuned: Tuned = field(default_factory=dict)
    separation: SeparatedDescriptors | None = None
    similarity: PairScorer | None = None
    builds: bool = True
    kinds: Mapping[str, str] = field(default_factory=lambda: {"": "local"})

    @property
    def vector_index(self) -> VectorIndex:
        """What finds the nearest descriptors."""
        return self.database.index

    def kind(self, key: str) -> IndexedKind | None:
        """The one kind there is."""
        if key or self.index is None or self.verifier is None:
            return None
        return IndexedKind(self.index, self.confidence, self.verifier.features)

    def augmented_graph(self, how: Augmentation) -> KnnGraph | None:
        """None: it is built when a recipe asks for it."""

    def spectral_basis(self, k: int, rank: int) -> SpectralBasis | None:
        """None: it is made when a recipe asks for it."""

    def embedding(self, k: int, components: int, rounds: int) -> ManifoldEmbedding | None:
        """None: it is made when a recipe asks for it."""


def need_index(resources: Resources) -> Asmk:
    """The inverted file. Raises `UsageError` without local features."""
    return _need(
        resources.index, "an index of local features", "resight index with a recipe that has some, such as classic,"
    )


def need_kind(resources: Resources, key: str) -> IndexedKind:
    """One kind of local features, by key. Raises `UsageError` without it."""
    name = resources.kinds.get(key, key)
    return _need(resources.kind(key), f"an index of {name} features", "resight index")


def need_verifier(resources: Resources) -> Verifier:
    """Verification by geometry. Raises `UsageError` without local features."""
    return _need(resources.verifier, "local features", "resight index with a recipe that has some, such as classic,")


def need_database(resources: Resources) -> VectorDatabase:
    """The global descriptors. Raises `UsageError` where there are none."""
    return _need(resources.database, "global descriptors", "resight index with a recipe that has some, such as gem,")


def need_vectors(resources: Resources) -> VectorIndex:
    """What finds the nearest global descriptors. Raises `UsageError` where there are none."""
    how = "resight index with a recipe that has some, such as gem,"
    return _need(resources.vector_index, "global descriptors", how)


def need_graph(resources: Resources, k: int) -> KnnGraph:
    """The graph of the `k` nearest neighbours. Raises `UsageError` when there is none, or it has fewer neighbours."""
    if k < 1:
        raise UsageError(f"k={k}: a graph has at least 1 neighbour per photo")
    if resources.graph is None and resources.builds:
        vectors = need_database(resources).vectors
        return build_knn_graph(vectors, min(k, max(len(vectors) - 1, 1)))
    graph = _need(resources.graph, "a kNN graph", "resight graph build")
    if k > graph.k and graph.k < len(graph) - 1:
        raise UsageError(
            f"k={k} is more than the {graph.k} neighbours of the stored graph: give a smaller k, or build a graph "
            f"with resight graph build --k {k}"
        )
    return cut(graph, min(k, graph.k))


def need_edges(resources: Resources, k: int) -> Adjacency:
    """The edges in both directions of the graph of `k` neighbours: those stored, or made now for another k."""
    graph, edges = need_graph(resources, k), resources.edges
    fits = edges is not None and resources.graph is not None and resources.graph.k == graph.k
    return edges if edges is not None and fits else adjacency(graph)


def need_verified_graph(resources: Resources, k: int = 50) -> KnnGraph:
    """The graph of inliers; where graphs are built, of `k` neighbours. Raises `UsageError` when there is none."""
    if resources.verified_graph is None and resources.builds:
        inliers = inliers_between(need_verifier(resources), need_database(resources).rows)
        return build_verified_graph(need_graph(resources, k), inliers)
    return _need(resources.verified_graph, "a verified graph", "resight graph build --verified")


def need_augmented(resources: Resources, k: int, how: Augmentation) -> tuple[VectorDatabase, KnnGraph]:
    """Descriptors moved towards the neighbours that geometry proves, and their graph of `k` neighbours.

    Raises `UsageError` when the verified graph or the graph of this augmentation is missing, or has fewer neighbours.
    """
    known, near = (
        need_database(resources),
        need_graph(resources, k if resources.graph is not None else max(k, how.first)),
    )
    proven = need_verified_graph(resources, how.first)
    near = cut(near, min(how.first, near.k))
    moved = VectorDatabase.over(verified_augmentation(known.vectors, proven, how.least, how.most, near), known.rows)
    graph = resources.augmented_graph(how)
    if graph is None and resources.builds:
        return moved, build_knn_graph(moved.vectors, min(k, max(len(moved) - 1, 1)))
    graph = _need(graph, f"the graph of augmented descriptors ({how.name})", "resight graph build --augmented")
    if k > graph.k and graph.k < len(graph) - 1:
        raise UsageError(f"k={k} is more than the {graph.k} neighbours of the stored graph of augmented descriptors")
    return moved, cut(graph, min(k, graph.k))


def need_training(resources: Resources) -> TrainingPhotos:
    """Labelled photos. Raises `UsageError` when there are none."""
    return _need(resources.training, "labelled photos", "resight label")


def need_separation(resources: Resources) -> SeparatedDescriptors:
    """Separated descriptors. Raises `UsageError` when there are none."""
    return _need(resources.separation, "separated descriptors", "resight fit separation")


def need_similarity(resources: Resources) -> PairScorer:
    """A learned similarity. Raises `UsageError` when there is none."""
    return _need(resources.similarity, "a learned similarity", "resight fit similarity")


def need_regions(resources: Resources) -> tuple[RegionSource, DescribeQuery]:
    """Regions of database rows, and of a query. Raises `UsageError` when there are none."""
    regions = _need(resources.regions, "regions of activation maps", "resight fit regions")
    return regions, _need(resources.describe_regions, "a network that gives maps", "resight index with recipe gem")


def need_offline(resources: Resources, k: int, candidates: int, alpha: float) -> scipy.sparse.csr_array:
    """Off-line diffusion: the stored one, or, where graphs are built, solved now. Raises `UsageError` without."""
    if resources.offline is None and resources.builds:
        return solve_offline(need_graph(resources, max(candidates, k)), k, alpha)
    return _need(resources.offline, "the off-line part of diffusion", "resight graph build --offline")


def normalised_graph(resources: Resources, k: int, gamma: float = GAMMA) -> scipy.sparse.csr_array:
    """The normalised affinities of the graph with `k` neighbours, (N, N)."""
    return normalise_graph(need_graph(resources, k), k, gamma)


def normalise_graph(graph: KnnGraph, k: int, gamma: float = GAMMA) -> scipy.sparse.csr_array:
    """The normalised affinities of a `graph` cut to `k` neighbours, (N, N)."""
    return normalise(affinity(cut(graph, min(k, graph.k)), gamma))


def need_basis(resources: Resources, k: int, rank: int) -> SpectralBasis:
    """The `rank` leading eigenpairs of the graph with `k` neighbours: those stored, else made now."""
    rank = min(rank, len(need_database(resources)))
    stored = resources.spectral_basis(k, rank)
    return spectral_basis(normalised_graph(resources, k), rank) if stored is None else stored


def need_embedding(resources: Resources, k: int, components: int, rounds: int) -> ManifoldEmbedding:
    """The iterative manifold embedding of the descriptors: the one stored, else made now."""
    stored = resources.embedding(k, components, rounds)
    return iterative_embedding(need_database(resources).vectors, components, k, rounds) if stored is None else stored


def solve_offline(graph: KnnGraph, k: int = 49, alpha: float = 0.99) -> scipy.sparse.csr_array:
    """Off-line diffusion over a graph of many neighbours, of which `k` carry the affinity, (N, N)."""
    return offline_diffusion(normalise_graph(graph, k), graph, alpha)


def _need(part: T | None, what: str, how: str) -> T:
    if part is None:
        raise UsageError(f"this recipe needs {what}, which the collection lacks: {how} makes it")
    return part
