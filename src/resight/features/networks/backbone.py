"""What every pretrained network is behind: one type, images in, feature maps, vectors or tokens out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from resight.arrays import Float32

Output: TypeAlias = Literal["maps", "vectors", "tokens"]
Triple: TypeAlias = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network that is ready to run.

    `forward`: images (N, 3, H, W) float32, from which `mean` and `std` of RGB in [0, 1] are removed already, to feature
    maps (N, C, H', W'), vectors (N, C) or tokens (N, T, C), as `output` says, float32. `channels`: C. `stride`: pixels
    per cell of the maps or per patch, 0 for vectors. `prefix`: tokens in front of the patches, such as the class token.
    `side`: the one input side (H = W) that the network takes, None where any is. `multiple`: both sides must be one of
    this. `sha256` of the file or files of weights. `licence`: of the weights, as far as the files say.
    """

    name: str
    channels: int
    stride: int
    sha256: str
    forward: Callable[[Float32], Float32]
    output: Output = "maps"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    licence: str = "unknown"
    prefix: int = 0
    side: int | None = None
    multiple: int = 1

    @property
    def least_side(self) -> int:
        """Pixels that the shorter side of an image must have: one cell of the maps."""
        return max(self.stride, 1)
