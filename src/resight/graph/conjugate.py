"""Conjugate gradients for many right-hand sides at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def solve_block(
    apply: Callable[[Float64], Float64], right: Float64, iterations: int, tolerance: float
) -> NDArray[np.float64]:
    """x with apply(x) = `right` (N, Q) for a symmetric positive definite `apply`, from x = 0.

    Every column is a run of its own; it stops at `iterations`, or once its residual is at most `tolerance` times its
    right-hand side. Columns that have stopped are left out of further products. Memory: four arrays of N x Q.
    """
    x = np.zeros_like(right)
    residual, direction = right.copy(), right.copy()
    energy = np.einsum("nq,nq->q", right, right)
    target = tolerance**2 * energy
    active = np.flatnonzero(energy > target)
    residual, direction, energy = residual[:, active], direction[:, active], energy[active]
    for _ in range(iterations):
        if not active.size:
            break
        image = apply(direction)
        step = energy / np.einsum("nq,nq->q", direction, image)
        x[:, active] += step * direction
        residual -= step * image
        before, energy = energy, np.einsum("nq,nq->q", residual, residual)
        direction = residual + (energy / before) * direction
        going = energy > target[active]
        if not going.all():
            active, energy = active[going], energy[going]
            residual, direction = residual[:, going], direction[:, going]
    return x
