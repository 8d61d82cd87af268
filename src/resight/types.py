"""The few types that every layer shares: plain arrays, validated on construction.

Rows are integers that stand for photos of one collection; strings (photo ids) live at the edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from resight.arrays import Bool, Float32, Int64, as_array
from resight.errors import ArrayError, ImageError, UsageError

__all__ = [
    "Bool",
    "Box",
    "Encoder",
    "Evidence",
    "Float32",
    "Int64",
    "KnnGraph",
    "LocalFeatures",
    "Queries",
    "Ranking",
    "Searcher",
    "Stage",
    "Traits",
    "as_array",
]


def _set(instance: object, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(instance, name, value)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranked database rows per query, best first.

    `ids` (Q, K) int64 rows of the collection, `scores` (Q, K) float32. Entries past a query's last result hold id -1
    and score -inf. Raises `ArrayError` on unequal shapes, NaN scores, ids below -1, padding before a result,
    a repeated id, or scores that rise along a row.
    """

    ids: Int64
    scores: Float32

    def __post_init__(self) -> None:
        ids = as_array("Ranking.ids", self.ids, np.int64, (None, None))
        scores = as_array("Ranking.scores", self.scores, np.float32, ids.shape)
        _check_padding("Ranking", ids, scores)
        if ids.shape[1] > 1:
            rising = np.flatnonzero((scores[:, 1:] > scores[:, :-1]).any(axis=1))
            if rising.size:
                raise ArrayError(f"Ranking.scores of query {rising[0]} are not sorted best first")
            ordered = np.sort(ids, axis=1)
            repeated = np.flatnonzero(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1))
            if repeated.size:
                raise ArrayError(f"Ranking.ids of query {repeated[0]} name the same row twice")
        _set(self, ids=ids, scores=scores)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Int64:
        """Number of results per query, (Q,) int64."""
        return np.asarray((self.ids >= 0).sum(axis=1), np.int64)

    def top(self, k: int) -> Ranking:
        """The first `k` results of every query."""
        if k < 1:
            raise UsageError(f"a ranking cannot be cut to {k} results: at least 1 is needed")
        return Ranking(self.ids[:, :k], self.scores[:, :k])

    @staticmethod
    def from_lists(ids: Sequence[Any], scores: Sequence[Any]) -> Ranking:
        """Pad per-query id and score sequences of unequal length into one ranking."""
        width = max((len(row) for row in ids), default=0)
        padded_ids = np.full((len(ids), width), -1, np.int64)
        padded_scores = np.full((len(ids), width), -np.inf, np.float32)
        for q, (row, score) in enumerate(zip(ids, scores, strict=True)):
            padded_ids[q, : len(row)] = row
            padded_scores[q, : len(row)] = score
        return Ranking(padded_ids, padded_scores)


@dataclass(frozen=True, eq=False)
class KnnGraph:
    """Neighbours of every node, best first, self excluded.

    `ids` (N, k) int32 (int64 when given so), `weights` (N, k) float32: inner products, or inlier counts for a verified
    graph. Missing neighbours hold -1 / -inf. Raises `ArrayError` as `Ranking` does, but weights need not be sorted.
    """

    ids: NDArray[Any]
    weights: Float32

    def __post_init__(self) -> None:
        wide = np.asarray(self.ids).dtype == np.int64
        ids = as_array("KnnGraph.ids", self.ids, np.int64 if wide else np.int32, (None, None))
        weights = as_array("KnnGraph.weights", self.weights, np.float32, ids.shape)
        _check_padding("KnnGraph", ids, weights)
        _set(self, ids=ids, weights=weights)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def k(self) -> int:
        """Number of neighbour slots per node."""
        return int(self.ids.shape[1])


def _check_padding(owner: str, ids: NDArray[Any], scores: Float32) -> None:
    if (ids < -1).any():
        raise ArrayError(f"{owner}.ids hold {ids.min()}: rows start at 0, and -1 marks the end of a list")
    if np.isnan(scores).any():
        raise ArrayError(f"{owner} holds NaN for row {np.argwhere(np.isnan(scores))[0][0]}")
    if ids.shape[1] > 1 and ((ids[:, 1:] >= 0) & (ids[:, :-1] < 0)).any():
        raise ArrayError(f"{owner}.ids hold a result behind the end mark -1")
    if not np.array_equal(ids < 0, np.isneginf(scores)):
        raise ArrayError(f"{owner}: id -1 and score -inf must stand together")


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """Local features of one image, strongest first.

    `xy` (n, 2) float32 original pixels, where the centre of the top-left pixel is (0.5, 0.5); `scale` (n,) float32
    pixels; `angle` (n,) float32 radians, 0 where upright; `strength` (n,) float32 descending; `descriptors` (n, d)
    float32. Raises `ArrayError` on unequal lengths, values that are not finite, or strengths that rise.
    """

    xy: Float32
    scale: Float32
    angle: Float32
    strength: Float32
    descriptors: Float32

    def __post_init__(self) -> None:
        xy = as_array("LocalFeatures.xy", self.xy, np.float32, (None, 2))
        n = len(xy)
        one = {
            name: as_array(f"LocalFeatures.{name}", getattr(self, name), np.float32, (n,))
            for name in ("scale", "angle", "strength")
        }
        descriptors = as_array("LocalFeatures.descriptors", self.descriptors, np.float32, (n, None))
        _set(self, xy=xy, descriptors=descriptors, **one)
        for part in fields(self):
            if not np.isfinite(getattr(self, part.name)).all():
                raise ArrayError(f"LocalFeatures.{part.name} holds NaN or infinity")
        if n > 1 and (np.diff(one["strength"]) > 0).any():
            raise ArrayError("LocalFeatures.strength must descend: sort the features strongest first")

    def __len__(self) -> int:
        return len(self.xy)

    @property
    def dim(self) -> int:
        """Descriptor dimension d."""
        return int(self.descriptors.shape[1])

    def scaled(self, factor: float) -> LocalFeatures:
        """The features as seen in an image `factor` times as large. With the half-pixel rule that is a product."""
        return replace(self, xy=self.xy * np.float32(factor), scale=self.scale * np.float32(factor))

    def select(self, index: Any) -> LocalFeatures:
        """The features at `index` (an integer or boolean array, or a slice), in that order."""
        return LocalFeatures(
            self.xy[index], self.scale[index], self.angle[index], self.strength[index], self.descriptors[index]
        )


@dataclass(frozen=True)
class Box:
    """A rectangle in original pixels: left, top, width, height. Raises `UsageError` unless both sides are positive."""

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        if not all(np.isfinite((self.x, self.y, self.width, self.height))):
            raise UsageError(f"box {self} is not finite")
        if self.width <= 0 or self.height <= 0:
            raise UsageError(f"box {self} is empty: width and height must be positive")

    def __str__(self) -> str:
        return f"{self.x:g},{self.y:g},{self.width:g},{self.height:g}"

    @staticmethod
    def parse(text: str) -> Box:
        """Read `x,y,w,h`. Raises `UsageError` when it is anything else."""
        try:
            x, y, width, height = (float(part) for part in text.split(","))
        except ValueError as error:
            raise UsageError(f"box {text!r} is not of the form x,y,w,h: give four numbers, in pixels") from error
        return Box(x, y, width, height)

    def inside(self, width: int, height: int) -> Box:
        """This box cut to an image of that size. Raises `UsageError` when nothing of it lies inside."""
        left, top = max(self.x, 0.0), max(self.y, 0.0)
        right, bottom = min(self.x + self.width, float(width)), min(self.y + self.height, float(height))
        if right - left < 1 or bottom - top < 1:
            raise UsageError(f"box {self} lies outside the image, which is {width} x {height} pixels")
        return Box(left, top, right - left, bottom - top)


@dataclass(frozen=True, eq=False)
class Queries:
    """What the stages of a pipeline may need to know of Q queries; what is absent is None.

    `local`: features of each query, of the kind that verifies; `more`: those of every further kind that the collection
    keeps, by name. `vectors`: (Q, D) float32 global descriptors. `rows`: (Q,) int64 database rows of
    queries that are database photos themselves, -1 for unseen ones. `photos`: path and box of each, for stages that
    describe queries in a way of their own. Raises `ArrayError` on unequal lengths.
    """

    local: tuple[LocalFeatures, ...] | None = None
    vectors: Float32 | None = None
    rows: Int64 | None = None
    more: Mapping[str, tuple[LocalFeatures, ...]] = field(default_factory=dict)
    photos: tuple[tuple[str, Box | None], ...] | None = None

    def __post_init__(self) -> None:
        if self.local is not None:
            _set(self, local=tuple(self.local))
        if self.vectors is not None:
            _set(self, vectors=as_array("Queries.vectors", self.vectors, np.float32, (None, None)))
        if self.rows is not None:
            _set(self, rows=as_array("Queries.rows", self.rows, np.int64, (None,)))
        parts = (self.local, self.vectors, self.rows, self.photos, *self.more.values())
        lengths = {len(part) for part in parts if part is not None}
        if len(lengths) != 1:
            raise ArrayError(f"Queries need parts of one length, got lengths {sorted(lengths)}")

    def __len__(self) -> int:
        return next(len(part) for part in (self.local, self.vectors, self.rows) if part is not None)

    def only(self, query: int) -> Queries:
        """One of the queries, alone."""
        return Queries(
            None if self.local is None else self.local[query : query + 1],
            None if self.vectors is None else self.vectors[query : query + 1],
            None if self.rows is None else self.rows[query : query + 1],
            {kind: features[query : query + 1] for kind, features in self.more.items()},
            None if self.photos is None else self.photos[query : query + 1],
        )


@dataclass(frozen=True)
class Evidence:
    """Why one stage put one result where it is: a sentence for people, numbers and arrays for pictures."""

    stage: str
    summary: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Traits:
    """What the local features of one encoder tell, so that matching asks no more of them.

    `normalised`: descriptors have unit norm. `oriented`: angles are measured. `scaled`: scales are measured sizes of
    patches. `cell`: how far off a position may be, in the pixels that the encoder was given: about 1 for key points,
    the stride of the network for cells of its maps.
    """

    normalised: bool = True
    oriented: bool = True
    scaled: bool = True
    cell: float = 1.0


@runtime_checkable
class Encoder(Protocol):
    """Turns pixels (H, W, 3) uint8 RGB into local features, in the pixels that it was given.

    `dim`: of the descriptors. `fingerprint`: SHA-256, hexadecimal, of name, parameters and content of all weights;
    equal ones give equal features. `describe`: many images at once, order kept; networks run those of one size
    together. An image without features has 0 rows; `ImageError` stands in the place of one that cannot be described.
    """

    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def traits(self) -> Traits: ...
    def __call__(self, pixels: NDArray[np.uint8], /) -> LocalFeatures: ...
    def describe(self, images: Sequence[NDArray[np.uint8]], /) -> list[LocalFeatures | ImageError]: ...


@runtime_checkable
class Stage(Protocol):
    """Takes queries and a ranking (None for a first stage) and gives back a ranking."""

    def __call__(self, queries: Queries, ranking: Ranking | None = None, /) -> Ranking: ...


@runtime_checkable
class Searcher(Protocol):
    """Answers queries with their nearest database rows, best first."""

    def search(self, queries: Any, k: int) -> Ranking: ...
