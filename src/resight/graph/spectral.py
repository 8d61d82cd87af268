"""Fast spectral ranking: diffusion as a product with a few eigenvectors, and the exact hybrid of both.

With the leading eigenpairs (U, L) of the normalised affinity S and h(x) = (1 - alpha) / (1 - alpha x), spectral ranking
gives U h(L) U^T y in place of h(S) y. The hybrid adds what it lacks: h(S) = U (h(L) - h(0)) U^T + h(S - U L U^T), and
the last term needs few conjugate-gradient steps, since the slow directions are gone.

Papers: Iscen, Avrithis, Tolias, Furon, Chum, "Fast spectral ranking for similarity search", CVPR 2018; the same,
"Hybrid diffusion: spectral-temporal graph filtering for manifold ranking", ACCV 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from resight.arrays import Float64
from resight.errors import ArrayError, UsageError
from resight.graph.conjugate import solve_block

BLOCK = 64
DEGREE = 12


@dataclass(frozen=True, eq=False)
class SpectralBasis:
    """The `values` (r,) float64, largest first, and `vectors` (N, r) float64 of the leading eigenpairs of S."""

    values: Float64
    vectors: Float64


def spectral_basis(
    normalised: scipy.sparse.csr_array, rank: int, tolerance: float = 1e-4, rounds: int = 300, seed: int = 0
) -> SpectralBasis:
    """The `rank` algebraically largest eigenpairs of `normalised` (N, N), by randomised subspace iteration.

    A random block of 1.3 rank + 10 columns is multiplied by a Chebyshev polynomial of S that lifts the wanted end of
    the spectrum, made orthogonal and projected, until every wanted residual |S u - l u| is at most `tolerance`.
    Memory: four arrays of N x 1.3 rank float64. Up to 1.3 rank + 10 >= N the dense matrix is solved instead.
    Raises `UsageError` for a rank outside 1 to N, or where `rounds` do not reach the tolerance.
    """
    count = normalised.shape[0]
    if not 1 <= rank <= count:
        raise UsageError(f"rank={rank} must be between 1 and the {count} nodes of the graph")
    width = rank + 3 * rank // 10 + 10
    if width >= count:
        values, vectors = np.linalg.eigh(normalised.toarray())
        return SpectralBasis(values[::-1][:rank].copy(), np.ascontiguousarray(vectors[:, ::-1][:, :rank]))
    block = np.random.default_rng(seed).standard_normal((count, width))
    cutoff = 0.0
    for _ in range(rounds):
        block = np.linalg.qr(_lift(normalised, block, cutoff))[0]
        image = np.asarray(normalised @ block)
        values, turn = np.linalg.eigh(block.T @ image)
        values, turn = values[::-1], turn[:, ::-1]
        block, image = block @ turn, image @ turn
        residuals = np.linalg.norm(image[:, :rank] - block[:, :rank] * values[:rank], axis=0)
        if residuals.max() <= tolerance:
            return SpectralBasis(values[:rank].copy(), np.ascontiguousarray(block[:, :rank]))
        cutoff = max(float(values[-1]), -0.9)
    raise UsageError(
        f"the eigenvectors still have residuals up to {residuals.max():.1e} after {rounds} rounds: allow more rounds "
        f"or a larger tolerance than {tolerance}"
    )


def spectral_ranking(basis: SpectralBasis, seeds: scipy.sparse.csr_array | Float64, alpha: float = 0.99) -> Float64:
    """Scores U h(L) U^T y of every query, (Q, N) float64; one dense product of N x rank per query; online.

    `seeds`: y (Q, N) from `resight.graph.diffusion.seeds`. In the limit of rank N these are (1 - alpha) times the
    scores of `diffuse`. Raises `UsageError` for alpha outside [0, 1) and `ArrayError` for seeds of another width.
    """
    _check(basis, seeds, alpha)
    return np.asarray(((seeds @ basis.vectors) * ((1 - alpha) / (1 - alpha * basis.values))) @ basis.vectors.T)


def spectral_embedding(basis: SpectralBasis, alpha: float = 0.99) -> Float64:
    """Rows u_i h(L)^(1/2), (N, r) float64, whose inner products are the entries of U h(L) U^T."""
    _check(basis, None, alpha)
    return np.asarray(basis.vectors * np.sqrt((1 - alpha) / (1 - alpha * basis.values)))


def hybrid_diffusion(
    normalised: scipy.sparse.csr_array,
    seeds: scipy.sparse.csr_array | Float64,
    basis: SpectralBasis,
    alpha: float = 0.99,
    iterations: int = 20,
    tolerance: float = 1e-6,
) -> Float64:
    """Scores h(S) y of every query, (Q, N) float64: exact for any rank, up to the accuracy of the basis and the solver.

    (1 - alpha) times the scores of `diffuse`, in fewer iterations the larger the rank. Memory: the result and five
    arrays of N x 64. Raises as `spectral_ranking` does, and for iterations < 1 or a negative tolerance.
    """
    _check(basis, seeds, alpha)
    if normalised.shape[0] != len(basis.vectors):
        raise ArrayError(f"the affinity has {normalised.shape[0]} nodes and the basis {len(basis.vectors)}")
    if iterations < 1 or not tolerance >= 0:
        raise UsageError(f"iterations={iterations} must be at least 1 and tolerance={tolerance} 0 or more")
    vectors, values = basis.vectors, basis.values
    gain = (1 - alpha) / (1 - alpha * values) - (1 - alpha)

    def deflated(x: Float64) -> Float64:
        return np.asarray(x - alpha * (normalised @ x - vectors @ (values[:, None] * (vectors.T @ x))))

    result = np.empty(seeds.shape)
    for first in range(0, seeds.shape[0], BLOCK):
        part = seeds[first : first + BLOCK]
        y = np.ascontiguousarray((part.toarray() if scipy.sparse.issparse(part) else part).T, np.float64)
        slow = vectors @ (gain[:, None] * (vectors.T @ y))
        result[first : first + BLOCK] = (slow + (1 - alpha) * solve_block(deflated, y, iterations, tolerance)).T
    return result


def _lift(normalised: scipy.sparse.csr_array, block: Float64, cutoff: float) -> Float64:
    """T(block), T the Chebyshev polynomial of S that stays within 1 on [-1, cutoff] and grows above it."""
    centre, radius = (cutoff - 1) / 2, (cutoff + 1) / 2
    before, now = block, (normalised @ block - centre * block) / radius
    for _ in range(DEGREE - 1):
        before, now = now, 2 * (normalised @ now - centre * now) / radius - before
    return np.asarray(now)


def _check(basis: SpectralBasis, seeds: scipy.sparse.csr_array | Float64 | None, alpha: float) -> None:
    if not 0 <= alpha < 1:
        raise UsageError(f"alpha={alpha} must be at least 0 and below 1: with 1 the diffusion has no end")
    if seeds is not None and (seeds.ndim != 2 or seeds.shape[1] != len(basis.vectors)):
        raise ArrayError(f"seeds have shape {seeds.shape}, expected (queries, {len(basis.vectors)})")
