"""One vector per photo: resize, backbone, pooling, normalisation, the mean over scales, whitening.

descriptor = GlobalDescriptor(open_backbone("resnet101v2_c4.onnx"), gem, scales=(1.0, 0.7071))
vectors = descriptor.describe([pixels, pixels])
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError, ImageError, UsageError
from resight.features.fingerprint import fingerprint
from resight.features.networks.backbone import Backbone
from resight.features.pooling import Array, class_token, normalise, power_mean
from resight.features.whitening import Whitening
from resight.types import Float32, as_array

BATCH_PIXELS = 2**21  # of one batch: two photos of 1024 x 1024, eighteen of 340 x 340
Pool = Callable[[Array], Array]


class TooSmall(ImageError):
    """The image has fewer pixels along a side than one cell of the feature maps."""

    kind = "too-small"


@dataclass(frozen=True, eq=False)
class Linear:
    """A fully connected layer behind the pooling: y = weight · x + bias, then L2 normalisation.

    `weight` (D', D), `bias` (D',) or None, float32; `normalise`: x is L2-normalised first. Raises `ArrayError` on
    unequal shapes, NaN or infinity.
    """

    weight: Float32
    bias: Float32 | None = None
    normalise: bool = True

    def __post_init__(self) -> None:
        weight = as_array("Linear.weight", self.weight, np.float32, (None, None))
        bias = None if self.bias is None else as_array("Linear.bias", self.bias, np.float32, (len(weight),))
        if not np.isfinite(weight).all() or (bias is not None and not np.isfinite(bias).all()):
            raise ArrayError("the fully connected layer holds NaN or infinity: its file is damaged")
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", bias)

    def __call__(self, vectors: Float32) -> Float32:
        """Vectors (N, D) to (N, D'), not normalised."""
        if vectors.shape[1] != self.weight.shape[1]:
            wants = self.weight.shape[1]
            raise ArrayError(f"the fully connected layer takes {wants} channels, the backbone gives {vectors.shape[1]}")
        projected = (normalise(vectors) if self.normalise else vectors) @ self.weight.T
        return projected if self.bias is None else projected + self.bias


@dataclass(frozen=True, eq=False)
class GlobalDescriptor:
    """What turns photos into vectors of one dimension, L2-normalised.

    `pool`: of `resight.features.pooling`, maps (N, C, H, W) to (N, D); for tokens, of the patches as maps, or
    `class_token`. Backbones that give vectors need none. `pool_name` is its name and arguments, for the fingerprint.
    `scales`: sizes relative to the photo, whose longer side is brought to at most `max_side` first; it is never
    enlarged but by the scales. `power`: of the mean over scales. `whitening` comes last.
    """

    backbone: Backbone
    pool: Pool | None = None
    pool_name: str = ""
    linear: Linear | None = None
    scales: tuple[float, ...] = (1.0,)
    power: float = 1.0
    whitening: Whitening | None = None
    max_side: int = 1024
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0 or not np.isfinite(self.scales).all():
            raise UsageError(f"scales={self.scales}: give at least one, all positive")
        if self.max_side < self.backbone.least_side:
            least = self.backbone.least_side
            raise UsageError(f"max_side={self.max_side}: {self.backbone.name} needs at least {least} pixels")
        if (self.pool is None) != (self.backbone.output == "vectors"):
            what = "gives vectors, which are not pooled" if self.pool else "gives maps: choose a pooling"
            raise UsageError(f"backbone {self.backbone.name} {what}")
        if self.linear is not None and self.backbone.output != "tokens" and self._pooled != self.linear.weight.shape[1]:
            raise UsageError(
                f"the fully connected layer takes {self.linear.weight.shape[1]} channels, "
                f"{self.backbone.name} gives {self._pooled}: the weights are of another architecture"
            )
        if self.whitening is not None and len(self.whitening.mean) != self._raw_dim:
            raise UsageError(
                f"the whitening is for descriptors of {len(self.whitening.mean)} dimensions, "
                f"{self.backbone.name} gives {self._raw_dim}: fit one on descriptors of this model"
            )

    @property
    def _pooled(self) -> int:
        return int(getattr(self.pool, "dim", self.backbone.channels))  # a pooling may whiten as it pools

    @property
    def _raw_dim(self) -> int:
        return self._pooled if self.linear is None else len(self.linear.weight)

    @property
    def name(self) -> str:
        """The name of the network."""
        return self.backbone.name

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self._raw_dim if self.whitening is None else self.whitening.dim

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of weights and settings: vectors of equal fingerprints can be compared."""
        network = self.backbone
        linear = [] if self.linear is None else [_digest(self.linear.weight), _digest(self.linear.bias)]
        settings = [self.pool_name, self.scales, self.power, self.max_side, dict(self.extra)]
        transform = [network.mean, network.std, network.side, network.multiple]
        whitening = None if self.whitening is None else self.whitening.fingerprint
        return fingerprint([network.sha256, linear, settings, transform, whitening])

    def describe(self, images: Sequence[NDArray[np.uint8]]) -> list[Float32 | ImageError]:
        """The vector (D,) float32 of each image (H, W, 3) uint8 RGB, or `TooSmall` in its place.

        Images of one size share batches of at most `BATCH_PIXELS`. Raises `ArrayError` when the network gives NaN.
        """
        found: list[Float32 | ImageError] = [self._too_small(image) for image in images]
        sizes: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(images):
            if not isinstance(found[place], ImageError):
                sizes.setdefault(image.shape, []).append(place)
        for (height, width, _), places in sizes.items():
            largest = max(self.scales) ** 2 * height * width
            step = max(1, int(BATCH_PIXELS / largest))
            for start in range(0, len(places), step):
                batch = places[start : start + step]
                vectors = self._vectors(np.stack([images[place] for place in batch]))
                for place, vector in zip(batch, vectors, strict=True):
                    found[place] = vector
        return found

    def __call__(self, image: NDArray[np.uint8]) -> Float32:
        """The vector (D,) of one image. Raises `TooSmall`."""
        vector = self.describe([image])[0]
        if isinstance(vector, ImageError):
            raise vector
        return vector

    def maps(self, image: NDArray[np.uint8]) -> Float32:
        """The feature maps (C, H, W) float32 that are pooled of one image, at its own scale: what pictures are made of.

        Raises `TooSmall`, and `UsageError` when nothing is pooled: networks that give vectors, and the class token.
        """
        if self.pool is None or self.pool is class_token:
            raise UsageError(f"{self.backbone.name} gives its vector as it is, so there are no maps behind it to show")
        problem = self._too_small(image)
        if problem is not None:
            raise problem
        batch = image[None]
        maps: Float32 = self._maps(self.backbone.forward(self._input(batch, 1.0)), self._grid(batch, 1.0))[0]
        return maps

    def _too_small(self, image: NDArray[np.uint8]) -> Any:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ArrayError(f"an image has shape {image.shape} and dtype {image.dtype}, expected (H, W, 3) uint8")
        if self.backbone.side is not None:
            return None
        height, width = _target(image.shape, self._factor(image) * min(self.scales), 1)
        least = self.backbone.least_side
        if min(height, width) < least:
            return TooSmall(
                f"an image of {image.shape[1]} x {image.shape[0]} pixels becomes {width} x {height}, and "
                f"{self.backbone.name} needs {least} along each side: crop it, or raise max_side"
            )
        return None

    def _factor(self, image: NDArray[np.uint8]) -> float:
        return min(1.0, float(self.max_side / max(image.shape[:2])))

    def _vectors(self, images: NDArray[np.uint8]) -> Float32:
        per_scale = np.stack([self._one_scale(images, scale) for scale in self.scales])
        vectors = per_scale[0] if len(per_scale) == 1 else normalise(power_mean(per_scale, self.power))
        if not np.isfinite(vectors).all():
            raise ArrayError(f"{self.backbone.name} gives NaN or infinity: its weights are damaged")
        vectors = vectors.astype(np.float32, copy=False)
        return vectors if self.whitening is None else self.whitening.apply(vectors)

    def _one_scale(self, images: NDArray[np.uint8], scale: float) -> Float32:
        pooled = self._pool(self.backbone.forward(self._input(images, scale)), self._grid(images, scale))
        vectors: Float32 = normalise(pooled if self.linear is None else self.linear(pooled))
        return vectors

    def _pool(self, output: Float32, grid: tuple[int, int]) -> Float32:
        if self.pool is None:
            return output
        pooled: Float32 = self.pool(output if self.pool is class_token else self._maps(output, grid))
        return pooled

    def _maps(self, output: Float32, grid: tuple[int, int]) -> Float32:
        """Maps as they are; tokens without those in front, as maps."""
        if self.backbone.output != "tokens":
            return output
        return output[:, self.backbone.prefix :].transpose(0, 2, 1).reshape(len(output), -1, *grid)

    def _size(self, images: NDArray[np.uint8], scale: float) -> tuple[int, int]:
        network = self.backbone
        if network.side is not None:
            return network.side, network.side
        return _target(images.shape[1:], self._factor(images[0]) * scale, network.multiple)

    def _grid(self, images: NDArray[np.uint8], scale: float) -> tuple[int, int]:
        height, width = self._size(images, scale)
        stride = max(self.backbone.stride, 1)
        return height // stride, width // stride

    def _input(self, images: NDArray[np.uint8], scale: float) -> Float32:
        """Images (N, H, W, 3) uint8 resized, centred and scaled, (N, 3, H', W') float32."""
        height, width = self._size(images, scale)
        mean = 255 * np.asarray(self.backbone.mean, np.float32)
        deviation = 255 * np.asarray(self.backbone.std, np.float32)
        batch = np.empty((len(images), 3, height, width), np.float32)
        for image, place in zip(images, batch, strict=True):
            place[...] = ((_resized(image, height, width) - mean) / deviation).transpose(2, 0, 1)
        return batch


def batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """`items` in lists of `size`, the last one shorter."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _target(shape: tuple[int, ...], factor: float, multiple: int) -> tuple[int, int]:
    sides = (max(int(side * factor) // multiple, 1) * multiple for side in shape[:2])
    height, width = sides
    return height, width


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    # Bilinear both ways, as the published networks saw their scales
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _digest(array: Float32 | None) -> str:
    return "" if array is None else hashlib.sha256(array.tobytes()).hexdigest()
