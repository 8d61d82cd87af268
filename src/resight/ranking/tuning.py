"""Settings of expansion, traversal and diffusion that suit a collection, found without labels.

Nobody tunes a search of holiday photos by hand, and no setting suits all collections: where each thing has three
photos, an expansion by ten mixes in strangers. So settings are tried on groups of photos that belong together beyond
doubt: those that a verified graph joins, or else mutual neighbours that stand out. The latter are found with one
half of the descriptors' dimensions, and the settings tried with dimensions of the other half, as what chance did to
one it did not do to the other. What belongs together beyond doubt is also easy to find, and then every setting looks
good; so only as many of these dimensions are used as make nearest neighbours fail as often as they do in earnest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
from scipy.special import ndtri

from resight.arrays import Float64, finite_rows, unit_rows
from resight.errors import ArrayError
from resight.graph.adjacency import adjacency
from resight.graph.components import groups_of_pairs
from resight.graph.diffusion import affinity, normalise
from resight.graph.knn_graph import build_knn_graph, cut
from resight.precision import average_precision
from resight.ranking.diffusion_stages import Diffusion
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.pipeline import Pipeline
from resight.ranking.propagation import ExploreExploit
from resight.ranking.search import GlobalSearch
from resight.ranking.vector_database import VectorDatabase
from resight.types import Float32, Int64, KnnGraph, Queries, Ranking, Stage

FEWEST = 10  # queries below which nothing is chosen
MOST = 100  # queries that are tried
TOP = 1000  # results of each that are looked at
WIDTH = 50  # neighbours per node of the graphs that are tried
HARD = 0.8  # mAP of nearest neighbours at which settings are tried
FEWEST_DIMENSIONS = 16
MUTUAL = 10  # neighbours among which an edge of the groups must be, from both sides
BACKGROUND = 0.95  # share of random photos that are less like a photo than its background
CHANCE = 0.01  # unrelated photos per photo that may pass for related
CLOSER = 0.7  # of the distance to the background: nearer, a mutual neighbour stands out
QUANTILES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)  # of edge weights, tried as thresholds
EXPANSIONS = {"n": (1, 2, 3, 5, 10, 20, 50), "alpha": (0.0, 1.0, 3.0, 6.0)}
DIFFUSIONS = {"k": (5, 10, 20, 50), "seeds": (1, 2, 5, 10), "alpha": (0.5, 0.9, 0.99)}

Settings = Mapping[str, float]
METHODS = ("expansion", "traversal", "diffusion")
Source = Literal["verified pairs", "mutual neighbours"]


@dataclass(frozen=True)
class Choice:
    """What suits a collection, of all that was `tried`: settings and their score, mAP on the groups. Of expansions and
    diffusions within a standard error of the best, it is the one that goes the smallest step.

    `plain`: score of nearest neighbours alone. `worthwhile`: the gain over it is more than twice its standard error;
    else do without. `reason`: one sentence for people.
    """

    method: str
    settings: Settings
    score: float
    plain: float
    tried: tuple[tuple[Settings, float], ...]
    worthwhile: bool
    reason: str


@dataclass(frozen=True)
class Tuned:
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

    def score(self, stage: Stage | None) -> Float64:
        """Average precision (Q,) of nearest neighbours, re-ranked by `stage`, among the first `TOP` results."""
        search = GlobalSearch(self.database.index, top=TOP)
        queries = Queries(vectors=self.database.vectors[self.asked], rows=self.asked)
        return _average_precision(Pipeline((search, stage) if stage else (search,))(queries), self)


def choose_settings(vectors: Float32, verified: KnnGraph | None = None, *, least: int = 20, seed: int = 0) -> Tuned:
    """Settings that suit the collection `vectors` (N, D) float32, L2-normalised: `n` and `alpha` of `QueryExpansion`,
    the `threshold` of `ExploreExploit` over a graph of 50 neighbours, and `k`, `seeds` and `alpha` of `Diffusion`.

    `verified` (N, k): a verified graph; its edges of at least `least` inliers make the groups. Tries 87 settings with
    at most 100 queries. Memory: two graphs of 50 neighbours and 20 N bytes per query.
    Where fewer than 10 photos are in a group, nothing is chosen: all settings are those of the smallest step, and not
    worthwhile. Raises `ArrayError` for values that are not finite or a graph of another size.
    """
    vectors = finite_rows("vectors", vectors)
    rng = np.random.default_rng(seed)
    if verified is not None and len(verified) != len(vectors):
        raise ArrayError(f"the verified graph has {len(verified)} nodes, expected one for each of {len(vectors)}")
    trial = _mutual_trial(vectors, rng) if verified is None else _verified_trial(vectors, verified, least, rng)
    graph = trial.graph if trial.database.vectors is vectors else build_knn_graph(vectors, WIDTH)
    plain = trial.score(None)
    return Tuned(
        _expansion(trial, plain),
        _traversal(trial, plain, graph),
        _diffusion(trial, plain),
        "mutual neighbours" if verified is None else "verified pairs",
        int(trial.group.max(initial=-1)) + 1,
        int(np.count_nonzero(trial.group >= 0)),
        len(trial.asked),
    )


def _mutual_trial(vectors: Float32, rng: np.random.Generator) -> _Trial:
    order = rng.permutation(vectors.shape[1])
    middle = len(order) // 2
    group = groups_of_pairs(_outstanding(unit_rows(vectors[:, order[:middle]]), rng), len(vectors))
    asked = _asked(group, rng)
    count = len(order) - middle
    while True:
        tried = unit_rows(vectors[:, order[middle : middle + count]])
        trial = _Trial(VectorDatabase.over(tried), build_knn_graph(tried, WIDTH), group, asked)
        if not len(asked) or count // 2 < FEWEST_DIMENSIONS or trial.score(None).mean() <= HARD:
            return trial
        count //= 2


def _verified_trial(vectors: Float32, verified: KnnGraph, least: int, rng: np.random.Generator) -> _Trial:
    rows, slots = np.nonzero(verified.weights >= least)
    group = groups_of_pairs(np.stack((rows, verified.ids[rows, slots]), axis=1), len(vectors))
    return _Trial(VectorDatabase.over(vectors), build_knn_graph(vectors, WIDTH), group, _asked(group, rng))


def _asked(group: Int64, rng: np.random.Generator) -> Int64:
    """The photos that ask, ascending; none where too few are in a group."""
    members = np.flatnonzero(group >= 0)
    if len(members) < FEWEST:
        return members[:0]
    return np.sort(rng.choice(members, min(MOST, len(members)), replace=False))


def _expansion(trial: _Trial, plain: Float64) -> Choice:
    def stage(n: int, alpha: float) -> Stage:
        return QueryExpansion(trial.database, n, alpha)

    return _best("query expansion", trial, plain, stage, _grid(EXPANSIONS), errors=1.0)


def _traversal(trial: _Trial, plain: Float64, graph: KnnGraph) -> Choice:
    """Thresholds are tried as quantiles of the weights, since those of `graph`, of the whole descriptors, differ."""
    edges = adjacency(trial.graph)

    def stage(quantile: float) -> Stage:
        return ExploreExploit(trial.database, edges, _quantile(trial.graph, quantile), WIDTH)

    best = _best("explore-exploit", trial, plain, stage, ({"quantile": q} for q in QUANTILES))
    tried = tuple(({"threshold": _quantile(graph, s["quantile"])}, score) for s, score in best.tried)
    chosen = {"threshold": _quantile(graph, best.settings["quantile"])}
    return replace(best, settings=chosen, tried=tried, reason=_reason(best, chosen))


def _diffusion(trial: _Trial, plain: Float64) -> Choice:
    flows = {k: normalise(affinity(cut(trial.graph, int(k)))) for k in DIFFUSIONS["k"]}

    def stage(k: int, seeds: int, alpha: float) -> Stage:
        return Diffusion(trial.database, flows[k], seeds=seeds, alpha=alpha)

    return _best("diffusion", trial, plain, stage, _grid(DIFFUSIONS), errors=1.0)


def _grid(values: Mapping[str, tuple[float, ...]]) -> Iterable[Settings]:
    return (dict(zip(values, each, strict=True)) for each in product(*values.values()))


def _best(
    method: str,
    trial: _Trial,
    plain: Float64,
    stage: Callable[..., Stage],
    grid: Iterable[Settings],
    errors: float = 0.0,
) -> Choice:
    """The first settings within so many standard errors of the best; where these count, the grid goes from the smallest
    step on."""
    scores = [(each, trial.score(stage(**each))) for each in grid]
    best = max((score for _, score in scores), key=_mean)
    settings, chosen = next(each for each in scores if not _sure(best - each[1], errors))
    tried = tuple((each, _mean(score)) for each, score in scores)
    choice = Choice(method, settings, _mean(chosen), _mean(plain), tried, _sure(chosen - plain, 2.0), "")
    return replace(choice, reason=_reason(choice, settings))


def _sure(difference: Float64, errors: float) -> bool:
    """Whether a mean difference (Q,) is above so many of its standard errors."""
    return len(difference) > 0 and float(difference.mean()) > errors * float(difference.std()) / len(difference) ** 0.5


def _mean(values: Float64) -> float:
    return float(values.mean()) if len(values) else 0.0


def _reason(choice: Choice, settings: Settings) -> str:
    if choice.plain == 0.0:
        return "too few photos belong together beyond doubt: use nearest neighbours alone"
    words = ", ".join(f"{name}={value:.4g}" for name, value in settings.items())
    scores = f"mAP {100 * choice.score:.1f}, {100 * choice.plain:.1f} without, on groups found without labels"
    return f"{words} of {len(choice.tried)} settings ({scores})" + (
        "" if choice.worthwhile else f", but no sure gain: do without {choice.method}"
    )


def _outstanding(vectors: Float32, rng: np.random.Generator) -> Int64:
    """Pairs (M, 2) of mutual neighbours that are nearer to each other than `CLOSER` the way to both their backgrounds,
    and than chance brings any photo of the collection, were similarities to unrelated ones normally distributed."""
    sample = rng.choice(len(vectors), min(1000, len(vectors)), replace=False)
    chance = float(ndtri(1 - CHANCE / len(vectors)))
    least = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), 1024):
        similarity = vectors[start : start + 1024] @ vectors[sample].T
        background = np.quantile(similarity, BACKGROUND, axis=1)
        middle, high = np.quantile(similarity, (0.5, 0.84), axis=1)  # a standard deviation apart
        least[start : start + 1024] = np.maximum(1 - CLOSER * (1 - background), middle + chance * (high - middle))
    pairs = affinity(build_knn_graph(vectors, MUTUAL), 1.0).tocoo()
    near = pairs.data > np.maximum(least[pairs.row], least[pairs.col])
    return np.stack((pairs.row[near], pairs.col[near]), axis=1).astype(np.int64)


def _average_precision(ranking: Ranking, trial: _Trial) -> Float64:
    """Mean precision at every other photo of a query's group among the first `TOP`, (Q,)."""
    ids, asked = ranking.ids[:, :TOP], trial.asked[:, None]
    counted = (ids >= 0) & (ids != asked)
    relevant = counted & (trial.group[ids] == trial.group[asked])
    sizes = np.bincount(trial.group[trial.group >= 0], minlength=1)[trial.group[trial.asked]] - 1
    return average_precision(relevant, np.minimum(sizes, TOP), counted)


def _quantile(graph: KnnGraph, share: float) -> float:
    """The weight that a `share` of the nodes' strongest edges does not exceed."""
    strongest = graph.weights[:, 0][graph.ids[:, 0] >= 0]
    return float(np.quantile(strongest, share)) if len(strongest) else 0.0
