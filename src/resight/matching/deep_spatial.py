"""Deep spatial matching: the blobs of a network's activation maps as local features, the channel as the visual word.

Siméoni, Avrithis, Chum, "Local features and visual words emerge in activations", CVPR 2019. Every channel of a feature
map fires where it sees its pattern; a stable blob of it becomes an ellipse, and the ellipses of two photos are verified
like local features, with no descriptor, for every pair of scales.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError, UsageError
from resight.features.networks.backbone import Backbone
from resight.matching.affine_frames import AffineFrames, upright_shapes, verify_frames
from resight.matching.extremal import StableRegions, stable_regions
from resight.matching.geometry import Verification
from resight.types import Float32, Int64, as_array

SCALES = (1.0, 1 / math.sqrt(2), 0.5)
PER_IMAGE = 2048  # strongest regions kept, over all scales; the paper keeps 512 for VGG
QUERY_PER_CHANNEL, DATABASE_PER_CHANNEL = 20, 10
OVERLAP = 0.2  # intersection over union above which the weaker of two boxes of a channel goes, in the database
MOST_PER_CHANNEL = 36  # a channel with more is noise
MAX_DELTA = 12  # levels of 255
THRESHOLD = 2.0  # cells of the candidate's map
SCALE_CHANGE = 3.0  # in cells: the scale pairs carry larger ones
MIN_INLIERS = 10


@dataclass(frozen=True, eq=False)
class DeepRegions:
    """The regions of one photo, at all scales.

    `frames`: upright ellipses in pixels of the photo, words are channels, the strongest first within a scale. `scale`
    (n,) int64 ascending: which of the scales each region is of. `cells` (s,) float32: pixels per cell of the feature
    map at each scale. Raises `ArrayError` where these do not fit.
    """

    frames: AffineFrames
    scale: Int64
    cells: Float32

    def __post_init__(self) -> None:
        cells = as_array("DeepRegions.cells", self.cells, np.float32, (None,))
        scale = as_array("DeepRegions.scale", self.scale, np.int64, (len(self.frames),))
        if not (cells > 0).all() or (np.diff(scale) < 0).any():
            raise ArrayError("DeepRegions need cells of positive size and regions in the order of their scales")
        if len(scale) and not 0 <= scale[0] <= scale[-1] < len(cells):
            raise ArrayError(f"DeepRegions hold scale {scale[-1]}, but only {len(cells)} sizes of cells")
        object.__setattr__(self, "cells", cells)
        object.__setattr__(self, "scale", scale)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        frames = self.frames
        parts = (frames.xy, frames.shape, frames.word, frames.strength, self.scale, self.cells)
        return sum(part.nbytes for part in parts)

    def starts(self) -> Int64:
        """Where the regions of each scale start, and the end, (s + 1,)."""
        return np.searchsorted(self.scale, np.arange(len(self.cells) + 1)).astype(np.int64)


def describe(
    backbone: Backbone,
    pixels: NDArray[np.uint8],
    *,
    query: bool,
    max_side: int = 1024,
    enlarge: bool = False,
    scales: Sequence[float] = SCALES,
    gain: float | None = None,
    per_image: int = PER_IMAGE,
) -> DeepRegions:
    """The regions of a photo (H, W, 3) uint8 RGB, by a network that gives maps.

    The longer side is brought to at most `max_side` pixels, and with `enlarge` to exactly that, then to `scales` of it;
    a scale at which the photo is smaller than a cell of the maps has no regions. `query`, `gain`, `per_image` as in
    `regions_of_maps`. Raises `UsageError` for a network without maps or one that takes one size only, `ArrayError` for
    other pixels and maps with NaN.
    """
    if backbone.output != "maps" or backbone.side is not None:
        raise UsageError(f"{backbone.name} gives no maps of a photo of any size: deep spatial matching needs them")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ArrayError(f"an image has shape {pixels.shape} and dtype {pixels.dtype}, expected (H, W, 3) uint8")
    if max_side < 1 or not scales or not all(0 < scale < math.inf for scale in scales):
        raise UsageError(f"max_side={max_side} must be at least 1 and scales={list(scales)} positive")
    height, width = pixels.shape[:2]
    factor = max_side / max(height, width)
    factor = factor if enlarge else min(factor, 1.0)
    maps = [_maps(backbone, pixels, factor * scale) for scale in scales]
    return regions_of_maps(maps, (width, height), query=query, gain=gain, per_image=per_image)


def regions_of_maps(
    maps: Sequence[Any],
    size: tuple[float, float],
    *,
    query: bool,
    gain: float | None = None,
    per_image: int = PER_IMAGE,
) -> DeepRegions:
    """The regions of a photo of `size` (width, height) pixels from feature maps (C, H, W) of it, one for each scale.

    `query`: keep 20 regions a channel, else drop weaker ones that overlap a stronger one, as the database side does,
    and keep 10; then the `per_image` strongest. `gain`: what activations are multiplied by before they become whole
    numbers up to 255, 1 as published, where activations reach hundreds; None brings the largest of each map to 255.
    Memory: one and a quarter times the maps of a scale. Raises `ArrayError` for maps of another shape, or with NaN or
    infinity.
    """
    if gain is not None and not 0 < gain < math.inf:
        raise UsageError(f"gain={gain} must be positive")
    if per_image < 1:
        raise UsageError(f"per_image={per_image}: at least one region is needed")
    found, cells = [], []
    for scale, map_ in enumerate(maps):
        values = as_array(f"maps of scale {scale}", map_, np.float32, (None, None, None))
        if not np.isfinite(values).all():
            raise ArrayError(f"the maps of scale {scale} hold NaN or infinity: the network's weights are damaged")
        cell = np.divide(size, (max(values.shape[2], 1), max(values.shape[1], 1)))
        found.append(_frames(_kept(_regions(values, gain), query), cell))
        cells.append(math.sqrt(cell[0] * cell[1]))
    return _strongest(found, cells, per_image)


def verify_regions(
    query: DeepRegions,
    candidates: Sequence[DeepRegions],
    *,
    threshold: float = THRESHOLD,
    min_inliers: int = MIN_INLIERS,
    jobs: int | None = None,
) -> list[Verification]:
    """Verify the regions of a photo against those of each candidate, at every pair of scales; the pair with most
    inliers counts, the earlier one among equals.

    `threshold`: cells of the candidate's map. Rows of the correspondences are those of `DeepRegions.frames`; transforms
    are in pixels of the photos. Everything else as in `resight.matching.affine_frames.verify_frames`;
    `significance` also counts the pairs of scales as tries.
    """
    if not 0 < threshold < math.inf:
        raise UsageError(f"threshold is {threshold} cells: it must be positive and finite")
    parts = [_by_scale(candidate) for candidate in candidates]
    flat = [(c, frames, cell, start) for c, part in enumerate(parts) for frames, cell, start in part]
    best: list[Verification | None] = [None] * len(candidates)
    for own, own_cell, own_start in _by_scale(query):
        cells = np.array([cell for _, _, cell, _ in flat])
        found = verify_frames(
            own,
            [frames for _, frames, _, _ in flat],
            threshold=threshold * cells,
            scale_change=np.multiply.outer(cells / own_cell, (1 / SCALE_CHANGE, SCALE_CHANGE)),
            min_inliers=min_inliers,
            jobs=jobs,
        )
        for (c, _, _, start), verification in zip(flat, found, strict=True):
            best[c] = _better(best[c], verification, (own_start, start))
    tries = [max(len(query.cells) * len(candidate.cells), 1) for candidate in candidates]
    return [
        _nothing(min_inliers) if one is None else replace(one, significance=one.significance - math.log10(n))
        for one, n in zip(best, tries, strict=True)
    ]


def _maps(backbone: Backbone, pixels: NDArray[np.uint8], factor: float) -> Float32:
    """The feature maps (C, H', W') of a photo resized by `factor`; without cells where it gets too small."""
    height, width = (int(side * factor) // backbone.multiple * backbone.multiple for side in pixels.shape[:2])
    if min(height, width) < backbone.least_side:
        return np.empty((backbone.channels, 0, 0), np.float32)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(pixels, (width, height), interpolation=how).astype(np.float32)
    mean, deviation = 255 * np.asarray(backbone.mean, np.float32), 255 * np.asarray(backbone.std, np.float32)
    batch = np.ascontiguousarray(((resized - mean) / deviation).transpose(2, 0, 1)[None])
    return np.asarray(backbone.forward(batch)[0], np.float32)


def _regions(values: Float32, gain: float | None) -> StableRegions:
    """Stable regions of maps (C, H, W) in whole levels, compared over the step that the paper derives from them."""
    values = np.maximum(values, 0)
    largest = float(values.max(initial=0.0))
    gain = gain or (255 / largest if largest > 0 else 1.0)
    levels = np.minimum(np.rint(values * np.float32(gain)), 255).astype(np.uint8)
    return stable_regions(levels, values, _delta(values[values > 0] * gain), most=MOST_PER_CHANNEL)


def _delta(active: Float32) -> int:
    """The level below which 60 % of the activations that are not zero lie, from 1 to `MAX_DELTA`."""
    if not len(active):
        return 1
    counts, edges = np.histogram(active, 1000)
    level = edges[1:][np.searchsorted(np.cumsum(counts), 0.6 * len(active))]
    return int(np.clip(np.rint(level), 1, MAX_DELTA))


def _kept(regions: StableRegions, query: bool) -> StableRegions:
    """The regions that one side of a match keeps of each channel, the strongest first within it."""
    regions = regions.select(np.lexsort((-regions.area, -regions.peak, regions.channel)))
    if not query:
        regions = regions.select(_apart(regions))
    first = np.searchsorted(regions.channel, regions.channel)
    rank = np.arange(len(regions)) - first
    return regions.select(rank < (QUERY_PER_CHANNEL if query else DATABASE_PER_CHANNEL))


def _apart(regions: StableRegions) -> NDArray[np.bool_]:
    """Which regions overlap no stronger kept one of their channel, box by box: rank by rank over all channels."""
    kept = np.ones(len(regions), np.bool_)
    starts = np.unique(regions.channel, return_index=True)[1]
    ends = np.append(starts[1:], len(regions))
    for rank in range(int((ends - starts).max(initial=0))):
        strong = starts[starts + rank < ends] + rank
        strong = strong[kept[strong]]
        pivot = np.full(int(regions.channel.max(initial=-1)) + 1, -1)
        pivot[regions.channel[strong]] = strong
        own = pivot[regions.channel]
        behind = np.arange(len(regions)) > own
        overlap = _overlap(regions.box, regions.box[own])
        kept[(own >= 0) & behind & (overlap > OVERLAP)] = False
    return kept


def _overlap(a: Int64, b: Int64) -> NDArray[np.float64]:
    """Intersection over union of boxes (n, 4), row by row."""
    corner, far = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    both = np.maximum(far - corner, 0).prod(axis=1)
    areas = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1)
    return np.asarray(both / (areas - both), np.float64)


def _frames(regions: StableRegions, cell: NDArray[Any]) -> AffineFrames:
    """Ellipses of the same second moments in pixels. A cell is a square, so even a single one has a size."""
    ellipses = 4 * (regions.covariance + np.eye(2) / 12)
    ellipses = ellipses * np.multiply.outer(cell, cell)
    xy = (regions.mean * cell).astype(np.float32)
    return AffineFrames(xy, upright_shapes(ellipses), regions.channel, regions.peak)


def _strongest(parts: list[AffineFrames], cells: list[float], most: int) -> DeepRegions:
    """The strongest regions over all scales, by scale and then by strength."""
    scale = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    frames = _joined(parts)
    order = np.argsort(-frames.strength, kind="stable")[:most]
    order = order[np.argsort(scale[order], kind="stable")]
    return DeepRegions(frames.select(order), scale[order], np.array(cells, np.float32))


def _joined(parts: list[AffineFrames]) -> AffineFrames:
    if not parts:
        none = np.empty(0, np.float32)
        return AffineFrames(none.reshape(0, 2), none.reshape(0, 2, 2), np.empty(0, np.int64), none)
    return AffineFrames(
        np.concatenate([part.xy for part in parts]), np.concatenate([part.shape for part in parts]),
        np.concatenate([part.word for part in parts]), np.concatenate([part.strength for part in parts]),
    )  # fmt: skip


def _by_scale(regions: DeepRegions) -> list[tuple[AffineFrames, float, int]]:
    """Frames of each scale, pixels per cell, and the row of the first one."""
    starts = regions.starts()
    return [
        (regions.frames.select(slice(starts[s], starts[s + 1])), float(cell), int(starts[s]))
        for s, cell in enumerate(regions.cells)
    ]


def _better(best: Verification | None, new: Verification, shift: tuple[int, int]) -> Verification:
    if best is not None and best.inliers >= new.inliers:
        return best
    return replace(new, correspondences=new.correspondences + np.array(shift, np.int32))


def _nothing(min_inliers: int) -> Verification:
    empty = _joined([])
    return verify_frames(empty, [empty], min_inliers=min_inliers)[0]
