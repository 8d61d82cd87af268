"""Settings of expansion, traversal and diffusion that suit a collection, found without labels.

Nobody tunes a search of holiday photos by hand, and no setting suits all collections: where each thing has three
photos, an expansion by ten mixes in strangers. So settings are tried on groups of photos that belong together beyond
doubt: those that a verified graph joins, or else mutual neighbours that stand out. The latter are found with one
half of the descriptors' dimensions and the settings tried with the other half, as what chance did to one it did not do
to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from resight.errors import ArrayError
from resight.graph.adjacency import adjacency
from resight.graph.diffusion import affinity, normalise
from resight.graph.knn_graph import build_knn_graph, checked_vectors, cut
from resight.ranking.diffusion_stages import Diffusion
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.pipeline import Pipeline
from resight.ranking.propagation import ExploreExploit
from resight.ranking.search import GlobalSearch
from resight.ranking.vector_database import VectorDatabase
from resight.types import Float32, Int64, KnnGraph, Queries, Ranking, Stage

FEWEST = 10  # queries below which nothing is chosen
MOST = 200  # queries that are tried; a tenth of a point of mAP is noise then anyway
WIDTH = 50  # neighbours per node of the graphs that are tried
MUTUAL = 10  # neighbours among which an edge of the groups must be, from both sides
BACKGROUND = 0.95  # share of random photos that are less like a photo than its background
CLOSER = 0.7  # of the distance to the background: nearer, a mutual neighbour stands out
QUANTILES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)  # of edge weights, tried as thresholds
EXPANSIONS = {"n": (1, 2, 3, 5, 10, 20, 50), "alpha": (0.0, 1.0, 3.0, 6.0)}
DIFFUSIONS = {"k": (3, 5, 10, 20, 50), "seeds": (1, 2, 5, 10), "alpha": (0.5, 0.9, 0.99)}

Settings = Mapping[str, float]
Source = Literal["verified pairs", "mutual neighbours"]


@dataclass(frozen=True)
class Choice:
    """What suits a collection best of all that was `tried`: settings and their score, mAP on the groups.

    `plain`: score of nearest neighbours alone. `worthwhile`: the method scores above it; else do without. `reason`: one
    sentence for people.
    """

    method: str
    settings: Settings
    score: float
    plain: float
    tried: tuple[tuple[Settings, float], ...]
    worthwhile: bool
    reason: str


@dataclass(frozen=True)
class Automatic:
    """The choices for a collection. `groups` with `photos` in them came from `source`; `queries` of them were asked."""

    expansion: Choice
    traversal: Choice
    diffusion: Choice
    source: Source
    groups: int
    photos: int
    queries: int


@dataclass(frozen=True, eq=False)
class _Trial:
    """What settings are tried on: `group` (N,) of every photo, -1 for none, and the photos that ask, (Q,)."""

    database: VectorDatabase
    graph: KnnGraph
    group: Int64
    asked: Int64

    def score(self, stage: Stage | None) -> float:
        """mAP of nearest neighbours, re-ranked by `stage`."""
        search = GlobalSearch(self.database.index)
        queries = Queries(vectors=self.database.vectors[self.asked], rows=self.asked)
        return _mean_average_precision(Pipeline((search, stage) if stage else (search,))(queries), self)


def choose_settings(vectors: Float32, verified: KnnGraph | None = None, *, least: int = 20, seed: int = 0) -> Automatic:
    """Settings that suit the collection `vectors` (N, D) float32, L2-normalised: `n` and `alpha` of `QueryExpansion`,
    the `threshold` of `ExploreExploit` over a graph of 50 neighbours, and `k`, `seeds` and `alpha` of `Diffusion`.

    `verified` (N, k): a verified graph; its edges of at least `least` inliers make the groups. Tries 99 settings with
    at most 200 queries. Memory: two graphs of 50 neighbours and 20 N bytes per query.
    Where fewer than 10 photos are in a group, nothing is chosen: all settings are those of the smallest step, and not
    worthwhile. Raises `ArrayError` for values that are not finite or a graph of another size.
    """
    vectors = checked_vectors("vectors", vectors)
    rng = np.random.default_rng(seed)
    if verified is None:
        first, second = _halves(vectors, rng)
        source: Source = "mutual neighbours"
        group, tried = _groups(len(vectors), *_outstanding(first, rng)), second
    else:
        if len(verified) != len(vectors):
            raise ArrayError(f"the verified graph has {len(verified)} nodes, expected one for each of {len(vectors)}")
        rows, slots = np.nonzero(verified.weights >= least)
        source = "verified pairs"
        group, tried = _groups(len(vectors), rows, verified.ids[rows, slots]), vectors
    members = np.flatnonzero(group >= 0)
    asked = np.sort(rng.choice(members, min(MOST, len(members)), replace=False)) if len(members) >= FEWEST else None
    trial = _Trial(VectorDatabase.over(tried), build_knn_graph(tried, WIDTH), group, np.arange(0))
    if asked is not None:
        trial = _Trial(trial.database, trial.graph, group, asked)
    plain = trial.score(None) if len(trial.asked) else 0.0
    return Automatic(
        _expansion(trial, plain),
        _traversal(trial, plain, build_knn_graph(vectors, WIDTH) if verified is None else trial.graph),
        _diffusion(trial, plain),
        source,
        int(group.max(initial=-1)) + 1,
        len(members),
        len(trial.asked),
    )


def _expansion(trial: _Trial, plain: float) -> Choice:
    def stage(n: int, alpha: float) -> Stage:
        return QueryExpansion(trial.database, n, alpha)

    return _best("query expansion", trial, plain, stage, _grid(EXPANSIONS))


def _traversal(trial: _Trial, plain: float, graph: KnnGraph) -> Choice:
    """Thresholds are tried as quantiles of the weights, since those of `graph`, of the whole descriptors, differ."""
    edges = adjacency(trial.graph)

    def stage(quantile: float) -> Stage:
        return ExploreExploit(trial.database, edges, _quantile(trial.graph, quantile), WIDTH)

    best = _best("explore-exploit", trial, plain, stage, ({"quantile": q} for q in QUANTILES))
    tried = tuple(({"threshold": _quantile(graph, s["quantile"])}, score) for s, score in best.tried)
    chosen = {"threshold": _quantile(graph, best.settings["quantile"])}
    return Choice(best.method, chosen, best.score, plain, tried, best.worthwhile, _reason(best, chosen))


def _diffusion(trial: _Trial, plain: float) -> Choice:
    flows = {k: normalise(affinity(cut(trial.graph, int(k)))) for k in DIFFUSIONS["k"]}

    def stage(k: int, seeds: int, alpha: float) -> Stage:
        return Diffusion(trial.database, flows[k], seeds=seeds, alpha=alpha)

    return _best("diffusion", trial, plain, stage, _grid(DIFFUSIONS))


def _grid(values: Mapping[str, tuple[float, ...]]) -> Iterable[Settings]:
    return (dict(zip(values, each, strict=True)) for each in product(*values.values()))


def _best(method: str, trial: _Trial, plain: float, stage: Callable[..., Stage], grid: Iterable[Settings]) -> Choice:
    """The first of the best settings; the grid goes from the smallest step on."""
    tried = tuple((each, trial.score(stage(**each)) if len(trial.asked) else 0.0) for each in grid)
    settings, score = max(tried, key=lambda each: each[1])
    choice = Choice(method, settings, score, plain, tried, score > plain, "")
    return Choice(method, settings, score, plain, tried, score > plain, _reason(choice, settings))


def _reason(choice: Choice, settings: Settings) -> str:
    if not choice.tried or choice.plain == 0.0:
        return "too few photos belong together beyond doubt: use nearest neighbours alone"
    words = ", ".join(f"{name}={value:.4g}" for name, value in settings.items())
    scores = f"mAP {choice.score:.3f}, {choice.plain:.3f} without, on groups found without labels"
    return f"{words} is the best of {len(choice.tried)} ({scores})" + (
        "" if choice.worthwhile else f": {choice.method} does not help this collection"
    )


def _halves(vectors: Float32, rng: np.random.Generator) -> tuple[Float32, Float32]:
    """The same photos, described by one random half of the dimensions and by the other; all dimensions if only one."""
    order = rng.permutation(vectors.shape[1])
    middle = len(order) // 2
    parts = (order[:middle], order[middle:]) if middle else (order, order)
    return _unit(vectors[:, np.sort(parts[0])]), _unit(vectors[:, np.sort(parts[1])])


def _unit(vectors: Float32) -> Float32:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)


def _outstanding(vectors: Float32, rng: np.random.Generator) -> tuple[Int64, Int64]:
    """Pairs of mutual neighbours that are nearer to each other than `CLOSER` the way to both their backgrounds."""
    sample = rng.choice(len(vectors), min(1000, len(vectors)), replace=False)
    level = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), 1024):
        level[start : start + 1024] = np.quantile(vectors[start : start + 1024] @ vectors[sample].T, BACKGROUND, axis=1)
    pairs = affinity(build_knn_graph(vectors, MUTUAL), 1.0).tocoo()
    background = np.maximum(level[pairs.row], level[pairs.col])
    near = 1 - pairs.data < CLOSER * (1 - background)
    return pairs.row[near].astype(np.int64), pairs.col[near].astype(np.int64)


def _groups(nodes: int, rows: Int64, others: Any) -> Int64:
    """The group of every node, (N,), numbered from 0: what edges join; -1 for nodes without an edge."""
    edges = scipy.sparse.csr_array((np.ones(len(rows)), (rows, others)), shape=(nodes, nodes))
    label = connected_components(edges, directed=False)[1]
    joined = np.bincount(label, minlength=1)[label] > 1
    group = np.full(nodes, -1, np.int64)
    group[joined] = np.unique(label[joined], return_inverse=True)[1]
    return group


def _mean_average_precision(ranking: Ranking, trial: _Trial) -> float:
    """Mean over the queries of the precision at every photo of their group, which they themselves do not count to."""
    ids, asked = ranking.ids, trial.asked[:, None]
    counted = (ids >= 0) & (ids != asked)
    relevant = counted & (trial.group[ids] == trial.group[asked])
    precision = np.cumsum(relevant, axis=1) / np.maximum(np.cumsum(counted, axis=1), 1)
    sizes = np.bincount(trial.group[trial.group >= 0])[trial.group[trial.asked]] - 1
    return float(((precision * relevant).sum(axis=1) / sizes).mean())


def _quantile(graph: KnnGraph, share: float) -> float:
    """The weight that a `share` of the nodes' strongest edges does not exceed."""
    strongest = graph.weights[:, 0][graph.ids[:, 0] >= 0]
    return float(np.quantile(strongest, share)) if len(strongest) else 0.0
