"""Random changes of training photos: light and colour, and geometry that keeps what is to be found in the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from resight.errors import UsageError
from resight.types import Float32

Pixels = NDArray[np.uint8]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Augmentation:
    """How much a photo may change; all 0, the default, leaves it as it is.

    `flip`: probability of a mirror image. `brightness`, `contrast`, `saturation`: largest relative change. `gamma`:
    largest change of its logarithm. `grey`: probability of losing all colour. `rotation`: largest angle in degrees.
    `zoom`: largest factor by which a photo shrinks, as a logarithm. `crop`: how much of each side may be cut off, as a
    share; a region that must stay visible stays. `noise`: standard deviation, in grey levels.
    Raises `UsageError` on negative values, probabilities above 1, and a crop that could leave nothing.
    """

    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    gamma: float = 0.0
    grey: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    crop: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        values = vars(self)
        if min(values.values()) < 0 or max(self.flip, self.grey) > 1 or self.crop >= 1:
            raise UsageError(f"{self} is no augmentation: values are 0 or more, probabilities at most 1, crop below 1")

    @property
    def active(self) -> bool:
        """Whether anything changes."""
        return any(vars(self).values())

    def __call__(self, pixels: Pixels, rng: np.random.Generator, region: Float32 | None = None) -> Pixels:
        """`pixels` (H, W, 3) uint8, changed; `region` (4,), left, top, right, bottom as shares, stays visible.

        Draws the same number of random values whatever is asked for, so that one setting does not move another.
        """
        if not self.active:
            return pixels
        draw = rng.uniform(-1, 1, 12)
        chance = rng.uniform(0, 1, 2)
        cut = _cropped(pixels, self.crop * np.abs(draw[:4]), region)
        turned = _turned(cut, self.rotation * draw[4], math.exp(-self.zoom * abs(draw[5])))
        mirrored = turned[:, ::-1] if chance[0] < self.flip else turned
        light = self._light(mirrored, draw[6:10], chance[1])
        if self.noise:
            light = light + rng.normal(0, self.noise, light.shape).astype(np.float32)
        return np.ascontiguousarray(light.clip(0, 255).round().astype(np.uint8))

    def _light(self, pixels: Pixels, draw: NDArray[np.float64], chance: float) -> Float32:
        values: NDArray[Any] = pixels.astype(np.float32)
        values = np.float32(255) * (values / 255) ** np.float32(math.exp(self.gamma * draw[0]))
        values = values * np.float32(1 + self.brightness * draw[1])
        mean = values.mean()
        values = mean + (values - mean) * np.float32(1 + self.contrast * draw[2])
        grey = (values @ LUMA)[:, :, None]
        colour = np.float32(0 if chance < self.grey else 1 + self.saturation * draw[3])
        return np.asarray(grey + (values - grey) * colour, np.float32)


def _cropped(pixels: Pixels, shares: NDArray[np.float64], region: Float32 | None) -> Pixels:
    """Without `shares` (4,) of the picture at left, top, right and bottom, each half of what is drawn at most, and none
    of the region."""
    left, top, right, bottom = shares / 2
    if region is not None:
        left, top = min(left, region[0]), min(top, region[1])
        right, bottom = min(right, 1 - region[2]), min(bottom, 1 - region[3])
    height, width = pixels.shape[:2]
    rows = slice(int(max(top, 0) * height), max(math.ceil((1 - max(bottom, 0)) * height), 1))
    columns = slice(int(max(left, 0) * width), max(math.ceil((1 - max(right, 0)) * width), 1))
    return pixels[rows, columns]


def _turned(pixels: Pixels, angle: float, factor: float) -> Pixels:
    """The picture turned by `angle` degrees about its centre and shrunk by `factor`; its borders are reflected."""
    if angle == 0 and factor == 1:
        return pixels
    height, width = pixels.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, factor)
    matrix[:, 2] += (np.array(size) - 1) / 2 - (np.array([width, height]) - 1) / 2
    small = cv2.GaussianBlur(pixels, (0, 0), 0.5 / factor) if factor < 0.7 else pixels
    turned = cv2.warpAffine(small, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(turned, np.uint8)
