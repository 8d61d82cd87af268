"""OASIS: a bilinear similarity q'Wx, learnt from triplets one after another.

Paper: Chechik, Sharma, Shalit, Bengio, "Large scale online learning of image similarity through ranking", JMLR 2010.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.arrays import Float64, finite_rows
from resight.errors import ArrayError, UsageError
from resight.matching.descriptor_pairs import paired_rows
from resight.store.tensor_file import write_tensors
from resight.types import Float32, as_array

SIMILARITY_FORMAT = "resight similarity 1"


@dataclass(frozen=True, eq=False)
class Oasis:
    """S(q, x) = q' W x with `matrix` W (D, D) float64, which need not be symmetric; the identity gives inner products.

    `model` and `provenance` as for `DeepSimilarity`. Raises `ArrayError` unless the matrix is square and finite.
    """

    matrix: Float64
    model: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        matrix = as_array("Oasis.matrix", self.matrix, np.float64, (None, None))
        if matrix.shape[0] != matrix.shape[1] or not len(matrix):
            raise ArrayError(f"Oasis.matrix has shape {matrix.shape}, expected (D, D)")
        if not np.isfinite(matrix).all():
            raise ArrayError("Oasis.matrix holds NaN or infinity: train it again")
        object.__setattr__(self, "matrix", matrix)

    @staticmethod
    def identity(dim: int, model: str = "") -> Oasis:
        """The similarity that training starts from: the inner product of `dim` dimensions."""
        if dim < 1:
            raise UsageError(f"dim={dim}: descriptors need at least one dimension")
        return Oasis(np.eye(dim), model)

    @property
    def dim(self) -> int:
        """Dimension D of the descriptors."""
        return len(self.matrix)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the matrix, hexadecimal: equal fingerprints give equal scores."""
        return hashlib.sha256(json.dumps(self.dim).encode() + self.matrix.tobytes()).hexdigest()

    def queries(self, queries: Any) -> Float32:
        """Queries (Q, D) float32 whose inner product with a descriptor is their similarity to it.

        Any index over the plain descriptors so searches by OASIS, at no further cost. Not normalised.
        """
        rows = finite_rows("queries", queries, self.dim)
        return np.asarray(rows @ self.matrix, np.float32)

    def score(self, queries: Any, vectors: Any) -> Float32:
        """Scores (Q, N) float32 of every query (Q, D) with every one of `vectors` (N, D).

        Raises `ArrayError` on other shapes, NaN or infinity.
        """
        rows = finite_rows("vectors", vectors, self.dim)
        return np.asarray(self.queries(queries) @ rows.T, np.float32)

    def pairs(self, x: Any, y: Any) -> Float32:
        """Scores (n,) float32 of rows of `x` (n, D) with the same rows of `y` (n, D). Raises as `score` does."""
        x, y = paired_rows(x, y, self.dim)
        return np.asarray(np.einsum("nd,nd->n", self.queries(x), y), np.float32)

    def learn(self, X: Any, triplets: Any, C: float = 0.1, batch: int = 1) -> tuple[Oasis, Float64]:
        """The similarity after one pass over `triplets` (T, 3), in order, and the loss (T,) that each met.

        A triplet names rows (p, p+, p-) of `X` (N, D). Its loss is l = max(0, 1 - S(p, p+) + S(p, p-)); W moves by
        tau p (p+ - p-)', tau = min(C, l / ||p (p+ - p-)'||²). Where p+ equals p-, or p is zero, no W can help: the
        loss is 1 and W stays. The `batch` triplets of one step meet the same W and their moves are added up, which is
        faster, and the same to first order in C; 1 is the paper's. Raises `UsageError` unless C is positive and batch
        at least 1, `ArrayError` on rows outside X, NaN or infinity.
        """
        rows, triplets = _checked(finite_rows("X", X, self.dim), triplets)
        if not C > 0 or batch < 1:
            raise UsageError(f"C={C}, batch={batch}: C must be positive, and a batch hold at least 1 triplet")
        matrix, losses = self.matrix.copy(), np.empty(len(triplets))
        for start in range(0, len(triplets), batch):
            span = slice(start, start + batch)
            p, better, worse = (rows[triplets[span, i]].astype(np.float64) for i in range(3))
            difference = better - worse
            losses[span] = np.maximum(0, 1 - np.einsum("nd,nd->n", p @ matrix, difference))
            size = (p**2).sum(axis=1) * (difference**2).sum(axis=1)
            step = np.minimum(C, np.divide(losses[span], size, out=np.zeros_like(size), where=size > 0))
            matrix += (p * step[:, None]).T @ difference
        return replace(self, matrix=matrix), losses

    def symmetrised(self, semidefinite: bool = False) -> Oasis:
        """The same with (W + W') / 2; `semidefinite` also sets its negative eigenvalues to 0."""
        matrix = (self.matrix + self.matrix.T) / 2
        if semidefinite:
            values, vectors = np.linalg.eigh(matrix)
            matrix = (vectors * np.maximum(values, 0)) @ vectors.T
        return replace(self, matrix=matrix)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all. Raises `CollectionError` when that cannot be done."""
        facts = {"method": "oasis", "model": self.model, "provenance": json.dumps(dict(self.provenance))}
        write_tensors(path, SIMILARITY_FORMAT, {"matrix": self.matrix}, facts)


def _checked(rows: Float32, triplets: Any) -> tuple[Float32, NDArray[np.int64]]:
    triplets = as_array("triplets", triplets, np.int64, (None, 3))
    if len(triplets) and (triplets.min() < 0 or triplets.max() >= len(rows)):
        raise ArrayError(f"triplets name rows {triplets.min()} to {triplets.max()}, X has rows 0 to {len(rows) - 1}")
    return rows, triplets
