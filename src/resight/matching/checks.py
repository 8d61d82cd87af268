"""Checks on a transform and its inliers that a real view of a real thing passes and an accident often does not."""

from __future__ import annotations

import math

import numpy as np

from resight.arrays import Bool, Float64
from resight.matching.frames import Frames, jacobians

MAX_ZOOM = 8.0  # linear change of size; beyond, hardly any feature would have matched
APART, LOOKED_AT = 0.02, 64  # of the side of an image, within which all is one place; points that are looked at
MAX_STRETCH = 8.0  # ratio of the axes of a circle's image: a plane seen at 83 degrees


def once_per_place(frames: Frames, mask: Bool, cells: tuple[float, float] = (0.0, 0.0)) -> Bool:
    """Keep the first inlier of every pixel of a, and of those the first of every pixel of b; of every cell where
    `cells`, the sides of such in a and b, are larger than a pixel.

    Detectors put several features on one spot, with other angles or scales: they are one piece of evidence.
    """
    kept = np.flatnonzero(mask)
    for points, side in zip((frames.src, frames.dst), cells, strict=True):
        spots = np.floor(points[kept] / max(side, 1.0)) @ (1, 1j)
        kept = kept[np.sort(np.unique(spots, return_index=True)[1])]
    once = np.zeros_like(mask)
    once[kept] = True
    return once


def plausible(transform: Float64, inliers: Frames, threshold: float) -> bool:
    """Whether a camera could have done it: no mirror, no horizon between the inliers, bounded zoom and slant, and
    inliers that are not all on one spot or line, where some transform always fits."""
    jacobian, depth = jacobians(transform, inliers.src)
    large, small = np.linalg.svd(jacobian, compute_uv=False).T
    return bool(
        (depth * depth[0] > 0).all()
        and (np.linalg.det(jacobian) > 0).all()
        and large.max() < MAX_ZOOM
        and small.min() > 1 / MAX_ZOOM
        and (large < MAX_STRETCH * small).all()
        and min(_thickness(inliers.src), _thickness(inliers.dst)) > threshold / 2
    )


def aligned(inliers: Frames, threshold: float) -> bool:
    """Whether all inliers but one lie on a line in either image, such as the edge of a frame around both photos: some
    transform nearly always fits that, so it is a hint at most."""
    return min(_thickness_without_one(inliers.src), _thickness_without_one(inliers.dst)) <= threshold / 2


def _thickness(points: Float64) -> float:
    """Standard deviation of points (n, 2) across their narrowest direction, pixels."""
    return math.sqrt(max(0.0, np.linalg.eigvalsh(np.cov(points.T, bias=True))[0]))


def _thickness_without_one(points: Float64) -> float:
    """`_thickness` without the point that adds most to it."""
    n = len(points) - 1
    points = points - points.mean(axis=0)
    means = -points / n
    outer = np.einsum("ni,nj->nij", points, points)
    covariances = (outer.sum(axis=0) - outer) / n - np.einsum("ni,nj->nij", means, means)
    return math.sqrt(max(0.0, np.linalg.eigvalsh(covariances)[:, 0].min()))


def places(points: Float64, area: float, least: float = 0.0, most: int | None = LOOKED_AT) -> int:
    """Number of separate places among the first `most` points (n, 2) in an image whose features span `area`, square
    pixels.

    Points nearer than a fiftieth of its side, or than `least` pixels, are one place: features on one corner or blob
    overlap, so that whatever carries one of them carries the others.
    """
    points = points[:most]
    near = np.linalg.norm(points[:, None] - points[None], axis=2) <= max(APART * math.sqrt(area), least)
    left, count = np.ones(len(points), np.bool_), 0
    while left.any():
        left &= ~near[np.argmax(left)]
        count += 1
    return count


def share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
