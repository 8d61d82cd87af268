"""Why right photos are missed: each that is not among the first R results of a query with R right ones, and its cause.

A right photo is missed because no search brought it before geometry, because geometry did not prove it, or because a
wrong photo counted for more although it was proven.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resight.arrays import Float64
from resight.evaluation.benchmark import Benchmark
from resight.evaluation.verdicts import JUNK, RIGHT, WRONG, judged, right_rows
from resight.types import Bool, Int64

NO_CANDIDATE, NOT_PROVEN, BEATEN = "no candidate", "not proven", "beaten by a false match"
CAUSES = (NO_CANDIDATE, NOT_PROVEN, BEATEN)


@dataclass(frozen=True, eq=False)
class Matched:
    """What geometry says of a query and photo `row` of the benchmark: matched points `ours`, `theirs` (m, 2) in pixels
    of the originals, the `inliers` (m,), and the `transform` (3, 3), None without proof.
    """

    row: int
    ours: Float64
    theirs: Float64
    inliers: Bool
    transform: Float64 | None


@dataclass(frozen=True)
class Miss:
    """Right photo `row` of query number `query`, which stands at place `rank` (from 1, junk not counted; 0 where it is
    not in the list at all), and one of `CAUSES`.
    """

    query: int
    row: int
    rank: int
    cause: str


@dataclass(frozen=True, eq=False)
class Misses:
    """All misses of an evaluation at one `level`, out of `right` right photos of all queries. `drawn`: by query number,
    the first wrong result and the first right photo that was missed, where both are listed.
    """

    level: str
    right: int
    found: tuple[Miss, ...]
    drawn: Mapping[int, tuple[Matched, Matched]]

    @property
    def sentence(self) -> str:
        """The counts in words."""
        counts = self.as_json()
        causes = ", ".join(f"{count} {cause}" for cause, count in counts["causes"].items())
        return f"{counts['missed']} of {self.right} right photos missed, in {counts['queries']} queries: {causes}"

    def as_json(self) -> dict[str, Any]:
        """How many photos were missed, why, and in how many queries."""
        causes = Counter(miss.cause for miss in self.found)
        return {
            "level": self.level,
            "right": self.right,
            "missed": len(self.found),
            "queries": len({miss.query for miss in self.found}),
            "causes": {cause: causes[cause] for cause in CAUSES},
        }


def missed(benchmark: Benchmark, level: str, query: int, ranked: Int64) -> tuple[Int64, Int64, int]:
    """The right rows of a query that are not among the first R of `ranked` (K,), junk left out, R being the number of
    right ones; their ranks from 1, 0 for those that are not listed; and the first wrong row, -1 where there is none.

    Those that stand highest come first, those that are not listed last.
    """
    verdicts = judged(benchmark, level, query, ranked)
    counted = ranked[verdicts != JUNK]
    right = right_rows(benchmark, level, query)
    is_right = verdicts[verdicts != JUNK] == RIGHT
    late = np.flatnonzero(is_right[len(right) :]) + len(right)
    unlisted = np.setdiff1d(right, counted)
    wrong = ranked[verdicts == WRONG]
    rows = np.concatenate([counted[late], unlisted]).astype(np.int64)
    ranks = np.concatenate([late + 1, np.zeros(len(unlisted), np.int64)])
    return rows, ranks, int(wrong[0]) if len(wrong) else -1
