"""Local descriptors of an image to one residual per visual word: the aggregation of ASMK.

However often a texture repeats in an image, it casts one vote per word: this is how ASMK takes out burstiness.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError
from resight.index.asmk_kernels import counting_order, sum_residuals
from resight.index.binarisation import binarise
from resight.index.codebook import Codebook
from resight.types import Float32, Int64, as_array

BLOCK = 1 << 16
NORM_FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class Aggregated:
    """One residual per image and word, sorted by image row, then word.

    `rows` (m,) int64 image rows; `words` (m,) int64; `values` (m, planes * ceil(B / 64)) uint64 signatures as from
    `binarise`, one plane for images, or (m, D) float32 unit residuals; `weights` (m,) float32 or None for 1: what a
    match of this word counts, for expanded queries.
    Raises `ArrayError` on unequal lengths, wrong order, or weights that are not positive.
    """

    rows: Int64
    words: Int64
    values: NDArray[Any]
    weights: Float32 | None = None

    def __post_init__(self) -> None:
        rows = as_array("Aggregated.rows", self.rows, np.int64, (None,))
        words = as_array("Aggregated.words", self.words, np.int64, (len(rows),))
        kind = np.uint64 if np.asarray(self.values).dtype.kind in "iu" else np.float32
        values = as_array("Aggregated.values", self.values, kind, (len(rows), None))
        step, ascends = np.diff(rows), np.diff(words) > 0
        if not ((step > 0) | ((step == 0) & ascends)).all() or (rows < 0).any() or (words < 0).any():
            raise ArrayError(
                "Aggregated rows and words must start at 0 and ascend: by row, then by word, no pair twice"
            )
        for name, array in (("rows", rows), ("words", words), ("values", values)):
            object.__setattr__(self, name, array)
        if self.weights is not None:
            weights = as_array("Aggregated.weights", self.weights, np.float32, (len(rows),))
            if not (np.isfinite(weights) & (weights > 0)).all():
                raise ArrayError("Aggregated.weights must be positive and finite")
            object.__setattr__(self, "weights", weights)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def match_weights(self) -> Float32:
        """`weights`, or ones, (m,) float32."""
        return np.ones(len(self), np.float32) if self.weights is None else self.weights


def aggregate(
    codebook: Codebook, rows: Any, words: Any, descriptors: Any, *, binary: bool = True, planes: int = 1
) -> Aggregated:
    """Sum the residuals of every (image, word): V_c = sum of x - c over the descriptors x assigned to c.

    `rows` (n,) int64 image rows, in any order; `words` (n, a) int64 as from `Codebook.assign`; `descriptors` (n, D)
    float32. Binary: V_c turned by the rotation, its signs packed, or for queries that are compared asymmetrically its
    levels in `planes` bits a dimension. Full precision: V_c / (|V_c| + 1e-6).
    Works in blocks of images of about 65 536 descriptors: peak memory some 200 MB at D = 128, beside arguments and
    result. Raises `ArrayError` on unequal lengths or a word that the codebook does not have.
    """
    points = as_array("descriptors", descriptors, np.float32, (None, codebook.dim))
    rows = as_array("rows", rows, np.int64, (len(points),))
    words = as_array("words", words, np.int64, (len(points), None))
    if (rows < 0).any():
        raise ArrayError(f"rows hold {rows.min()}: rows start at 0")
    if words.size and (words.min() < 0 or words.max() >= len(codebook)):
        raise ArrayError(f"words lie in {words.min()}..{words.max()}, the codebook has 0..{len(codebook) - 1}")
    planes = planes if binary else 0
    parts = [_block(codebook, rows[i], words[i], points[i], planes) for i in image_blocks(rows)]
    return join(parts, codebook, planes)


def join(parts: list[Aggregated], codebook: Codebook, planes: int) -> Aggregated:
    """One `Aggregated` of parts whose rows ascend from part to part; an empty one of the right kind without parts.

    `planes`: bits a dimension, 0 for full precision.
    """
    width, kind = value_kind(codebook, planes)
    empty = Aggregated(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, width), kind))
    if len(parts) == 1:
        return parts[0]
    everything = [empty, *parts]
    return Aggregated(
        np.concatenate([part.rows for part in everything]),
        np.concatenate([part.words for part in everything]),
        np.concatenate([part.values for part in everything]),
        np.concatenate([part.match_weights for part in everything]),
    )


def value_kind(codebook: Codebook, planes: int) -> tuple[int, type[np.generic]]:
    """Width and type of `Aggregated.values` in `planes` bits a dimension, 0 for full precision."""
    return (planes * -(-codebook.bits // 64), np.uint64) if planes else (codebook.dim, np.float32)


def image_blocks(rows: Int64) -> Iterator[Any]:
    """Indices into `rows` (n,) that take whole images, rows ascending, about 65 536 descriptors at a time."""
    ascending = bool((rows[1:] >= rows[:-1]).all())
    order = np.arange(len(rows)) if ascending else np.argsort(rows, kind="stable")
    firsts = np.flatnonzero(np.diff(rows[order], prepend=-1))
    edges = np.append(firsts[np.diff(firsts // BLOCK, prepend=-1) > 0], len(rows))
    for start, end in pairwise(edges):
        yield slice(start, end) if ascending else order[start:end]


def _block(codebook: Codebook, rows: Int64, words: Int64, points: Float32, planes: int) -> Aggregated:
    images, image = np.unique(rows, return_inverse=True)
    image, flat = np.repeat(image, words.shape[1]), words.ravel()
    order = counting_order(flat, len(codebook))[0]
    order = order[counting_order(image[order], len(images))[0]]
    image, flat = image[order], flat[order]
    first = np.flatnonzero((np.diff(image, prepend=-1) != 0) | (np.diff(flat, prepend=-1) != 0))
    sums = np.empty((len(first), codebook.dim), np.float32)
    starts = np.append(first, len(flat))
    sum_residuals(starts, order // words.shape[1], flat[first], points, codebook.centroids, sums)
    values = binarise(sums, codebook.rotation, planes) if planes else _unit(sums)
    return Aggregated(images[image[first]], flat[first], values)


def _unit(sums: Float32) -> Float32:
    norms = np.linalg.norm(sums, axis=1, keepdims=True) + np.float32(NORM_FLOOR)
    return np.asarray(sums / norms, np.float32)
