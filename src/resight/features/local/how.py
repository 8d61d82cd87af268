"""HOW: local descriptors from feature maps, by attention, smoothing and a whitening convolution.

Tolias, Jenicek and Chum, "Learning and aggregating deep local descriptors for instance-level recognition", ECCV 2020.
Feature maps (N, C, H, W) are numpy arrays or torch tensors, as in `resight.features.pooling`; an image is seen at
several scales, so most functions take one map per scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resight.errors import ArrayError, UsageError
from resight.features.pooling import Array, is_tensor, maps_of, normalise
from resight.features.whitening import Whitening
from resight.types import Float32, Int64, LocalFeatures


@dataclass(frozen=True, eq=False)
class HowFeatures:
    """The strongest local features of one image, strongest first.

    `descriptors` (n, d) float32, not normalised; `strength` (n,) float32, their attention; `cells` (n, 2) int64, column
    and row in the feature map of their scale; `scale` (n,) float32, how large the image was when they were found.
    """

    descriptors: Float32
    strength: Float32
    cells: Int64
    scale: Float32

    def in_pixels(self, stride: int) -> LocalFeatures:
        """The features at the centres of their cells of `stride` pixels, in pixels of the image at scale 1.

        Their scale becomes the side of the cell there.
        """
        side = np.float32(stride) / self.scale
        xy = (self.cells + 0.5) * side[:, None]
        return LocalFeatures(xy, side, np.zeros(len(xy), np.float32), self.strength, self.descriptors)


def attention(features: Array) -> Array:
    """Attention (N, H, W) of feature maps (N, C, H, W): the L2 norm at each position, of the maps before smoothing."""
    return ((maps_of(features) ** 2).sum(axis=1) + 1e-10) ** 0.5


def relative_attention(scales: Sequence[Array]) -> list[Array]:
    """Attention maps (N, H_s, W_s) of all scales, divided by their largest value in each image."""
    largest = scales[0].reshape(len(scales[0]), -1)[:, :1]
    for weights in scales:
        flat = weights.reshape(len(weights), -1)
        top = flat.amax(1, keepdim=True) if is_tensor(flat) else flat.max(axis=1, keepdims=True)
        largest = largest.maximum(top) if is_tensor(top) else np.maximum(largest, top)
    return [weights / largest[:, :, None] for weights in scales]


def smooth(features: Array, size: int = 3) -> Array:
    """Mean of each `size` x `size` window of maps (N, C, H, W), same shape; borders average the positions that exist.

    Raises `UsageError` unless size is odd.
    """
    if size < 1 or size % 2 == 0:
        raise UsageError(f"size={size}: smoothing needs an odd window, so that it has a centre")
    rows = _smooth_last(maps_of(features), size // 2)
    return _smooth_last(rows.swapaxes(2, 3), size // 2).swapaxes(2, 3)


def reduce(features: Array, weight: Array, bias: Array) -> Array:
    """1 x 1 convolution of maps (N, C, H, W) with `weight` (d, C) and `bias` (d,): maps (N, d, H, W).

    Raises `ArrayError` on other shapes.
    """
    maps = maps_of(features)
    if weight.ndim != 2 or weight.shape[1] != maps.shape[1] or tuple(bias.shape) != (len(weight),):
        shapes = f"{tuple(weight.shape)} and {tuple(bias.shape)}"
        raise ArrayError(f"weight and bias have shapes {shapes}, expected (d, {maps.shape[1]}) and (d,)")
    count, _, height, width = maps.shape
    flat = weight @ maps.reshape(count, maps.shape[1], height * width) + bias[:, None]
    return flat.reshape(count, len(weight), height, width)


def whitening_convolution(whitening: Whitening, dim: int) -> tuple[Float32, Float32]:
    """Weight (dim, C) and bias (dim,) float32 with which `reduce` applies `whitening`, without normalisation.

    Fit it with `fit_pca` on smoothed local features of many photos; HOW keeps 128 dimensions and freezes them. Raises
    `UsageError` when the whitening has fewer.
    """
    if not 1 <= dim <= whitening.dim:
        raise UsageError(f"dim={dim}: this whitening gives 1 to {whitening.dim} dimensions")
    weight = whitening.projection[:dim]
    return weight.astype(np.float32), (-weight @ whitening.mean).astype(np.float32)


def weighted_sum(maps: Sequence[Array], weights: Sequence[Array]) -> Array:
    """Global descriptors (N, d), L2-normalised: the sum over scales and positions of attention times descriptor.

    `maps`: (N, d, H_s, W_s) per scale; `weights`: (N, H_s, W_s) per scale. HOW is trained through them.
    """
    _check_scales(maps, weights)
    parts = [(m * w[:, None]).sum(axis=(2, 3)) for m, w in zip(maps, weights, strict=True)]
    return normalise(sum(parts[1:], parts[0]))


def strongest(maps: Sequence[Array], weights: Sequence[Array], scales: Sequence[float], count: int) -> HowFeatures:
    """The `count` local features of one image with the highest attention over all scales; equal ones in map order.

    `maps`: (1, d, H_s, W_s) per scale; `weights`: (1, H_s, W_s) per scale; `scales`: the image's size at each, 1 for
    the original. Raises `ArrayError` on other shapes, `UsageError` unless count is at least 1.
    """
    if count < 1:
        raise UsageError(f"count={count}: at least one local feature must be kept")
    _check_scales(maps, weights)
    if len(scales) != len(maps) or any(len(one) != 1 for one in maps):
        raise ArrayError(f"{len(maps)} maps and {len(scales)} scales: give one scale per map, and maps of one image")
    arrays = [(_to_numpy(m)[0], _to_numpy(w)[0]) for m, w in zip(maps, weights, strict=True)]
    strength = np.concatenate([w.ravel() for _, w in arrays])
    order = np.argsort(-strength, kind="stable")[:count]
    descriptors = np.concatenate([m.reshape(len(m), -1).T for m, _ in arrays])
    cells = np.concatenate([np.indices(w.shape)[::-1].reshape(2, -1).T for _, w in arrays])
    scale = np.repeat(np.asarray(scales, np.float32), [w.size for _, w in arrays])
    return HowFeatures(descriptors[order], strength[order], cells[order], scale[order])


def _check_scales(maps: Sequence[Array], weights: Sequence[Array]) -> None:
    expected = [(one.shape[0], *one.shape[2:]) for one in maps]
    if not len(maps) or expected != [tuple(one.shape) for one in weights]:
        got = [tuple(one.shape) for one in weights]
        raise ArrayError(f"attention has shapes {got}, expected {expected}: one map per scale, and at least one scale")


def _smooth_last(maps: Array, reach: int) -> Array:
    total, length = maps + 0, maps.shape[3]  # a copy, of arrays and tensors alike
    for shift in range(1, min(reach, length - 1) + 1):
        total[..., shift:] += maps[..., :-shift]
        total[..., :-shift] += maps[..., shift:]
    place = np.arange(length)
    counts = np.minimum(place, reach) + np.minimum(length - 1 - place, reach) + 1
    return total / (maps.new_tensor(counts) if is_tensor(maps) else counts.astype(maps.dtype))


def _to_numpy(array: Array) -> Float32:
    return np.asarray(array.detach().cpu() if is_tensor(array) else array, np.float32)
