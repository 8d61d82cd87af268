"""Why two photos are alike as wholes: how much each cell of their feature maps adds to the cosine of their descriptors.

Pooled descriptors have no matched points to draw, but they are sums: each channel of a SPoC or GeM descriptor is a sum
over cells, and the cosine is a sum over channels. So the cosine falls apart into one number per cell, without a rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from resight.errors import ArrayError, UsageError
from resight.features.global_descriptor import Linear
from resight.features.pooling import EPSILON
from resight.features.whitening import Whitening
from resight.types import as_array
from resight.viz.matches import BACKGROUND, GAP, SUPERSAMPLING, _panels
from resight.viz.pictures import Pixels, as_pixels, font

Float64: TypeAlias = NDArray[np.float64]
Affine: TypeAlias = tuple[Float64, Float64, Float64]
"""A vector y (D,), with the matrix (D, C) and offset (D,) that make it of the pooled channels (C,)."""

TEXT = (226, 230, 236)
FAINT, STRONG = 0.25, 0.75  # share of the colours in the coldest and the hottest cell; the photo has the rest
COLOURS = np.array([(10, 12, 40), (92, 20, 110), (200, 50, 80), (250, 140, 20), (255, 240, 120)], np.float64)
STRIP = 30  # pixels of the line below the photos


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each cell of two photos adds to their `cosine`: `query` (H, W), `result` (H', W') float64 both sum to it."""

    query: Float64
    result: Float64
    cosine: float


def contributions(
    query: Any, result: Any, p: Any = 3.0, *, linear: Linear | None = None, whitenings: Sequence[Whitening] = ()
) -> Contributions:
    """Take the cosine of two descriptors apart into the cells of their feature maps (C, H, W) and (C, H', W').

    `p`: power of GeM, a number or one per channel (C,); None for SPoC, the mean. A cell's share of a channel of GeM is
    x^p / sum x^p, so a cell without activation adds 0. `linear`, then `whitenings` follow the pooling as in
    `GlobalDescriptor`; their constant part belongs to no cell and is spread over all evenly, so cells less like the
    other photo than the average photo is come out negative. The lengths by which vectors are divided are those of the
    whole descriptors.

    Radenovic et al. (TPAMI 2019) define GeM, Babenko and Lempitsky (ICCV 2015) SPoC. Raises `ArrayError` on other
    shapes, unequal channels, NaN or infinity, `UsageError` when p is not positive. Memory: twice the maps as float64,
    and a matrix C x C.
    """
    ours, theirs = _maps("query", query), _maps("result", result)
    if len(ours) != len(theirs):
        raise ArrayError(f"the maps of the query have {len(ours)} channels, those of the result {len(theirs)}")
    exponent = None if p is None else _exponent(p, len(ours))
    cells, others = _per_cell(ours, exponent), _per_cell(theirs, exponent)
    made, other = (_affine(_total(one), linear, whitenings) for one in (cells, others))
    return Contributions(_along(other[0], made, cells), _along(made[0], other, others), float(made[0] @ other[0]))


def draw_contributions(
    query: Pixels, result: Pixels, found: Contributions, *, height: int = 480, max_width: int = 1400
) -> Image.Image:
    """Draw query and result (H, W, 3) uint8 side by side under their heat maps; give an RGB picture.

    The hottest colour is the cell of that photo that adds most, the coldest one that adds nothing or takes away. Below
    stand the cosine, and in how small a part of each photo the hottest cells are that make half of it. The photos are
    `height` pixels high, less when the picture would pass `max_width`. Raises `ArrayError` when an array is no picture.
    """
    pixels = as_pixels("query", query), as_pixels("result", result)
    sizes = [(float(photo.shape[1]), float(photo.shape[0])) for photo in pixels]
    panels = [(w // SUPERSAMPLING, h // SUPERSAMPLING) for w, h in _panels(sizes[0], sizes[1], height, max_width)]
    heats = (found.query, found.result)
    left, right = (_heated(*parts) for parts in zip(pixels, heats, panels, strict=True))
    canvas = Image.new("RGB", (left.width + GAP + right.width, left.height + STRIP), BACKGROUND)
    canvas.paste(left, (0, 0))
    canvas.paste(right, (left.width + GAP, 0))
    line = f"cosine {found.cosine:.3f}"
    if found.cosine > 0:
        line += f", half of it from {100 * _half(found.query):.0f} % and {100 * _half(found.result):.0f} % of the areas"
    ImageDraw.Draw(canvas).text((6, left.height + STRIP // 2), line, TEXT, font(13), anchor="lm")
    return canvas


def _maps(name: str, value: Any) -> Float64:
    maps: Float64 = as_array(f"the maps of the {name}", value, np.float64, (None, None, None))
    if 0 in maps.shape:
        raise ArrayError(f"the maps of the {name} have shape {maps.shape}: no side may be 0")
    if not np.isfinite(maps).all():
        raise ArrayError(f"the maps of the {name} hold NaN or infinity")
    return maps


def _exponent(p: Any, channels: int) -> Float64:
    exponent = np.asarray(p, np.float64)
    if exponent.shape not in {(), (1,), (channels,)}:
        raise ArrayError(f"p has shape {exponent.shape}, expected a number or one per channel ({channels},)")
    if not (np.isfinite(exponent) & (exponent > 0)).all():
        raise UsageError("p must be positive and finite: the maximum belongs to single cells, and has no shares")
    return exponent.reshape(-1, 1, 1)


def _per_cell(maps: Float64, p: Float64 | None) -> Float64:
    """What each cell adds to each pooled channel, (C, H, W): their sum over the cells is the pooled vector."""
    count = maps.shape[1] * maps.shape[2]
    if p is None:
        return np.asarray(maps / count)
    largest = maps.max(axis=(1, 2), keepdims=True).clip(min=0)
    powers = (maps.clip(min=0) / np.where(largest > 0, largest, 1)) ** p  # x^p of a strong channel would overflow
    total = powers.sum(axis=(1, 2), keepdims=True)
    pooled = largest * (total / count) ** (1 / p)
    return np.asarray(pooled * powers / np.where(total > 0, total, 1))


def _total(cells: Float64) -> Float64:
    pooled: Float64 = cells.sum(axis=(1, 2))
    return pooled


def _affine(pooled: Float64, linear: Linear | None, whitenings: Sequence[Whitening]) -> Affine:
    """The descriptor of the pooled vector, and how it follows from it while the norms stay what they are."""
    made: Affine = pooled, np.eye(len(pooled)), np.zeros(len(pooled))
    if linear is not None:
        bias = np.zeros(len(linear.weight)) if linear.bias is None else linear.bias
        made = _through(_unit(made) if linear.normalise else made, linear.weight, bias)
    made = _unit(made)
    for whitening in whitenings:
        made = _unit(_through(made, whitening.projection, -whitening.projection @ whitening.mean))
    return made


def _through(made: Affine, weight: NDArray[Any], bias: NDArray[Any]) -> Affine:
    vector, matrix, offset = made
    if weight.shape[1] != len(vector):
        raise ArrayError(f"the layer behind the pooling takes {weight.shape[1]} values, the maps give {len(vector)}")
    return weight @ vector + bias, weight @ matrix, weight @ offset + bias


def _unit(made: Affine) -> Affine:
    factor = 1 / (np.linalg.norm(made[0]) + EPSILON)
    return made[0] * factor, made[1] * factor, made[2] * factor


def _along(direction: Float64, made: Affine, cells: Float64) -> Float64:
    """What each cell (C, H, W) adds to the inner product of its descriptor with `direction` (D,), (H, W)."""
    _, matrix, offset = made
    spread = direction @ offset / (cells.shape[1] * cells.shape[2])
    return np.asarray(np.tensordot(direction @ matrix, cells, axes=1) + spread)


def _heated(pixels: Pixels, heat: Float64, size: tuple[int, int]) -> Image.Image:
    """A photo under its heat map, `size` (width, height) pixels."""
    warm = heat.clip(min=0) / max(heat.max(), np.finfo(np.float64).tiny)
    wide = cv2.resize(warm.astype(np.float32), size, interpolation=cv2.INTER_CUBIC).clip(0, 1)
    scale = np.linspace(0, 1, len(COLOURS))
    colour = np.stack([np.interp(wide, scale, channel) for channel in COLOURS.T], axis=2)
    photo = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert("L"), np.float64)
    share = (FAINT + (STRONG - FAINT) * wide)[:, :, None]
    return Image.fromarray((photo[:, :, None] * (1 - share) + colour * share).round().astype(np.uint8))


def _half(heat: Float64) -> float:
    """Smallest share of the cells that adds half of what all of them add."""
    ordered = np.sort(heat, axis=None)[::-1]
    return (1 + int(np.argmax(np.cumsum(ordered) >= heat.sum() / 2))) / heat.size
