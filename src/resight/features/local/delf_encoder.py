"""Pixels to DELF's and DELG's local features: cells of feature maps at several scales, chosen by a learnt attention.

Noh et al., "Large-scale image retrieval with attentive deep local features", ICCV 2017; Cao, Araujo and Sim, "Unifying
deep local and global features for image search", ECCV 2020. torch is imported where there is an attention to open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from resight.arrays import Float64
from resight.errors import UsageError
from resight.features.fingerprint import file_sha256, fingerprint
from resight.features.local import how
from resight.features.local.deep import MapSettings, ReducedEncoder, mapped, open_parts, upright
from resight.features.local.delf import check_choice, choose
from resight.features.local.keypoints import unit
from resight.features.local.reduction import Reduction
from resight.features.local.regions import grid_regions, read_boxes
from resight.features.local.trunk import ScaleMaps, Trunk
from resight.types import Float32, LocalFeatures, Traits

if TYPE_CHECKING:
    from resight.features.checkpoints import Checkpoint

SCALES = (2.0, 1.4142, 1.0, 0.7071, 0.5, 0.3536, 0.25)  # of both papers
FIELD = 291.0  # pixels of a side of the receptive field of a cell of ResNet-50's fourth stage
Look: TypeAlias = Callable[[Float32], tuple[Float32, Float32]]  # maps to scores (N, h, w) and maps (N, C, h, w)


@dataclass(frozen=True)
class DelfSettings(MapSettings):
    """How DELF's features are made.

    `backbone`: an ONNX file of a trunk up to its fourth stage; or `weights`: a ResNet of torchvision, or DELG's
    checkpoint with its attention. `head`: a file of the attention for another network, under the names of
    `LocalAttention`; without any, the L2 norm of a cell is its score, as in HOW. `reduction`: a file; none learns one
    without labels from the first photos. `dim`: of the descriptors, 40 unless the reduction has another. `count`:
    features kept, `threshold`: score that they must exceed (the authors': 100 for DELF, 454.6 for DELG), `overlap`: of
    receptive fields above which the weaker goes (1 keeps all). `max_side`, `enlarge_below`, `scales`: as in `Trunk`.
    Raises `UsageError` on values out of range.
    """

    head: str = ""
    count: int = 1000
    threshold: float = 0.0
    overlap: float = 1.0
    scales: tuple[float, ...] = SCALES

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.count, self.threshold, self.overlap)

    @property
    def size(self) -> int:
        """Dimension of a reduction that is learnt."""
        return 40 if self.dim is None else self.dim

    def open(self) -> Delf:
        """The encoder. Raises `UsageError` when a file is missing, damaged, or does not fit the others."""
        return self._opened("delf", by_norm, "")

    def _opened(self, name: str, without: Look | None, part: str) -> Delf:
        trunk, reduction, checkpoint = open_parts(self, layouts=("delg", "torchvision"))
        look, sha256, channels = _attention(self, checkpoint, trunk.channels, without, part == "hidden")
        return Delf(name, trunk, look, sha256, channels, reduction, self)


@dataclass(frozen=True)
class RegionalDelfSettings(DelfSettings):
    """DELF whose features are aggregated region by region (Teichmann et al., CVPR 2019).

    `boxes`: a file of regions that a detector found (`resight.features.local.regions.read_boxes`), beside which every
    photo counts as a whole; without one, `levels` of the regions of R-MAC. The others: see `DelfSettings`.
    """

    boxes: str = ""
    levels: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels < 1:
            raise UsageError(f"levels={self.levels}: R-MAC needs at least 1")

    def open(self) -> Delf:
        """The encoder. Raises `UsageError` when a file is missing, damaged, or does not fit the others."""
        encoder = self._opened("delf-r", by_norm, "")
        if not self.boxes:
            return replace(encoder, aggregation=f"grid {self.levels}")
        read_boxes(self.boxes)
        return replace(encoder, aggregation=file_sha256(Path(self.boxes).expanduser()))

    def regions(self, photo: str, width: int, height: int) -> Float64:
        """See `Regional`."""
        if self.boxes:
            return read_boxes(self.boxes).regions(photo, width, height)
        return grid_regions(width, height, self.levels)


@dataclass(frozen=True)
class DelgSettings(DelfSettings):
    """How DELG's local features are made: `DelfSettings` of its checkpoint, whose attention has to be trained.

    Descriptors are 128-dimensional: of the maps when the reduction is the paper's autoencoder, else learnt from the
    features that the attention of the public PyTorch checkpoints is trained with.
    """

    @property
    def size(self) -> int:
        """Dimension of a reduction that is learnt."""
        return 128 if self.dim is None else self.dim

    def open(self) -> Delf:
        """The encoder. Raises `UsageError` when a file is missing, damaged, or does not fit the others."""
        return self._opened("delg", None, "" if self.reduction else "hidden")


@dataclass(frozen=True, eq=False)
class Delf(ReducedEncoder):
    """DELF or DELG over a trunk. `look`: attention and the maps that are described; `sha256` of its weights;
    `width`: channels of its maps. `reduction` None until it is learnt.

    A feature lies at the centre of its receptive field.
    """

    kind: str
    trunk: Trunk
    look: Look
    sha256: str
    width: int
    reduction: Reduction | None
    settings: DelfSettings
    aggregation: str = ""  # what its features are aggregated by, for the fingerprint

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.kind

    @property
    def channels(self) -> int:
        """Dimension before the reduction."""
        return self.width

    @property
    def size(self) -> int:
        """Dimension of a reduction that is learnt."""
        return self.settings.size

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of weights and settings, without a reduction that is still to be learnt."""
        reduction = None if self.reduction is None else self.reduction.fingerprint
        how_many = [self.settings.count, self.settings.threshold, self.settings.overlap, self.dim]
        parts = [self.kind, self.trunk.fingerprint, self.sha256, self.channels, how_many, reduction, self.aggregation]
        return fingerprint(parts)

    @property
    def traits(self) -> Traits:
        """Cells of a map: coarse positions, no angles; unit descriptors."""
        return Traits(oriented=False, scaled=False, cell=float(self.trunk.stride))

    def _features(self, scales: Sequence[ScaleMaps], reduction: Reduction | None) -> list[LocalFeatures | None]:
        seen = [self.look(one.maps) for one in scales]
        scores = np.concatenate([score.reshape(len(score), -1) for score, _ in seen], axis=1)
        maps = [found.reshape(*found.shape[:2], -1) for _, found in seen]
        xy = np.concatenate([centres(one, self.trunk.stride) for one in scales])
        cell = np.concatenate([np.full(one.maps[0, 0].size, one.side, np.float32) for one in scales])
        found = []
        for image, row in enumerate(scores):
            chosen = self._choose(xy, cell, row)
            rows = mapped(maps, image, chosen)
            if reduction is not None:
                rows = unit(rows @ reduction.weight.T + reduction.bias)
            found.append(upright(xy[chosen], cell[chosen], row[chosen], rows) if np.isfinite(row).all() else None)
        return found

    def _choose(self, xy: Float32, cell: Float32, scores: Float32) -> NDArray[np.int64]:
        field = cell * np.float32(FIELD / self.trunk.stride)
        return choose(xy, field, scores, self.settings.count, self.settings.threshold, self.settings.overlap)


def centres(scale: ScaleMaps, stride: int) -> Float32:
    """Centres of the receptive fields (h * w, 2) float32, row by row, in pixels of the given image.

    Symmetric padding puts that of the first cell on the first pixel, at every scale.
    """
    shift = np.asarray(scale.step) * (0.5 - 0.5 / stride)
    return np.asarray(scale.centres() - shift, np.float32)


def by_norm(maps: Float32) -> tuple[Float32, Float32]:
    """The L2 norm of each cell (N, h, w), and maps (N, C, h, w) of cells L2-normalised."""
    score = how.attention(maps)
    return score, maps / score[:, None]


def _attention(
    settings: DelfSettings, checkpoint: Checkpoint | None, channels: int, without: Look | None, hidden: bool
) -> tuple[Look, str, int]:
    """What looks at maps, the SHA-256 of its own file, and the channels of the maps that it gives."""
    part = None if checkpoint is None else checkpoint.parts.get("local_attention")
    if settings.head:
        from resight.features.local.loading import read_state

        state, sha256 = read_state(settings.head, "the attention of DELF")
    elif part is not None and checkpoint is not None:
        state, sha256 = dict(part), ""  # of the trunk's file
    elif without is not None:
        return without, "norm", channels
    else:
        raise UsageError("DELG is a trained network: give its checkpoint with --weights FILE, or its attention, head")
    from resight.features.local.delg import looking

    look, width = looking(state, settings.head or settings.weights, channels, hidden)
    return look, sha256, width
