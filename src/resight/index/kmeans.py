"""k-means and nearest centroids that depend on points and seed alone: not on threads, BLAS or processor.

Sums of single-precision numbers depend on their order, and BLAS and threads choose that order. Here faiss only proposes
centroids; double precision in a fixed order decides between them, and sums the points of each.

Paper: Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 1982.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numba import njit, types

from resight.errors import ArrayError
from resight.index.asmk_kernels import ROWS, VECTORS, Array
from resight.types import Float32, Int64

SPARE = 1  # proposals beyond those asked for: float32 swaps neighbours only where distances agree to six digits


def kmeans(points: Float32, count: int, *, seed: int, iterations: int = 10, spherical: bool = False) -> Float32:
    """`count` centroids of `points` (n, D) float32, finite, n >= count: (count, D) float32.

    Starts from `count` of the points, drawn with `seed`; a centroid without points starts again from a random one.
    `spherical`: centroids of length 1. Peak memory: 30 bytes per point, beside points and centroids.
    """
    rng = np.random.default_rng(seed)
    centroids = _scaled(points[np.sort(rng.choice(len(points), count, replace=False))], spherical)
    for _ in range(iterations):
        assigned = nearest(points, centroids, 1)[:, 0]
        sums = np.zeros(centroids.shape)
        _sum(points, assigned, sums)
        sizes = np.bincount(assigned, minlength=count)
        centroids = np.asarray(sums / np.maximum(sizes, 1)[:, None], np.float32)
        empty = np.flatnonzero(sizes == 0)
        centroids[empty] = points[rng.choice(len(points), len(empty))]
        centroids = _scaled(centroids, spherical)
    return centroids


def nearest(points: Float32, centroids: Float32, k: int) -> Int64:
    """The `k` nearest of `centroids` (W, D) to each of `points` (n, D), n > 0: (n, k) int64.

    Nearest first by exact squared distance, equal ones by number. Raises `ArrayError` when numbers are so large that
    their squares exceed single precision.
    """
    proposed = np.asarray(faiss.knn(points, centroids, min(k + SPARE, len(centroids)))[1], np.int64)
    if (proposed < 0).any():
        raise ArrayError("descriptors are too large to be compared in single precision: scale them down")
    decide(points, centroids, proposed)
    return np.ascontiguousarray(proposed[:, :k])


def _scaled(centroids: Float32, spherical: bool) -> Float32:
    if not spherical:
        return centroids
    lengths = np.sqrt((centroids.astype(np.float64) ** 2).cumsum(axis=1)[:, -1:])
    return np.asarray(centroids / np.maximum(lengths, 1e-12), np.float32)


@njit(types.void(VECTORS, ROWS, types.float64[:, ::1]), cache=True, nogil=True)
def _sum(points: Array, owners: Array, sums: Array) -> None:
    """Add every point to the sum of its owner, in the order of the points."""
    for i in range(len(owners)):
        total = sums[owners[i]]
        for d in range(len(total)):
            total[d] += points[i, d]


@njit(types.void(VECTORS, VECTORS, types.int64[:, ::1]), cache=True, nogil=True)
def decide(points: Array, centroids: Array, proposed: Any) -> None:
    """Sort every row of `proposed` (n, m) by the squared distance in double precision, then by number."""
    distances = np.empty(proposed.shape[1])
    for i in range(len(proposed)):
        row = proposed[i]
        for j in range(len(row)):
            number, distance = row[j], 0.0
            for d in range(points.shape[1]):
                difference = np.float64(points[i, d]) - np.float64(centroids[number, d])
                distance += difference * difference
            place = j
            while place > 0 and (
                distance < distances[place - 1] or (distance == distances[place - 1] and number < row[place - 1])
            ):
                distances[place], row[place] = distances[place - 1], row[place - 1]
                place -= 1
            distances[place], row[place] = distance, number
