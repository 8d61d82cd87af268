"""Values in checkpoint files, checked: what a file says is not to be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from resight.errors import ArrayError, UsageError
from resight.features.checkpoints.checkpoint import Pooling
from resight.features.checkpoints.files import PcaRecord
from resight.features.global_descriptor import Linear
from resight.features.networks.backbone import Triple
from resight.features.whitening import Whitening, from_components
from resight.types import Float32

DIR_POWER = 0.25  # of the variances, in the whitening of DIR and AP-GeM


def linear_layer(path: Path, layer: dict[str, Tensor], normalise: bool) -> Linear | None:
    """The fully connected layer of `weight` (D', D) and, perhaps, `bias`; None where the file has none."""
    if "weight" not in layer:
        return None
    bias = layer.get("bias")
    try:
        return Linear(layer["weight"].numpy(), None if bias is None else bias.numpy(), normalise)
    except ArrayError as error:
        raise UsageError(f"{path} is damaged: {error}") from error


def gem_exponent(path: Path, p: Tensor | None) -> Float32 | None:
    """The exponent of GeM, (1,) or (C,), which must be positive; None where the file has none."""
    if p is None:
        return None
    if p.ndim != 1 or not bool((p > 0).all()):
        raise UsageError(f"{path} is damaged: the exponent of GeM, {p.flatten()[:3].tolist()}, is not positive")
    return np.asarray(p.numpy(), np.float32)


def learned_whitenings(path: Path, found: Any) -> dict[str, Whitening]:
    """`Lw`: {data set: {"ss" | "ms": {"m": (D, 1), "P": (D, D)}}}, as "data set/ss" and "data set/ms"."""
    whitenings = {}
    try:
        for name, by_scales in (found or {}).items():
            for scales, one in by_scales.items():
                facts = {"method": "learned", "from": path.name, "data": f"{name}/{scales}"}
                whitenings[f"{name}/{scales}"] = Whitening(np.ravel(one["m"]), np.asarray(one["P"]), facts)
    except (ArrayError, AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged: its whitenings (Lw) cannot be read: {error}") from error
    return whitenings


def pca_whitenings(path: Path, found: Any) -> dict[str, Whitening]:
    """`pca`: {data set: scikit-learn's PCA}, or one PCA alone."""
    records = {"pca": found} if isinstance(found, PcaRecord) else found or {}
    whitenings = {}
    try:
        for name, record in records.items():
            power = DIR_POWER if record.whiten else 0.0
            one = from_components(record.mean_, record.components_, record.explained_variance_, power)
            whitenings[str(name)] = one.noted(**{"from": path.name, "data": str(name)})
    except (ArrayError, AttributeError) as error:
        raise UsageError(f"{path} is damaged: its whitening (pca) cannot be read: {error}") from error
    return whitenings


def known_pooling(path: Path, what: str, value: Any, names: Mapping[str, Pooling]) -> Pooling:
    """The pooling that a file calls `value`, where its program's `names` have it."""
    if not isinstance(value, str) or value not in names:
        raise UsageError(f"{path} has {what} {value!r}, which resight does not know: {', '.join(names)}")
    return names[value]


def triple(path: Path, what: str, value: Any, default: Triple) -> Triple:
    """Mean or std ("std") of red, green and blue; `default` where the file has none."""
    if value is None:
        return default
    try:
        red, green, blue = (float(number) for number in value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path} is damaged: its {what} of colours is {value!r}, not three numbers") from error
    if not all(map(math.isfinite, (red, green, blue))) or (what == "std" and min(red, green, blue) <= 0):
        raise UsageError(f"{path} is damaged: its {what} of colours is {value!r}")
    return red, green, blue
