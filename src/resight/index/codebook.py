"""The visual vocabulary of ASMK: k-means centroids, and the rotation of residuals before they become bits.

Paper: Tolias, Avrithis, Jegou, "To aggregate or not to aggregate: selective match kernels for image search", ICCV 2013.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from resight.arrays import finite_array, finite_rows
from resight.errors import ArrayError, UsageError
from resight.index.binarisation import whitened_rotation
from resight.index.kmeans import kmeans, nearest
from resight.index.word_lists import WordLists
from resight.store.tensor_file import read_tensors, write_tensors
from resight.types import Float32, Int64, as_array

FORMAT = "resight-codebook-2"
MOST_WORDS = 65536
EXACT_WORDS = 16384  # up to so many words a descriptor is compared with all of them


def words_for(descriptor_count: int, density: float = 12.0) -> int:
    """Vocabulary size for a collection of so many descriptors, a power of two from 16 to 65 536.

    The largest that is at most `density` * sqrt(n): by 12, training (cost W^2) keeps pace with extraction (cost n), and
    leaves each word 32 descriptors: 8192 words for 500 photos of 1000 features, 65 536 for 30 000.
    """
    if descriptor_count < 1:
        raise UsageError(f"a codebook cannot be sized for {descriptor_count} descriptors: at least 1 is needed")
    most = int(min(density * descriptor_count**0.5, descriptor_count / 32))
    return min(max(1 << (max(most, 1).bit_length() - 1), 16), MOST_WORDS)


@dataclass(frozen=True, eq=False)
class Codebook:
    """W visual words over D dimensions; immutable.

    `centroids` (W, D) float32. `rotation` (D, B) float32, B <= D, or None: whitens and turns an aggregated residual
    before it is binarised, so that every bit says as much as another. Without it a bit is the sign of the aggregated
    residual, in the authors' program too. Centring the descriptors would change nothing, since a residual is a
    difference. Full precision uses the centroids only.
    Of more than 16 384 words the nearest are sought in `lists`, which are made when first needed: they follow from the
    centroids. Raises `ArrayError` on other shapes and on values that are not finite.
    """

    centroids: Float32
    rotation: Float32 | None = None
    lists: WordLists | None = None

    def __post_init__(self) -> None:
        centroids = finite_rows("Codebook.centroids", self.centroids)
        words, dim = centroids.shape
        if not words or not dim:
            raise ArrayError(f"Codebook.centroids have shape {centroids.shape}: at least one word is needed")
        object.__setattr__(self, "centroids", centroids)
        if self.rotation is not None:
            rotation = finite_array("Codebook.rotation", self.rotation, np.float32, (dim, None))
            if not 0 < rotation.shape[1] <= dim:
                raise ArrayError(f"Codebook.rotation has shape {rotation.shape}: at most {dim} columns are needed")
            object.__setattr__(self, "rotation", rotation)
        if self.lists is not None and (len(self.lists.owners) != words or self.lists.coarse.shape[1] != dim):
            raise ArrayError("Codebook.lists are not those of its words")

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def dim(self) -> int:
        """Descriptor dimension D."""
        return int(self.centroids.shape[1])

    @property
    def bits(self) -> int:
        """Bits of a signature: the columns of the rotation, or one per dimension."""
        return self.dim if self.rotation is None else int(self.rotation.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content, hexadecimal: two codebooks with one fingerprint make the same index."""
        digest = hashlib.sha256()
        for name, array in sorted(self._tensors().items()):
            digest.update(json.dumps([name, array.shape]).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @staticmethod
    def fit(
        descriptors: Any,
        words: int | None = None,
        *,
        seed: int = 0,
        iterations: int = 10,
        points_per_word: int = 64,
        rotate: bool = True,
        bits: int | None = None,
    ) -> Codebook:
        """Learn a codebook from `descriptors` (n, D): k-means, and a random rotation that whitens.

        `words` None asks `words_for(n)`; where the descriptors are a sample, give `words_for` of the whole instead.
        At most `points_per_word` descriptors per word, drawn with `seed`, are used.
        `rotate=False` leaves the rotation out; `bits` as for `with_rotation`. Peak memory: twice the sample, at D = 128
        a kilobyte a descriptor, beside the argument.
        Raises `UsageError` when there are fewer descriptors than words, `ArrayError` on a bad array.
        """
        points = as_array("descriptors", descriptors, np.float32, (None, None))
        words = words_for(len(points)) if words is None else words
        if words < 1 or len(points) < words:
            raise UsageError(
                f"{len(points)} descriptors cannot train {words} words: give at least one descriptor per word"
            )
        if iterations < 1 or points_per_word < 1:
            raise UsageError(f"iterations ({iterations}) and points_per_word ({points_per_word}) must be at least 1")
        rng = np.random.default_rng(seed)
        if len(points) > words * points_per_word:
            points = points[np.sort(rng.choice(len(points), words * points_per_word, replace=False))]
        points = finite_rows("descriptors", points)
        codebook = Codebook(kmeans(points, words, seed=seed, iterations=iterations))
        return codebook.with_rotation(points, rng, bits) if rotate else codebook

    def with_rotation(self, descriptors: Any, rng: np.random.Generator, bits: int | None = None) -> Codebook:
        """This codebook with a random rotation that whitens the residuals of `descriptors` (n, D), and keeps the
        strongest `bits` directions, all by default. Raises `UsageError` when there are not so many.
        """
        points = self.check(descriptors)
        if bits is not None and not 1 <= bits <= self.dim:
            raise UsageError(f"signatures of {bits} bits were asked of {self.dim} dimensions: give 1 to {self.dim}")
        residuals = points - self.centroids[self.assign(points)[:, 0]]
        return Codebook(self.centroids, whitened_rotation(residuals, rng, bits))

    def check(self, descriptors: Any) -> Float32:
        """`descriptors` as (n, D) float32. Raises `ArrayError` when they are not, or not finite."""
        return finite_rows("descriptors", descriptors, self.dim)

    def assign(self, descriptors: Any, multiple: int = 1) -> Int64:
        """The `multiple` nearest words (L2) of `descriptors` (n, D), nearest first: (n, multiple) int64.

        Exact up to 16 384 words; beyond, among the lists of words nearest to a descriptor, which hold nearly all.
        """
        points = self.check(descriptors)
        if not 1 <= multiple <= len(self):
            raise UsageError(f"{multiple} words per descriptor were asked of a codebook of {len(self)}: give 1 to that")
        if not len(points):
            return np.empty((0, multiple), np.int64)
        if len(self) <= EXACT_WORDS:
            return nearest(points, self.centroids, multiple)
        return self.word_lists.nearest(self.centroids, points, multiple)

    @cached_property
    def word_lists(self) -> WordLists:
        """`lists`, made where they are not given."""
        return WordLists.fit(self.centroids) if self.lists is None else self.lists

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; an existing file is replaced only when the new one is complete."""
        tensors = self._tensors()
        if len(self) > EXACT_WORDS:
            tensors |= {"coarse": self.word_lists.coarse, "owners": self.word_lists.owners}
        write_tensors(path, FORMAT, tensors, {"fingerprint": self.fingerprint})

    @staticmethod
    def load(path: str | Path) -> Codebook:
        """Read what `save` wrote. Raises `CollectionError` when the file is missing, damaged or of another format."""

        def restore(tensors: dict[str, Any], stamp: dict[str, str]) -> Codebook:
            coarse, owners = (tensors.pop(name, None) for name in ("coarse", "owners"))
            lists = None if coarse is None or owners is None else WordLists(coarse, owners)
            codebook = Codebook(**tensors, lists=lists)
            if stamp["fingerprint"] != codebook.fingerprint:
                raise ValueError("its content is not what was written")
            return codebook

        return read_tensors(path, FORMAT, restore)

    def _tensors(self) -> dict[str, Any]:
        tensors = {"centroids": self.centroids, "rotation": self.rotation}
        return {name: array for name, array in tensors.items() if array is not None}
