"""Transforms from local frames: one correspondence with scale and angle already fixes a similarity.

So m correspondences give m hypotheses, each tested against all m: no random draw, and a few true correspondences in a
hundred are enough. The best ones are refined by least squares on their inliers, from a loose to the tight threshold
(Philbin et al., CVPR 2007, section 3.2; local optimisation after Chum, Matas and Kittler, DAGM 2003).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from resight.arrays import Bool, Float64

# Multiples of the threshold. The first is wide because angle and scale of one feature are off by some degrees and
# per cent, and a slanted view is no similarity: both move far points of the image by many pixels.
LOOSENESS = np.array([12.0, 6.0, 3.0, 1.5, 1.0])
REFINED = 5  # best hypotheses that are refined; more find nothing new
AFFINE_POINTS = 6  # below, a similarity is fitted: three points would satisfy an affinity whatever they are


@dataclass(frozen=True, eq=False)
class Frames:
    """Tentative correspondences as geometry: m positions and changes of scale and angle from image a to image b.

    `src`, `dst` (m, 2) float64 pixels; `log_scale` (m,) natural logarithm of the scale ratio; `turn` (m,) radians.
    An inlier must agree with the transform at its place within `log_scale_tolerance` and `turn_tolerance`, which are
    inf where the features do not tell.
    """

    src: Float64
    dst: Float64
    log_scale: Float64
    turn: Float64
    log_scale_tolerance: float = np.inf
    turn_tolerance: float = np.inf

    def __len__(self) -> int:
        return len(self.src)

    def select(self, index: Any) -> Frames:
        """The correspondences at `index`, in that order."""
        return Frames(
            self.src[index], self.dst[index], self.log_scale[index], self.turn[index],
            self.log_scale_tolerance, self.turn_tolerance,
        )  # fmt: skip

    def errors(self, transform: Float64) -> Float64:
        """Squared distance in image b between `transform` of src and dst, inf where scale or angle disagree, (m,)."""
        errors: Float64 = _errors(
            transform, self.src, self.dst, self.log_scale, self.turn,
            self.log_scale_tolerance, self.turn_tolerance, np.inf,
        )  # fmt: skip
        return errors

    def proposed(self, threshold: float, affine: bool, least: int) -> Float64 | None:
        """As `best`, from the similarity that each correspondence alone proposes by its scale and angle.

        Only proposals that at least `least` correspondences support loosely are refined.
        """
        factors = np.exp(self.log_scale + 1j * self.turn)
        transform, support = _proposed(
            factors, self.src, self.dst, self.log_scale, self.turn,
            self.log_scale_tolerance, self.turn_tolerance, threshold, affine, least,
        )  # fmt: skip
        return transform if support > 0 else None

    def best(self, hypotheses: Float64, threshold: float, affine: bool) -> Float64 | None:
        """The transform (3, 3) with most support, from `hypotheses` (h, 3, 3) refined to a similarity or an affinity.

        None when no hypothesis finds two correspondences that agree. Memory: O(h + m).
        """
        transform, support = _best(
            hypotheses, self.src, self.dst, self.log_scale, self.turn,
            self.log_scale_tolerance, self.turn_tolerance, threshold, affine,
        )  # fmt: skip
        return transform if support > 0 else None


@numba.njit(cache=True, nogil=True)
def similarities(src: Float64, dst: Float64, factor: NDArray[np.complex128]) -> Float64:
    """Transforms (m, 3, 3) that scale and turn by the complex `factor` (m,) and carry src to dst (m, 2)."""
    transforms = np.zeros((len(src), 3, 3))
    for k in range(len(src)):
        cosine, sine, (x, y) = factor[k].real, factor[k].imag, src[k]
        transforms[k, 0, 0] = transforms[k, 1, 1] = cosine
        transforms[k, 1, 0], transforms[k, 0, 1] = sine, -sine
        transforms[k, 0, 2] = dst[k, 0] - (cosine * x - sine * y)
        transforms[k, 1, 2] = dst[k, 1] - (sine * x + cosine * y)
        transforms[k, 2, 2] = 1
    return transforms


def jacobians(transform: Float64, points: Float64) -> tuple[Float64, Float64]:
    """Derivative of a projective `transform` at `points` (m, 2): (m, 2, 2), and the denominators (m,)."""
    depth = points @ transform[2, :2] + transform[2, 2]
    mapped = (points @ transform[:2, :2].T + transform[:2, 2]) / depth[:, None]
    jacobian = (transform[None, :2, :2] - mapped[:, :, None] * transform[2, :2]) / depth[:, None, None]
    return jacobian, depth


@numba.njit(cache=True, nogil=True)
def _error(
    transform: Float64, x: float, y: float, target_x: float, target_y: float, log_scale: float, turn: float,
    log_scale_tolerance: float, turn_tolerance: float, limit: float,
) -> float:  # fmt: skip
    """Squared transfer error of one correspondence; inf from `limit` on, or where scale or angle disagree."""
    depth = transform[2, 0] * x + transform[2, 1] * y + transform[2, 2]
    if depth == 0.0:
        return np.inf
    u = (transform[0, 0] * x + transform[0, 1] * y + transform[0, 2]) / depth
    v = (transform[1, 0] * x + transform[1, 1] * y + transform[1, 2]) / depth
    error = (u - target_x) ** 2 + (v - target_y) ** 2
    if not error < limit:
        return np.inf
    # Jacobian of the transform at the point: its area change and its rotation are what a feature there would see.
    xx, xy = (transform[0, 0] - u * transform[2, 0]) / depth, (transform[0, 1] - u * transform[2, 1]) / depth
    yx, yy = (transform[1, 0] - v * transform[2, 0]) / depth, (transform[1, 1] - v * transform[2, 1]) / depth
    area = xx * yy - xy * yx
    if area <= 0.0 or abs(log_scale - 0.5 * np.log(area)) > log_scale_tolerance:
        return np.inf
    angle = turn - np.arctan2(yx - xy, xx + yy)
    angle -= 2.0 * np.pi * np.round(angle / (2.0 * np.pi))
    return error if abs(angle) <= turn_tolerance else np.inf


@numba.njit(cache=True, nogil=True)
def _errors(
    transform: Float64, src: Float64, dst: Float64, log_scale: Float64, turn: Float64,
    log_scale_tolerance: float, turn_tolerance: float, limit: float,
) -> Float64:  # fmt: skip
    errors = np.empty(len(src))
    for k in range(len(src)):
        errors[k] = _error(
            transform, src[k, 0], src[k, 1], dst[k, 0], dst[k, 1], log_scale[k], turn[k],
            log_scale_tolerance, turn_tolerance, limit,
        )  # fmt: skip
    return errors


@numba.njit(cache=True, nogil=True)
def _support(
    transform: Float64, src: Float64, dst: Float64, log_scale: Float64, turn: Float64,
    log_scale_tolerance: float, turn_tolerance: float, limit: float,
) -> float:  # fmt: skip
    """Sum over the inliers of 1 - error / limit (the truncated quadratic of MSAC)."""
    support = 0.0
    for k in range(len(src)):
        error = _error(
            transform, src[k, 0], src[k, 1], dst[k, 0], dst[k, 1], log_scale[k], turn[k],
            log_scale_tolerance, turn_tolerance, limit,
        )  # fmt: skip
        if error < limit:
            support += 1.0 - error / limit
    return support


@numba.njit(cache=True, nogil=True)
def _best(
    hypotheses: Float64, src: Float64, dst: Float64, log_scale: Float64, turn: Float64,
    log_scale_tolerance: float, turn_tolerance: float, threshold: float, affine: bool,
) -> tuple[Float64, float]:  # fmt: skip
    """Score all hypotheses loosely, refine the best few, give the one with most support at the threshold."""
    loose = np.empty(len(hypotheses))
    for h in range(len(hypotheses)):
        limit = (LOOSENESS[0] * threshold) ** 2
        loose[h] = _support(hypotheses[h], src, dst, log_scale, turn, log_scale_tolerance, turn_tolerance, limit)
    order = np.argsort(-loose, kind="mergesort")[:REFINED]
    best: tuple[Float64, float] = _refined(
        hypotheses[order], src, dst, log_scale, turn, log_scale_tolerance, turn_tolerance, threshold, affine
    )
    return best


@numba.njit(cache=True, nogil=True)
def _proposed(
    factors: NDArray[np.complex128], src: Float64, dst: Float64, log_scale: Float64, turn: Float64,
    log_scale_tolerance: float, turn_tolerance: float, threshold: float, affine: bool, least: int,
) -> tuple[Float64, float]:  # fmt: skip
    """As `_best`, of the similarities that turn and scale by `factors` (m,) and carry each src to its dst."""
    limit = (LOOSENESS[0] * threshold) ** 2
    loose, wrapped = np.zeros(len(src)), turn % (2.0 * np.pi)
    for h in range(len(src)):
        count = 0
        for k in range(len(src)):
            if abs(log_scale[k] - log_scale[h]) > log_scale_tolerance:
                continue
            angle = abs(wrapped[k] - wrapped[h])
            if min(angle, 2.0 * np.pi - angle) > turn_tolerance:
                continue
            x, y = src[k, 0] - src[h, 0], src[k, 1] - src[h, 1]
            u = factors[h].real * x - factors[h].imag * y - (dst[k, 0] - dst[h, 0])
            v = factors[h].imag * x + factors[h].real * y - (dst[k, 1] - dst[h, 1])
            error = u * u + v * v
            if error < limit:
                count += 1
                loose[h] += 1.0 - error / limit
        if count < least:
            loose[h] = 0.0
    order = np.argsort(-loose, kind="mergesort")[:REFINED]
    order = order[loose[order] > 0.0]
    hypotheses = similarities(src[order], dst[order], factors[order])
    best: tuple[Float64, float] = _refined(
        hypotheses, src, dst, log_scale, turn, log_scale_tolerance, turn_tolerance, threshold, affine
    )
    return best


@numba.njit(cache=True, nogil=True)
def _refined(
    hypotheses: Float64, src: Float64, dst: Float64, log_scale: Float64, turn: Float64,
    log_scale_tolerance: float, turn_tolerance: float, threshold: float, affine: bool,
) -> tuple[Float64, float]:  # fmt: skip
    """The transform with most support at the threshold among `hypotheses`, each refined in steps, and its support."""
    best, most = np.eye(3), 0.0
    for hypothesis in hypotheses:
        transform = hypothesis.copy()
        for looseness in LOOSENESS:
            limit = (looseness * threshold) ** 2
            errors = _errors(transform, src, dst, log_scale, turn, log_scale_tolerance, turn_tolerance, limit)
            if not least_squares(transform, src, dst, errors < limit, affine):
                break
            support = _support(transform, src, dst, log_scale, turn, log_scale_tolerance, turn_tolerance, threshold**2)
            if support > most:
                best, most = transform.copy(), support
    return best, most


@numba.njit(cache=True, nogil=True)
def least_squares(transform: Float64, src: Float64, dst: Float64, mask: Bool, affine: bool) -> bool:
    """Overwrite `transform` by the least-squares similarity or affinity of the chosen points; False when they do not
    determine one."""
    n = mask.sum()
    if n < 2:
        return False
    mean = np.zeros(4)
    for k in np.flatnonzero(mask):
        mean += np.array([src[k, 0], src[k, 1], dst[k, 0], dst[k, 1]]) / n
    xx = xy = yy = ux = uy = vx = vy = 0.0
    for k in np.flatnonzero(mask):
        x, y, u, v = src[k, 0] - mean[0], src[k, 1] - mean[1], dst[k, 0] - mean[2], dst[k, 1] - mean[3]
        xx, xy, yy = xx + x * x, xy + x * y, yy + y * y
        ux, uy, vx, vy = ux + u * x, uy + u * y, vx + v * x, vy + v * y
    determinant = xx * yy - xy * xy
    if xx + yy <= 1e-9:
        return False
    if affine and n >= AFFINE_POINTS and determinant > 1e-5 * (xx + yy) ** 2:
        transform[0, 0], transform[0, 1] = (ux * yy - uy * xy) / determinant, (uy * xx - ux * xy) / determinant
        transform[1, 0], transform[1, 1] = (vx * yy - vy * xy) / determinant, (vy * xx - vx * xy) / determinant
    else:
        transform[0, 0] = transform[1, 1] = (ux + vy) / (xx + yy)
        transform[1, 0] = (vx - uy) / (xx + yy)
        transform[0, 1] = -transform[1, 0]
    transform[0, 2] = mean[2] - transform[0, 0] * mean[0] - transform[0, 1] * mean[1]
    transform[1, 2] = mean[3] - transform[1, 0] * mean[0] - transform[1, 1] * mean[1]
    return True
