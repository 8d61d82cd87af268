"""Fewer dimensions for local descriptors: a 1 x 1 convolution, of a checkpoint, a file, or learnt without labels.

PCA whitening as HOW and FIRe start from (Tolias et al., ECCV 2020): every kept direction has unit variance, and the
descriptors are not normalised, so that plain patches stay short.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from resight.arrays import Float64
from resight.errors import ArrayError, CollectionError, UsageError
from resight.regular_files import check_regular
from resight.types import Encoder, Float32, as_array

FORMAT = "resight reduction 1"
LEAST_VARIANCE = 1e-9  # of the largest, below which a direction is rounding


@dataclass(frozen=True, eq=False)
class Reduction:
    """The map x -> weight x + bias: `weight` (d, C) and `bias` (d,) float32.

    Raises `ArrayError` on other shapes, NaN or infinity.
    """

    weight: Float32
    bias: Float32

    def __post_init__(self) -> None:
        weight = as_array("Reduction.weight", self.weight, np.float32, (None, None))
        bias = as_array("Reduction.bias", self.bias, np.float32, (len(weight),))
        if not (weight.size and np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ArrayError("a reduction cannot be empty or hold NaN or infinity: its file is damaged")
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", bias)

    @property
    def dim(self) -> int:
        """Dimension d that it gives."""
        return len(self.weight)

    @property
    def channels(self) -> int:
        """Dimension C that it takes."""
        return int(self.weight.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of weight and bias."""
        digest = hashlib.sha256(json.dumps(self.weight.shape).encode())
        digest.update(np.ascontiguousarray(self.weight).data)
        digest.update(self.bias.data)
        return digest.hexdigest()

    def __call__(self, maps: Float32) -> Float32:
        """Maps (N, C, H, W) to (N, d, H, W) float32. Raises `ArrayError` on another number of channels."""
        if maps.ndim != 4 or maps.shape[1] != self.channels:
            raise ArrayError(f"maps have shape {maps.shape}, and this reduction takes {self.channels} channels")
        count, _, height, width = maps.shape
        flat = self.weight @ maps.reshape(count, self.channels, height * width) + self.bias[:, None]
        return np.asarray(flat.reshape(count, self.dim, height, width), np.float32)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file. Raises `CollectionError` when that cannot be done."""
        try:
            save_file({"weight": self.weight, "bias": self.bias}, path, {"format": FORMAT, "sha256": self.fingerprint})
        except (OSError, SafetensorError) as error:
            raise CollectionError(f"{path} cannot be written: {error}") from error

    @staticmethod
    def load(path: str | Path) -> Reduction:
        """Read what `save` wrote. Raises `UsageError` when it is missing, damaged or something else."""
        try:
            check_regular(path)
            with safe_open(Path(path), "numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise UsageError(
                        f"{path} is no reduction of local descriptors, it holds {metadata.get('format')!r}"
                    )
                found = Reduction(file.get_tensor("weight"), file.get_tensor("bias"))
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error}") from error
        except (SafetensorError, ArrayError, TypeError, ValueError) as error:
            raise UsageError(f"{path} is damaged ({error}): write it again") from error
        if metadata.get("sha256") != found.fingerprint:
            raise UsageError(f"{path} is damaged (its checksum is wrong): write it again")
        return found


class Moments:
    """Sums over descriptors (n, C) that come in blocks; holds one C x C matrix, however many there are."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.total = np.zeros(channels)
        self.outer = np.zeros((channels, channels))

    def add(self, descriptors: NDArray[Any]) -> None:
        """Take in `descriptors` (n, C)."""
        rows = descriptors.astype(np.float64)
        self.count += len(rows)
        self.total += rows.sum(axis=0)
        self.outer += rows.T @ rows

    def whitening(self, dim: int) -> Reduction:
        """PCA whitening to the `dim` strongest directions.

        Raises `UsageError` when the descriptors vary in fewer.
        """
        if self.count <= dim:
            raise UsageError(
                f"{self.count} local descriptors are too few to learn {dim} dimensions from: index more photos, give a "
                "smaller dim, or a reduction from a file"
            )
        mean = self.total / self.count
        values, vectors = _strongest(self.outer / self.count - np.outer(mean, mean), dim)
        if values[-1] <= values[0] * LEAST_VARIANCE:
            kept = int((values > values[0] * LEAST_VARIANCE).sum())
            raise UsageError(f"these local descriptors vary in {kept} dimensions: dim={dim} is more than that")
        weight = vectors / np.sqrt(values)[:, None]
        return Reduction(weight.astype(np.float32), (-weight @ mean).astype(np.float32))


@runtime_checkable
class Reducible(Protocol):
    """An encoder whose reduction may have to be learnt from photos first: `reduction` is None until then.

    `sample`: descriptors (n, C) of images before reduction, on which it is fitted; `reduced`: the encoder with it.
    """

    @property
    def dim(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def reduction(self) -> Reduction | None: ...
    def sample(self, images: Sequence[NDArray[np.uint8]], /) -> Float32: ...
    def reduced(self, reduction: Reduction, /) -> Encoder: ...


def _strongest(covariance: Float64, dim: int) -> tuple[Float64, Float64]:
    """The `dim` largest eigenvalues, descending, and their vectors as rows, each with its largest entry positive."""
    size = len(covariance)
    if dim > size:
        raise UsageError(f"dim={dim} is more than the {size} channels of the network")
    values, vectors = scipy.linalg.eigh(covariance, driver="evd")
    values, rows = np.maximum(values[::-1][:dim], 0), vectors[:, ::-1].T[:dim]
    signs = np.sign(rows[np.arange(dim), np.abs(rows).argmax(axis=1)])  # else they depend on the processor
    return values, rows * signs[:, None]
