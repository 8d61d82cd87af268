"""Maximally stable extremal regions of many small maps at once: blobs that hardly grow as the level sinks.

Matas, Chum, Urban, Pajdla, "Robust wide baseline stereo from maximally stable extremal regions", BMVC 2002. Bright
regions only, joined over all eight neighbours. Each region is known by its moments, gathered while the tree of regions
is built, so no list of its cells is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from resight.arrays import Float64
from resight.errors import ArrayError, UsageError
from resight.types import Float32, Int64

UInt8 = NDArray[np.uint8]

MAX_AREA = 0.75  # of the map: what is larger is background


@dataclass(frozen=True, eq=False)
class StableRegions:
    """n regions, channel by channel, within one larger ones first.

    `channel` (n,) int64; `area` (n,) int64 cells; `mean` (n, 2) and `covariance` (n, 2, 2) float64 of the cells'
    centres (x, y), where the centre of the top-left cell is (0.5, 0.5); `peak` (n,) float32 largest value; `box` (n, 4)
    int64 left, top, right, bottom, the last two exclusive.
    """

    channel: Int64
    area: Int64
    mean: Float64
    covariance: Float64
    peak: Float32
    box: Int64

    def __len__(self) -> int:
        return len(self.channel)

    def select(self, index: Any) -> StableRegions:
        """The regions at `index`, in that order."""
        return StableRegions(
            self.channel[index], self.area[index], self.mean[index], self.covariance[index], self.peak[index],
            self.box[index],
        )  # fmt: skip


def stable_regions(
    levels: UInt8,
    values: Float32,
    delta: int,
    *,
    max_variation: float = 0.5,
    min_diversity: float = 0.7,
    min_area: float = 0.001,
    most: int = 36,
) -> StableRegions:
    """Stable regions of every map of `levels` (C, H, W) uint8; `values` (C, H, W) float32 gives their peaks.

    A region at level l is what hangs together at l or above. Its variation is the share by which it grows `delta`
    levels below; stable is what varies no more than its neighbours in the tree, at most by `max_variation`, and is
    smaller than the stable region around it by at least the share `min_diversity`. `min_area`: share of the map.
    A channel with more than `most` regions is noise and gives none. Memory: 110 bytes per cell of one map, and 80 per
    region. Raises `ArrayError` on other shapes or dtypes, `UsageError` on a delta below 1.
    """
    if levels.ndim != 3 or levels.dtype != np.uint8 or values.shape != levels.shape or values.dtype != np.float32:
        raise ArrayError(
            f"levels are {levels.dtype} {levels.shape} and values {values.dtype} {values.shape}: expected uint8 and "
            "float32 maps of one shape (channels, height, width)"
        )
    if delta < 1:
        raise UsageError(f"delta={delta}: a region is compared with itself at least 1 level below")
    channel, sums, peak, box = _all_regions(levels, values, delta, max_variation, min_diversity, min_area, most)
    area = sums[:, :1]
    mean = sums[:, 1:3] / np.maximum(area, 1)
    second = sums[:, [3, 4, 4, 5]] / np.maximum(area, 1)
    covariance = second.reshape(-1, 2, 2) - mean[:, :, None] * mean[:, None, :]
    return StableRegions(channel, area[:, 0].astype(np.int64), mean, covariance, peak, box)


@numba.njit(cache=True, nogil=True)
def _all_regions(
    levels: UInt8, values: Float32, delta: int, max_variation: float, min_diversity: float, min_area: float, most: int
) -> tuple[Int64, Float64, Float32, Int64]:
    channels, height, width = levels.shape
    cells = height * width
    room = channels * min(most, cells)
    channel, sums = np.empty(room, np.int64), np.empty((room, 6))
    peaks, boxes = np.empty(room, np.float32), np.empty((room, 4), np.int64)
    count = 0
    for c in range(channels):
        flat = levels[c].ravel()
        if not flat.any():
            continue
        parent, order = _tree(flat, height, width)
        moments, peak, box = _gather(parent, order, values[c].ravel(), width)
        chosen = _stable(flat, parent, order, moments[:, 0], delta, max_variation, min_diversity, min_area * cells)
        if len(chosen) > most:
            continue
        for node in chosen:
            channel[count], sums[count], peaks[count], boxes[count] = c, moments[node], peak[node], box[node]
            count += 1
    return channel[:count], sums[:count], peaks[:count], boxes[:count]


@numba.njit(cache=True, nogil=True)
def _tree(flat: UInt8, height: int, width: int) -> tuple[Int64, Int64]:
    """The tree of regions: `parent` (cells,), and the cells brightest first. The root is its own parent.

    The darkest cell of a region stands for it: the one whose parent has another level.
    """
    order: Int64 = np.argsort(-flat.astype(np.int64), kind="mergesort")
    parent, top = np.full(len(flat), -1), np.full(len(flat), -1)
    for p in order:
        parent[p] = top[p] = p
        y, x = p // width, p % width
        for v in range(max(y - 1, 0), min(y + 2, height)):
            for u in range(max(x - 1, 0), min(x + 2, width)):
                root = v * width + u
                if parent[root] < 0:
                    continue
                while top[root] != root:
                    top[root] = top[top[root]]
                    root = top[root]
                if root != p:
                    parent[root] = top[root] = p
    for p in order[::-1]:
        if flat[parent[parent[p]]] == flat[parent[p]]:
            parent[p] = parent[parent[p]]
    return parent, order


@numba.njit(cache=True, nogil=True)
def _gather(parent: Int64, order: Int64, values: Float32, width: int) -> tuple[Float64, Float32, Int64]:
    """Sums of 1, x, y, xx, xy, yy over each cell's region, the largest value, and the bounding box."""
    sums, peak, box = np.empty((len(parent), 6)), values.copy(), np.empty((len(parent), 4), np.int64)
    for p in range(len(parent)):
        x, y = p % width, p // width
        u, v = x + 0.5, y + 0.5
        sums[p, 0], sums[p, 1], sums[p, 2] = 1.0, u, v
        sums[p, 3], sums[p, 4], sums[p, 5] = u * u, u * v, v * v
        box[p, 0], box[p, 1], box[p, 2], box[p, 3] = x, y, x + 1, y + 1
    for p in order:
        q = parent[p]
        if q != p:
            for k in range(6):
                sums[q, k] += sums[p, k]
            peak[q] = max(peak[q], peak[p])
            for k in range(2):
                box[q, k] = min(box[q, k], box[p, k])
                box[q, 2 + k] = max(box[q, 2 + k], box[p, 2 + k])
    return sums, peak, box


@numba.njit(cache=True, nogil=True)
def _stable(
    flat: UInt8, parent: Int64, order: Int64, area: Float64,
    delta: int, max_variation: float, min_diversity: float, min_area: float,
) -> Int64:  # fmt: skip
    """Cells that stand for stable regions, darkest first."""
    n = len(flat)
    variation, stable = np.empty(n), np.zeros(n, np.bool_)
    nodes = order[::-1].copy()
    for p in nodes:
        if parent[p] != p and flat[parent[p]] == flat[p]:
            continue
        wide = p
        while parent[wide] != wide and np.int64(flat[parent[wide]]) >= np.int64(flat[p]) - delta:
            wide = parent[wide]
        variation[p] = (area[wide] - area[p]) / area[p]
        stable[p] = True
    whole = stable.copy()
    for p in nodes:
        q = parent[p]
        if not whole[p] or q == p:
            continue
        if variation[p] < variation[q]:
            stable[q] = False
        elif variation[p] > variation[q]:
            stable[p] = False
    for p in nodes:
        if variation[p] > max_variation or area[p] < min_area or area[p] > MAX_AREA * n:
            stable[p] = False
    distinct: Int64 = _distinct(nodes, parent, area, stable, min_diversity)
    return distinct


@numba.njit(cache=True, nogil=True)
def _distinct(nodes: Int64, parent: Int64, area: Float64, stable: NDArray[np.bool_], min_diversity: float) -> Int64:
    """Of the stable regions those that differ enough from the next larger one that is kept."""
    chosen = np.empty(len(nodes), np.int64)
    count = 0
    for p in nodes:
        if not stable[p]:
            continue
        q = parent[p]
        while not stable[q] and parent[q] != q:
            q = parent[q]
        if stable[q] and q != p and area[q] - area[p] < min_diversity * area[q]:
            stable[p] = False
        else:
            chosen[count] = p
            count += 1
    return chosen[:count]
