"""What a collection is asked and what it answers: plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resight.matching.geometry import Verification
from resight.ranking.confidence import LEAST_THRESHOLD
from resight.ranking.verification import evidence
from resight.types import Box, Evidence, Float32, Int64, LocalFeatures, Queries


@dataclass(frozen=True, eq=False)
class Query:
    """One query: what it was asked as, its features in original pixels of the photo, its global descriptor where the
    recipe has one, `more` kinds of local features by key, its row when it is asked for by id, and the rows (n,)
    ascending of photos with the same content.
    """

    name: str
    path: str
    box: Box | None
    local: LocalFeatures
    row: int = -1
    vector: Float32 | None = None
    copies: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    more: Mapping[str, LocalFeatures] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether it has neither local features nor a global descriptor to compare."""
        return (
            not any(map(len, (self.local, *self.more.values())))
            and (self.vector is None or not self.vector.any())
            and not len(self.copies)
        )

    def queries(self) -> Queries:
        """As stages take it; a photo of the collection neither enriches itself nor is its own neighbour."""
        vectors = None if self.vector is None else self.vector[None]
        row = self.row if self.row >= 0 or not len(self.copies) else int(self.copies[0])
        more = {key: (features,) for key, features in self.more.items()}
        photos = ((self.path, self.box),)
        return Queries(local=(self.local,), vectors=vectors, rows=np.array([row]), more=more, photos=photos)


@dataclass(frozen=True, eq=False)
class Result:
    """One photo found. `score` counts standard deviations above unrelated photos, evidence of geometry included;
    `match`: it passes the answer's `MatchRule`.
    `path` opens the file. `verification`: None behind the candidates that were verified, and without local features.
    """

    rank: int
    id: str
    row: int
    path: str
    score: float
    match: bool
    verification: Verification | None

    @property
    def inliers(self) -> int:
        """Features that one transform of the query explains; 0 where nothing is proven."""
        return self.verification.inliers if self.verification is not None and self.verification.verified else 0


@dataclass(frozen=True)
class MatchRule:
    """When a result surely shows the same thing: its score reaches `threshold` and, where the collection keeps local
    features (`proof`), geometry proves it against the query itself. What expansion adds to a score proves nothing,
    since its sources may be wrong: the result's own score, or the evidence of its geometry, must reach the threshold as
    well. Recipes whose scores have no threshold (None) ask geometry for more; without local features they cannot tell.
    """

    threshold: float | None
    proof: bool

    def __call__(self, score: float, verification: Verification | None, own: float | None = None) -> bool:
        """Whether a result of this score and verification is a match; `own`: its score before expansion, where that is
        another.
        """
        if self.threshold is not None and not score >= self.threshold:
            return False
        if not self.proof:
            return self.threshold is not None
        if verification is None or not verification.verified:
            return False
        if self.threshold is None:
            return evidence(verification) >= LEAST_THRESHOLD
        return own is None or max(own, evidence(verification)) >= self.threshold

    def __str__(self) -> str:
        if self.threshold is None:
            return "proof by geometry needed" if self.proof else "this recipe ranks without saying what is a match"
        more = " and proof by geometry needed" if self.proof else " needed; there are no local features for proof"
        return f"score {self.threshold:.1f}{more}"


@dataclass(frozen=True, eq=False)
class Answer:
    """What a search found, best first. `confident`: at least one result is a match. `pending`: stored photos that are
    not searchable until `resight index` has finished. `calibrated`: whether it is known what unrelated photos score.
    `seconds`: reading the query, and searching. `cut`: how many candidates geometry had looked at when the time for
    that was over, None where it looked at all; results behind these have no verification.
    `origins`: of several queries, the one that found a result, by its row, where it is not `query`. `absent`: shards of
    the collection that were gone, whose photos are not among the results.
    """

    query: Query
    results: tuple[Result, ...]
    rule: MatchRule
    pending: int
    calibrated: bool
    seconds: tuple[float, float]
    cut: int | None = None
    origins: Mapping[int, Query] = field(default_factory=dict)
    absent: tuple[str, ...] = ()

    def found_by(self, result: Result) -> Query:
        """The query whose score and verification `result` has."""
        return self.origins.get(result.row, self.query)

    @property
    def confident(self) -> bool:
        """Whether anything was found that surely shows the same thing."""
        return any(result.match for result in self.results)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why one photo answers a query: the result, and the evidence of every stage."""

    query: Query
    result: Result
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class Info:
    """What a collection holds. Sizes in bytes; `missing`: photos whose file is gone from the disk. `features`, `words`
    and `index_bytes` of all `kinds` of local features together, of which each has its own. `vectors` global descriptors
    of `dim` dimensions; `whitening`: how they are whitened. `memory_per_million` and `disk_per_million`: bytes of the
    indexes that searches hold, and of all files, for a million photos like these. `bytes_per_image`: of these indexes,
    for one photo. `parts`: for each part that is there the bytes of its files (`disk`) and in memory once a search has
    loaded it (`memory`), and both for one photo (`disk_per_photo`, `memory_per_photo`).
    """

    path: str
    photos: int
    broken: int
    features: int
    words: int
    binary: bool
    index_bytes: int
    bytes_per_image: float
    threshold: float
    pending: int
    missing: int
    recipe: str
    parameters: Mapping[str, Any]
    created: str
    vectors: int = 0
    dim: int = 0
    whitening: str = "none"
    kinds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    memory_per_million: float = 0.0
    disk_per_million: float = 0.0
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
