"""Feature maps to one vector per image: MAC, SPoC, GeM, R-MAC, RoI pooling, and the pooling of SuperGlobal.

Feature maps are (N, C, H, W): numpy arrays, or torch tensors on any device, through which gradients flow. The answer is
of the same kind; half precision is pooled as float32, integers are refused. Vectors are not normalised unless the
function says so: `normalise` does it. Nothing here imports torch.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from resight.errors import ArrayError, UsageError
from resight.types import Int64

Array: TypeAlias = Any
"""A numpy array or a torch tensor: what goes in comes out."""

OVERLAP = 0.4  # share of a region that its neighbour should cover, in R-MAC
EPSILON = 1e-6  # floor of GeM, and what `normalise` adds to a norm: both as the published models were trained


def normalise(vectors: Array, epsilon: float = EPSILON) -> Array:
    """Vectors (..., D) divided by their L2 norm + `epsilon`; zero vectors stay zero."""
    if is_tensor(vectors):
        return vectors / (vectors.norm(dim=-1, keepdim=True) + epsilon)  # its gradient at zero is zero, not NaN
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + epsilon)


def mac(features: Array) -> Array:
    """Maximum activations of convolutions, (N, C): the maximum of each channel (Razavian et al., 2016)."""
    return _largest(maps_of(features))


def spoc(features: Array) -> Array:
    """Sum-pooled convolutional features, (N, C): the mean of each channel (Babenko and Lempitsky, ICCV 2015)."""
    return maps_of(features).mean(axis=(2, 3))


def gem(features: Array, p: Any = 3.0, epsilon: float = EPSILON) -> Array:
    """Generalised mean, (N, C): (mean of max(x, epsilon)^p)^(1/p) (Radenovic et al., TPAMI 2019).

    `p`: a positive number, or (C,) one per channel, which may be a learned tensor; 1 is SPoC, infinity is MAC. GeM+ of
    SuperGlobal is `gem(features, 4.6)`. Raises `ArrayError` on another shape, `UsageError` when p is not positive.
    """
    maps = maps_of(features).clip(min=epsilon)
    if isinstance(p, (int, float)) and math.isinf(p) and p > 0:
        return _largest(maps)
    power = _exponent(p, maps)
    largest = _largest(maps)[:, :, None, None]  # taken out before the power: x^p of a strong channel would overflow
    mean = ((maps / largest) ** power).mean(axis=(2, 3), keepdims=True)
    return (largest * mean ** (1 / power))[:, :, 0, 0]


def rmac_regions(features: Array, levels: int = 3) -> Int64:
    """Boxes of R-MAC on maps (N, C, H, W): (R, 4) int64 x0, y0, x1, y1, last row and column included, whole map first.

    Level l has squares of side 2·min(W, H)/(l + 1), spread evenly; along the longer side there are as many more as
    bring the overlap of two neighbours closest to 40 % (Tolias et al., ICLR 2016). Raises `UsageError` unless levels
    is at least 1.
    """
    if levels < 1:
        raise UsageError(f"levels={levels}: R-MAC needs at least 1")
    height, width = maps_of(features).shape[2:]
    short = min(height, width)
    more = 0 if height == width else _extra_positions(short, max(height, width))
    boxes = [(0, 0, width - 1, height - 1)]
    for level in range(1, levels + 1):
        side = 2 * short // (level + 1)
        if side == 0:
            continue
        across = _starts(width, side, level + (more if width > height else 0))
        down = _starts(height, side, level + (more if height > width else 0))
        boxes += [(x, y, x + side - 1, y + side - 1) for y in down for x in across]
    return np.array(boxes, np.int64)


def roi_pool(features: Array, levels: int = 3, pool: Callable[[Array], Array] = mac) -> Array:
    """`pool` over every box of `rmac_regions`, (N, R, C): the whole map first, not normalised."""
    maps = maps_of(features)
    pooled = [pool(maps[:, :, y0 : y1 + 1, x0 : x1 + 1]) for x0, y0, x1, y1 in rmac_regions(maps, levels).tolist()]
    return _stack(pooled)


def sum_regions(regions: Array, whiten: Callable[[Array], Array] | None = None) -> Array:
    """Region vectors (N, R, C) to the sum of their directions, (N, D), not normalised.

    Each region is L2-normalised first, and again after `whiten`, a function (N, R, C) -> (N, R, D), when it is given.
    """
    directions = normalise(regions)
    if whiten is not None:
        directions = normalise(whiten(directions))
    return directions.sum(axis=1)


def rmac(features: Array, levels: int = 3) -> Array:
    """Regional MAC, (N, C): sum of the L2-normalised MAC vectors of the whole map and of its regions, not normalised.

    Tolias et al. (ICLR 2016) sum the regions alone; the published models add the whole map, and so does this.
    """
    return sum_regions(roi_pool(features, levels))


def regional_gem(features: Array, p: Any = 3.0, levels: int = 3) -> Array:
    """GeM over the R-MAC regions, (N, C): normalised, summed, and L2-normalised again."""
    return normalise(sum_regions(roi_pool(features, levels, lambda region: gem(region, p))))


def smooth_regional_gem(features: Array, p: float = 2.5, size: int = 5) -> Array:
    """SuperGlobal's Regional-GeM, (N, C, H, W): the mean of each position and of the GeM of its window.

    Windows of `size` x `size` reflect at the border; their values count as at least 1e-8, which keeps the gradient of
    empty windows finite. It goes before `gem(…, 4.6)` (Shao et al., ICCV 2023).
    """
    if size < 1 or size % 2 == 0:
        raise UsageError(f"size={size}: the window needs an odd side, so that it has a centre")
    maps = maps_of(features)
    powers = maps.clip(min=1e-8) ** p
    height, width = (_reflected(n, size // 2) for n in maps.shape[2:])
    rows = sum(powers[:, :, height[i : i + maps.shape[2]]] for i in range(size))
    window = sum(rows[:, :, :, width[i : i + maps.shape[3]]] for i in range(size)) / size**2
    return maps / 2 + window ** (1 / p) / 2


def named_pooling(name: str, p: float) -> tuple[Callable[[Array], Array], str]:
    """The pooling of that name, with power `p` where it has one, and what to call it in a fingerprint.

    Names: gem, mac, spoc, rmac, class-token, and regional-gem, which is `smooth_regional_gem` before `gem`.
    """
    if name == "gem":
        return partial(gem, p=p), f"gem {p}"
    if name == "regional-gem":
        return (lambda maps: gem(smooth_regional_gem(maps), p)), f"regional-gem {p}"
    return {"mac": mac, "spoc": spoc, "rmac": rmac, "class-token": class_token}[name], name


def relup(features: Array, floor: float = 0.014) -> Array:
    """SuperGlobal's ReLUP: activations of at least `floor`, same shape."""
    return maps_of(features).clip(min=floor)


def scale_gem(vectors: Array) -> Array:
    """SuperGlobal's Scale-GeM with p = infinity: vectors (S, N, D) of S image scales to (N, D), L2-normalised.

    The maximum over the scales of the L2-normalised vectors.
    """
    per_scale = normalise(_scales(vectors))
    return normalise(per_scale.amax(0) if is_tensor(per_scale) else per_scale.max(axis=0))


def power_mean(vectors: Array, p: float = 1.0, floor: float = 0.0) -> Array:
    """Vectors (S, N, D) of S image scales or transforms to one each, (N, D), not normalised: (mean of v^p)^(1/p).

    Powers keep their sign, so that whitened vectors can be averaged with p = 3 as well. `floor`: magnitudes below it
    count as it, both before the first power and before the root; the published DIR pooling has 1e-6, which lifts mean
    entries under 0.01 when p is 3. Raises `UsageError` unless p is positive.
    """
    if not p > 0:
        raise UsageError(f"p={p}: the power mean over scales needs a positive p")
    if p == 1:
        return _scales(vectors).mean(axis=0)
    return _signed_power(_signed_power(_scales(vectors), p, floor).mean(axis=0), 1 / p, floor)


def class_token(tokens: Array) -> Array:
    """The class token of a vision transformer's output (N, T, D), which is its first: (N, D)."""
    if tokens.ndim != 3 or tokens.shape[1] == 0:
        raise ArrayError(f"tokens have shape {tuple(tokens.shape)}, expected (N, T, D) with T of at least 1")
    return tokens[:, 0]


def is_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor. When torch was never imported, it cannot be."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def maps_of(features: Array) -> Array:
    """`features` as floating-point maps (N, C, H, W) of at least single precision. Raises `ArrayError` otherwise."""
    if not is_tensor(features):
        features = np.asarray(features)
    if features.ndim != 4 or 0 in features.shape[1:]:
        raise ArrayError(f"feature maps have shape {tuple(features.shape)}, expected (N, C, H, W) with no side 0")
    if is_tensor(features):
        if not features.is_floating_point():
            raise ArrayError(f"feature maps hold {features.dtype}, floating-point numbers are needed")
        return features.float() if features.dtype.itemsize < 4 else features
    if features.dtype.kind != "f":
        raise ArrayError(f"feature maps hold {features.dtype}, floating-point numbers are needed")
    return features.astype(np.float32) if features.dtype.itemsize < 4 else features


def _scales(vectors: Array) -> Array:
    vectors = vectors if is_tensor(vectors) else np.asarray(vectors)
    if vectors.ndim != 3 or len(vectors) == 0:
        raise ArrayError(f"vectors have shape {tuple(vectors.shape)}, expected (scales, N, D) with at least one scale")
    return vectors


def _largest(maps: Array) -> Array:
    return maps.amax((2, 3)) if is_tensor(maps) else maps.max(axis=(2, 3))


def _signed_power(values: Array, p: float, floor: float) -> Array:
    return (values.sign() if is_tensor(values) else np.sign(values)) * abs(values).clip(min=floor) ** p


def _stack(arrays: list[Array]) -> Array:
    if is_tensor(arrays[0]):
        return sys.modules["torch"].stack(arrays, 1)
    return np.stack(arrays, axis=1)


def _exponent(p: Any, maps: Array) -> Array:
    if isinstance(p, (int, float)):
        if not p > 0:
            raise UsageError(f"p={p}: the generalised mean needs a positive p")
        return p
    if not is_tensor(p):
        p = np.asarray(p, maps.dtype if not is_tensor(maps) else np.float32)
    if tuple(p.shape) not in {(), (1,), (maps.shape[1],)}:
        raise ArrayError(f"p has shape {tuple(p.shape)}, expected a number or one per channel ({maps.shape[1]},)")
    if not bool((p > 0).all()):
        raise UsageError("the generalised mean needs a positive p, got one that is 0, negative or NaN")
    if is_tensor(maps) and not is_tensor(p):
        p = maps.new_tensor(p)
    return p.reshape(-1, 1, 1)


def _extra_positions(short: int, long: int) -> int:
    # float32 and a reciprocal, as the published networks compute it: ties between two candidates fall the same way
    steps = np.arange(1, 7, dtype=np.float32)
    stride = np.float32(1) / steps * np.float32(long - short)
    overlap = (np.float32(short**2) - np.float32(short) * stride) / np.float32(short**2)
    return int(np.abs(overlap - np.float32(OVERLAP)).argmin()) + 1


def _starts(length: int, side: int, count: int) -> list[int]:
    half = math.floor(side / 2 - 1)
    stride = np.float32((length - side) / (count - 1) if count > 1 else 0)
    return [int(x) for x in np.floor(np.float32(half) + np.arange(count, dtype=np.float32) * stride) - half]


def _reflected(length: int, margin: int) -> Int64:
    return np.pad(np.arange(length), margin, mode="reflect")
