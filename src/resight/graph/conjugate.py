"""Conjugate gradients for many right-hand sides at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from resight.arrays import Float64

Array = NDArray[Any]


def solve_block(
    apply: Callable[[Float64], Float64], right: Float64, iterations: int, tolerance: float
) -> NDArray[np.float64]:
    """x with apply(x) = `right` (N, Q) for a symmetric positive definite `apply`, from x = 0.

    Every column is a run of its own; it stops at `iterations`, or once its residual is at most `tolerance` times its
    right-hand side. Columns that have stopped are left out of further products. Memory: six arrays of N x Q.
    """
    result = np.zeros_like(right)
    energy = _dots(right, right)
    active = np.flatnonzero(energy > tolerance**2 * energy)
    energy, target = energy[active], tolerance**2 * energy[active]
    residual = right[:, active]
    direction, x = residual.copy(), np.zeros_like(residual)
    for _ in range(iterations):
        if not active.size:
            break
        image = apply(direction)
        before, energy = energy, _advance(x, residual, direction, image, energy / _dots(direction, image))
        _turn(direction, residual, energy / before)
        going = energy > target
        if not going.all():
            result[:, active[~going]] = x[:, ~going]
            active, energy, target = active[going], energy[going], target[going]
            x, residual, direction = (np.ascontiguousarray(part[:, going]) for part in (x, residual, direction))
    result[:, active] = x
    return result


@njit(cache=True, nogil=True)
def _dots(a: Array, b: Array) -> Array:
    """Inner products of the columns of two (N, Q) arrays, (Q,)."""
    total = np.zeros(a.shape[1])
    for i in range(a.shape[0]):
        for q in range(a.shape[1]):
            total[q] += a[i, q] * b[i, q]
    return total


@njit(cache=True, nogil=True)
def _advance(x: Array, residual: Array, direction: Array, image: Array, step: Array) -> Array:
    """Go `step` (Q,) along `direction`, in place; gives the squared norms of the new residuals, (Q,)."""
    energy = np.zeros(x.shape[1])
    for i in range(x.shape[0]):
        for q in range(x.shape[1]):
            x[i, q] += step[q] * direction[i, q]
            residual[i, q] -= step[q] * image[i, q]
            energy[q] += residual[i, q] * residual[i, q]
    return energy


@njit(cache=True, nogil=True)
def _turn(direction: Array, residual: Array, ratio: Array) -> None:
    """direction = residual + ratio * direction, in place."""
    for i in range(direction.shape[0]):
        for q in range(direction.shape[1]):
            direction[i, q] = residual[i, q] + ratio[q] * direction[i, q]


@njit(cache=True, nogil=True)
def minus_product(starts: Array, ids: Array, values: Array, alpha: float, x: Array) -> Array:
    """x - alpha S x for a sparse S (N, N) and x (N, Q), in one pass that leaves other threads running.

    Four edges at a time, so that a row of the result is read and written once for them.
    """
    out = x.copy()
    for i in range(x.shape[0]):
        row, e, end = out[i], starts[i], starts[i + 1]
        while e + 4 <= end:
            a, b, c, d = alpha * values[e], alpha * values[e + 1], alpha * values[e + 2], alpha * values[e + 3]
            xa, xb, xc, xd = x[ids[e]], x[ids[e + 1]], x[ids[e + 2]], x[ids[e + 3]]
            for q in range(x.shape[1]):
                row[q] -= a * xa[q] + b * xb[q] + c * xc[q] + d * xd[q]
            e += 4
        for last in range(e, end):
            a, xa = alpha * values[last], x[ids[last]]
            for q in range(x.shape[1]):
                row[q] -= a * xa[q]
    return out
