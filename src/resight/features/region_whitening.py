"""R-MAC as it was published: the vector of every region is whitened by PCA before the regions are added up.

Tolias, Sicre, Jégou, "Particular object retrieval with integral max-pooling of CNN activations", ICLR 2016; Gordo et
al., IJCV 2017.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from resight.errors import UsageError
from resight.features.extraction import Describer
from resight.features.global_descriptor import GlobalDescriptor, TooSmall
from resight.features.pooling import Array, normalise, roi_pool, sum_regions
from resight.features.whitening import Whitening, fit_pca
from resight.images.loader import load
from resight.progress import Progress, silent
from resight.types import Float32

AHEAD = 4  # photos decoded beyond the one that the network has


@dataclass(frozen=True, eq=False)
class WhitenedRmac:
    """R-MAC of maps (N, C, H, W), (N, `dim`) normalised, as numpy arrays: every region is L2-normalised, whitened, and
    L2-normalised again, before all are summed. The whole map is one of them, as in `resight.features.pooling.rmac`.
    """

    whitening: Whitening

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self.whitening.dim

    @property
    def name(self) -> str:
        """What it is called in a fingerprint."""
        return f"rmac whitened {self.whitening.fingerprint}"

    def __call__(self, maps: Array) -> Float32:
        """Raises `ArrayError` for maps of another number of channels than the whitening is for."""
        return np.asarray(normalise(sum_regions(roi_pool(np.asarray(maps)), self._whiten)), np.float32)

    def _whiten(self, regions: Float32) -> Float32:
        return self.whitening.apply(regions.reshape(-1, regions.shape[2])).reshape(*regions.shape[:2], -1)


def fit_region_whitening(
    network: Describer, paths: Sequence[str], dim: int | None = None, *, progress: Progress = silent
) -> Whitening:
    """The PCA whitening of the regions of photo files, without labels; `dim` components, None for all.

    Files that cannot be read are left out. Memory: 4 C bytes a region, of some 20 to 30 a photo. Raises `UsageError`
    for a network without maps, and as `fit_pca` for too few regions.
    """
    if not isinstance(network, GlobalDescriptor) or network.backbone.output != "maps":
        raise UsageError(f"{network.name} gives no maps: regions are parts of them")
    parts = list(_regions(network, paths, progress))
    if not parts:
        raise UsageError("none of the photos can be read: there are no regions to learn a whitening from")
    return fit_pca(np.concatenate(parts), dim)


def _regions(network: GlobalDescriptor, paths: Sequence[str], progress: Progress) -> Iterator[Float32]:
    """The directions of the regions (R, C) of each photo that can be read and is no smaller than a cell."""
    for item in load(paths, max_side=network.max_side, ahead=AHEAD):
        progress("describing regions", item.index + 1, len(paths))
        if item.decoded is None:
            continue
        try:
            maps = network.maps(item.decoded.pixels)
        except TooSmall:
            continue
        yield np.asarray(normalise(roi_pool(maps[None]))[0], np.float32)
