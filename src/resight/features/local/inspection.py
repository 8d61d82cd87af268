"""What an encoder of local features sees in one photo: attention, chosen features, and the context of each cell.

For pictures. Everything comes back in numpy and in pixels of the given photo; of encoders over feature maps, scale by
scale. Positions do not depend on a reduction, so an encoder that still lacks one can be looked into as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from resight.features.local import how
from resight.features.local.fire_encoder import Fire, where
from resight.features.local.how_encoder import How
from resight.features.local.reduction import Reducible, Reduction
from resight.features.local.trunk import NotFinite, ScaleMaps, Trunk
from resight.types import Encoder, Float32, Int64, LocalFeatures

if TYPE_CHECKING:
    from resight.features.local.context import Context, Seen

NODES = 4  # cells whose edges are shown
TEMPLATES = 8  # super-features whose attention is shown
APART = 0.25  # least distance of these cells, in diagonals of the map


@dataclass(frozen=True, eq=False)
class Level:
    """One scale: `attention` (h, w) float32, 1 at the strongest of all scales; the features chosen of it, at `xy`
    (n, 2) and `side` (n,) wide, in pixels of the photo, out of `candidates`.

    `bandwidth` and `confidence` (h, w): of learnable smoothing, None without it.
    """

    scale: float
    attention: Float32
    xy: Float32
    side: Float32
    candidates: int
    bandwidth: Float32 | None = None
    confidence: Float32 | None = None


@dataclass(frozen=True, eq=False)
class Edges:
    """What one cell, centred at `xy` (2,) and `side` (2,) wide and high, is joined with: cells at `others` (n, 2),
    strongest first, and the `weights` (n,) of these edges."""

    xy: Float32
    side: Float32
    others: Float32
    weights: Float32


@dataclass(frozen=True, eq=False)
class Superfeature:
    """One of the strongest super-features of a photo: its `attention` (h, w) of sum 1, its norm, and its scale."""

    template: int
    scale: float
    strength: float
    attention: Float32


@dataclass(frozen=True, eq=False)
class Inside:
    """What was seen. `levels`: scale by scale, largest first, none for key points. `points`: key points (descriptors
    left out), None for features of maps. `edges` of some cells of the largest scale; `joined`: whether the encoder
    uses them, as they are drawn for plain HOW as well. `superfeatures`, strongest first."""

    levels: tuple[Level, ...] = ()
    points: LocalFeatures | None = None
    edges: tuple[Edges, ...] = ()
    joined: bool = False
    superfeatures: tuple[Superfeature, ...] = ()

    @property
    def count(self) -> int:
        """Number of features."""
        return sum(len(level.xy) for level in self.levels) if self.points is None else len(self.points)


@runtime_checkable
class OverMaps(Protocol):
    """An encoder whose features are cells of maps, with its attention: (scale, (h, w)) for each scale."""

    @property
    def trunk(self) -> Trunk: ...
    def attention(self, pixels: NDArray[np.uint8], /) -> list[tuple[float, Float32]]: ...


def look_inside(encoder: Encoder, pixels: NDArray[np.uint8], at: Sequence[tuple[float, float]] = ()) -> Inside:
    """What `encoder` sees in `pixels` (H, W, 3) uint8 RGB; nothing in a photo smaller than a cell.

    `at`: points (x, y) whose cells' edges are wanted; without any, telling cells far from each other are chosen.
    Memory: the maps of one photo at all scales. Raises `ImageError` for NaN out of a network.
    """
    if isinstance(encoder, How):
        return _of_how(encoder, pixels, at)
    if isinstance(encoder, Fire):
        return _of_fire(encoder, pixels)
    features = _features(encoder, pixels)
    if isinstance(encoder, OverMaps):
        return _of_maps(encoder, features, pixels)
    return Inside(points=replace(features, descriptors=np.empty((len(features), 0), np.float32)))


def plain(encoder: Encoder, trunk: Trunk | None = None) -> How | None:
    """Plain HOW to compare an encoder with: over `trunk`, else over the encoder's own network; None without one.

    It chooses as many features; it has no reduction, and is there to be looked into.
    """
    network = trunk or getattr(encoder, "trunk", None)
    return None if network is None else How(network, None, count=getattr(encoder, "count", 1000))


def _of_how(encoder: How, pixels: NDArray[np.uint8], at: Sequence[tuple[float, float]]) -> Inside:
    scales = _scales(encoder.trunk, pixels)
    if not scales:
        return Inside()
    seen = [None if encoder.context is None else _seen(encoder.context, one.maps) for one in scales]
    raw = [
        how.attention(one.maps if found is None else found.reweighted.numpy())
        for one, found in zip(scales, seen, strict=True)
    ]
    attention = [one[0] for one in how.relative_attention(raw)]
    chosen = _best(attention, encoder.count)
    sides = [np.full(one.size, scale.side, np.float32) for one, scale in zip(attention, scales, strict=True)]
    levels = [
        Level(one.scale, weight, one.centres()[cells], side[cells], weight.size, *_smoothing(found))
        for one, weight, cells, side, found in zip(scales, attention, chosen, sides, seen, strict=True)
    ]
    joined = encoder.context is not None and encoder.context.reweighting is not None
    cells = _cells_at(at, scales[0]) if at else _far_apart(attention[0])
    return Inside(tuple(levels), edges=_edges(encoder.context, scales[0], cells), joined=joined)


def _of_fire(encoder: Fire, pixels: NDArray[np.uint8]) -> Inside:
    import torch

    scales = _scales(encoder.trunk, pixels)
    if not scales:
        return Inside()
    with torch.inference_mode():
        found = [[part.numpy()[0] for part in encoder.transformer(torch.from_numpy(one.maps))] for one in scales]
    strength = [np.linalg.norm(superfeatures, axis=1) for superfeatures, _ in found]
    looked = [maps for _, maps in found]
    placed = [where(maps[None], scale) for maps, scale in zip(looked, scales, strict=True)]
    summed = [maps.sum(axis=0) for maps in looked]
    levels = [
        Level(scale.scale, one / one.max(), xy[0][rows], side[0][rows], len(norms))
        for scale, one, (xy, side), norms, rows in zip(
            scales, summed, placed, strength, _best(strength, encoder.count), strict=True
        )
    ]
    return Inside(tuple(levels), superfeatures=_strongest(scales, looked, strength))


def _of_maps(encoder: OverMaps, features: LocalFeatures, pixels: NDArray[np.uint8]) -> Inside:
    """Of encoders that say their attention: each feature belongs to the scale whose cells are as wide as it is."""
    found = [(scale, weight) for scale, weight in encoder.attention(pixels) if weight.ndim == 2]
    if not found:
        return Inside()
    width = pixels.shape[1]
    sides = np.array([width / weight.shape[1] for _, weight in found])
    level = np.abs(np.log(features.scale[:, None] / sides)).argmin(axis=1)
    strongest = max(float(weight.max()) for _, weight in found) or 1.0
    return Inside(
        tuple(
            Level(scale, weight / strongest, features.xy[level == i], features.scale[level == i], weight.size)
            for i, (scale, weight) in enumerate(found)
        )
    )


def _features(encoder: Encoder, pixels: NDArray[np.uint8]) -> LocalFeatures:
    if isinstance(encoder, Reducible) and encoder.reduction is None:
        nothing = Reduction(np.zeros((1, encoder.channels), np.float32), np.zeros(1, np.float32))
        return encoder.reduced(nothing)(pixels)
    return encoder(pixels)


def _scales(trunk: Trunk, pixels: NDArray[np.uint8]) -> list[ScaleMaps]:
    for _, scales in trunk.batches([pixels]):
        if not all(np.isfinite(one.maps).all() for one in scales):
            raise NotFinite(f"{trunk.backbone.name} answers this photo with NaN or infinity: its weights are damaged")
        return sorted(scales, key=lambda one: -one.scale)
    return []


def _seen(context: Context, maps: Float32) -> Seen:
    import torch

    with torch.inference_mode():
        return context.look(torch.from_numpy(maps))


def _smoothing(seen: Seen | None) -> tuple[Float32 | None, Float32 | None]:
    if seen is None or seen.bandwidth is None or seen.confidence is None:
        return None, None
    return seen.bandwidth[0].numpy(), seen.confidence[0].numpy()


def _best(strength: Sequence[Float32], count: int) -> list[Int64]:
    """Which entries of each scale are among the `count` strongest of all, strongest first; equal ones in order."""
    flat = np.concatenate([one.ravel() for one in strength])
    order = np.argsort(-flat, kind="stable")[:count]
    ends = np.cumsum([one.size for one in strength])
    level = np.searchsorted(ends, order, side="right")
    return [order[level == i] - (end - one.size) for i, (end, one) in enumerate(zip(ends, strength, strict=True))]


def _edges(context: Context | None, scale: ScaleMaps, cells: Int64) -> tuple[Edges, ...]:
    """Of these cells; by a graph of default size where the encoder has none itself."""
    import torch

    from resight.features.local.reweighting import GraphReweighting

    block = None if context is None else context.reweighting
    block = GraphReweighting(scale.maps.shape[1]) if block is None else block
    found = block.neighbours(torch.from_numpy(scale.maps), cells)
    centres, side = scale.centres(), np.asarray(scale.step, np.float32)
    return tuple(
        Edges(centres[cell], side, centres[others], weights)
        for cell, (others, weights) in zip(cells, found, strict=True)
    )


def _cells_at(points: Sequence[tuple[float, float]], scale: ScaleMaps) -> Int64:
    """The cell nearest to each point."""
    away = scale.centres()[None] - np.asarray(points, np.float32)[:, None]
    return np.asarray((away**2).sum(axis=2).argmin(axis=1), np.int64)


def _far_apart(attention: Float32) -> Int64:
    """Up to `NODES` cells of an attention map (h, w), the strongest first, then the strongest far from those."""
    height, width = attention.shape
    rows, columns = np.indices(attention.shape).reshape(2, -1)
    left = attention.ravel().astype(np.float64)
    chosen: list[int] = []
    while len(chosen) < NODES and np.isfinite(left.max()):
        best = int(left.argmax())
        chosen.append(best)
        distance = np.hypot(rows - rows[best], columns - columns[best])
        left[distance <= APART * np.hypot(height, width)] = -np.inf
    return np.array(chosen, np.int64)


def _strongest(
    scales: Sequence[ScaleMaps], looked: Sequence[Float32], strength: Sequence[Float32]
) -> tuple[Superfeature, ...]:
    """The strongest super-features, one of each template: a template finds much the same at neighbouring scales."""
    norms = np.stack(strength)  # (scales, templates)
    level = norms.argmax(axis=0)
    best = norms.max(axis=0)
    order = np.argsort(-best, kind="stable")[:TEMPLATES]
    return tuple(
        Superfeature(int(t), scales[level[t]].scale, float(best[t]), looked[level[t]][t]) for t in order.tolist()
    )
