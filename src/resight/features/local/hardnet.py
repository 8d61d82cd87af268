"""Pixels to local features: affine regions of several detectors, described by HardNet.

Hessian + AffNet + HardNet is HessAffNet-HardNet++ (Mishkin, Radenovic and Matas, ECCV 2018); Key.Net is Barroso-Laguna,
Riba, Ponsa and Mikolajczyk, "Key.Net: keypoint detection by handcrafted and learned CNN filters", ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from resight.errors import ImageError, UsageError
from resight.features.fingerprint import fingerprint
from resight.features.local.each import each
from resight.features.local.hessian import Regions, detect
from resight.features.local.hessian_affine import brightness
from resight.features.local.keypoints import check_sizes
from resight.features.local.packed import empty_features
from resight.features.local.patch_sift import orientations
from resight.features.local.patches import angles, circles, extract, pyramid, turned
from resight.features.local.trunk import NotFinite
from resight.types import Float32, LocalFeatures, Traits

if TYPE_CHECKING:
    from resight.features.local.patch_networks import PatchNetwork

SIZE = 32  # pixels of a side of the patches of all networks
SIGMAS = 6.0  # radius of the region that networks see, in sigmas of what was detected
LIMIT = 6.0  # largest ratio of axes
Detect = Callable[[NDArray[np.float32], int], Regions]


@dataclass(frozen=True)
class HardNetSettings:
    """How features are made of HardNet and a detector.

    `weights`: the file of HardNet, or of the smaller HardTFeat. `affine`: of AffNet, which gives regions their shape;
    none leaves them circles. `orientation`: of OriNet, which gives them their direction; none takes that of most
    gradient. `upright`: photos are not turned, so the vertical is the direction. `count`: features kept, strongest
    first. `max_side`: larger images are reduced to it, in pixels. `enlarge_below`: images whose longest side is shorter
    are enlarged twice; 0 never enlarges. Raises `UsageError` on values out of range.
    """

    weights: str = ""
    affine: str = ""
    orientation: str = ""
    upright: bool = False
    count: int = 1000
    max_side: int = 1024
    enlarge_below: int = 512

    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_sizes(self.count, self.max_side, self.enlarge_below)
        if self.upright and self.orientation:
            raise UsageError("upright features have no direction to ask OriNet for: leave orientation out")

    def open(self) -> HardNet:
        """The encoder. Raises `UsageError` when kornia is not installed, or a file is missing, damaged or of another
        network."""
        from resight.features.local import patch_networks

        detect, sha256 = self.detector()
        return HardNet(
            self,
            detect,
            sha256,
            patch_networks.descriptor(self.weights),
            patch_networks.affine_shape(self.affine) if self.affine else None,
            patch_networks.direction(self.orientation) if self.orientation else None,
        )

    def detector(self) -> tuple[Detect, str]:
        """Brightness (H, W) and a number to regions, and the SHA-256 of the detector's weights, empty without any."""
        raise NotImplementedError


@dataclass(frozen=True)
class HessianHardNet(HardNetSettings):
    """HardNet on regions of the Hessian. `threshold`: least determinant, of brightness from 0 to 255. The others: see
    `HardNetSettings`."""

    threshold: float = 16 / 3
    name: ClassVar[str] = "hessian-hardnet"

    def detector(self) -> tuple[Detect, str]:
        """See `HardNetSettings.detector`."""
        return lambda gray, count: detect(gray, count, self.threshold, affine=False), ""


@dataclass(frozen=True)
class SiftHardNet(HardNetSettings):
    """HardNet on the key points of SIFT. `contrast`: detection threshold of OpenCV's SIFT. The others: see
    `HardNetSettings`."""

    contrast: float = 0.01
    name: ClassVar[str] = "sift-hardnet"

    def detector(self) -> tuple[Detect, str]:
        """See `HardNetSettings.detector`."""
        return lambda gray, count: _sift_points(gray, count, self.contrast), ""


@dataclass(frozen=True)
class KeyNetHardNet(HardNetSettings):
    """HardNet on the key points of Key.Net. `keynet`: the file of Key.Net. The others: see `HardNetSettings`."""

    keynet: str = ""
    name: ClassVar[str] = "keynet-hardnet"

    def detector(self) -> tuple[Detect, str]:
        """See `HardNetSettings.detector`."""
        from resight.features.local.keynet import open_keynet

        return open_keynet(self.keynet)


@dataclass(frozen=True, eq=False)
class HardNet:
    """The networks of `HardNetSettings`, opened. Memory: some 50 bytes per pixel and 4 kB per feature."""

    settings: HardNetSettings
    detect: Detect
    detector_sha256: str
    descriptor: PatchNetwork
    affine: PatchNetwork | None
    orientation: PatchNetwork | None

    @property
    def dim(self) -> int:
        """Descriptor dimension."""
        return 128

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of the name, the settings and all weights: equal ones extract equal features."""
        networks = (self.descriptor, self.affine, self.orientation)
        weights = [self.detector_sha256, *("" if one is None else one.sha256 for one in networks)]
        files = ("weights", "affine", "orientation", "keynet")
        settings = {name: value for name, value in asdict(self.settings).items() if name not in files}
        return fingerprint([self.settings.name, settings, weights])

    @property
    def traits(self) -> Traits:
        """Key points to the pixel, with scale and, unless upright, angle; unit descriptors."""
        return Traits(oriented=not self.settings.upright)

    def describe(self, images: Sequence[NDArray[np.uint8]], /) -> list[LocalFeatures | ImageError]:
        """The features of each of `images`, or `NotFinite` in its place."""
        return each(self, images)

    def __call__(self, pixels: NDArray[np.uint8], /) -> LocalFeatures:
        """Features of `pixels` (H, W, 3) uint8 RGB, in its own pixels, strongest first; their scale is the diameter of
        the circle of the area that was detected. Raises `NotFinite` when a network gives NaN."""
        gray, factor = brightness(pixels, self.settings.max_side, self.settings.enlarge_below)
        regions = self.detect(gray, self.settings.count)
        if not len(regions.xy):
            return empty_features(self.dim)
        levels = pyramid(gray)
        shapes = circles(SIGMAS * regions.sigma)
        if self.affine is not None:
            shapes = shapes @ _bounded(self._finite(self.affine(extract(levels, regions.xy, shapes, SIZE))))
        if not self.settings.upright:
            find = orientations if self.orientation is None else self.orientation
            shapes = turned(shapes, self._finite(find(extract(levels, regions.xy, shapes, SIZE))))
        rows = self._finite(self.descriptor(extract(levels, regions.xy, shapes, SIZE)))
        angle = np.zeros(len(rows), np.float32) if self.settings.upright else angles(shapes)
        return LocalFeatures(regions.xy, 2 * regions.sigma, angle, regions.strength, rows).scaled(factor)

    def _finite(self, found: Float32) -> Float32:
        if not np.isfinite(found).all():
            raise NotFinite(f"a network of {self.settings.name} answers this photo with NaN or infinity: it is damaged")
        return found


def _bounded(shapes: Float32) -> Float32:
    """`shapes` (n, 2, 2), those thinner than `LIMIT` as circles: they tell nothing."""
    thin = np.linalg.cond(shapes.astype(np.float64)) > LIMIT
    return np.asarray(np.where(thin[:, None, None], np.eye(2), shapes), np.float32)


def _sift_points(gray: NDArray[np.float32], count: int, contrast: float) -> Regions:
    points = cv2.SIFT.create(nfeatures=count, contrastThreshold=contrast).detect(gray.astype(np.uint8), None)
    columns = np.array([(*point.pt, point.size, point.response) for point in points], np.float32).reshape(-1, 4)
    columns = np.unique(columns, axis=0)  # OpenCV repeats a point for each direction that it finds
    x, y, size, strength = columns.astype(np.float32).T
    order = np.lexsort((-size, y, x, -strength))[:count]
    xy = np.stack([x, y], axis=1)[order] + np.float32(0.25)  # see `RootSift`
    return Regions(
        np.asarray(xy, np.float32),
        np.asarray(size[order] / 2, np.float32),
        circles(np.ones(len(order))),
        strength[order],
    )
