"""VLAD: one global descriptor per photo out of its local features, for collections that have no other.

Papers: Jegou, Douze, Schmid, Perez, "Aggregating local descriptors into a compact image representation", CVPR 2010; the
residual of every word is normalised by itself (Arandjelovic and Zisserman, "All about VLAD", CVPR 2013).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from resight.arrays import unit_rows
from resight.errors import UsageError
from resight.features.whitening import Whitening, from_components
from resight.index.aggregation import aggregate
from resight.index.codebook import Codebook
from resight.store.tensor_file import read_tensors, write_tensors
from resight.types import Float32, LocalFeatures

FORMAT = "resight VLAD 1"
POWER = 0.25  # of the whitening: full whitening is noise with few photos


@dataclass(frozen=True, eq=False)
class Vlad:
    """Residuals to the words of a small `codebook`, side by side, then `whitening`."""

    codebook: Codebook
    whitening: Whitening

    @property
    def dim(self) -> int:
        """Dimension of the descriptors."""
        return self.whitening.dim

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of codebook and whitening, hexadecimal: equal fingerprints make equal descriptors."""
        return hashlib.sha256(f"{self.codebook.fingerprint} {self.whitening.fingerprint}".encode()).hexdigest()

    @staticmethod
    def fit(photos: Sequence[LocalFeatures], words: int = 16, dim: int = 128, seed: int = 0) -> Vlad:
        """Learn from the features of some photos, without labels. `dim` is cut to what so few photos can span.

        Memory: 24 · words · D bytes a photo, 48 KB by default. Raises `UsageError` with less than 3 photos that have
        features, or fewer features than words.
        """
        photos = [photo for photo in photos if len(photo)]
        if len(photos) < 3:
            raise UsageError(f"{len(photos)} photos with local features cannot train a descriptor: index more")
        descriptors = np.concatenate([photo.descriptors for photo in photos])
        codebook = Codebook.fit(descriptors, words, seed=seed, rotate=False)
        residuals = _residuals(codebook, photos).astype(np.float64)
        mean = residuals.mean(axis=0)
        # few photos, many dimensions: cheaper than the covariance
        _, spread, components = np.linalg.svd(residuals - mean, full_matrices=False)
        kept = slice(min(dim, len(photos) // 2 + 1, int((spread > 1e-9 * spread[0]).sum())))
        return Vlad(codebook, from_components(mean, components[kept], spread[kept] ** 2 / len(photos), POWER))

    def describe(self, photos: Sequence[LocalFeatures]) -> Float32:
        """Descriptors (n, dim) float32 of unit length; photos without features all get the same one."""
        return self.whitening.apply(_residuals(self.codebook, photos))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all. Raises `CollectionError` when that cannot be done."""
        tensors = {"centroids": self.codebook.centroids, "mean": self.whitening.mean}
        write_tensors(path, FORMAT, {**tensors, "projection": self.whitening.projection}, {})

    @staticmethod
    def load(path: str | Path) -> Vlad:
        """Read what `save` wrote. Raises `CollectionError` when the file is missing, damaged or of another format."""
        return read_tensors(path, FORMAT, _build)


def _build(tensors: dict[str, Any], _: dict[str, str]) -> Vlad:
    return Vlad(Codebook(tensors["centroids"]), Whitening(tensors["mean"], tensors["projection"]))


def _residuals(codebook: Codebook, photos: Sequence[LocalFeatures]) -> Float32:
    """Unit residuals of all words side by side, (n, words · D), of unit length where there are features."""
    found = np.zeros((len(photos), len(codebook), codebook.dim), np.float32)
    if any(map(len, photos)):
        rows = np.repeat(np.arange(len(photos)), [len(photo) for photo in photos])
        descriptors = np.concatenate([photo.descriptors for photo in photos if len(photo)])
        parts = aggregate(codebook, rows, codebook.assign(descriptors), descriptors, binary=False)
        found[parts.rows, parts.words] = parts.values
    flat = found.reshape(len(photos), len(codebook) * codebook.dim)
    return unit_rows(flat)
