"""What a collection is asked and what it answers: plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resight.matching.geometry import Verification
from resight.types import Box, Evidence, Float32, LocalFeatures, Queries


@dataclass(frozen=True, eq=False)
class Query:
    """One query: what it was asked as, its features in original pixels of the photo, its global descriptor where the
    recipe has one, and its row when it is indexed.
    """

    name: str
    path: str
    box: Box | None
    local: LocalFeatures
    row: int = -1
    vector: Float32 | None = None

    def queries(self) -> Queries:
        """As stages take it."""
        vectors = None if self.vector is None else self.vector[None]
        return Queries(local=(self.local,), vectors=vectors, rows=np.array([self.row]))


@dataclass(frozen=True, eq=False)
class Result:
    """One photo found. `score` counts standard deviations above unrelated photos, evidence of geometry included;
    `match`: the score passes the collection's threshold and, in recipes with local features, geometry proves it.
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


@dataclass(frozen=True, eq=False)
class Answer:
    """What a search found, best first. `confident`: at least one result is a match. `pending`: stored photos that are
    not searchable until `resight index` has finished. `seconds`: reading the query, and searching. `proof`: whether
    geometry can prove results, which takes local features.
    """

    query: Query
    results: tuple[Result, ...]
    threshold: float
    pending: int
    seconds: tuple[float, float]
    proof: bool = True

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
    """What a collection holds. Sizes in bytes; `missing`: photos whose file is gone from the disk. `vectors` global
    descriptors of `dim` dimensions; `whitening`: how they are whitened.
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
