"""Mutual nearest neighbours of two images by a shortlist: signatures choose the pairs whose distance is computed.

Comparing 1000 by 1000 descriptors of 128 components costs 5 ms, comparing their signatures 0.15 ms. A pair is worth its
distance where its Hamming distance comes near the least one of either feature. All numbers are integers, or follow from
integers by the same operations in the same order: the answer does not depend on the processor.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from resight.arrays import Float64
from resight.bits import popcount
from resight.errors import ArrayError
from resight.features.local.compact import Compact, UInt8, UInt64
from resight.matching.correspond import Correspondences, Int32, check_ratio

SLACK = 2  # bits beyond the least Hamming distance of a feature at which a pair is still compared
CELLS = 1 << 23  # Hamming distances held at once: 16 MB

UInt16 = NDArray[np.uint16]


def match(a: Compact, b: Compact, *, ratio: float | None = 0.9) -> Correspondences:
    """Mutual nearest neighbours of images `a` and `b`, nearest first; ties go to the lower row.

    `ratio` as in `resight.matching.correspond.correspond`, asked from both sides. Nearest and second nearest are sought
    among the shortlisted pairs; swapping the images swaps the answer. Peak memory beyond the input: 16 MB.
    Raises `ArrayError` on descriptors of different dimension, `UsageError` on a ratio outside (0, 1].
    """
    check_ratio(ratio)
    if not len(a) or not len(b):
        return Correspondences(np.empty((0, 2), np.int32), np.empty(0, np.float32))
    if a.dim != b.dim:
        raise ArrayError(f"descriptors of dimension {a.dim} and {b.dim} cannot be compared: use one feature for both")
    far = np.iinfo(np.uint8 if a.dim < np.iinfo(np.uint8).max else np.uint16)
    width = -(-len(b) // 8) * 8  # whole words of eight bytes; columns behind the last feature stay out of reach
    block = np.full((min(len(a), max(1, CELLS // width)), width), far.max, far.dtype)
    pairs, squared = _match(
        a.signatures, b.signatures, a.codes, b.codes, a.sums, b.sums, a.squares, b.squares,
        a.low, a.step, b.low, b.step, block, SLACK, 1.0 if ratio is None else ratio * ratio, ratio is not None,
    )  # fmt: skip
    return Correspondences(pairs, np.sqrt(squared))


@intrinsic
def _multiply_add(_typing: Any, _total: Any, _a: Any, _b: Any) -> Any:
    """total + a * b of bytes in 32 bits: numba would widen to 64, which the processor multiplies far more slowly."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        total, a, b = arguments
        return builder.add(total, builder.mul(builder.zext(a, total.type), builder.zext(b, total.type)))

    return types.int32(types.int32, types.uint8, types.uint8), generate


@numba.njit(cache=True, nogil=True)
def _hamming(a: UInt64, b: UInt64, start: int, block: Any, rows: Any, columns: Any) -> None:
    """Hamming distances of features `start`... of a to all of b, and the least of every row and column.

    Loops without branches, which the compiler turns into vector instructions.
    """
    m = b.shape[1]
    for r in range(min(len(block), a.shape[1] - start)):
        distance = block[r]
        rows[start + r] = hamming_row(a[:, start + r], b, distance)
        for j in range(m):
            columns[j] = distance[j] if distance[j] < columns[j] else columns[j]


@numba.njit(cache=True, nogil=True)
def hamming_row(bits: UInt64, others: UInt64, distance: Any) -> Any:
    """Write the Hamming distances of one signature to all `others` (words, m) into `distance`; gives the least."""
    m = others.shape[1]
    distance[:m] = 0
    for word in range(len(bits)):
        mine, theirs = bits[word], others[word]
        for j in range(m):
            distance[j] += popcount(mine ^ theirs[j])
    least = distance[0]
    for j in range(m):
        least = distance[j] if distance[j] < least else least
    return least


@numba.njit(cache=True, nogil=True)
def mark(distance: Any, row_limit: Any, column_limits: Any, near: UInt8) -> None:
    """near[j] = 1 where the Hamming distance to j is within the limit of the row or of the column, else 0."""
    for j in range(len(near)):
        limit = column_limits[j] if column_limits[j] > row_limit else row_limit
        near[j] = np.uint8(1) if distance[j] <= limit else np.uint8(0)


@numba.njit(cache=True, nogil=True)
def collect(near: UInt8, chosen: Int32) -> int:
    """Write the places where `near` (m,) is set into `chosen`, and give their number."""
    count = 0
    eights = near.view(np.uint64)
    for eight in range(len(eights)):
        if eights[eight]:
            for j in range(8 * eight, 8 * eight + 8):
                chosen[count] = j
                count += near[j]
    return count


@numba.njit(cache=True, nogil=True)
def products(a: UInt8, b: UInt8, chosen: Int32, products: Int32) -> None:
    """Inner products of one descriptor `a` (d,) with rows `chosen` (c,) of `b`, exact up to 33 000 components."""
    for c in range(len(chosen)):
        other = b[chosen[c]]
        total = np.int32(0)
        for k in range(len(a)):
            total = _multiply_add(total, a[k], other[k])
        products[c] = total


@numba.njit(cache=True, nogil=True)
def _match(
    a_bits: UInt64, b_bits: UInt64, a: UInt8, b: UInt8, a_sum: Float64, b_sum: Float64, a_square: Float64,
    b_square: Float64, a_low: float, a_step: float, b_low: float, b_step: float, block: Any, slack: int,
    ratio: float, test: bool,
) -> tuple[Int32, Float64]:  # fmt: skip
    """Mutual nearest neighbours (c, 2), nearest first, and their squared distances; `ratio` of squared distances."""
    height, width = block.shape
    rows, columns = np.empty(len(a), block.dtype), np.full(width, block[0, 0], block.dtype)
    a_near, a_row = np.full((2, len(a)), np.inf), np.full(len(a), -1, np.int32)
    b_near, b_row = np.full((2, len(b)), np.inf), np.full(len(b), -1, np.int32)
    for start in range(0, len(a), height):
        _hamming(a_bits, b_bits, start, block, rows, columns)
    for start in range(0, len(a), height):
        if height < len(a):
            _hamming(a_bits, b_bits, start, block, rows, columns)
        _compare(
            block, start, rows, columns, a, b, a_sum, b_sum, a_square, b_square,
            a_low, a_step, b_low, b_step, slack, a_near[0], a_near[1], a_row, b_near[0], b_near[1], b_row,
        )  # fmt: skip
    found = np.empty(len(a), np.int32)
    count = 0
    for i in range(len(a)):
        j = a_row[i]
        distinct = a_near[0, i] < ratio * a_near[1, i] and b_near[0, j] < ratio * b_near[1, j]
        if b_row[j] == i and (distinct or not test):
            found[count] = i
            count += 1
    found = found[:count]
    found = found[np.argsort(a_near[0][found], kind="mergesort")]
    pairs = np.empty((count, 2), np.int32)
    pairs[:, 0], pairs[:, 1] = found, a_row[found]
    return pairs, a_near[0][found]


@numba.njit(cache=True, nogil=True)
def _compare(
    block: Any, start: int, rows: Any, columns: Any, a: UInt8, b: UInt8, a_sum: Float64, b_sum: Float64,
    a_square: Float64, b_square: Float64, a_low: float, a_step: float, b_low: float, b_step: float, slack: int,
    a_first: Float64, a_second: Float64, a_row: Int32, b_first: Float64, b_second: Float64, b_row: Int32,
) -> None:  # fmt: skip
    """Compute the distances of shortlisted pairs, and let each compete for the two nearest of both features."""
    width, dim = len(columns), a.shape[1]
    row_limits, column_limits = _limits(rows, dim, slack), _limits(columns, dim, slack)
    near, chosen, inner = np.empty(width, np.uint8), np.empty(width + 8, np.int32), np.empty(width, np.int32)
    for r in range(min(len(block), len(a) - start)):
        i = start + r
        mark(block[r], row_limits[i], column_limits, near)
        count = collect(near, chosen)
        products(a[i], b, chosen[:count], inner)
        for c in range(count):
            j = chosen[c]
            crossed = a_low * (b_step * b_sum[j]) + b_low * (a_step * a_sum[i])
            product = dim * (a_low * b_low) + crossed + (a_step * b_step) * inner[c]
            squared = max(0.0, a_square[i] + b_square[j] - 2 * product)
            _update(a_first, a_second, a_row, i, j, squared)
            _update(b_first, b_second, b_row, j, i, squared)


@numba.njit(cache=True, nogil=True)
def _limits(least: Any, dim: int, slack: int) -> Any:
    """Hamming distances up to which a pair is compared, below what columns behind the last feature hold."""
    limits = np.empty_like(least)
    for i in range(len(least)):
        limits[i] = min(np.int64(least[i]) + slack, dim)
    return limits


@numba.njit(cache=True, nogil=True)
def _update(first: Float64, second: Float64, row: Int32, i: int, j: int, distance: float) -> None:
    """Let `j`, at this squared distance, compete for the two nearest of `i`."""
    second[i] = min(second[i], max(first[i], distance))
    row[i] = j if distance < first[i] else row[i]
    first[i] = min(first[i], distance)
