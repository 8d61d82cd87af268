"""Residuals to bits: whitened a little and turned at random; signs for images, three bits a dimension for queries.

An image keeps the sign of every turned dimension. A query need not be stored, so that it keeps more: its inner product
with the signs of an image follows their angle with half the noise of the Hamming distance of two signatures.

Without whitening, bits of strong dimensions agree with each other, and the draw of the rotation matters more.

Papers: Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002; Gordo, Perronnin, Gong and
Lazebnik, "Asymmetric distances for binary embeddings", TPAMI 2014.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.types import Float32

PLANES = 3  # bits a dimension of a query in an asymmetric comparison
STEP = 2 / 3  # between the levels of a query, in root mean squares of its dimensions
WHITENING = 0.25  # power of the variances that divides: 0.5 would be full whitening
LEAST_VARIANCE = 1e-4  # of the largest: weaker dimensions are noise
ROTATION_BITS = 20
RESIDUAL_BITS = 24
BLOCK = 8192


def random_rotation(dim: int, rng: np.random.Generator) -> Float32:
    """A random orthogonal matrix (D, D), uniformly distributed, in multiples of 2^-20 so that `turn` is exact."""
    return _rounded(_orthogonal(dim, rng))


def whitened_rotation(residuals: Float32, rng: np.random.Generator, bits: int | None = None) -> Float32:
    """A matrix (D, B) that whitens `residuals` (n, D) by the power `WHITENING`, then turns them at random.

    B = `bits`, D by default; fewer keep the B directions of most variance. Lengths do not count. Multiples of 2^-20,
    entries at most 1, so that `turn` is exact and no eigenvector's sign, nor the last digits of the covariance, which
    depend on the processor, remain.
    """
    dim = residuals.shape[1]
    bits = dim if bits is None else bits
    covariance = np.zeros((dim, dim))
    for start in range(0, len(residuals), BLOCK):
        block = residuals[start : start + BLOCK].astype(np.float64)
        lengths = np.linalg.norm(block, axis=1, keepdims=True)
        block /= np.where(lengths > 0, lengths, 1)
        covariance += block.T @ block
    variances, axes = np.linalg.eigh(covariance)
    if variances[-1] <= 0:
        return np.ascontiguousarray(random_rotation(dim, rng)[:, :bits])
    variances = np.maximum(variances / variances[-1], LEAST_VARIANCE)
    variances, axes = variances[-bits:], axes[:, -bits:]
    scaled = axes * (variances / variances[0]) ** -WHITENING
    # Back along the axes (ZCA): eigenvectors alone are not unique, these products are.
    if bits == dim:
        return _rounded(scaled @ axes.T @ _orthogonal(dim, rng))
    left, _, right = np.linalg.svd(axes.T @ _orthogonal(dim, rng)[:, :bits])
    return _rounded(scaled @ (left @ right))


def _orthogonal(dim: int, rng: np.random.Generator) -> NDArray[np.float64]:
    gaussian, triangle = np.linalg.qr(rng.standard_normal((dim, dim)))
    return np.asarray(gaussian * np.sign(np.diag(triangle)))


def _rounded(matrix: NDArray[np.float64]) -> Float32:
    return np.asarray(np.rint(matrix * 2**ROTATION_BITS) / 2**ROTATION_BITS, np.float32)


def turn(residuals: Float32, rotation: Float32 | None) -> NDArray[np.float64]:
    """`residuals` (m, D) times `rotation` (D, B), every row scaled by a power of two: (m, B) float64.

    Residuals are rounded to 24 bits of their largest dimension. Double precision then holds every partial sum exactly,
    so that no bit depends on the order in which BLAS adds, nor on the processor or the threads. Without a rotation they
    stay as they are.
    """
    if rotation is None:
        return residuals.astype(np.float64)
    exponents = np.frexp(np.abs(residuals).max(axis=1, keepdims=True, initial=0))[1]
    whole = np.rint(np.ldexp(residuals.astype(np.float64), RESIDUAL_BITS - exponents))
    return np.asarray(whole @ rotation.astype(np.float64))


def binarise(residuals: Float32, rotation: Float32 | None, planes: int = 1) -> NDArray[np.uint64]:
    """Turned `residuals` (m, D) in `planes` bits a dimension: (m, planes * ceil(B / 64)) uint64, B columns turned.

    One plane: the signs. More: the numbers of their `levels`, one plane of bits after the other, highest bit first.
    """
    parts = []
    for start in range(0, max(len(residuals), 1), BLOCK):
        turned = turn(residuals[start : start + BLOCK], rotation)
        numbers = (turned > 0).view(np.uint8) if planes == 1 else levels(turned, planes)
        parts.append(np.concatenate([pack(numbers >> plane & 1) for plane in reversed(range(planes))], axis=1))
    return np.concatenate(parts)


def levels(turned: NDArray[np.float64], planes: int) -> NDArray[np.uint8]:
    """Numbers 0 .. 2^planes - 1 of the levels that `turned` (m, D) falls on.

    Level k stands for (2k + 1 - 2^planes) * STEP / 2 root mean squares of its row; the upper half are those above 0.
    """
    scale = np.sqrt((turned**2).mean(axis=1, keepdims=True))
    steps = np.ceil(turned / np.where(scale > 0, scale, 1) / STEP)
    half = 2 ** (planes - 1)
    return np.asarray(np.clip(steps - 1 + half, 0, 2 * half - 1), np.uint8)


def pack(bits: NDArray[np.bool_] | NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Bits (m, D) to (m, ceil(D / 64)) uint64, first bit highest, zero padded."""
    octets = np.packbits(bits, axis=1)
    octets = np.pad(octets, ((0, 0), (0, -octets.shape[1] % 8)))
    return octets.view(">u8").astype(np.uint64)
