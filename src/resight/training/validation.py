"""How good descriptors are: mean average precision of photos that were held back, through the index of searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resight.arrays import Float64
from resight.index.asmk import Asmk
from resight.index.exact import ExactIndex
from resight.precision import average_precision
from resight.training.data import Examples
from resight.types import Bool, Float32, Int64, LocalFeatures, Ranking

SHOWN = 8  # first results of a query that are kept


@dataclass(frozen=True, eq=False)
class Judged:
    """How well photos are found: the rows `queries` (Q,) that were searched for, the average `precision` (Q,) of each,
    and the `first` results (Q, n) as rows, best first, without the query; -1 where there are no more."""

    queries: Int64
    precision: Float64
    first: Int64

    @property
    def map(self) -> float:
        """Mean average precision; NaN where no query has any."""
        known = self.precision[~np.isnan(self.precision)]
        return float(known.mean()) if len(known) else float("nan")


def judged_vectors(examples: Examples, vectors: Float32) -> Judged:
    """Search for every photo that is a query of a pair, among all others, by descriptors (N, D). Those that are not
    finite find nothing: their precision is NaN."""
    queries = queries_of(examples)
    if not np.isfinite(vectors).all():
        return Judged(queries, np.full(len(queries), np.nan), np.full((len(queries), SHOWN), -1))
    return judged(examples, queries, ExactIndex.over(vectors).search(vectors[queries], len(vectors)))


def judged_local(examples: Examples, index: Asmk, features: Sequence[LocalFeatures]) -> Judged:
    """As `judged_vectors`, by local features of all N photos in an empty `index`."""
    queries = queries_of(examples)
    rows, descriptors = _stacked(features, np.arange(len(features)))
    index.add(rows, descriptors)
    asked, query_descriptors = _stacked([features[row] for row in queries], np.arange(len(queries)))
    ranking = index.search(asked, query_descriptors, len(features), queries=len(queries))
    return judged(examples, queries, ranking)


def queries_of(examples: Examples) -> Int64:
    """Rows (Q,) of the photos that are a query of a pair."""
    return np.unique(examples.pairs[:, 0])


def relevance(examples: Examples, queries: Int64, ids: Int64) -> tuple[Bool, Bool]:
    """Of results `ids` (Q, K), rows or -1, which are relevant: partners in pairs; and which do not count: the query
    itself, and photos of its cluster that no pair names, which may or may not show the same. Both (Q, K)."""
    partners = np.zeros((len(queries), len(examples)), bool)
    partners[np.searchsorted(queries, examples.pairs[:, 0]), examples.pairs[:, 1]] = True
    there = ids >= 0
    known = np.where(there, ids, 0)
    relevant = np.take_along_axis(partners, known, axis=1) & there
    doubtful = examples.clusters[known] == examples.clusters[queries][:, None]
    return relevant, there & doubtful & ~relevant


def judged(examples: Examples, queries: Int64, ranking: Ranking) -> Judged:
    """What the `ranking` of all photos for the photos `queries` (Q,) is worth. Memory: Q x N flags."""
    relevant, doubtful = relevance(examples, queries, ranking.ids)
    totals = np.bincount(np.searchsorted(queries, examples.pairs[:, 0]), minlength=len(queries))
    found = average_precision(relevant, totals, (ranking.ids >= 0) & ~doubtful)
    others = ranking.ids != queries[:, None]
    order = np.argsort(~others, axis=1, kind="stable")[:, :SHOWN]  # the query itself goes last
    first = np.take_along_axis(np.where(others, ranking.ids, -1), order, axis=1)
    return Judged(queries, found, first)


def _stacked(features: Sequence[LocalFeatures], rows: Int64) -> tuple[Int64, Float32]:
    descriptors = np.concatenate([one.descriptors for one in features])
    return np.repeat(rows, [len(one) for one in features]), descriptors
