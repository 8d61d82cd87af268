"""Kernels on float16 vectors, which neither BLAS nor numba computes with: they are widened to float32 on the way.

A float16 is passed as its bits, in uint16. Moved to their places in a float32, they stand for the value divided by
2^112, since the exponents of the two formats count from 15 and from 127; that holds for subnormal numbers too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from resight.types import Float32

_HALVES = types.Array(types.uint16, 2, "C", readonly=True)
_MATRIX = types.Array(types.float32, 2, "C", readonly=True)
_PLACES = types.Array(types.int64, 2, "C", readonly=True)
_SIGN, _REST, _SHIFT_SIGN, _SHIFT = np.uint32(0x8000), np.uint32(0x7FFF), np.uint32(16), np.uint32(13)
_BIAS = np.float32(2.0**112)


def widen(halves: NDArray[np.uint16], out: Float32) -> Float32:
    """Fill `out` (n, D) with the values of the finite `halves` (n, D), and return it."""
    row = np.empty(out.shape[1], np.float32)
    _widen(halves, row.view(np.uint32), row, out)
    return out


@njit(types.void(_HALVES, types.int64, types.uint32[::1]), cache=True, nogil=True)
def _move_bits(halves: NDArray[Any], i: int, bits: NDArray[Any]) -> None:
    for d in range(len(bits)):
        half = np.uint32(halves[i, d])
        bits[d] = ((half & _SIGN) << _SHIFT_SIGN) | ((half & _REST) << _SHIFT)


@njit(types.void(_HALVES, types.uint32[::1], types.float32[::1], types.float32[:, ::1]), cache=True, nogil=True)
def _widen(halves: NDArray[Any], bits: NDArray[Any], row: NDArray[Any], out: NDArray[Any]) -> None:
    """`bits` and `row` (D,) are one buffer under two types."""
    for i in range(len(out)):
        _move_bits(halves, i, bits)
        for d in range(len(row)):
            out[i, d] = row[d] * _BIAS


def half_products(
    queries: Float32, halves: NDArray[np.uint16], positions: NDArray[Any], order: NDArray[Any], scores: Float32
) -> None:
    """As `products.inner_products`, over `halves` (N, D)."""
    row = np.empty(queries.shape[1], np.float32)
    _half_products(queries, halves, positions, order, scores, row.view(np.uint32), row)


# Sums may be reordered, to use vector instructions, but in one way only: equal vectors get equal scores.
@njit(
    types.void(
        _MATRIX, _HALVES, _PLACES, types.int64[::1], types.float32[:, ::1], types.uint32[::1], types.float32[::1]
    ),
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract", "nsz"},
)
def _half_products(
    queries: NDArray[Any],
    halves: NDArray[Any],
    positions: NDArray[Any],
    order: NDArray[Any],
    scores: NDArray[Any],
    bits: NDArray[Any],
    row: NDArray[Any],
) -> None:
    last = -1
    for entry in order:
        q, i = divmod(entry, positions.shape[1])
        if positions[q, i] != last:  # `order` goes by position: many queries want the same vector
            last = positions[q, i]
            _move_bits(halves, last, bits)
        total = 0.0
        for d in range(len(row)):
            total += np.float64(queries[q, d]) * np.float64(row[d] * _BIAS)
        scores[q, i] = total
