"""Whitening of global descriptors: PCA with any power, learned from matching pairs, and shrunk ZCA.

Each fit gives a `Whitening`, which centres, projects and L2-normalises rows, can cut their dimension, and is saved
with a record of how it was made. Sums run in float64 over blocks of rows: beside X, a fit holds three D x D matrices.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from resight.arrays import Float64, check_finite
from resight.errors import ArrayError, CollectionError, UsageError
from resight.features.pooling import normalise
from resight.regular_files import check_regular
from resight.types import Float32, Int64, as_array

FORMAT = "resight whitening 1"
BLOCK = 4096  # rows in float64 at a time


@dataclass(frozen=True, eq=False)
class Whitening:
    """The map x -> projection · (x - mean), followed by L2 normalisation.

    `mean` (D,) and `projection` (R, D) float64; its rows go from the strongest to the weakest component, except for
    ZCA, whose rows are the input's own dimensions. `provenance`: how it was made, name to text. Raises `ArrayError`
    on unequal shapes, NaN or infinity.
    """

    mean: Float64
    projection: Float64
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        projection = as_array("Whitening.projection", self.projection, np.float64, (None, None))
        mean = as_array("Whitening.mean", self.mean, np.float64, (projection.shape[1],))
        if not (np.isfinite(mean).all() and np.isfinite(projection).all()):
            raise ArrayError("a whitening cannot hold NaN or infinity: fit it again on finite descriptors")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "projection", projection)

    @property
    def dim(self) -> int:
        """Dimension R of the whitened descriptors."""
        return len(self.projection)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of mean and projection, hexadecimal: equal fingerprints make equal descriptors."""
        digest = hashlib.sha256(json.dumps(self.projection.shape).encode())
        digest.update(self.mean.data)
        digest.update(self.projection.data)
        return digest.hexdigest()

    @property
    def _checksum(self) -> str:
        """Of all that a file of it holds."""
        provenance = json.dumps(dict(self.provenance), sort_keys=True)
        return hashlib.sha256(f"{self.fingerprint} {provenance}".encode()).hexdigest()

    def apply(self, X: Any, dim: int | None = None) -> Float32:
        """Whitened rows (N, dim) float32 of `X` (N, D), L2-normalised; `dim` keeps the strongest components.

        Raises `ArrayError` on another dimension, NaN or infinity, `UsageError` when `dim` cannot be had.
        """
        rows = _rows(X, self.projection.shape[1])
        whitened = np.empty((len(rows), len(self._cut(dim))), np.float32)
        for start, block in _blocks(rows):
            whitened[start : start + len(block)] = normalise(self.project(block, dim))
        return whitened

    def project(self, X: Any, dim: int | None = None) -> Float64:
        """Projected rows (N, dim) float64 of `X` (N, D), not normalised, computed at once."""
        projected: Float64 = (_rows(X, self.projection.shape[1]) - self.mean) @ self._cut(dim).T
        return projected

    def noted(self, **facts: str) -> Whitening:
        """The same whitening with more provenance: the name of the backbone, the collection, a licence."""
        return replace(self, provenance={**self.provenance, **facts})

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all. Raises `CollectionError` when that cannot be done."""
        target = Path(path)
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        provenance = json.dumps(dict(self.provenance))
        metadata = {"format": FORMAT, "provenance": provenance, "sha256": self._checksum}
        try:
            save_file({"mean": self.mean, "projection": self.projection}, partial, metadata)
            os.replace(partial, target)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise CollectionError(f"{target} cannot be written: {error}") from error

    @staticmethod
    def load(path: str | Path) -> Whitening:
        """Read what `save` wrote. Raises `CollectionError` when the file is missing, damaged or of another format."""
        try:
            check_regular(path)
            with safe_open(Path(path), "numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise CollectionError(f"{path} holds {metadata.get('format')!r}, expected {FORMAT!r}: fit it again")
                mean, projection = file.get_tensor("mean"), file.get_tensor("projection")
                whitening = Whitening(mean, projection, dict(json.loads(metadata["provenance"])))
                if metadata["sha256"] != whitening._checksum:
                    raise ValueError("its checksum is wrong")
                return whitening
        except OSError as error:
            raise CollectionError(f"{path} cannot be read: {error}") from error
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CollectionError(f"{path} is damaged ({error}): fit it again") from error

    def _cut(self, dim: int | None) -> Float64:
        if dim is None or dim == self.dim:
            return self.projection
        if self.provenance.get("method") == "zca":
            raise UsageError(f"dim={dim}: ZCA keeps every dimension, use PCA whitening to reduce them")
        if not 1 <= dim < self.dim:
            raise UsageError(f"dim={dim}: this whitening gives 1 to {self.dim} dimensions")
        return self.projection[:dim]


def fit_pca(X: Any, dim: int | None = None, power: float = 0.5) -> Whitening:
    """PCA whitening of rows `X` (N, D): components divided by their variance^`power`.

    0.5 gives every component unit variance (Jegou and Chum, ECCV 2012), 0.25 is the softer one of DIR and AP-GeM
    (Revaud et al., ICCV 2019), 0 only rotates. `dim`: components kept; None for all in which the rows vary, which are
    fewer than D when rows are few. Raises `UsageError` when `dim` is more than that, `ArrayError` on bad rows.
    """
    if power < 0:
        raise UsageError(f"power={power} must not be negative")
    rows = _rows(X, None, least=2)
    mean = _mean(rows)
    variances, components = _spectrum(_covariance(rows, mean))
    rank = int((variances > variances[0] * _rounding(rows)).sum())
    kept = rank if dim is None else dim
    if not 1 <= kept <= rank:
        raise UsageError(f"dim={dim}: these {len(rows)} descriptors vary in {rank} dimensions, ask for 1 to {rank}")
    facts = {"method": "pca", "samples": str(len(rows)), "power": str(power)}
    return replace(from_components(mean, components[:kept], variances[:kept], power), provenance=facts)


def from_components(mean: Any, components: Any, variances: Any, power: float = 0.5) -> Whitening:
    """The whitening of a PCA made elsewhere: mean (D,), components (R, D) as rows, variances (R,), all positive."""
    rows = as_array("components", components, np.float64, (None, None))
    scale = as_array("variances", variances, np.float64, (len(rows),))
    if not (scale > 0).all():
        raise ArrayError(f"variance {int(np.argmin(scale > 0))} is {scale.min():g}: leave out components without any")
    return Whitening(mean, rows / scale[:, None] ** power, {"method": "pca", "power": str(power)})


def fit_zca(X: Any, shrinkage: float | None = None) -> Whitening:
    """ZCA whitening of rows `X` (N, D), with C^(-1/2) of the shrunk covariance C = (1 - s)·S + s·(trace S / D)·I.

    It whitens without rotating, and stands few rows: shrinkage s in (0, 1] fills the directions in which they do not
    vary. None estimates s from the rows (Ledoit and Wolf, J. Multivariate Analysis 2004). Raises `UsageError` when s is
    out of range, or 0 with rows that do not fill all dimensions.
    """
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise UsageError(f"shrinkage={shrinkage} must lie between 0 and 1")
    rows = _rows(X, None, least=2)
    mean = _mean(rows)
    covariance = _covariance(rows, mean)
    amount = _ledoit_wolf(rows, mean, covariance) if shrinkage is None else shrinkage
    variances, components = _spectrum(covariance)
    shrunk = (1 - amount) * variances + amount * variances.mean()
    if shrunk[-1] <= shrunk[0] * _rounding(rows):
        raise UsageError(f"shrinkage={amount:g} leaves directions without variance: give a larger one, or more rows")
    facts = {"method": "zca", "samples": str(len(rows)), "shrinkage": f"{amount:.6g}"}
    return Whitening(mean, (components.T / np.sqrt(shrunk)) @ components, facts)


def fit_learned(X: Any, queries: Any, positives: Any) -> Whitening:
    """Whitening learned from matching pairs (Mikolajczyk and Matas, ICCV 2007; Radenovic et al., TPAMI 2019).

    `X` (N, D); `queries` and `positives` (M,) rows of the two photos of each pair. The differences within pairs are
    whitened, then the rows rotated to their principal axes. With fewer pairs than dimensions, the least of 1e-10,
    1e-9, ... that makes the covariance of the differences positive definite is added to its diagonal.
    Raises `ArrayError` when rows are outside X, or all pairs join equal descriptors.
    """
    rows = _rows(X, None, least=2)
    left, right = _pairs(queries, positives, len(rows))
    mean = _mean(rows, left)
    within = np.zeros((rows.shape[1],) * 2)
    for start in range(0, len(left), BLOCK):
        span = slice(start, start + BLOCK)
        difference = rows[left[span]].astype(np.float64) - rows[right[span]]
        within += difference.T @ difference
    whitener = _inverse_root(within / len(left))
    scatter = whitener @ _covariance(rows, mean) @ whitener.T
    _, axes = _spectrum((scatter + scatter.T) / 2)
    facts = {"method": "learned", "samples": str(len(rows)), "pairs": str(len(left))}
    return Whitening(mean, axes @ whitener, facts)


def _rows(X: Any, dim: int | None, least: int = 0) -> NDArray[Any]:
    rows = np.asarray(X)
    if rows.ndim != 2 or rows.shape[1] == 0 or (dim is not None and rows.shape[1] != dim):
        raise ArrayError(f"descriptors have shape {rows.shape}, expected (N, {dim or 'D'})")
    if rows.dtype.kind != "f":
        raise ArrayError(f"descriptors hold {rows.dtype}, floating-point numbers are needed")
    if len(rows) < least:
        raise ArrayError(f"{len(rows)} descriptors cannot be whitened: at least {least} are needed")
    check_finite("descriptors", rows)
    return rows


def _pairs(queries: Any, positives: Any, rows: int) -> tuple[Int64, Int64]:
    left = as_array("queries", queries, np.int64, (None,))
    right = as_array("positives", positives, np.int64, (len(left),))
    if not len(left):
        raise ArrayError("no pairs were given: learned whitening needs some, PCA whitening does without")
    lowest, highest = min(left.min(), right.min()), max(left.max(), right.max())
    if lowest < 0 or highest >= rows:
        raise ArrayError(f"the pairs name rows {lowest} to {highest}, but rows go from 0 to {rows - 1}")
    return left, right


def _blocks(rows: NDArray[Any]) -> Iterator[tuple[int, Float64]]:
    for start in range(0, len(rows), BLOCK):
        yield start, rows[start : start + BLOCK].astype(np.float64)


def _mean(rows: NDArray[Any], chosen: Int64 | None = None) -> Float64:
    weights = np.ones(len(rows)) if chosen is None else np.bincount(chosen, minlength=len(rows)).astype(np.float64)
    total = sum(
        (weights[start : start + len(block)] @ block for start, block in _blocks(rows)), np.zeros(rows.shape[1])
    )
    return np.asarray(total / weights.sum())


def _covariance(rows: NDArray[Any], mean: Float64) -> Float64:
    total = np.zeros((rows.shape[1],) * 2)
    for _, block in _blocks(rows):
        block -= mean
        total += block.T @ block
    if np.trace(total) <= 1e-24 * len(rows) * (mean @ mean):  # rounding of equal rows
        raise ArrayError(f"all {len(rows)} descriptors are equal: whitening needs different ones")
    return total / len(rows)


def _rounding(rows: NDArray[Any]) -> float:
    """What rounding leaves of a direction without variance, relative to the largest, as in numpy's matrix_rank."""
    return int(max(rows.shape)) * float(np.finfo(np.float64).eps)


def _spectrum(symmetric: Float64) -> tuple[Float64, Float64]:
    """Eigenvalues (D,) descending, none below 0, and eigenvectors as rows (D, D)."""
    values, vectors = scipy.linalg.eigh(symmetric, driver="evd")
    return np.maximum(values[::-1], 0), vectors[:, ::-1].T


def _inverse_root(covariance: Float64) -> Float64:
    """Inverse of the Cholesky factor of a covariance (D, D), with the ridge that it needs."""
    if not covariance.any():
        raise ArrayError("every pair joins two equal descriptors: learned whitening needs pairs of different photos")
    identity, ridge = np.eye(len(covariance)), 0.0
    while True:
        try:
            factor = np.linalg.cholesky(covariance + ridge * identity)
        except np.linalg.LinAlgError:
            ridge = max(1e-10, ridge * 10)
            continue
        inverse: Float64 = scipy.linalg.solve_triangular(factor, identity, lower=True)
        return inverse


def _ledoit_wolf(rows: NDArray[Any], mean: Float64, covariance: Float64) -> float:
    dim = len(covariance)
    size = float((covariance**2).sum())
    spread = size - float(np.trace(covariance)) ** 2 / dim
    fourth = sum(float((((block - mean) ** 2).sum(axis=1) ** 2).sum()) for _, block in _blocks(rows)) / len(rows)
    noise = (fourth - size) / len(rows)
    return min(noise / spread, 1.0) if spread > 0 else 1.0
