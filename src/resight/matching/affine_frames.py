"""Verification of one image against many by affine frames: features with a position, an elliptic shape and a word.

One pair of frames already fixes an affinity, so every pair of features that share a word proposes one, and all pairs
vote; the best are refined by affine least squares on their inliers. Nothing is drawn at random, and features need no
descriptors: this serves Hessian-affine regions with visual words as well as regions of a network's channels.

Papers: Philbin, Chum, Isard, Sivic, Zisserman, "Object retrieval with large vocabularies and fast spatial matching",
CVPR 2007, section 3.2; Chum, Matas, Kittler, "Locally optimized RANSAC", DAGM 2003.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from resight.arrays import Float64
from resight.errors import ArrayError, UsageError
from resight.features.local.compact import hull_area
from resight.matching.affine_kernels import crowding, search_all
from resight.matching.checks import aligned, places, plausible, share
from resight.matching.frames import Frames
from resight.matching.geometry import Verification
from resight.types import Float32, Int64, as_array

FREE = 3  # correspondences that an affinity can satisfy whatever they are
BLOCK = 8  # candidates that one thread takes at a time


@dataclass(frozen=True, eq=False)
class AffineFrames:
    """Features of one image.

    `xy` (n, 2) float32 pixels, the centre of the top-left pixel being (0.5, 0.5). `shape` (n, 2, 2) float32: carries
    the unit circle onto the feature's ellipse, mirror free; with the rotation of the feature, or lower triangular where
    it is upright (`upright`). `word` (n,) int64: features can correspond where their words are equal. `strength` (n,)
    float32. Raises `ArrayError` on unequal lengths, values that are not finite, and shapes without area or mirrored.
    """

    xy: Float32
    shape: Float32
    word: Int64
    strength: Float32

    def __post_init__(self) -> None:
        xy = as_array("AffineFrames.xy", self.xy, np.float32, (None, 2))
        shape = as_array("AffineFrames.shape", self.shape, np.float32, (len(xy), 2, 2))
        strength = as_array("AffineFrames.strength", self.strength, np.float32, (len(xy),))
        word = as_array("AffineFrames.word", self.word, np.int64, (len(xy),))
        for name, values in (("xy", xy), ("shape", shape), ("strength", strength)):
            if not np.isfinite(values).all():
                raise ArrayError(f"AffineFrames.{name} holds NaN or infinity: leave those features out")
        flat = np.flatnonzero(~(np.linalg.det(shape.astype(np.float64)) > 0))
        if len(flat):
            raise ArrayError(f"AffineFrames.shape of feature {flat[0]} is a line, a point or a mirror: leave it out")
        for name, value in (("xy", xy), ("shape", shape), ("word", word), ("strength", strength)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.xy)

    def select(self, index: Any) -> AffineFrames:
        """The features at `index` (an integer or boolean array, or a slice), in that order."""
        return AffineFrames(self.xy[index], self.shape[index], self.word[index], self.strength[index])

    def upright(self) -> AffineFrames:
        """The same ellipses with shapes that keep the vertical vertical: no photo was turned."""
        return replace(self, shape=upright_shapes(self.shape @ self.shape.transpose(0, 2, 1)))


def upright_shapes(ellipses: NDArray[Any]) -> Float32:
    """Lower triangular shapes (n, 2, 2) float32 of ellipses given by E = shape · shapeᵀ, (n, 2, 2) (Cholesky).

    Raises `ArrayError` for an ellipse without area.
    """
    try:
        return np.linalg.cholesky(np.asarray(ellipses, np.float64)).astype(np.float32)
    except np.linalg.LinAlgError as error:
        raise ArrayError("an ellipse has no area: leave out features that are a line or a point") from error


def verify_frames(
    query: AffineFrames,
    candidates: Sequence[AffineFrames],
    *,
    threshold: Any = 4.0,
    scale_change: Any = (1 / 3, 3.0),
    min_inliers: int = 5,
    jobs: int | None = None,
) -> list[Verification]:
    """Verify `query` against each of `candidates`: the affinity that explains most features, with its inliers.

    All pairs of features with one word are tentative correspondences; each feature is in one inlier at most.
    `threshold`: largest distance in pixels of the candidate between a carried feature and its partner, a number or
    (n,); `scale_change`: least and largest linear change of size from query to candidate, (2,) or (n, 2). `jobs`:
    threads, None for one per core; the answer does not depend on it. Where a word stands n times in one image and m
    times in the other it makes n · m pairs: those of rare words propose transforms first, up to 500.

    `Verification.correspondences` lists all pairs that share a word, by word, and `significance` is -log10
    of the number of proposals that would have so many inliers by chance (`chance_of`). Time: pairs times proposals,
    cut short where the best cannot be reached. Memory: 60 bytes per pair and thread.

    No features, or none that share a word, are not verified, and no error. Raises `UsageError` for a threshold, a scale
    change, a minimum or a number of jobs out of range, or as many of them as there are no candidates.
    """
    thresholds, ranges = _each(threshold, scale_change, len(candidates))
    _check(thresholds, ranges, min_inliers, jobs)
    query_arrays = _arrays(query)

    def block(start: int) -> list[Verification]:
        part = slice(start, start + BLOCK)
        packed = _packed(candidates[part])
        transforms, lengths, pairs, mask = search_all(*query_arrays, *packed, thresholds[part], ranges[part])
        ends = np.cumsum(lengths)
        return [
            _verification(
                query, candidate, transforms[i], pairs[ends[i] - lengths[i] : ends[i]],
                mask[ends[i] - lengths[i] : ends[i]], float(thresholds[start + i]), min_inliers,
            )
            for i, candidate in enumerate(candidates[part])
        ]  # fmt: skip

    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        return [found for part in pool.map(block, range(0, len(candidates), BLOCK)) for found in part]


def chance_of(inliers: int, partners: NDArray[Any], chance: float, proposals: int) -> float:
    """-log10 of the number of `proposals` with so many `inliers` when features lie where others could as well.

    `partners` (m,): candidates for each feature; `chance`: probability that one of them lies within the threshold, for
    which `verify_frames` takes the share of pairs of the candidate's own features that do: features crowd, so accidents
    are more frequent than the area says. A feature finds a partner with p = 1 - (1 - chance)^partners, and the number
    that do is binomial with the mean p; the few that fix the transform do not count. -inf when only those agree.
    """
    features = len(partners) - FREE
    if inliers <= FREE or features < 1:
        return -math.inf
    mean = float(np.mean(1 - (1 - min(chance, 1.0)) ** partners))
    tail = float(bdtrc(inliers - FREE - 1, features, mean))
    return -math.log10(max(proposals, 1)) - math.log10(max(tail, 1e-300))


def _each(threshold: Any, scale_change: Any, count: int) -> tuple[Float64, Float64]:
    try:
        thresholds = np.array(np.broadcast_to(np.asarray(threshold, np.float64), (count,)))
        ranges = np.array(np.broadcast_to(np.asarray(scale_change, np.float64), (count, 2)))
    except ValueError as error:
        raise UsageError(f"give one threshold and one scale change, or {count}: one for each candidate") from error
    return thresholds, ranges


def _check(thresholds: Float64, ranges: Float64, min_inliers: int, jobs: int | None) -> None:
    bad = thresholds[~((thresholds > 0) & (thresholds < np.inf))]
    if len(bad):
        raise UsageError(f"threshold is {bad[0]} pixels: it must be positive and finite")
    wrong = ranges[~((ranges[:, 0] > 0) & (ranges[:, 0] <= ranges[:, 1]) & (ranges[:, 1] < np.inf))]
    if len(wrong):
        raise UsageError(f"scale change {wrong[0].tolist()} is no range of positive factors: give least and largest")
    if min_inliers < FREE:
        raise UsageError(f"min_inliers is {min_inliers}: {FREE} points already fix an affine model")
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs is {jobs}: at least 1 thread is needed")


def _arrays(frames: AffineFrames) -> tuple[Any, ...]:
    """Rows in the order of their words, and in that order words, positions and shapes."""
    order = np.argsort(frames.word, kind="stable")
    return order, frames.word[order], frames.xy[order].astype(np.float64), frames.shape[order].astype(np.float64)


def _packed(candidates: Sequence[AffineFrames]) -> tuple[Any, ...]:
    """Where each candidate starts (c + 1,), and the `_arrays` of all behind each other."""
    starts = np.cumsum([0, *(len(frames) for frames in candidates)])
    return starts, *(np.concatenate(part) for part in zip(*(_arrays(frames) for frames in candidates), strict=True))


def _verification(
    query: AffineFrames, candidate: AffineFrames, transform: Float64, pairs: NDArray[np.int32],
    mask: NDArray[np.bool_], threshold: float, min_inliers: int,
) -> Verification:  # fmt: skip
    rows = np.flatnonzero(mask)
    nothing = np.zeros(len(rows))
    src, dst = (f.xy[pairs[rows, side]].astype(np.float64) for side, f in enumerate((query, candidate)))
    inliers = Frames(src, dst, nothing, nothing)
    good = len(rows) >= FREE and plausible(transform, inliers, threshold)
    if not good:
        mask, inliers = np.zeros_like(mask), inliers.select(slice(0, 0))
    spans = hull_area(query.xy), hull_area(candidate.xy)
    partners = np.unique(pairs[:, 0], return_counts=True)[1]
    area = math.pi * threshold**2
    chance = max(crowding(candidate.xy.astype(np.float64), threshold**2), area / max(spans[1], area))
    return Verification(
        model="affine",
        transform=transform if good else None,
        correspondences=pairs,
        mask=mask,
        min_inliers=min_inliers,
        residual=math.sqrt(inliers.errors(transform).mean()) if good else math.inf,
        coverage=(share(hull_area(inliers.src), spans[0]), share(hull_area(inliers.dst), spans[1])),
        significance=chance_of(len(inliers), partners, chance, len(pairs)),
        aligned=good and aligned(inliers, threshold),
        places=min(places(inliers.src, spans[0]), places(inliers.dst, spans[1])),
    )
