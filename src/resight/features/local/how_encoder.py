"""Pixels to HOW's local features: cells of feature maps at several scales, chosen by attention.

Tolias, Jenicek and Chum, "Learning and aggregating deep local descriptors for instance-level recognition", ECCV 2020.
The formulas are in `resight.features.local.how`, re-weighting and learnable smoothing in
`resight.features.local.context`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from resight.errors import UsageError
from resight.features.fingerprint import fingerprint
from resight.features.local import how
from resight.features.local.deep import MapSettings, ReducedEncoder, mapped, open_parts, upright
from resight.features.local.reduction import Reduction
from resight.features.local.trunk import ScaleMaps, Trunk
from resight.types import Float32, LocalFeatures, Traits

if TYPE_CHECKING:
    from resight.features.local.context import Context


@dataclass(frozen=True)
class HowSettings(MapSettings):
    """How HOW's features are made.

    `backbone`: an ONNX file of a trunk up to its fourth stage; or `weights`: a checkpoint of HOW, or of a torchvision
    ResNet. `reduction`: a file that `Reduction.save` wrote; none for the checkpoint's own, else it is learnt without
    labels from the first photos that are indexed. `dim`: of the descriptors, 128 unless the reduction has another.
    `context`: a file of trained context blocks. `smoothing` none, average or learnable, and `reweighting` none, graph
    or attention: what is done with the maps; by default what the context file says, else the average for a checkpoint
    of HOW, which was trained with it, and none for any other network, where it does harm. `count`: features kept, those
    of highest attention. `max_side`, `enlarge_below`, `scales`: as in `Trunk`. Raises `UsageError` on values out of
    range.
    """

    context: str = ""
    smoothing: str = ""
    reweighting: str = ""
    count: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 1:
            raise UsageError(f"count={self.count}: at least one local feature must be kept")
        _check(self.smoothing, "smoothing", ("none", "average", "learnable"))
        _check(self.reweighting, "reweighting", ("none", "graph", "attention"))

    def open(self) -> How:
        """The encoder. Raises `UsageError` when a file is missing, damaged, or does not fit the others."""
        trunk, reduction, checkpoint = open_parts(self, layouts=("how", "torchvision"))
        context = None if not self.context else _open_context(self.context, trunk.channels)
        trained = checkpoint is not None and checkpoint.layout == "how"
        smoothing = _agreed(self, context, trained)
        return How(trunk, reduction, smoothing, context, self.count, self.size)


@dataclass(frozen=True, eq=False)
class How(ReducedEncoder):
    """HOW over a trunk; `reduction` None until it is learnt. `smoothing`: without `context`, none or average.

    Descriptors are not normalised: short ones are plain, and count less.
    """

    trunk: Trunk
    reduction: Reduction | None
    smoothing: Literal["none", "average"] = "none"
    context: Context | None = None
    count: int = 1000
    size: int = 128

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of weights and settings, without a reduction that is still to be learnt."""
        context = None if self.context is None else self.context.fingerprint
        reduction = None if self.reduction is None else self.reduction.fingerprint
        settings = [self.smoothing, self.count, self.dim]
        return fingerprint(["how", self.trunk.fingerprint, context, settings, reduction])

    @property
    def traits(self) -> Traits:
        """Cells of a map: coarse positions, no angles, descriptors of any length."""
        return Traits(normalised=False, oriented=False, scaled=False, cell=float(self.trunk.stride))

    def attention(self, pixels: NDArray[np.uint8]) -> list[tuple[float, Float32]]:
        """The scale and the attention map (h, w) of each scale at which `pixels` have cells, 1 at their strongest."""
        for _, scales in self.trunk.batches([pixels]):
            weights = how.relative_attention([self._look(one, None)[0] for one in scales])
            return [(one.scale, weight[0]) for one, weight in zip(scales, weights, strict=True)]
        return []

    def _features(self, scales: Sequence[ScaleMaps], reduction: Reduction | None) -> list[LocalFeatures | None]:
        seen = [self._look(one, reduction) for one in scales]
        weights = how.relative_attention([weight for weight, _ in seen])
        xy = np.concatenate([one.centres() for one in scales])
        side = np.concatenate(
            [np.full(weight[0].size, one.side, np.float32) for one, weight in zip(scales, weights, strict=True)]
        )
        strength = np.concatenate([weight.reshape(len(weight), -1) for weight in weights], axis=1)
        maps = [one.reshape(*one.shape[:2], -1) for _, one in seen]
        order = np.argsort(-strength, axis=1, kind="stable")[:, : self.count]
        chosen = (mapped(maps, place, row) for place, row in enumerate(order))
        return [
            upright(xy[row], side[row], strength[place][row], descriptors)
            for place, (row, descriptors) in enumerate(zip(order, chosen, strict=True))
        ]

    def _look(self, scale: ScaleMaps, reduction: Reduction | None) -> tuple[Float32, Float32]:
        """Attention (N, h, w), and maps (N, d, h, w) smoothed and reduced: the reduction is linear and the weights of
        smoothing have sum 1, so reducing first gives the same with less work."""
        if self.context is not None:
            return _in_context(self.context, scale.maps, reduction)
        reduced = scale.maps if reduction is None else reduction(scale.maps)
        return how.attention(scale.maps), how.smooth(reduced) if self.smoothing == "average" else reduced


def _in_context(context: Context, maps: Float32, reduction: Reduction | None) -> tuple[Float32, Float32]:
    import torch

    def reduce(found: Any) -> Any:
        assert reduction is not None
        return torch.from_numpy(reduction(found.numpy()))

    with torch.inference_mode():
        seen = context.look(torch.from_numpy(maps))
        smoothed = context.smooth(seen, None if reduction is None else reduce)
        return how.attention(seen.reweighted).numpy(), smoothed.numpy()


def _open_context(path: str, channels: int) -> Context:
    from resight.features.local.context import Context

    context = Context.load(path)
    if context.settings.channels != channels:
        wanted = context.settings.channels
        raise UsageError(f"{path} was trained for maps of {wanted} channels, and this network gives {channels}")
    return context.eval()


def _agreed(asked: HowSettings, context: Context | None, trained: bool) -> Literal["none", "average"]:
    """The smoothing without context blocks. Raises `UsageError` when the settings and the context file differ."""
    if context is not None:
        for name in ("smoothing", "reweighting"):
            wish, has = getattr(asked, name), getattr(context.settings, name)
            if wish and wish != has:
                raise UsageError(f"{name}={wish}, but {asked.context} has {name}={has}: leave the setting out")
        return "none"
    if asked.smoothing == "learnable" or asked.reweighting not in ("", "none"):
        what = "smoothing=learnable" if asked.smoothing == "learnable" else f"reweighting={asked.reweighting}"
        raise UsageError(f"{what} has to be trained: give the file of its weights with context=FILE")
    return "average" if asked.smoothing == "average" or (trained and not asked.smoothing) else "none"


def _check(value: str, name: str, known: Sequence[str]) -> None:
    if value and value not in known:
        raise UsageError(f"{name}={value!r}: choose one of {', '.join(known)}")
