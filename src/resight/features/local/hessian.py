"""Hessian-affine regions: blobs and saddles of the determinant of the Hessian in scale space, with affine shape.

Mikolajczyk and Schmid, "Scale and affine invariant interest point detectors", IJCV 2004; refinement and limits as in
Perdoch, Chum and Matas, "Efficient representation of local geometry for large scale object retrieval", CVPR 2009.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from resight.features.local.patches import sample
from resight.types import Float32

LEVELS = 3  # per octave
SIGMA = 1.6  # of the first level of an octave, in its pixels
BLUR = 0.5  # of an image as it comes
BORDER = 5  # pixels of an octave at its border in which nothing is sought
EDGE = 10.0  # largest ratio of curvatures
WINDOW = 19  # samples of a side of the window whose gradients shape a region
ROUNDS = 16  # of shape adaptation
CONVERGED = 0.05  # change of the ratio of axes
STRETCH = 6.0  # largest ratio of axes
SPARE = 2  # candidates per region asked for: some do not converge


@dataclass(frozen=True, eq=False)
class Regions:
    """n regions, strongest first: `xy` (n, 2) float32 pixels, the centre of the top-left pixel being (0.5, 0.5);
    `sigma` (n,) float32 pixels; `shape` (n, 2, 2) float32 of determinant 1, carrying circles onto ellipses, upright
    (lower triangular); `strength` (n,) float32, of the determinant.
    """

    xy: Float32
    sigma: Float32
    shape: Float32
    strength: Float32


def detect(gray: Float32, count: int, threshold: float, *, affine: bool = True) -> Regions:
    """The `count` strongest regions of `gray` (H, W) float32, 0 to 255, whose |determinant| exceeds `threshold`.

    Without `affine` they stay circles. Memory: 45 bytes per pixel.
    """
    octaves = _octaves(gray)
    found = [np.empty((0, 5))]
    for number, levels in enumerate(octaves):
        responses = np.stack([_determinant(level, SIGMA * 2 ** (i / LEVELS)) for i, level in enumerate(levels)])
        points = _extrema(levels, responses, float(threshold), BORDER)
        found.append(np.concatenate([points, np.full((len(points), 1), number)], axis=1))
    points = np.concatenate(found)
    order = np.lexsort((points[:, 0], points[:, 1], points[:, 4], -points[:, 3]))
    points = points[order[: SPARE * count if affine else count]]
    shapes = np.tile(np.eye(2), (len(points), 1, 1))
    good = np.ones(len(points), bool)
    for number in range(len(octaves) if affine else 0):
        here = np.flatnonzero(points[:, 4] == number)
        finer = max(number - 1, 0)  # gradients of a larger scale would round off the shape that they are to measure
        shapes[here], good[here] = _adapt(octaves[finer][0], points[here], 2.0 ** (number - finer), WINDOW)
    kept = np.flatnonzero(good)[:count]
    zoom = 2.0 ** points[kept, 4]
    return Regions(
        np.asarray(points[kept, :2] * zoom[:, None] + 0.5, np.float32),
        np.asarray(SIGMA * 2 ** (points[kept, 2] / LEVELS) * zoom, np.float32),
        upright(shapes[kept]),
        np.asarray(points[kept, 3], np.float32),
    )


def upright(shapes: NDArray[Any]) -> Float32:
    """The same ellipses with lower triangular shapes (n, 2, 2) float32: what is vertical stays vertical."""
    if not len(shapes):
        return np.empty((0, 2, 2), np.float32)
    return np.linalg.cholesky(shapes @ shapes.transpose(0, 2, 1)).astype(np.float32)


def _octaves(gray: Float32) -> list[Float32]:
    """Levels (5, h, w) float32 of each octave; the first of the next is the fourth of this one, halved."""
    base = _blurred(gray, math.sqrt(SIGMA**2 - BLUR**2))
    found = []
    while min(base.shape) > 2 * BORDER:
        levels = [base]
        for i in range(1, LEVELS + 2):
            before, after = SIGMA * 2 ** ((i - 1) / LEVELS), SIGMA * 2 ** (i / LEVELS)
            levels.append(_blurred(levels[-1], math.sqrt(after**2 - before**2)))
        found.append(np.stack(levels))
        base = np.ascontiguousarray(levels[LEVELS][::2, ::2])
    return found


def _blurred(image: Float32, sigma: float) -> Float32:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)


def _determinant(level: Float32, sigma: float) -> Float32:
    """Determinant of the Hessian at each pixel, normalised by sigma^4."""
    kernels = ([1, -2, 1], [[1, 0, -1], [0, 0, 0], [-1, 0, 1]])
    row = np.array([kernels[0]], np.float32)
    mixed = np.array(kernels[1], np.float32) / 4
    xx, yy, xy = (cv2.filter2D(level, cv2.CV_32F, kernel) for kernel in (row, row.T, mixed))
    return np.asarray((xx * yy - xy * xy) * np.float32(sigma**4), np.float32)


@numba.njit(cache=True, nogil=True)
def _extrema(levels: Float32, responses: Float32, threshold: float, border: int) -> NDArray[np.float64]:
    """Extrema over three levels, refined: x, y, level and |determinant| (n, 4), in pixels of the octave."""
    depth, height, width = responses.shape
    room = 1024
    points = np.empty((room, 4))
    count = 0
    for s in range(1, depth - 1):
        for y in range(border, height - border):
            for x in range(border, width - border):
                value = responses[s, y, x]
                if abs(value) <= threshold or not _extreme(responses, s, y, x):
                    continue
                if value > 0 and not _round(levels[s], y, x):
                    continue
                if count == room:
                    points, old, room = np.empty((2 * room, 4)), points, 2 * room
                    points[:count] = old
                if _refine(responses, s, y, x, border, points[count]):
                    count += 1
    return points[:count].copy()


@numba.njit(cache=True, nogil=True)
def _extreme(responses: Float32, s: int, y: int, x: int) -> bool:
    value = responses[s, y, x]
    sign = 1.0 if value > 0 else -1.0
    for ds in range(-1, 2):
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                other = sign * responses[s + ds, y + dy, x + dx]
                if (ds or dy or dx) and other >= sign * value:
                    return False
    return True


@numba.njit(cache=True, nogil=True)
def _round(level: Float32, y: int, x: int) -> bool:
    """Whether the two curvatures of a blob are alike, else it is an edge."""
    xx = level[y, x - 1] - 2 * level[y, x] + level[y, x + 1]
    yy = level[y - 1, x] - 2 * level[y, x] + level[y + 1, x]
    xy = (level[y + 1, x + 1] + level[y - 1, x - 1] - level[y + 1, x - 1] - level[y - 1, x + 1]) / 4
    determinant = xx * yy - xy * xy
    return bool(determinant > 0 and (xx + yy) ** 2 * EDGE < (EDGE + 1) ** 2 * determinant)


@numba.njit(cache=True, nogil=True)
def _refine(r: Float32, s: int, y: int, x: int, border: int, point: NDArray[np.float64]) -> bool:
    """Fit a quadratic; move by whole steps while its peak lies in another cell. False where it runs away."""
    depth, height, width = r.shape
    hessian, slope = np.empty((3, 3)), np.empty(3)
    for _ in range(5):
        v = 2.0 * r[s, y, x]
        slope[0] = (r[s, y, x + 1] - r[s, y, x - 1]) / 2
        slope[1] = (r[s, y + 1, x] - r[s, y - 1, x]) / 2
        slope[2] = (r[s + 1, y, x] - r[s - 1, y, x]) / 2
        hessian[0, 0] = r[s, y, x + 1] + r[s, y, x - 1] - v
        hessian[1, 1] = r[s, y + 1, x] + r[s, y - 1, x] - v
        hessian[2, 2] = r[s + 1, y, x] + r[s - 1, y, x] - v
        hessian[0, 1] = (r[s, y + 1, x + 1] - r[s, y + 1, x - 1] - r[s, y - 1, x + 1] + r[s, y - 1, x - 1]) / 4
        hessian[0, 2] = (r[s + 1, y, x + 1] - r[s + 1, y, x - 1] - r[s - 1, y, x + 1] + r[s - 1, y, x - 1]) / 4
        hessian[1, 2] = (r[s + 1, y + 1, x] - r[s + 1, y - 1, x] - r[s - 1, y + 1, x] + r[s - 1, y - 1, x]) / 4
        hessian[1, 0], hessian[2, 0], hessian[2, 1] = hessian[0, 1], hessian[0, 2], hessian[1, 2]
        if abs(np.linalg.det(hessian)) < 1e-12:
            return False
        step = -np.linalg.solve(hessian, slope)
        if np.abs(step).max() <= 0.6:
            point[0], point[1], point[2] = x + step[0], y + step[1], s + step[2]
            point[3] = abs(r[s, y, x] + 0.5 * (slope * step).sum())
            return True
        x += int(np.round(min(max(step[0], -1.0), 1.0)))
        y += int(np.round(min(max(step[1], -1.0), 1.0)))
        s += int(np.round(min(max(step[2], -1.0), 1.0)))
        if not (1 <= s < depth - 1 and border <= y < height - border and border <= x < width - border):
            return False
    return False


@numba.njit(cache=True, nogil=True)
def _adapt(
    level: Float32, points: NDArray[np.float64], zoom: float, size: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Shapes (n, 2, 2) of determinant 1 in which the gradients of each region are alike in all directions, and whether
    they were found within `ROUNDS` and `STRETCH`. `level` (h, w) is `zoom` times as large as the octave of `points`.
    """
    height, width = level.shape
    pixels = level.ravel()
    shapes, good = np.empty((len(points), 2, 2)), np.zeros(len(points), np.bool_)
    window = np.empty((size, size))
    reach = size // 2
    for n in range(len(points)):
        ratio = zoom * 2.0 ** (points[n, 2] / LEVELS)  # a sample for each pixel of the first level
        shape, before = np.eye(2), 1.0
        for _ in range(ROUNDS):
            for i in range(size):
                for j in range(size):
                    u, v = ratio * (j - reach), ratio * (i - reach)
                    x = zoom * points[n, 0] + shape[0, 0] * u + shape[0, 1] * v
                    y = zoom * points[n, 1] + shape[1, 0] * u + shape[1, 1] * v
                    window[i, j] = sample(pixels, 0, height, width, x, y)
            a, b, c = _moments(window)
            half, root = (a + c) / 2, math.sqrt(((a - c) / 2) ** 2 + b * b)
            if half - root <= 1e-9 * half:
                break
            now = 1 - math.sqrt((half - root) / (half + root))
            shape = shape @ _inverse_root(a, b, c)
            values = np.linalg.svd(shape)[1]
            if values[0] > STRETCH * values[1]:
                break
            if now < CONVERGED and before < CONVERGED:
                good[n] = True
                break
            before = now
        shapes[n] = shape
    return shapes, good


@numba.njit(cache=True, nogil=True)
def _moments(window: NDArray[np.float64]) -> tuple[float, float, float]:
    """Second moments of the gradients of a window, which a Gaussian weighs."""
    size = len(window)
    reach = size // 2
    a = b = c = 0.0
    for i in range(1, size - 1):
        for j in range(1, size - 1):
            weight = math.exp(-((i - reach) ** 2 + (j - reach) ** 2) / (2 * (reach / 2.5) ** 2))
            dx, dy = window[i, j + 1] - window[i, j - 1], window[i + 1, j] - window[i - 1, j]
            a, b, c = a + weight * dx * dx, b + weight * dx * dy, c + weight * dy * dy
    return a, b, c


@numba.njit(cache=True, nogil=True)
def _inverse_root(a: float, b: float, c: float) -> NDArray[np.float64]:
    """M^(-1/2) of M = [[a, b], [b, c]], of determinant 1."""
    root = math.sqrt(a * c - b * b)  # M^(1/2) = (M + root I) / trace, and its inverse is the adjugate but for scale
    inverse = np.array([[c + root, -b], [-b, a + root]])
    return inverse / math.sqrt(inverse[0, 0] * inverse[1, 1] - inverse[0, 1] * inverse[1, 0])
