"""Re-ranking by a learned similarity of global descriptors (`resight.matching.similarity`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from resight.errors import ArrayError, UsageError
from resight.ranking.pipeline import Composable, Pipeline, need, reorder
from resight.ranking.search import GlobalSearch, VectorIndex, global_vectors
from resight.types import Evidence, Float32, Int64, Queries, Ranking, as_array


class PairScorer(Protocol):
    """What scores pairs of descriptors: `DeepSimilarity`, `Oasis`."""

    @property
    def dim(self) -> int: ...

    def score(self, queries: Any, vectors: Any) -> Float32: ...


@dataclass(frozen=True, eq=False)
class SimilarityRerank(Composable):
    """Order the first `top` results of every query by a learned similarity.

    `rows` (N,) int64, ascending, and `vectors` (N, D) float32: the database's descriptors by row, as
    `Collection.vectors` gives them. Nothing is dropped: results behind `top` keep their order behind the others, with
    scores moved down where they would pass them. Online: a query needs `top` descriptors. Raises `UsageError` for
    queries without vectors, and for results without a descriptor, `ArrayError` for shapes that do not fit.
    """

    similarity: PairScorer
    rows: Int64
    vectors: Float32
    top: int = 1000

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"top={self.top}: at least one result must be scored")
        rows = as_array("rows", self.rows, np.int64, (None,))
        vectors = as_array("vectors", self.vectors, np.float32, (len(rows), self.similarity.dim))
        if (np.diff(rows) <= 0).any():
            raise ArrayError("rows must ascend, each named once")
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "vectors", vectors)

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        ranking = need(ranking, "SimilarityRerank")
        ids, scores = ranking.ids.copy(), ranking.scores.copy()
        for q, query in enumerate(_vectors(queries, self.similarity.dim)):
            found = ids[q, : self.top][ids[q, : self.top] >= 0]
            if len(found):
                head, tail = slice(0, len(found)), slice(len(found), int((ids[q] >= 0).sum()))
                ids[q, head], scores[q, head] = reorder(found, self._score(query[None], found))
                scores[q, tail] = _below(scores[q, tail], scores[q, head].min())
        return Ranking(ids, scores)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The learned similarity of query and result `row`, and their inner product."""
        vector = _vectors(queries, self.similarity.dim)[query : query + 1]
        score = float(self._score(vector, np.array([row]))[0])
        product = float(vector[0] @ self.vectors[np.searchsorted(self.rows, row)])
        summary = f"learned similarity {score:.3f}, inner product of the descriptors {product:.3f}"
        return (Evidence("SimilarityRerank", summary, {"similarity": score, "product": product}),)

    def _score(self, query: Float32, found: Int64) -> Float32:
        places = np.searchsorted(self.rows, found)
        known = places < len(self.rows)
        known[known] = self.rows[places[known]] == found[known]
        if not known.all():
            raise UsageError(f"row {found[~known][0]} has no descriptor to compare: rank photos that have one")
        scores: Float32 = self.similarity.score(query, self.vectors[places])[0]
        return scores


def _below(scores: Float32, ceiling: Any) -> Float32:
    """Descending `scores`, all moved down alike until none is above `ceiling`."""
    if not len(scores) or scores[0] <= ceiling:
        return scores
    return np.asarray(np.minimum(scores - (scores[0] - ceiling), ceiling), np.float32)  # the sum may round up


def deep_similarity(
    index: VectorIndex,
    similarity: PairScorer,
    rows: Int64,
    vectors: Float32,
    *,
    top: int = 1000,
    allowed: Int64 | None = None,
) -> Pipeline:
    """Nearest neighbours by inner product, the first `top` ordered again by a learned similarity.

    `rows` and `vectors` as for `SimilarityRerank`. With `top` as large as the database every photo is scored, as in the
    paper. `allowed`: rows that may be returned, ascending; None for all.
    """
    return Pipeline((GlobalSearch(index, allowed=allowed), SimilarityRerank(similarity, rows, vectors, top)))


def _vectors(queries: Queries, dim: int) -> Float32:
    vectors = global_vectors(queries)
    if vectors.shape[1] != dim:
        raise ArrayError(f"queries have {vectors.shape[1]} dimensions, the similarity was trained on {dim}")
    return vectors
