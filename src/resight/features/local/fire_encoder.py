"""Pixels to FIRe's super-features: templates that attend to the whole image, at several scales.

Weinzaepfel, Lucas, Larlus and Kalantidis, "Learning super-features for image retrieval", ICLR 2022. The transformer is
in `resight.features.local.fire`; torch is imported when an encoder is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import UsageError
from resight.features.fingerprint import fingerprint
from resight.features.local.deep import MapSettings, ReducedEncoder, open_parts, upright
from resight.features.local.reduction import Reduction
from resight.features.local.trunk import ScaleMaps, Trunk
from resight.types import Float32, LocalFeatures, Traits

if TYPE_CHECKING:
    from resight.features.checkpoints import Checkpoint
    from resight.features.local.fire import FeatureIntegration

EXTENT = 2.0  # diameter of a super-feature in standard deviations of its attention, on either side of its centre


@dataclass(frozen=True)
class FireSettings(MapSettings):
    """How super-features are made.

    `weights`: a checkpoint of FIRe, which brings its reduction. `reduction`, `dim`: as for HOW. `count`: super-features
    kept, those of largest norm. `iterations`: rounds of the transformer, as it was trained. `max_side`,
    `enlarge_below`, `scales`: as in `Trunk`. Raises `UsageError` on values out of range.
    """

    count: int = 1000
    iterations: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.count, self.iterations) < 1:
            raise UsageError(f"count={self.count} and iterations={self.iterations} must be at least 1")

    def open(self) -> Fire:
        """The encoder. Raises `UsageError` when a file is missing, damaged, or does not fit the others."""
        if not self.weights:
            raise UsageError("FIRe is a trained network: give its checkpoint with --weights FILE")
        trunk, reduction, checkpoint = open_parts(self, layouts=("fire",))
        assert checkpoint is not None
        return Fire(trunk, _transformer(checkpoint, trunk.channels, self.iterations), reduction, self.count, self.size)


@dataclass(frozen=True, eq=False)
class Fire(ReducedEncoder):
    """FIRe over a trunk. `reduction` None until it is learnt.

    A super-feature lies at the mean position of its attention map, and its scale is the extent of that: where it looks.
    """

    trunk: Trunk
    transformer: FeatureIntegration
    reduction: Reduction | None
    count: int = 1000
    size: int = 128

    @property
    def channels(self) -> int:
        """Dimension before the reduction."""
        return int(self.transformer.templates_init.shape[2])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of weights (of the whole checkpoint) and settings."""
        reduction = None if self.reduction is None else self.reduction.fingerprint
        settings = [self.transformer.iterations, self.count, self.dim]
        return fingerprint(["fire", self.trunk.fingerprint, settings, reduction])

    @property
    def traits(self) -> Traits:
        """Positions are centres of attention, no better than a cell; no angles; descriptors of any length."""
        return Traits(normalised=False, oriented=False, scaled=False, cell=2.0 * self.trunk.stride)

    def attention(self, pixels: NDArray[np.uint8]) -> list[tuple[float, Float32]]:
        """The scale and the attention maps (templates, h, w), each of sum 1, of each scale at which there are cells."""
        for _, scales in self.trunk.batches([pixels]):
            return [(one.scale, self._integrate(one.maps)[1][0]) for one in scales]
        return []

    def _integrate(self, maps: Float32) -> tuple[Float32, Float32]:
        """Super-features (N, T, D) and attention (N, T, h, w) of maps (N, C, h, w)."""
        import torch

        with torch.inference_mode():
            found, attention = self.transformer(torch.from_numpy(maps))
        return found.numpy(), attention.numpy()

    def _features(self, scales: Sequence[ScaleMaps], reduction: Reduction | None) -> list[LocalFeatures | None]:
        parts = [self._of_scale(one, reduction) for one in scales]
        strength, xy, side, descriptors = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        order = np.argsort(-strength, axis=1, kind="stable")[:, : self.count]
        return [
            upright(*(array[place][row] for array in (xy, side, strength, descriptors)))
            for place, row in enumerate(order)
        ]

    def _of_scale(self, scale: ScaleMaps, reduction: Reduction | None) -> tuple[Float32, Float32, Float32, Float32]:
        """Norms (N, T), positions (N, T, 2), extents (N, T) and descriptors (N, T, d) of one scale."""
        found, attention = self._integrate(scale.maps)
        xy, side = where(attention, scale)
        reduced = found if reduction is None else found @ reduction.weight.T + reduction.bias
        return np.linalg.norm(found, axis=2), xy, side, np.asarray(reduced, np.float32)


def where(attention: Float32, scale: ScaleMaps) -> tuple[Float32, Float32]:
    """Centre (N, T, 2) and extent (N, T) of attention maps (N, T, h, w), in pixels of the given image: the mean
    position of a map's attention, and the diameter of its spread, never less than a cell."""
    shares = attention.reshape(*attention.shape[:2], -1)
    shares = shares / np.maximum(shares.sum(axis=2, keepdims=True), 1e-12)
    cells = scale.centres()
    centre = shares @ cells
    squares = shares @ (cells**2) - centre**2
    spread_ = np.sqrt(np.maximum(squares.mean(axis=2), 0))
    return centre.astype(np.float32), np.maximum(EXTENT * spread_, scale.side).astype(np.float32)


def _transformer(checkpoint: Checkpoint, channels: int, iterations: int) -> FeatureIntegration:
    from resight.features.checkpoints import load_weights
    from resight.features.local.fire import FeatureIntegration

    weights: Any = checkpoint.parts["lit"]
    templates = weights.get("templates_init")
    if templates is None or templates.ndim != 3:
        raise UsageError(f"{checkpoint.path} lacks lit.templates_init, the templates of its super-features")
    transformer = FeatureIntegration(channels, templates.shape[1], templates.shape[2], iterations)
    load_weights(transformer, weights, checkpoint.path)
    return transformer.eval()
