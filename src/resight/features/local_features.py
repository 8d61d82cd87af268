"""Pixels to local features: RootSIFT, and the compact bytes that a collection stores for one image.

Every extractor here is an `Encoder`: a callable from pixels (H, W, 3) uint8 RGB to `LocalFeatures` in the pixels that
it was given. `LocalFeatures.scaled` carries them over to original pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError, CollectionError, UsageError
from resight.features.compact import Compact
from resight.images.transform import resize_to
from resight.types import Float32, LocalFeatures

SIFT_DIM = 128


@dataclass(frozen=True)
class RootSift:
    """RootSIFT on difference-of-Gaussian key points (Lowe, IJCV 2004; Arandjelovic and Zisserman, CVPR 2012).

    `count`: features kept, strongest first. `max_side`: larger images are reduced to it, in pixels. `enlarge_below`:
    images whose longest side is shorter are enlarged twice; 0 never enlarges. `contrast`: detection threshold of
    OpenCV's SIFT; below its default 0.04 so that dim and plain photos keep features too. Raises `UsageError` on values
    out of range.
    """

    count: int = 1000
    max_side: int = 1024
    enlarge_below: int = 512
    contrast: float = 0.01

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"count={self.count}: at least one local feature must be kept")
        if not 0 <= self.enlarge_below <= self.max_side or self.max_side < 16:
            small = f"enlarge_below={self.enlarge_below} from 0 to max_side"
            raise UsageError(f"max_side={self.max_side} must be at least 16, and {small}")
        if self.contrast < 0:
            raise UsageError(f"contrast={self.contrast} must not be negative")

    @property
    def dim(self) -> int:
        """Descriptor dimension."""
        return SIFT_DIM

    def __call__(self, pixels: NDArray[np.uint8], /) -> LocalFeatures:
        """Features of `pixels` (H, W, 3) uint8 RGB, in its own pixel coordinates, strongest first."""
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ArrayError(f"pixels have shape {pixels.shape} {pixels.dtype}, expected (H, W, 3) uint8")
        gray = self._gray(pixels)
        # OpenCV describes only what it keeps: the strongest `count`, and all that are as strong as the last of them.
        sift = cv2.SIFT.create(nfeatures=self.count, contrastThreshold=self.contrast)
        points, descriptors = sift.detectAndCompute(gray, None)
        if not points:
            return empty_features(SIFT_DIM)
        return self._select(points, descriptors).scaled(max(pixels.shape[:2]) / max(gray.shape))

    def _gray(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Brightness at the size at which features are sought; gray before it is enlarged, so it is rounded least."""
        small = max(pixels.shape[:2]) < self.enlarge_below
        gray = cv2.cvtColor(pixels if small else resize_to(pixels, self.max_side), cv2.COLOR_RGB2GRAY)
        if small:
            gray = cv2.resize(gray, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        return np.asarray(gray, np.uint8)

    def _select(self, points: Sequence[cv2.KeyPoint], descriptors: NDArray[np.float32]) -> LocalFeatures:
        columns = [(*point.pt, point.size, point.angle, point.response) for point in points]
        x, y, size, angle, strength = np.array(columns, np.float32).T
        # Strongest first; equal ones in the order in which OpenCV lists them before it chooses, which shuffles.
        order = np.lexsort((angle, -size, y, x, -strength))[: self.count]
        # OpenCV counts from the centre of the top-left pixel, resight from its corner, half a pixel earlier; and OpenCV
        # halves the positions in its doubled image without the quarter pixel by which their centres differ.
        xy = np.stack([x, y], axis=1)[order] + np.float32(0.25)
        return LocalFeatures(xy, size[order], np.deg2rad(angle[order]), strength[order], root(descriptors[order]))


def root(descriptors: Float32) -> Float32:
    """RootSIFT: square root of the L1-normalised descriptors, (n, d) float32; zero rows stay zero."""
    total = np.abs(descriptors).sum(axis=1, keepdims=True)
    return np.asarray(np.sqrt(np.abs(descriptors) / np.maximum(total, 1e-12)), np.float32)


def empty_features(dim: int) -> LocalFeatures:
    """The features of an image in which nothing was found."""
    none = np.zeros(0, np.float32)
    return LocalFeatures(np.zeros((0, 2), np.float32), none, none, none, np.zeros((0, dim), np.float32))


_HEADER = struct.Struct("<4sHHIff")  # magic, version, dimension, count, lowest descriptor value, quantisation step
_MAGIC = b"RSLF"
_VERSION = 1
_GEOMETRY = np.dtype([("xy", "<f4", 2), ("scale", "<f2"), ("angle", "<f2"), ("strength", "<f2")])


def pack(features: LocalFeatures) -> bytes:
    """One image's features as bytes: 14 bytes of geometry and one byte per descriptor component.

    Descriptors are quantised to 256 levels between the image's lowest and highest component; for RootSIFT the error of
    a descriptor is about 1 % of its norm. Scale, angle and strength are rounded to half precision.
    """
    values = features.descriptors
    low = float(values.min()) if values.size else 0.0
    step = (float(values.max()) - low) / 255 if values.size else 0.0
    codes = np.rint((values - low) / (step or 1.0)).astype(np.uint8)
    geometry = np.empty(len(features), _GEOMETRY)
    geometry["xy"] = features.xy
    for name in ("scale", "angle", "strength"):
        geometry[name] = np.clip(getattr(features, name), -65504, 65504)
    header = _HEADER.pack(_MAGIC, _VERSION, features.dim, len(features), low, step)
    return b"".join((header, geometry.tobytes(), codes.tobytes()))


def unpack(data: bytes) -> LocalFeatures:
    """The features that `pack` wrote. Raises `CollectionError` when the bytes are not what it writes."""
    geometry, codes, low, step = _parts(data)
    with _damage():
        return LocalFeatures(
            geometry["xy"],
            geometry["scale"],
            geometry["angle"],
            geometry["strength"],
            codes * np.float32(step) + np.float32(low),
        )


def unpack_compact(data: bytes) -> Compact:
    """As `unpack`, in the form in which features are matched: ten times faster. Raises as `unpack` does."""
    geometry, codes, low, step = _parts(data)
    with _damage():
        return Compact(geometry["xy"], geometry["scale"], geometry["angle"], codes, low, step)


def _parts(data: bytes) -> tuple[NDArray[np.void], NDArray[np.uint8], float, float]:
    """Geometry (n,), codes (n, d), lowest descriptor value and quantisation step of packed features."""
    if len(data) < _HEADER.size:
        raise CollectionError(f"packed local features hold {len(data)} bytes: too short, run `resight check`")
    magic, version, dim, count, low, step = _HEADER.unpack_from(data)
    expected = _HEADER.size + count * (_GEOMETRY.itemsize + dim)
    if (magic, version) != (_MAGIC, _VERSION) or len(data) != expected:
        raise CollectionError("packed local features are damaged or of another version: run `resight check --repair`")
    geometry = np.frombuffer(data, _GEOMETRY, count, _HEADER.size)
    codes = np.frombuffer(data, np.uint8, count * dim, _HEADER.size + geometry.nbytes).reshape(count, dim)
    return geometry, codes, low, step


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except ArrayError as error:
        raise CollectionError(f"packed local features are damaged ({error}): run `resight check --repair`") from error
