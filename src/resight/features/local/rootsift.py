"""Pixels to local features: RootSIFT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError, ImageError, UsageError
from resight.features.fingerprint import fingerprint
from resight.features.local.each import each
from resight.features.local.packed import empty_features
from resight.images.transform import resize_to
from resight.types import Float32, LocalFeatures, Traits


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
        return 128

    @property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of the name and the parameters: equal ones extract equal features."""
        return fingerprint(["rootsift", asdict(self)])

    @property
    def traits(self) -> Traits:
        """Key points to the pixel, with angle and scale; unit descriptors."""
        return Traits()

    def open(self) -> RootSift:
        """The encoder of these settings: itself."""
        return self

    def describe(self, images: Sequence[NDArray[np.uint8]], /) -> list[LocalFeatures | ImageError]:
        """The features of each of `images`, one after the other."""
        return each(self, images)

    def __call__(self, pixels: NDArray[np.uint8], /) -> LocalFeatures:
        """Features of `pixels` (H, W, 3) uint8 RGB, in its own pixel coordinates, strongest first."""
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ArrayError(f"pixels have shape {pixels.shape} {pixels.dtype}, expected (H, W, 3) uint8")
        gray = self._gray(pixels)
        # OpenCV describes only what it keeps: the strongest `count`, and all that are as strong as the last of them.
        sift = cv2.SIFT.create(nfeatures=self.count, contrastThreshold=self.contrast)
        points, descriptors = sift.detectAndCompute(gray, None)
        if not points:
            return empty_features(self.dim)
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
