"""Diffusion and its relatives as stages: scores flow from the query's nearest photos along the kNN graph.

All start from the same seeds, y: the query's `seeds` nearest photos, or the first of the ranking so far, weighted by
similarity to the power of `gamma`. A photo that the flow does not reach is no result; behind another stage it keeps
its order behind those that are. Papers: see `resight.graph.diffusion` and `resight.graph.spectral`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from resight.arrays import Float64
from resight.errors import ArrayError, UsageError
from resight.graph.diffusion import diffuse, truncated_diffusion
from resight.graph.diffusion import seeds as seed_matrix
from resight.graph.spectral import SpectralBasis, hybrid_diffusion, spectral_ranking
from resight.ranking.pipeline import Composable, need
from resight.ranking.vector_database import VectorDatabase, ahead_of, checked_limit, only
from resight.ties import tie_order
from resight.types import Evidence, Queries, Ranking

Flow = Callable[[scipy.sparse.csr_array], Float64]


@dataclass(frozen=True, eq=False)
class Diffusion(Composable):
    """Diffusion by conjugate gradients, and the exact answer of all; transductive: `iterations` passes over the graph.

    `normalised` (N, N): from `resight.graph.diffusion.normalise`; `alpha`, `iterations` as in `diffuse`.
    """

    database: VectorDatabase
    normalised: scipy.sparse.csr_array
    seeds: int = 10
    gamma: float = 3.0
    alpha: float = 0.99
    iterations: int = 20
    limit: int | None = 1000

    def __post_init__(self) -> None:
        _check(self.seeds, self.gamma, self.alpha, self.iterations, self.limit)
        _check_nodes(self.database, self.normalised.shape[0])

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return _flow(self, self._scores, queries, ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The seeds, and which share of the score of `row` came from each."""
        return _shares(self, self._scores, queries.only(query), row, only(before, query))

    def _scores(self, y: scipy.sparse.csr_array) -> Float64:
        return diffuse(self.normalised, y, self.alpha, self.iterations)


@dataclass(frozen=True, eq=False)
class TruncatedDiffusion(Composable):
    """Diffusion among the first `top` results so far; online: the edges among `top` photos, whatever the collection.

    `affinities` (N, N): from `resight.graph.diffusion.affinity`, cut out and normalised for every query.
    """

    database: VectorDatabase
    affinities: scipy.sparse.csr_array
    top: int = 1000
    seeds: int = 10
    gamma: float = 3.0
    alpha: float = 0.99
    iterations: int = 20

    def __post_init__(self) -> None:
        _check(self.seeds, self.gamma, self.alpha, self.iterations, self.top)
        _check_nodes(self.database, self.affinities.shape[0])

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        ranking = need(ranking, "TruncatedDiffusion")
        y, shortlist = _seeds(self, queries, ranking), self._shortlist(ranking)
        found = truncated_diffusion(self.affinities, y, shortlist, self.alpha, self.iterations)
        return ahead_of(self.database.in_rows(_reached(found)), ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The seeds, and which share of the score of `row` came from each."""
        ranking = need(only(before, query), "TruncatedDiffusion")
        shortlist = self._shortlist(ranking)

        def scores(y: scipy.sparse.csr_array) -> Float64:
            each = Ranking(
                np.repeat(shortlist.ids, y.shape[0], axis=0), np.repeat(shortlist.scores, y.shape[0], axis=0)
            )
            found = truncated_diffusion(self.affinities, y, each, self.alpha, self.iterations)
            dense = np.zeros(y.shape)
            np.put_along_axis(dense, found.ids, found.scores.astype(np.float64), axis=1)
            return dense

        return _shares(self, scores, queries.only(query), row, ranking)

    def _shortlist(self, ranking: Ranking) -> Ranking:
        """The first results that have a descriptor, as nodes."""
        lists = [row[row >= 0] for row in self.database.nodes(ranking.top(self.top).ids)]
        return Ranking.from_lists(lists, [np.zeros(len(row)) for row in lists])


@dataclass(frozen=True, eq=False)
class SpectralRanking(Composable):
    """Fast spectral ranking: diffusion as a product with the leading eigenvectors; online, N r products a query.

    `basis`: from `resight.graph.spectral.spectral_basis`.
    """

    database: VectorDatabase
    basis: SpectralBasis
    seeds: int = 10
    gamma: float = 3.0
    alpha: float = 0.99
    limit: int | None = 1000

    def __post_init__(self) -> None:
        _check(self.seeds, self.gamma, self.alpha, 1, self.limit)
        _check_nodes(self.database, len(self.basis.vectors))

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return _flow(self, self._scores, queries, ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The seeds, and which share of the score of `row` came from each."""
        return _shares(self, self._scores, queries.only(query), row, only(before, query))

    def _scores(self, y: scipy.sparse.csr_array) -> Float64:
        return spectral_ranking(self.basis, y, self.alpha)


@dataclass(frozen=True, eq=False)
class HybridDiffusion(Composable):
    """Spectral ranking plus what it lacks by conjugate gradients, as exact as `Diffusion`; transductive.

    The larger the rank of `basis`, the fewer passes over the graph `normalised` (N, N) a query needs.
    """

    database: VectorDatabase
    normalised: scipy.sparse.csr_array
    basis: SpectralBasis
    seeds: int = 10
    gamma: float = 3.0
    alpha: float = 0.99
    iterations: int = 20
    limit: int | None = 1000

    def __post_init__(self) -> None:
        _check(self.seeds, self.gamma, self.alpha, self.iterations, self.limit)
        _check_nodes(self.database, self.normalised.shape[0])

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return _flow(self, self._scores, queries, ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The seeds, and which share of the score of `row` came from each."""
        return _shares(self, self._scores, queries.only(query), row, only(before, query))

    def _scores(self, y: scipy.sparse.csr_array) -> Float64:
        return hybrid_diffusion(self.normalised, y, self.basis, self.alpha, self.iterations)


@dataclass(frozen=True, eq=False)
class OfflineDiffusion(Composable):
    """Diffusion solved beforehand for every photo: a query is a sum of as many sparse rows as it has seeds; online.

    `solved` (N, N): from `resight.graph.offline.offline_diffusion`, which also fixes alpha.
    """

    database: VectorDatabase
    solved: scipy.sparse.csr_array
    seeds: int = 10
    gamma: float = 3.0
    limit: int | None = 1000

    def __post_init__(self) -> None:
        _check(self.seeds, self.gamma, 0.0, 1, self.limit)
        _check_nodes(self.database, self.solved.shape[0])

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return _flow(self, self._scores, queries, ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The seeds, and which share of the score of `row` came from each."""
        return _shares(self, self._scores, queries.only(query), row, only(before, query))

    def _scores(self, y: scipy.sparse.csr_array) -> Float64:
        return np.asarray((y @ self.solved).toarray())


def _seeds(stage: Any, queries: Queries, ranking: Ranking | None) -> scipy.sparse.csr_array:
    near = stage.database.candidates(queries, ranking, stage.seeds)
    return seed_matrix(near, len(stage.database), stage.gamma)


def _flow(stage: Any, scores: Flow, queries: Queries, before: Ranking | None) -> Ranking:
    """The answer of a stage whose `scores` turn seeds (Q, N) into scores (Q, N)."""
    f = scores(_seeds(stage, queries, before))
    order, levels = tie_order(np.arange(f.shape[1]), f)
    found = _reached(Ranking(order[:, : stage.limit], levels[:, : stage.limit].astype(np.float32)))
    return ahead_of(stage.database.in_rows(found), before)


def _reached(found: Ranking) -> Ranking:
    """Only the results with a score above 0."""
    ids = np.where(found.scores > 0, found.ids, -1)
    return Ranking(ids, np.where(ids >= 0, found.scores, -np.inf))


def _shares(stage: Any, scores: Flow, queries: Queries, row: int, before: Ranking | None) -> tuple[Evidence, ...]:
    """Diffusion is linear: each seed alone gives its part of a score."""
    name = type(stage).__name__
    y = _seeds(stage, queries, before)
    rows = stage.database.rows[y.indices]
    node = int(stage.database.nodes(row))
    alone = scipy.sparse.csr_array((y.data, y.indices, np.arange(y.nnz + 1)), shape=(y.nnz, y.shape[1]))
    parts = np.maximum(scores(alone)[:, node], 0.0) if node >= 0 and y.nnz else np.zeros(y.nnz)
    if not parts.sum() > 0:
        return (Evidence(name, "nothing flowed to it from the query's neighbours", {"seeds": rows.tolist()}),)
    shares = parts / parts.sum()
    best = int(np.argmax(shares))
    summary = f"its score flowed from {np.count_nonzero(parts)} neighbours of the query, {shares[best]:.0%} from one"
    data = {"seeds": rows.tolist(), "shares": shares.tolist(), "strongest": int(rows[best])}
    return (Evidence(name, summary, data),)


def _check(seeds: int, gamma: float, alpha: float, iterations: int, limit: int | None) -> None:
    if seeds < 1 or iterations < 1:
        raise UsageError(f"seeds={seeds} and iterations={iterations} must be at least 1")
    if not gamma > 0 or not 0 <= alpha < 1:
        raise UsageError(f"gamma={gamma} must be above 0 and alpha={alpha} at least 0 and below 1")
    checked_limit(limit)


def _check_nodes(database: VectorDatabase, nodes: int) -> None:
    if nodes != len(database):
        raise ArrayError(f"the graph has {nodes} nodes, the database {len(database)}: build it over the same")
