"""Regional aggregation: every region of an image casts its own vote for each visual word, and they are summed (R-ASMK).

What an image shows beside the thing that is sought then counts less, in an index that is no larger.

Teichmann, Araujo, Zhu and Sim, "Detect-to-retrieve: efficient regional aggregation for image search", CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from resight.errors import ArrayError
from resight.index.aggregation import NORM_FLOOR, Aggregated, join
from resight.index.asmk_kernels import sum_residuals
from resight.index.binarisation import binarise
from resight.index.codebook import Codebook
from resight.types import Float32, Int64, as_array


def aggregate_regions(
    codebook: Codebook, rows: Any, descriptors: Sequence[Float32], regions: Sequence[tuple[Int64, Int64]], binary: bool
) -> Aggregated:
    """One residual for each image and word: the sum over regions of that region's residual, L2-normalised.

    `rows` (k,) int64 ascending; of each image `descriptors` (n, D) float32, and which of them lie in which of its
    regions, as `resight.features.local.regions.members` gives. With one region that holds everything this is
    `resight.index.aggregation.aggregate`.
    Memory: 4 D bytes per region and word of one image. Raises `ArrayError` on unequal lengths and descending rows.
    """
    images = as_array("rows", rows, np.int64, (None,))
    if not len(images) == len(descriptors) == len(regions) or (np.diff(images) <= 0).any():
        raise ArrayError("aggregate_regions needs rows that ascend, each with its descriptors and regions")
    parts = []
    for row, points, (feature, region) in zip(images, descriptors, regions, strict=True):
        if len(feature):
            words, values = _image(codebook, np.ascontiguousarray(points, np.float32), feature, region, binary)
            parts.append(Aggregated(np.full(len(words), row), words, values))
    return join(parts, codebook, int(binary))


def _image(
    codebook: Codebook, points: Float32, feature: Int64, region: Int64, binary: bool
) -> tuple[Int64, np.ndarray[Any, Any]]:
    """Words (w,) of one image, ascending, and their values."""
    word = codebook.assign(points, 1)[feature, 0]
    order = np.lexsort((region, word))
    word, region, feature = word[order], region[order], feature[order]
    first = np.flatnonzero((np.diff(word, prepend=-1) != 0) | (np.diff(region, prepend=-1) != 0))
    votes = np.empty((len(first), codebook.dim), np.float32)
    sum_residuals(np.append(first, len(word)), feature, word[first], points, codebook.centroids, votes)
    votes /= np.linalg.norm(votes, axis=1, keepdims=True) + np.float32(NORM_FLOOR)
    words, start = np.unique(word[first], return_index=True)
    sums = np.add.reduceat(votes, start, axis=0)
    if binary:
        return words, binarise(sums, codebook.rotation, 1)
    return words, sums / (np.linalg.norm(sums, axis=1, keepdims=True) + np.float32(NORM_FLOOR))
