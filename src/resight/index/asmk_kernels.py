"""Inner loops of ASMK, compiled by numba and kept in its cache, so that a later process only loads them.

They release the GIL and run on plain Python threads: numba's own thread pools may not be entered by two callers at
once, which a service does. No kernel checks bounds; the callers validate every index before, but for what lies in the
lists of an inverted file, which may be mapped from disk: a list is checked while it is read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from resight.bits import differing
from resight.index.posting_codes import CHUNK, CODES, LANES, STARTS, given, open_list, read_chunk

Array = NDArray[Any]
U, HALF = np.uint64, np.uint32
ROWS, WEIGHTS = given(types.int64), given(types.float64)
VECTORS, QUERIES = given(types.float32, 2), given(types.uint32, 2)
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


@njit(inline="always")
def _distances(
    query: Array, lanes: Array, base: Any, step: Any, count: Any, planes: int, width: int, distance: Array
) -> None:
    """Distances of `count` postings, two lanes at a time; some behind them too, so that no loop has an odd end."""
    whole = (count + U(63)) & (U(0) - U(64))
    for j in range(whole):
        distance[j] = 0
    for lane in range(0, width - 1, 2):
        near, far = base + U(lane) * step, base + U(lane + 1) * step
        a, b = query[lane], query[lane + 1]
        if planes == 1:
            for j in range(whole):
                distance[j] = HALF(distance[j] + differing(a, lanes[near + j]) + differing(b, lanes[far + j]))
        else:
            c, d, e, f = (
                query[width + lane],
                query[width + lane + 1],
                query[2 * width + lane],
                query[2 * width + lane + 1],
            )
            for j in range(whole):
                x, y = lanes[near + j], lanes[far + j]
                high, middle = differing(a, x) + differing(b, y), differing(c, x) + differing(d, y)
                distance[j] = HALF(
                    distance[j] + (high << HALF(2)) + (middle << HALF(1)) + differing(e, x) + differing(f, y)
                )
    if width % 2:
        last = base + U(width - 1) * step
        a = query[width - 1]
        if planes == 1:
            for j in range(whole):
                distance[j] = HALF(distance[j] + differing(a, lanes[last + j]))
        else:
            c, e = query[2 * width - 1], query[3 * width - 1]
            for j in range(whole):
                x = lanes[last + j]
                high, middle = differing(a, x) << HALF(2), differing(c, x) << HALF(1)
                distance[j] = HALF(distance[j] + high + middle + differing(e, x))


@njit(
    types.int64(
        ROWS, ROWS, QUERIES, WEIGHTS, STARTS, STARTS, CODES, LANES, types.int64, WEIGHTS, types.int64,
        types.float64[:, ::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def score_binary(
    starts: Array,
    words: Array,
    signatures: Array,
    weights: Array,
    offsets: Array,
    begins: Array,
    codes: Array,
    lanes: Array,
    width: int,
    kernel: Array,
    planes: int,
    scores: Array,
) -> int:
    """Add weights[i] * kernel[distance] of every posting that shares a word to scores[q, image].

    Query q owns words starts[q]:starts[q + 1]; its `signatures` (., planes * width) uint32 are lanes. Of the images,
    word w owns postings offsets[w]:offsets[w + 1], coded as `resight.index.posting_codes` says. distance = Hamming
    distance; of a query with 3 planes of bits, highest first, the sum of theirs, weighed by 4, 2, 1. Every score is
    summed in the order of the words, so that it does not depend on threads. Gives -1, or a word whose list is damaged.
    """
    images, distance = np.empty(CHUNK, np.uint32), np.empty(CHUNK, np.uint32)
    for q in range(len(starts) - 1):
        row = scores[q]
        for i in range(starts[q], starts[q + 1]):
            start, size = U(offsets[words[i]]), U(offsets[words[i] + 1]) - U(offsets[words[i]])
            if size == U(0):
                continue
            state, weight = open_list(offsets, begins, codes, words[i], len(row)), weights[i]
            for first in range(U(0), size, U(CHUNK)):
                part = min(size - first, U(CHUNK))
                if state[0] < U(64):
                    state = read_chunk(codes, state, part, images)
                if state[0] == U(64) or state[-1] >= U(len(row)):
                    return int(words[i])
                _distances(signatures[i], lanes, start * U(width) + first, size, part, planes, width, distance)
                for j in range(part):
                    row[images[j]] += weight * kernel[distance[j]]
    return -1


@njit(
    types.int64(
        ROWS, ROWS, VECTORS, WEIGHTS, STARTS, STARTS, CODES, VECTORS, types.float64, types.float64,
        types.float64[:, ::1],
    ),
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract", "nsz"},
)  # fmt: skip
def score_vectors(
    starts: Array,
    words: Array,
    vectors: Array,
    weights: Array,
    offsets: Array,
    begins: Array,
    codes: Array,
    postings: Array,
    alpha: float,
    tau: float,
    scores: Array,
) -> int:
    """As `score_binary`, with similarity = inner product; sigma = similarity ** alpha from `tau` on, else 0."""
    images = np.empty(CHUNK, np.uint32)
    for q in range(len(starts) - 1):
        row = scores[q]
        for i in range(starts[q], starts[q + 1]):
            vector = vectors[i]
            start, size = U(offsets[words[i]]), U(offsets[words[i] + 1]) - U(offsets[words[i]])
            if size == U(0):
                continue
            state = open_list(offsets, begins, codes, words[i], len(row))
            for first in range(U(0), size, U(CHUNK)):
                part = min(size - first, U(CHUNK))
                if state[0] < U(64):
                    state = read_chunk(codes, state, part, images)
                if state[0] == U(64) or state[-1] >= U(len(row)):
                    return int(words[i])
                for j in range(part):
                    posting = postings[start + first + j]
                    similarity = np.float32(0)
                    for d in range(len(vector)):
                        similarity += vector[d] * posting[d]
                    if similarity >= tau:
                        row[images[j]] += weights[i] * similarity**alpha
    return -1


@njit(
    types.void(given(types.float64, 2), WEIGHTS, WEIGHTS, given(types.int64), types.float32[:, ::1]),
    cache=True,
    nogil=True,
)
def finish(sums: Array, images: Array, queries: Array, alive: Array, scores: Array) -> None:
    """scores[q, j] = sums[q, alive[j]] * images[alive[j]] * queries[q], rounded to single precision once."""
    for q in range(len(sums)):
        for j in range(len(alive)):
            scores[q, j] = sums[q, alive[j]] * images[alive[j]] * queries[q]


@njit(inline="always")
def _sink(row: Array, heap: Array, top: Any) -> None:
    """Let the entry at `top` sink below all that are worse: lower, or as low and later."""
    place, moved = top, heap[top]
    while 2 * place + 1 < len(heap):
        child = 2 * place + 1
        if child + 1 < len(heap):
            a, b = heap[child], heap[child + 1]
            if row[b] < row[a] or (row[b] == row[a] and b > a):
                child += 1
        worst = heap[child]
        if row[moved] < row[worst] or (row[moved] == row[worst] and moved > worst):
            break
        heap[place] = worst
        place = child
    heap[place] = moved


@njit(types.void(given(types.float32, 2), types.int64[:, ::1]), cache=True, nogil=True)
def highest(scores: Array, chosen: Array) -> None:
    """Write the columns of the m highest in every row of `scores` (q, n) to `chosen` (q, m), m <= n, in any order; of
    equal ones the first. A heap holds the m best so far, the worst of them on top.
    """
    for q in range(len(scores)):
        row, heap = scores[q], chosen[q]
        size = len(heap)
        for j in range(size):
            heap[j] = j
        for top in range(size // 2 - 1, -1, -1):
            _sink(row, heap, top)
        for j in range(size, len(row)):
            if size and row[j] > row[heap[0]]:
                heap[0] = j
                _sink(row, heap, 0)
