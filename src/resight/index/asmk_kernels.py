"""Inner loops of ASMK, compiled by numba and kept in its cache, so that a later process only loads them.

They release the GIL and run on plain Python threads: numba's own thread pools may not be entered by two callers at
once, which a service does. No kernel checks bounds; the callers validate every index before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from resight.bits import popcount

Array = NDArray[Any]


def _given(kind: Any, dimensions: int = 1) -> Any:
    """The type of a C-contiguous argument that is only read, so that frozen arrays need no second compilation."""
    return types.Array(kind, dimensions, "C", readonly=True)


ROWS, IMAGES, WEIGHTS = _given(types.int64), _given(types.uint16), _given(types.float64)
VECTORS, SIGNATURES = _given(types.float32, 2), _given(types.uint64, 2)
ORDER = types.Tuple((types.int64[::1], types.int64[::1]))


@njit(ORDER(ROWS, types.int64), cache=True, nogil=True)
def counting_order(keys: Array, count: int) -> tuple[Array, Array]:
    """Stable order of `keys` (n,) int64 in 0..count-1, and where each key starts in it, (count + 1,), both int64."""
    starts = np.zeros(count + 1, np.int64)
    for key in keys:
        starts[key + 1] += 1
    for key in range(count):
        starts[key + 1] += starts[key]
    nxt = starts[:-1].copy()
    order = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        key = keys[i]
        order[nxt[key]] = i
        nxt[key] += 1
    return order, starts


@njit(types.void(ROWS, ROWS, ROWS, VECTORS, VECTORS, types.float32[:, ::1]), cache=True, nogil=True)
def sum_residuals(
    starts: Array, members: Array, words: Array, descriptors: Array, centroids: Array, sums: Array
) -> None:
    """sums[g] = sum of descriptors[i] - centroids[words[g]] over i in members[starts[g]:starts[g + 1]]."""
    for g in range(len(words)):
        centroid = centroids[words[g]]
        total = sums[g]
        total[:] = 0
        for p in range(starts[g], starts[g + 1]):
            descriptor = descriptors[members[p]]
            for d in range(len(total)):
                total[d] += descriptor[d] - centroid[d]


@njit(
    types.void(ROWS, ROWS, SIGNATURES, WEIGHTS, ROWS, IMAGES, SIGNATURES, WEIGHTS, types.float64[:, ::1]),
    cache=True,
    nogil=True,
)
def score_binary(
    starts: Array,
    words: Array,
    signatures: Array,
    weights: Array,
    offsets: Array,
    images: Array,
    postings: Array,
    kernel: Array,
    scores: Array,
) -> None:
    """Add weights[i] * kernel[distance] of every posting that shares a word to scores[q, image].

    Query q owns words starts[q]:starts[q + 1]; word w owns postings offsets[w]:offsets[w + 1]. distance = Hamming
    distance; of a query with several planes of bits, highest first, the sum of theirs, weighed by ..., 4, 2, 1.
    """
    length = postings.shape[1]
    for q in range(len(starts) - 1):
        row = scores[q]
        for i in range(starts[q], starts[q + 1]):
            for p in range(offsets[words[i]], offsets[words[i] + 1]):
                distance = np.uint64(0)
                for plane in range(0, signatures.shape[1], length):
                    distance += distance
                    for s in range(length):
                        distance += popcount(signatures[i, plane + s] ^ postings[p, s])
                row[images[p]] += weights[i] * kernel[distance]


@njit(
    types.void(
        ROWS, ROWS, VECTORS, WEIGHTS, ROWS, IMAGES, VECTORS, types.float64, types.float64, types.float64[:, ::1]
    ),
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract", "nsz"},
)
def score_vectors(
    starts: Array,
    words: Array,
    vectors: Array,
    weights: Array,
    offsets: Array,
    images: Array,
    postings: Array,
    alpha: float,
    tau: float,
    scores: Array,
) -> None:
    """As `score_binary`, with similarity = inner product; sigma = similarity ** alpha from `tau` on, else 0."""
    for q in range(len(starts) - 1):
        row = scores[q]
        for i in range(starts[q], starts[q + 1]):
            vector = vectors[i]
            for p in range(offsets[words[i]], offsets[words[i] + 1]):
                posting = postings[p]
                similarity = np.float32(0)
                for d in range(len(vector)):
                    similarity += vector[d] * posting[d]
                if similarity >= tau:
                    row[images[p]] += weights[i] * similarity**alpha
