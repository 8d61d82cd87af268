"""Networks that give key points with descriptors: what ALIKED and DISK share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from resight.errors import ImageError, UsageError
from resight.features.fingerprint import fingerprint
from resight.features.local import trunk
from resight.features.local.each import alone, check_pixels
from resight.features.local.packed import empty_features
from resight.images.transform import resize_to
from resight.types import Float32, LocalFeatures, Traits

Pixels: TypeAlias = NDArray[np.uint8]
Found: TypeAlias = tuple[Float32, Float32, Float32]  # xy, in pixels from the centre of the top-left one; strength; rows
Forward: TypeAlias = Callable[[Float32], list[Found | None]]

BATCH_PIXELS = 2**20  # of one batch, which bounds memory: ALIKED holds some 1.5 kB per pixel


@dataclass(frozen=True)
class KeypointSettings:
    """How the features of a network of key points are made.

    `weights`: its file. `count`: features kept, strongest first. `max_side`: larger images are reduced to it, in
    pixels. `enlarge_below`: images whose longest side is shorter are enlarged twice; 0 never enlarges. `threshold`:
    score that a key point must exceed. Raises `UsageError` on values out of range.
    """

    weights: str = ""
    count: int = 1000
    max_side: int = 1024
    enlarge_below: int = 0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self.count, self.max_side, self.enlarge_below)
        if not np.isfinite(self.threshold):
            raise UsageError(f"threshold={self.threshold}: a score must be finite")


@dataclass(frozen=True, eq=False)
class KeypointEncoder:
    """A network of key points, opened: `forward` takes images (N, 3, H, W) float32 in [0, 1] and gives the points of
    each, None where it gave NaN. `sha256`: of its weights. `least`: pixels of the shorter side of an image; smaller
    ones have no features.

    Its points have neither scale nor angle. Memory: that of one batch of `BATCH_PIXELS`, or of one image.
    """

    name: str
    forward: Forward
    sha256: str
    settings: KeypointSettings
    least: int = 16
    dim: int = 128

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of the name, the settings and the weights: equal ones extract equal features."""
        settings = {**asdict(self.settings), "weights": self.sha256}
        return fingerprint([self.name, settings])

    @property
    def traits(self) -> Traits:
        """Key points to the pixel, without angle and scale; unit descriptors."""
        return Traits(oriented=False, scaled=False)

    def __call__(self, pixels: Pixels, /) -> LocalFeatures:
        """Features of `pixels` (H, W, 3) uint8 RGB, in its own pixels, strongest first. Raises `NotFinite`."""
        return alone(self.describe([pixels]))

    def describe(self, images: Sequence[Pixels], /) -> list[LocalFeatures | ImageError]:
        """Features of each image, or `NotFinite` in its place. Images of one size share batches."""
        found: list[LocalFeatures | ImageError] = [empty_features(self.dim)] * len(images)
        sized = [sized_to(image, self.settings.max_side, self.settings.enlarge_below) for image in images]
        for places in equal_sizes(sized, self.least):
            batch = np.stack([sized[place] for place in places]).transpose(0, 3, 1, 2)
            for place, points in zip(places, self.forward(batch.astype(np.float32) / np.float32(255)), strict=True):
                factor = max(images[place].shape[:2]) / max(sized[place].shape[:2])
                found[place] = trunk.finite(self._features(points, factor), self.name)
        return found

    def _features(self, points: Found | None, factor: float) -> LocalFeatures | None:
        if points is None:
            return None
        xy, strength, descriptors = points
        order = np.lexsort((*xy.T, -strength))  # equal ones by row, then column
        order = order[strength[order] > self.settings.threshold][: self.settings.count]
        flat = np.zeros(len(order), np.float32)
        return LocalFeatures(
            xy[order] + np.float32(0.5), flat + 1, flat, strength[order], unit(descriptors[order])
        ).scaled(factor)


def finite(*parts: Any) -> Found | None:
    """Arrays or tensors xy, strength and descriptors as float32, None where one holds NaN or infinity."""
    xy, strength, descriptors = (np.asarray(part, np.float32) for part in parts)
    whole = all(np.isfinite(part).all() for part in (xy, strength, descriptors))
    return (xy, strength, descriptors) if whole else None


def check_sizes(count: int, max_side: int, enlarge_below: int = 0) -> None:
    """Raise `UsageError` on a number of features or a size that cannot be."""
    if count < 1:
        raise UsageError(f"count={count}: at least one local feature must be kept")
    trunk.check_sizes(max_side, enlarge_below, (1.0,))


def sized_to(pixels: Pixels, max_side: int, enlarge_below: int) -> Pixels:
    """An image at the size at which features are sought. Raises `ArrayError` on other than (H, W, 3) uint8."""
    check_pixels(pixels)
    if max(pixels.shape[:2]) >= enlarge_below:
        return resize_to(pixels, max_side)
    return np.asarray(cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)


def equal_sizes(images: Sequence[Pixels], least: int) -> Iterator[list[int]]:
    """Places of images of one size, at most `BATCH_PIXELS` together; those with a side below `least` in none."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        if min(image.shape[:2]) >= least:
            sizes.setdefault(image.shape, []).append(place)
    for (height, width, _), places in sizes.items():
        step = max(1, BATCH_PIXELS // (height * width))
        yield from (places[start : start + step] for start in range(0, len(places), step))


def unit(descriptors: Float32) -> Float32:
    """Descriptors (n, d) L2-normalised; zero rows stay zero."""
    norms = np.linalg.norm(descriptors, axis=1, keepdims=True)
    return np.asarray(descriptors / np.maximum(norms, 1e-12), np.float32)
