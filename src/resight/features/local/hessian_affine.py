"""Pixels to local features: RootSIFT of Hessian-affine regions.

Perdoch, Chum and Matas, "Efficient representation of local geometry for large scale object retrieval", CVPR 2009, is
the detector of most published results with hand-crafted features; Arandjelovic and Zisserman, CVPR 2012, is RootSIFT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from resight.errors import ImageError, UsageError
from resight.features.fingerprint import fingerprint
from resight.features.local.each import each
from resight.features.local.hessian import detect
from resight.features.local.keypoints import check_sizes, sized_to
from resight.features.local.patch_sift import DIM, orientations, sift
from resight.features.local.patches import angles, extract, pyramid, turned
from resight.features.local.rootsift import root
from resight.types import Float32, LocalFeatures, Traits

RADIUS = 3 * np.sqrt(3)  # of the region that is described, in sigmas of what was detected
SIZE = 41  # samples of a side of its patch


@dataclass(frozen=True)
class HessianAffine:
    """RootSIFT on Hessian-affine regions.

    `count`: features kept, strongest first. `max_side`: larger images are reduced to it, in pixels. `enlarge_below`:
    images whose longest side is shorter are enlarged twice; 0 never enlarges. `threshold`: least determinant of the
    Hessian, of brightness from 0 to 255. `upright`: photos are not turned, so the vertical fixes the angle, and
    features match that are alike but for it (Perdoch et al.). Raises `UsageError` on values out of range.
    """

    count: int = 1000
    max_side: int = 1024
    enlarge_below: int = 512
    threshold: float = 16 / 3
    upright: bool = False

    def __post_init__(self) -> None:
        check_sizes(self.count, self.max_side, self.enlarge_below)
        if not (np.isfinite(self.threshold) and self.threshold >= 0):
            raise UsageError(f"threshold={self.threshold} must not be negative")

    @property
    def dim(self) -> int:
        """Descriptor dimension."""
        return DIM

    @property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of the name and the parameters: equal ones extract equal features."""
        return fingerprint(["hessian-affine", asdict(self)])

    @property
    def traits(self) -> Traits:
        """Key points to the pixel, with scale and, unless `upright`, angle; unit descriptors."""
        return Traits(oriented=not self.upright)

    def open(self) -> HessianAffine:
        """The encoder of these settings: itself."""
        return self

    def describe(self, images: Sequence[NDArray[np.uint8]], /) -> list[LocalFeatures | ImageError]:
        """The features of each of `images`, one after the other."""
        return each(self, images)

    def __call__(self, pixels: NDArray[np.uint8], /) -> LocalFeatures:
        """Features of `pixels` (H, W, 3) uint8 RGB, in its own pixels, strongest first; their scale is the diameter of
        the circle of the area that was detected, as OpenCV's SIFT gives it."""
        gray, factor = brightness(pixels, self.max_side, self.enlarge_below)
        regions = detect(gray, self.count, self.threshold)
        levels = pyramid(gray)
        shapes = regions.shape * (np.float32(RADIUS) * regions.sigma[:, None, None])
        if not self.upright:
            shapes = turned(shapes, orientations(extract(levels, regions.xy, shapes, SIZE)))
        rows = root(sift(extract(levels, regions.xy, shapes, SIZE)))
        angle = np.zeros(len(rows), np.float32) if self.upright else angles(shapes)
        return LocalFeatures(regions.xy, 2 * regions.sigma, angle, regions.strength, rows).scaled(factor)


def brightness(pixels: NDArray[np.uint8], max_side: int, enlarge_below: int) -> tuple[Float32, float]:
    """Brightness (h, w) float32, 0 to 255, at the size at which features are sought, and by what positions in it are
    multiplied. Raises `ArrayError` on other than (H, W, 3) uint8."""
    seen = sized_to(pixels, max_side, enlarge_below)
    gray = np.asarray(cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY), np.float32)
    return gray, max(pixels.shape[:2]) / max(seen.shape[:2])
