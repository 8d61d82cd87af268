"""First stages: queries to a ranking of the whole database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from resight.errors import UsageError
from resight.index.asmk import Asmk
from resight.ranking.pipeline import Composable, explain, need
from resight.ranking.query_words import bags
from resight.types import Evidence, Float32, Int64, LocalFeatures, Queries, Ranking, Stage


class Scale(Protocol):
    """Turns similarities into standard deviations above those of unrelated photos."""

    def standardise(self, similarity: Any) -> Any: ...


class VectorIndex(Protocol):
    """Nearest neighbours by inner product: `resight.index.exact`, `resight.index.approximate`."""

    def __len__(self) -> int: ...

    def search(self, queries: Any, k: int, allowed: Any = None) -> Ranking: ...


@dataclass(frozen=True, eq=False)
class AsmkSearch(Composable):
    """Rank the database by the selective match kernel of the queries' local features (`resight.index.asmk`).

    `allowed`: ascending rows that may be returned, (n,) int64; None for all. `kind`: key of the local features, "" for
    those that verify. Online: an unseen query needs one pass over the postings of its words. Scores lie in [0, 1] but
    for multiple assignment, which can exceed 1 a little.
    """

    index: Asmk
    allowed: Int64 | None = None
    kind: str = ""

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        if ranking is not None:
            raise UsageError("AsmkSearch searches the whole database: put it first, other stages behind it")
        local = local_features(queries, self.kind)
        found = self.index.search_aggregated(bags(self.index, local, range(len(local))), queries=len(local))
        return restrict(found, self.allowed)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The kernel score of result `row`, and its rank in this stage."""
        ranking = self(queries.only(query), before)
        place = np.flatnonzero(ranking.ids[0] == row)
        if not len(place):
            return (Evidence("AsmkSearch", f"its {self._features} share no visual word with the query", {}),)
        rank, score = int(place[0]) + 1, float(ranking.scores[0, place[0]])
        summary = f"{self._features} alone put it at rank {rank} of {len(ranking.ids[0])}, similarity {score:.3f}"
        return (Evidence("AsmkSearch", summary, {"rank": rank, "similarity": score}),)

    @property
    def _features(self) -> str:
        return f"{self.kind} features" if self.kind else "local features"


@dataclass(frozen=True, eq=False)
class GlobalSearch(Composable):
    """Rank the database by the inner product of global descriptors.

    `scale`: standardises the scores; None leaves the inner products. `allowed`: ascending rows that may be returned,
    (n,) int64; None for all. `top`: how many, None for all. Online: one search in the index.
    """

    index: VectorIndex
    scale: Scale | None = None
    allowed: Int64 | None = None
    top: int | None = None

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        if ranking is not None:
            raise UsageError("GlobalSearch searches the whole database: put it first, other stages behind it")
        count = max(len(self.index), 1)
        found = self.index.search(global_vectors(queries), min(self.top or count, count), self.allowed)
        return found if self.scale is None else Ranking(found.ids, self.scale.standardise(found.scores))

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The cosine of result `row` and its rank in this stage."""
        found = self.index.search(global_vectors(queries)[query : query + 1], max(len(self.index), 1), self.allowed)
        place = np.flatnonzero(found.ids[0] == row)
        if not len(place):
            return (Evidence("GlobalSearch", "it has no global descriptor", {}),)
        rank, cosine = int(place[0]) + 1, float(found.scores[0, place[0]])
        summary = f"the photo as a whole puts it at rank {rank} of {len(found.ids[0])}, cosine {cosine:.3f}"
        return (Evidence("GlobalSearch", summary, {"rank": rank, "cosine": cosine}),)


@dataclass(frozen=True, eq=False)
class Standardise(Composable):
    """Scores in standard deviations above unrelated photos, so that those of two searches can be added."""

    scale: Scale

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        ranking = need(ranking, "Standardise")
        return Ranking(ranking.ids, self.scale.standardise(ranking.scores))


@dataclass(frozen=True, eq=False)
class Filter(Composable):
    """Keep the results in `allowed`, ascending rows (n,) int64, in their order."""

    allowed: Int64

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return restrict(need(ranking, "Filter"), self.allowed)


@dataclass(frozen=True, eq=False)
class SearchAgain(Composable):
    """A stage that searches, in the middle of a pipeline: it does not look at the ranking so far."""

    stage: Stage

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return self.stage(queries, None)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """What the stage itself says."""
        return explain(self.stage, queries, query, row, None)


@dataclass(frozen=True, eq=False)
class Describe(Composable):
    """`stage`, given queries whose global descriptors (Q, D) `describe` makes of them; online."""

    describe: Callable[[Queries], Float32]
    stage: Stage

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return self.stage(self._described(queries), ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """What the stage itself says."""
        return explain(self.stage, self._described(queries), query, row, before)

    def _described(self, queries: Queries) -> Queries:
        return replace(queries, vectors=self.describe(queries))


def global_vectors(queries: Queries) -> Float32:
    """The global descriptors of `queries`, (Q, D). Raises `UsageError` when they carry none."""
    if queries.vectors is None:
        raise UsageError("these queries carry no global descriptors: describe them with the collection's network first")
    return queries.vectors


def local_features(queries: Queries, kind: str = "") -> tuple[LocalFeatures, ...]:
    """The local features of `queries`, or those of a further `kind`. Raises `UsageError` when they carry none."""
    if kind:
        if kind not in queries.more:
            raise UsageError(
                f"these queries carry no {kind} features: extract them with the collection's encoders first"
            )
        return queries.more[kind]
    if queries.local is None:
        raise UsageError("these queries carry no local features: extract them with the collection's encoder first")
    return queries.local


def stack(local: tuple[LocalFeatures, ...], dim: int) -> tuple[Int64, np.ndarray]:
    """Descriptors of all images in one array (n, dim) and the number of the image of each, (n,) int64."""
    rows = np.repeat(np.arange(len(local)), [len(features) for features in local])
    if not len(rows):
        return rows, np.empty((0, dim), np.float32)
    return rows, np.concatenate([features.descriptors for features in local if len(features)])


def restrict(ranking: Ranking, allowed: Int64 | None) -> Ranking:
    """The results whose rows are in `allowed`, in their order."""
    if allowed is None:
        return ranking
    kept = np.isin(ranking.ids, allowed)
    order = np.argsort(~kept, axis=1, kind="stable")[:, : int(kept.sum(axis=1).max(initial=0))]
    ids = np.where(np.take_along_axis(kept, order, 1), np.take_along_axis(ranking.ids, order, 1), -1)
    return Ranking(ids, np.where(ids >= 0, np.take_along_axis(ranking.scores, order, 1), -np.inf))
