"""What encoders over feature maps share: their settings, and the way from images through batches to features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from resight.errors import ImageError, UsageError
from resight.features.local.each import alone
from resight.features.local.packed import empty_features
from resight.features.local.reduction import Reduction
from resight.features.local.trunk import ScaleMaps, Trunk, check_sizes, finite, open_trunk
from resight.types import Float32, Int64, LocalFeatures

if TYPE_CHECKING:
    from resight.features.checkpoints import Checkpoint

DIM = 128  # of reduced descriptors, as published
SEVEN = (1.0, 0.7071, 0.5, 0.3536, 0.25, 0.1768, 0.125)  # half octaves down from the largest side
PER_PHOTO = 256  # descriptors of a photo that a reduction is learnt from
OfBatch = Callable[[Sequence[ScaleMaps]], Sequence[LocalFeatures | None]]


@dataclass(frozen=True)
class MapSettings:
    """Network, sizes and reduction of an encoder over maps; the kinds say what each means. `enlarge_below` None: of
    `max_side`, so that all photos come to one size."""

    backbone: str = ""
    weights: str = ""
    reduction: str = ""
    dim: int | None = None
    max_side: int = 512
    enlarge_below: int | None = None
    scales: tuple[float, ...] = SEVEN

    def __post_init__(self) -> None:
        check_sizes(self.max_side, self.smallest, self.scales)
        if self.dim is not None and self.dim < 1:
            raise UsageError(f"dim={self.dim}: descriptors have at least one dimension")

    @property
    def smallest(self) -> int:
        """Longer side, in pixels, below which photos are enlarged."""
        return self.max_side if self.enlarge_below is None else self.enlarge_below

    @property
    def size(self) -> int:
        """Dimension of a reduction that is learnt."""
        return DIM if self.dim is None else self.dim


class ReducedEncoder(ABC):
    """An encoder over the maps of a `trunk` whose `reduction` is None until it is learnt (`Reducible`).

    A kind is a frozen dataclass with these two among its fields, which says how features are made of maps. Memory: the
    maps of one batch at all scales.
    """

    trunk: Trunk
    reduction: Reduction | None

    @abstractmethod
    def _features(self, scales: Sequence[ScaleMaps], reduction: Reduction | None) -> Sequence[LocalFeatures | None]:
        """The features of each image of a batch, strongest first, with descriptors as they are where `reduction` is
        None; None for an image with NaN."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Dimension of a reduction that is learnt."""

    @property
    def name(self) -> str:
        """What errors call it."""
        return type(self).__name__.upper()

    @property
    def channels(self) -> int:
        """Dimension before the reduction."""
        return self.trunk.channels

    @property
    def dim(self) -> int:
        """Dimension of the descriptors."""
        return self.size if self.reduction is None else self.reduction.dim

    def __post_init__(self) -> None:
        if self.reduction is not None and self.reduction.channels != self.channels:
            raise UsageError(
                f"the reduction takes {self.reduction.channels} dimensions, and {self.trunk.backbone.name} gives "
                f"{self.channels}: it was learnt for another network"
            )

    def reduced(self, reduction: Reduction) -> Self:
        """This encoder with a reduction. Raises `UsageError` when it takes other dimensions."""
        kind: Any = self  # a dataclass, as all kinds are
        found: Self = replace(kind, reduction=reduction)
        return found

    def __call__(self, pixels: NDArray[np.uint8], /) -> LocalFeatures:
        """Features of `pixels` (H, W, 3) uint8 RGB, in its own pixels, strongest first."""
        return alone(self.describe([pixels]))

    def describe(self, images: Sequence[NDArray[np.uint8]], /) -> list[LocalFeatures | ImageError]:
        """The features of `images`; 0 rows for one smaller than a cell. Raises `UsageError` before the reduction is
        there."""
        if self.reduction is None:
            raise UsageError(f"{self.name} has no reduction yet: learn it from photos first, or give reduction=FILE")
        return described(self.trunk, images, lambda scales: self._features(scales, self.reduction), self.dim)

    def sample(self, images: Sequence[NDArray[np.uint8]], /) -> Float32:
        """Descriptors (n, C) before the reduction, some of the strongest of each image, to learn one from."""
        parts = [np.empty((0, self.channels), np.float32)]
        for features in described(self.trunk, images, lambda scales: self._features(scales, None), self.channels):
            if isinstance(features, LocalFeatures):
                parts.append(features.descriptors[spread(len(features), PER_PHOTO)])
        return np.concatenate(parts)


def open_parts(settings: MapSettings, layouts: Sequence[str]) -> tuple[Trunk, Reduction | None, Checkpoint | None]:
    """The trunk, the reduction of a file or of the checkpoint (None: it is to be learnt), and the checkpoint.

    `layouts`: of checkpoints that will do. Raises `UsageError` when a file is missing, damaged, of another kind, or
    does not fit the others.
    """
    checkpoint = _checkpoint(settings.weights, layouts) if settings.weights else None
    if checkpoint is not None and settings.backbone:
        raise UsageError("give a backbone or weights, not both: they are two ways to name one network")
    trunk = open_trunk(
        settings.backbone,
        checkpoint,
        max_side=settings.max_side,
        enlarge_below=settings.smallest,
        scales=settings.scales,
    )
    return trunk, _reduction(settings, checkpoint), checkpoint


def described(
    trunk: Trunk, images: Sequence[NDArray[np.uint8]], of_batch: OfBatch, dim: int
) -> list[LocalFeatures | ImageError]:
    """The features of each image, in order: `of_batch` makes them of the maps of all scales of one batch, None for an
    image with NaN. Images without a cell have none."""
    found: list[LocalFeatures | ImageError] = [empty_features(dim)] * len(images)
    for places, scales in trunk.batches(images):
        for place, features in zip(places, of_batch(scales), strict=True):
            found[place] = finite(features, trunk.backbone.name)
    return found


def mapped(maps: Sequence[Float32], image: int, cells: Int64) -> Float32:
    """Descriptors (n, d) of one `image` of maps (N, d, cells) per scale, at `cells` (n,) counted through all scales."""
    ends = np.cumsum([one.shape[2] for one in maps])
    scale = np.searchsorted(ends, cells, side="right")
    found = np.empty((len(cells), maps[0].shape[1]), np.float32)
    for number, one in enumerate(maps):
        here = scale == number
        found[here] = one[image][:, cells[here] - (ends[number] - one.shape[2])].T
    return found


def upright(xy: Float32, side: Float32, strength: Float32, descriptors: Float32) -> LocalFeatures | None:
    """Features without angles, None where the network gave NaN or infinity."""
    if not (np.isfinite(strength).all() and np.isfinite(descriptors).all()):
        return None
    return LocalFeatures(xy, side, np.zeros(len(xy), np.float32), strength, descriptors)


def spread(count: int, most: int) -> Int64:
    """Up to `most` of `count` places, evenly spaced."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).astype(np.int64))


def _checkpoint(path: str, layouts: Sequence[str]) -> Checkpoint:
    from resight.features.checkpoints import read_checkpoint

    found = read_checkpoint(path)
    if found.layout not in layouts:
        raise UsageError(f"{path} is a checkpoint of layout {found.layout}: this needs one of {', '.join(layouts)}")
    return found


def _reduction(settings: MapSettings, checkpoint: Checkpoint | None) -> Reduction | None:
    part = None if checkpoint is None else checkpoint.parts.get("dim_reduction")
    if settings.reduction:
        found, source = Reduction.load(settings.reduction), settings.reduction
    elif part is not None and checkpoint is not None:
        found, source = _of_convolution(part, checkpoint), settings.weights
    else:
        return None
    if settings.dim not in (None, found.dim):
        raise UsageError(f"dim={settings.dim}, but {source} reduces to {found.dim} dimensions: leave dim out")
    return found


def _of_convolution(part: object, checkpoint: Checkpoint) -> Reduction:
    """The reduction in a checkpoint: a 1 x 1 convolution with bias."""
    layers = dict(part) if isinstance(part, dict) else {}
    weight, bias = layers.get("weight"), layers.get("bias")
    if weight is None or bias is None or weight.ndim not in (2, 4) or weight[0].numel() != weight.shape[1]:
        raise UsageError(f"{checkpoint.path} is damaged: its reduction is no 1 x 1 convolution with a bias")
    return Reduction(weight.numpy().reshape(len(weight), -1), bias.numpy())
