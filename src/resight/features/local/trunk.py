"""Photos to feature maps at several scales: what HOW, FIRe, DELF and DELG start from.

A trunk is an ONNX file (onnxruntime), or a checkpoint of torch, cut where its paper cuts it. Images of one size go
through it together; memory is that of one batch, however many images there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from resight.errors import ImageError, UsageError
from resight.features.fingerprint import fingerprint
from resight.features.local.each import check_pixels
from resight.features.networks.backbone import Backbone
from resight.types import Float32, LocalFeatures

if TYPE_CHECKING:
    from resight.features.checkpoints import Checkpoint

BATCH_PIXELS = 2**21  # of one batch at its largest scale
LARGEST_STRIDE = 32


class NotFinite(ImageError):
    """The network answers the image with NaN or infinity."""

    kind = "not-finite"


@dataclass(frozen=True, eq=False)
class ScaleMaps:
    """Maps of a batch at one scale: `maps` (N, C, h, w) float32, `scale` as asked for, and the pixels of the given
    image per cell, `step` (2,) across and down."""

    maps: Float32
    scale: float
    step: tuple[float, float]

    def centres(self) -> Float32:
        """Centres of the cells (h * w, 2) float32, row by row, in pixels of the given image."""
        height, width = self.maps.shape[2:]
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        cells = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
        return np.asarray(cells * self.step, np.float32)

    @property
    def side(self) -> float:
        """Mean side of a cell in pixels of the given image: the geometric mean of `step`."""
        return float(np.sqrt(self.step[0] * self.step[1]))


@dataclass(frozen=True, eq=False)
class Trunk:
    """A network that gives maps, and the sizes at which it sees an image.

    `max_side`: images whose longer side is longer are reduced to it, in pixels; `enlarge_below`: those whose longer
    side is shorter are enlarged to that; 0 never enlarges. `scales`: sizes relative to what that gives. Raises
    `UsageError` on values out of range, and for a network without maps.
    """

    backbone: Backbone
    max_side: int = 1024
    enlarge_below: int = 0
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        network = self.backbone
        if network.output != "maps" or network.side is not None:
            what = f"gives {network.output}" if network.output != "maps" else f"takes {network.side} pixels only"
            raise UsageError(
                f"{network.name} {what}: local features need a network that gives maps (N, C, H, W) of images of any "
                "size, such as a ResNet cut after its fourth stage"
            )
        if not 0 < network.stride <= LARGEST_STRIDE:
            raise UsageError(
                f"{network.name} has maps of stride {network.stride}: local features need one of 16, at most "
                f"{LARGEST_STRIDE}"
            )
        check_sizes(self.max_side, self.enlarge_below, self.scales)

    @property
    def channels(self) -> int:
        """C of the maps."""
        return self.backbone.channels

    @property
    def stride(self) -> int:
        """Pixels of the network's input per cell."""
        return self.backbone.stride

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of weights, sizes and what is done to pixels: equal ones give equal maps."""
        network = self.backbone
        settings = [self.max_side, self.enlarge_below, list(self.scales)]
        return fingerprint(["trunk", network.sha256, network.mean, network.std, network.multiple, settings])

    def batches(self, images: Sequence[NDArray[np.uint8]]) -> Iterator[tuple[list[int], list[ScaleMaps]]]:
        """The maps of all scales, for groups of images of one size: their places in `images`, and one `ScaleMaps` for
        each scale at which there is at least a cell. Images too small for one at any scale never come.

        Raises `ArrayError` unless images are (H, W, 3) uint8.
        """
        sizes: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(images):
            check_pixels(image)
            if image.size:
                sizes.setdefault(image.shape, []).append(place)
        for shape, places in sizes.items():
            targets = self._targets(shape)
            if not targets:
                continue
            largest = max(height * width for _, height, width in targets)
            step = max(1, BATCH_PIXELS // largest)
            for start in range(0, len(places), step):
                batch = places[start : start + step]
                pixels = [images[place] for place in batch]
                yield batch, [self._maps(pixels, *target) for target in targets]

    def _targets(self, shape: tuple[int, ...]) -> list[tuple[float, int, int]]:
        """Scale, height and width of what the network sees of an image of that shape."""
        side = max(shape[:2])
        base = min(1.0, self.max_side / side) if side >= self.enlarge_below else self.enlarge_below / side
        multiple, least = self.backbone.multiple, self.backbone.least_side
        found = []
        for scale in self.scales:
            height, width = (int(length * base * scale + 0.5) // multiple * multiple for length in shape[:2])
            if min(height, width) >= least:
                found.append((scale, height, width))
        return found

    def _maps(self, pixels: Sequence[NDArray[np.uint8]], scale: float, height: int, width: int) -> ScaleMaps:
        maps = self.backbone.forward(_input(pixels, height, width, self.backbone))
        size, stride = pixels[0].shape, self.stride
        return ScaleMaps(maps, scale, (stride * size[1] / width, stride * size[0] / height))


def check_sizes(max_side: int, enlarge_below: int, scales: Sequence[float]) -> None:
    """Raise `UsageError` unless these are sizes that a `Trunk` can have."""
    if max_side < 16 or not 0 <= enlarge_below <= max_side:
        small = f"enlarge_below={enlarge_below} from 0 to max_side"
        raise UsageError(f"max_side={max_side} must be at least 16, and {small}")
    if not scales or not np.isfinite(scales).all() or min(scales) <= 0:
        raise UsageError(f"scales={list(scales)}: give at least one, all positive")


def open_trunk(
    backbone: str | os.PathLike[str] = "",
    checkpoint: Checkpoint | None = None,
    *,
    max_side: int = 1024,
    enlarge_below: int = 0,
    scales: tuple[float, ...] = (1.0,),
    threads: int = 0,
    device: str | None = None,
) -> Trunk:
    """The trunk in an ONNX file `backbone`, or of a `checkpoint` that was read; give one of them.

    `threads` of onnxruntime, 0 for one per processor. `device`: of torch, None for the chosen one
    (`resight.features.networks.device`), which onnxruntime always takes. Raises `UsageError` when the file is missing,
    damaged, or no trunk.
    """
    if bool(backbone) == (checkpoint is not None):
        raise UsageError("local features need one network: give --backbone FILE.onnx or --weights CHECKPOINT")
    if checkpoint is None:
        from resight.features.networks.open import open_backbone

        network = open_backbone(backbone, threads=threads)
    else:
        network = trunk_of(checkpoint, device)
    return Trunk(network, max_side, enlarge_below, scales)


def trunk_of(checkpoint: Checkpoint, device: str | None = None) -> Backbone:
    """The trunk of a checkpoint, whole where its authors made it for local features, else a bottleneck ResNet is cut
    after its fourth stage, where cells are 16 pixels wide.
    """
    from resight.features.checkpoints.checkpoint import build_trunk, without_last_stage
    from resight.features.networks.resnet import trunk_backbone

    found = checkpoint if checkpoint.layout in ("how", "fire") else without_last_stage(checkpoint)
    return trunk_backbone(
        build_trunk(found),
        f"{checkpoint.layout}-{checkpoint.architecture}",
        mean=checkpoint.mean,
        std=checkpoint.std,
        sha256=checkpoint.sha256,
        device=device,
    )


def finite(features: LocalFeatures | None, name: str) -> LocalFeatures | ImageError:
    """`features`, or the error of an image for which network `name` gave NaN."""
    if features is None:
        return NotFinite(f"{name} answers this photo with NaN or infinity: its weights are damaged")
    return features


def _input(pixels: Sequence[NDArray[np.uint8]], height: int, width: int, network: Backbone) -> Float32:
    """Images (H, W, 3) uint8 of one size resized, centred and scaled, (N, 3, height, width) float32."""
    mean, deviation = 255 * np.asarray(network.mean, np.float32), 255 * np.asarray(network.std, np.float32)
    batch = np.empty((len(pixels), 3, height, width), np.float32)
    for image, place in zip(pixels, batch, strict=True):
        seen = image
        if image.shape[:2] != (height, width):
            seen = np.asarray(cv2.resize(image, (width, height), interpolation=_filter(image, height)), np.uint8)
        place[...] = ((seen - mean) / deviation).transpose(2, 0, 1)
    return batch


def _filter(image: NDArray[np.uint8], height: int) -> int:
    """Bilinear, as networks were trained with; means of areas where an image shrinks to less than half."""
    return cv2.INTER_AREA if height < image.shape[0] / 2 else cv2.INTER_LINEAR
