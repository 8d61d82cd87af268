"""Stages that compose: `search = a % 400 >> b`, `0.7 * a + 0.3 * b`.

A stage is anything that takes queries and a ranking and gives back a ranking. `Composable` gives a class the operators;
a plain function joins in on the right of `>>`, or wrapped in `Pipeline((function,))`.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from resight.errors import UsageError
from resight.ties import tie_order
from resight.types import Evidence, Queries, Ranking, Stage

_log = logging.getLogger(__name__)


class Composable(ABC):
    """Gives a stage its operators: `>>` runs one after another, `% k` cuts, `*` and `+` weight and fuse scores."""

    @abstractmethod
    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking: ...

    def __rshift__(self, other: Stage) -> Pipeline:
        return Pipeline((*_parts(self), *_parts(other)))

    def __rrshift__(self, other: Stage) -> Pipeline:
        return Pipeline((*_parts(other), *_parts(self)))

    def __mod__(self, k: int) -> Pipeline:
        return Pipeline((*_parts(self), Cut(k)))

    def __mul__(self, weight: float) -> Fusion:
        return Fusion(((float(weight), _parts(self)[0] if len(_parts(self)) == 1 else Pipeline(_parts(self))),))

    def __rmul__(self, weight: float) -> Fusion:
        return self * weight

    def __add__(self, other: Stage) -> Fusion:
        return Fusion((*_terms(self), *_terms(other)))


def explain(stage: Stage, queries: Queries, query: int, row: int, before: Ranking | None) -> tuple[Evidence, ...]:
    """What `stage`, given ranking `before`, can say about result `row` of one query; nothing without `explain`."""
    method = getattr(stage, "explain", None)
    return () if method is None else tuple(method(queries, query, row, before))


def run_stage(stage: Stage, queries: Queries, ranking: Ranking | None) -> Ranking:
    """The answer of one stage; how long it took is logged."""
    started = time.perf_counter()
    answer = stage(queries, ranking)
    name, results = getattr(stage, "__name__", type(stage).__name__), int((answer.ids >= 0).sum())
    _log.debug("%s: %d results in %.1f ms", name, results, (time.perf_counter() - started) * 1e3)
    return answer


@dataclass(frozen=True)
class Pipeline(Composable):
    """Stages run one after another; the first one searches."""

    stages: tuple[Stage, ...]

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        for stage in self.stages:
            ranking = run_stage(stage, queries, ranking)
        if ranking is None:
            raise UsageError("an empty pipeline gives no ranking: put a search stage first")
        return ranking

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The evidence of every stage, in their order; answers the one query again to know what each stage saw."""
        one, ranking = queries.only(query), None if before is None else _row(before, query)
        found: tuple[Evidence, ...] = ()
        for position, stage in enumerate(self.stages):
            found += explain(stage, one, 0, row, ranking)
            if position + 1 < len(self.stages):
                ranking = stage(one, ranking)
        return found


@dataclass(frozen=True)
class Cut(Composable):
    """Keep the first `k` results of every query. Raises `UsageError` unless k is at least 1."""

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"a ranking cannot be cut to {self.k} results: at least 1 is needed")

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return need(ranking, "a cut").top(self.k)


@dataclass(frozen=True)
class Fusion(Composable):
    """Weighted sum of the scores of several stages, which all get the same queries and ranking.

    A row that one stage did not return counts there with the lowest score that this stage gave the query. Equal sums
    are ordered by row.
    """

    terms: tuple[tuple[float, Stage], ...]

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        parts = [(weight, stage(queries, ranking)) for weight, stage in self.terms]
        ids, scores = [], []
        for q in range(len(queries)):
            rows, total = _fuse([(weight, part.ids[q], part.scores[q]) for weight, part in parts])
            ids.append(rows)
            scores.append(total)
        return Ranking.from_lists(ids, scores)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The evidence of every term, in their order."""
        return tuple(evidence for _, stage in self.terms for evidence in explain(stage, queries, query, row, before))


def need(ranking: Ranking | None, stage: str) -> Ranking:
    """`ranking`, or `UsageError` when `stage` was put first."""
    if ranking is None:
        raise UsageError(f"{stage} needs a ranking: put a search stage before it")
    return ranking


def reorder(rows: Any, scores: Any, scale: float = 0.0, *, ties: bool = True) -> tuple[Any, Any]:
    """Rows (n,) and scores (n,) best first, ties by row and at one score; `scale` as for `resight.ties.tie_order`.

    `ties=False`: only equal scores are ties, for scores that state an order instead of a measurement.
    """
    if not ties:
        exact = np.lexsort((rows, -np.asarray(scores)))
        return np.asarray(rows)[exact], np.asarray(scores, np.float32)[exact]
    order, levels = tie_order(rows, scores, scale)
    return np.asarray(rows)[order], levels.astype(np.float32)


def _fuse(parts: list[tuple[float, Any, Any]]) -> tuple[Any, Any]:
    found = [(weight, ids[ids >= 0], scores[ids >= 0]) for weight, ids, scores in parts]
    rows = np.unique(np.concatenate([ids for _, ids, _ in found]))
    total = np.zeros(len(rows))
    for weight, ids, scores in found:
        if len(ids):
            values = np.full(len(rows), scores.min(), np.float64)
            values[np.searchsorted(rows, ids)] = scores
            total += weight * values
    return reorder(rows, total)


def _row(ranking: Ranking, query: int) -> Ranking:
    return Ranking(ranking.ids[query : query + 1], ranking.scores[query : query + 1])


def _parts(stage: Stage) -> tuple[Stage, ...]:
    if isinstance(stage, Pipeline):
        return stage.stages
    if not callable(stage):
        raise UsageError(f"{stage!r} is not a stage: it must take queries and a ranking")
    return (stage,)


def _terms(stage: Stage) -> tuple[tuple[float, Stage], ...]:
    return stage.terms if isinstance(stage, Fusion) else ((1.0, stage),)
