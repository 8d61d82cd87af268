"""Local features in the form in which they are matched: descriptors in bytes, and a binary signature of each.

A signature has one bit per component, set where the component exceeds its mean over the image (Zhou et al., "Scalar
quantization for large scale image search", ACM Multimedia 2012, compare with the median of the descriptor, which tells
less). All numbers here follow from integers by the same operations, so matches are the same on every processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from resight.arrays import Float64
from resight.errors import ArrayError
from resight.types import Float32, LocalFeatures, as_array

UInt8 = NDArray[np.uint8]
UInt64 = NDArray[np.uint64]

LEVELS = 255


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the n local features of one image lie: all that geometry asks for.

    `xy` (n, 2), `scale` (n,) and `angle` (n,) float32 as in `LocalFeatures`. Raises `ArrayError` on unequal lengths or
    values that are not finite.
    """

    xy: Float32
    scale: Float32
    angle: Float32

    def __post_init__(self) -> None:
        xy = as_array("Layout.xy", self.xy, np.float32, (None, 2))
        for name, shape in (("xy", (None, 2)), ("scale", (len(xy),)), ("angle", (len(xy),))):
            array = as_array(f"Layout.{name}", getattr(self, name), np.float32, shape)
            if not np.isfinite(array).all():
                raise ArrayError(f"Layout.{name} holds NaN or infinity")
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.xy)

    @cached_property
    def span(self) -> float:
        """Area of the convex hull of all positions, square pixels."""
        return hull_area(self.xy)

    @cached_property
    def scales(self) -> tuple[float, float]:
        """Least and greatest scale; inf and -inf without features."""
        return _extent(self.scale)

    @cached_property
    def angles(self) -> tuple[float, float]:
        """Least and greatest angle; inf and -inf without features."""
        return _extent(self.angle)


@dataclass(frozen=True, eq=False)
class Compact(Layout):
    """The n local features of one image, ready to be matched and verified.

    `codes` (n, d) uint8 stand for the descriptors `low + step * codes`. Raises `ArrayError` as `Layout` does.
    """

    codes: UInt8
    low: float
    step: float

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "codes", as_array("Compact.codes", self.codes, np.uint8, (len(self), None)))
        if not (np.isfinite(self.low) and np.isfinite(self.step)):
            raise ArrayError(f"Compact descriptors start at {self.low} in steps of {self.step}: both must be finite")

    @property
    def dim(self) -> int:
        """Descriptor dimension d."""
        return int(self.codes.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes held, signatures and sums included."""
        each = 16 + self.dim + 8 * -(-self.dim // 64) + 16
        return len(self) * each

    @cached_property
    def signatures(self) -> UInt64:
        """One bit per component, (ceil(d / 64), n) uint64."""
        count = max(len(self), 1)
        means = (self.codes.sum(axis=0, dtype=np.int64) // count).astype(np.uint8)
        return np.asarray(signatures(self.codes, means))

    @cached_property
    def sums(self) -> Float64:
        """Sum of the descriptor's codes, (n,) float64."""
        return self._moments[0]

    @cached_property
    def squares(self) -> Float64:
        """Squared Euclidean norm of the descriptors that the codes stand for, (n,) float64."""
        low, step = self.low, self.step
        return np.asarray(self.dim * low * low + 2 * low * step * self.sums + step * step * self._moments[1])

    @cached_property
    def _moments(self) -> tuple[Float64, Float64]:
        sums, squares = np.empty(len(self)), np.empty(len(self))
        _sum(self.codes, sums, squares)
        return sums, squares


def layout(features: LocalFeatures | Layout) -> Layout:
    """The layout of `features`, itself where it is one."""
    if isinstance(features, Layout):
        return features
    return Layout(features.xy, features.scale, features.angle)


def compact(features: LocalFeatures | Compact) -> Compact:
    """The compact form of `features`, its descriptors rounded to 256 levels between their least and greatest component.

    For features that were stored (`resight.features.local.packed.pack`) that changes nothing; compact ones come back.
    """
    if isinstance(features, Compact):
        return features
    codes, low, step = quantise(features.descriptors)
    return Compact(features.xy, features.scale, features.angle, codes, low, step)


def quantise(values: Float32) -> tuple[UInt8, float, float]:
    """Bytes for `values` (n, d), and `low` and `step` such that low + step * bytes are the values, rounded."""
    low = float(values.min()) if values.size else 0.0
    step = (float(values.max()) - low) / LEVELS if values.size else 0.0
    codes = (values - np.float32(low)) * np.float32(1.0 / step if step else 0.0)
    return np.rint(codes, out=codes).astype(np.uint8), low, step


def hull_area(points: NDArray[Any]) -> float:
    """Area of the convex hull of points (n, 2), square pixels."""
    if len(points) < 3:
        return 0.0
    return float(cv2.contourArea(cv2.convexHull(points.astype(np.float32))))


def _extent(values: Float32) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if len(values) else (np.inf, -np.inf)


@numba.njit(cache=True, nogil=True)
def signatures(codes: UInt8, thresholds: UInt8) -> UInt64:
    """A bit for every component of `codes` (n, d) that exceeds its threshold (d,): (ceil(d / 64), n) uint64."""
    n, dim = codes.shape
    bits = np.zeros((-(-dim // 64), n), np.uint64)
    for i in range(n):
        for word in range(len(bits)):
            total = np.uint64(0)
            for k in range(64 * word, min(64 * word + 64, dim)):
                total |= np.uint64(codes[i, k] > thresholds[k]) << np.uint64(k & 63)
            bits[word, i] = total
    return bits


@numba.njit(cache=True, nogil=True)
def _sum(codes: UInt8, sums: Float64, squares: Float64) -> None:
    """Sum, and sum of squares, of the codes of every descriptor."""
    for i in range(len(codes)):
        total, square = np.int64(0), np.int64(0)
        for k in range(codes.shape[1]):
            total += np.int64(codes[i, k])
            square += np.int64(codes[i, k]) * np.int64(codes[i, k])
        sums[i], squares[i] = total, square
