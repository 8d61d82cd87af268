"""Asks geometry, while an evaluation runs, about the right photos that a ranking missed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resight.errors import UsageError
from resight.evaluation.experiment import Result, System, Task
from resight.evaluation.misses import BEATEN, NO_CANDIDATE, NOT_PROVEN, Matched, Miss, Misses, missed
from resight.evaluation.verdicts import right_rows, shown_level
from resight.matching.geometry import Verification
from resight.ranking.pipeline import need
from resight.ranking.search import local_features
from resight.ranking.verification import SpatialRerank, Verifier
from resight.types import Bool, Int64, LocalFeatures, Queries, Ranking, Stage


class Witness:
    """A last stage that changes nothing and asks geometry about what the ranking missed, while it remembers the query.

    It sees the queries of `task` in their order.
    """

    name = "misses"

    def __init__(self, task: Task, verifier: Verifier, level: str) -> None:
        """`verifier`: of the recipe; `level`: whose right photos count."""
        self.task, self.verifier, self.level = task, verifier, level
        images = len(task.benchmark.images)
        self.known = np.arange(images) if task.rows is None else task.rows
        self.held = np.full(images, -1, np.int64)  # database row of every benchmark row
        self.held[self.known[self.known >= 0]] = np.flatnonzero(self.known >= 0)
        self.places: list[tuple[Int64, Int64]] = []  # of every query: rows that were missed, their ranks
        self.proven: list[Bool] = []
        self.drawn: dict[int, tuple[Matched, Matched]] = {}

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        """`ranking` as it is. Memory: the matches of two photos per query."""
        ranking = need(ranking, "misses")
        for query, ids in zip(local_features(queries), ranking.ids, strict=True):
            self._look(query, self.known[ids[ids >= 0]])
        return ranking

    def _look(self, query: LocalFeatures, ranked: Int64) -> None:
        """Ask about what `ranked` (K,) rows of the benchmark, the answer of the next query, lack."""
        number = len(self.places)
        rows, ranks, rival = missed(self.task.benchmark, self.level, number, ranked)
        there = ranks > 0  # what is not in the list may have no features at all
        found = self.verifier(query, self.held[rows[there]])
        proven = np.zeros(len(rows), bool)
        proven[there] = [one.verified for one in found]
        self.places.append((rows, ranks))
        self.proven.append(proven)
        if found and rival >= 0:
            wrong = self.verifier(query, self.held[[rival]])[0]
            right = self._matched(query, int(rows[there][0]), found[0])
            self.drawn[number] = (self._matched(query, rival, wrong), right)

    def _matched(self, query: LocalFeatures, row: int, one: Verification) -> Matched:
        theirs = self.verifier.features(self.held[[row]])[0]
        a, b = one.correspondences.T
        transform = one.transform if one.verified else None
        return Matched(row, query.xy[a].astype(np.float64), theirs.xy[b].astype(np.float64), one.mask, transform)


def witness(task: Task, system: System, recipe: str) -> Witness:
    """A witness for the stages of `system`. Raises `UsageError` when none of them verifies by geometry."""
    rerank = next((stage for stage in system.stages if isinstance(stage, SpatialRerank)), None)
    if rerank is None:
        raise UsageError(f"recipe {recipe} proves nothing by geometry: --failures needs one that does, such as classic")
    return Witness(task, rerank.verifier, shown_level(task.benchmark))


def explained(seen: Witness, results: Sequence[Result], stages: Sequence[Stage]) -> Misses:
    """The misses that a witness saw, with their causes. `results`: after each of `stages`, in benchmark rows."""
    looked = [
        (before.ranking.ids, stage.top)
        for before, stage in zip(results, stages[1:], strict=False)
        if isinstance(stage, SpatialRerank) and before.ranking is not None
    ]
    found: list[Miss] = []
    for query, ((rows, ranks), proven) in enumerate(zip(seen.places, seen.proven, strict=True)):
        candidates = np.unique(np.concatenate([ids[query, :top] for ids, top in looked]))
        for row, rank, proof in zip(rows.tolist(), ranks.tolist(), proven.tolist(), strict=True):
            cause = NO_CANDIDATE if row not in candidates else BEATEN if proof else NOT_PROVEN
            found.append(Miss(query, row, rank, cause))
    benchmark = seen.task.benchmark
    right = sum(len(right_rows(benchmark, seen.level, query)) for query in range(len(benchmark.queries)))
    return Misses(seen.level, right, tuple(found), seen.drawn)
