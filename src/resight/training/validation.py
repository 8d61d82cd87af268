"""How good descriptors are: mean average precision of photos that were held back, through the index of searches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resight.arrays import Float64
from resight.index.asmk import Asmk
from resight.index.exact import ExactIndex
from resight.precision import average_precision
from resight.training.data import Examples
from resight.types import Float32, Int64, LocalFeatures, Ranking


def vector_precision(examples: Examples, vectors: Float32) -> Float64:
    """Average precision (Q,) of every photo that is a query of a pair, among all others, by descriptors (N, D)."""
    queries = np.unique(examples.pairs[:, 0])
    return precision_of(examples, queries, ExactIndex.over(vectors).search(vectors[queries], len(vectors)))


def local_precision(examples: Examples, index: Asmk, features: Sequence[LocalFeatures]) -> Float64:
    """As `vector_precision`, by local features of all N photos in an empty `index`."""
    queries = np.unique(examples.pairs[:, 0])
    rows, descriptors = _stacked(features, np.arange(len(features)))
    index.add(rows, descriptors)
    asked, query_descriptors = _stacked([features[row] for row in queries], np.arange(len(queries)))
    ranking = index.search(asked, query_descriptors, len(features), queries=len(queries))
    return precision_of(examples, queries, ranking)


def precision_of(examples: Examples, queries: Int64, ranking: Ranking) -> Float64:
    """Average precision (Q,) of the photos `queries` (Q,), ranked among all. Relevant are their partners in pairs; the
    query itself, and photos of its cluster that no pair names, which may or may not show the same, do not count."""
    count = len(examples)
    partners = np.zeros((len(queries), count), bool)
    place = np.searchsorted(queries, examples.pairs[:, 0])
    partners[place, examples.pairs[:, 1]] = True
    there = ranking.ids >= 0
    ids = np.where(there, ranking.ids, 0)
    relevant = np.take_along_axis(partners, ids, axis=1) & there
    doubtful = examples.clusters[ids] == examples.clusters[queries][:, None]
    found: Float64 = average_precision(relevant, partners.sum(axis=1), there & (relevant | ~doubtful))
    return found


def _stacked(features: Sequence[LocalFeatures], rows: Int64) -> tuple[Int64, Float32]:
    descriptors = np.concatenate([one.descriptors for one in features])
    return np.repeat(rows, [len(one) for one in features]), descriptors
