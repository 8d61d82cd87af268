"""The loss of guided similarity separation over all pairs of a collection, exact and without N x N memory.

    s_ij = max(e_i · e_j, 0),   loss = mean over all pairs of -alpha/2 (s_ij - beta)²

Pairs more similar than beta are pulled together, the others pushed apart (Liu et al., NeurIPS 2019). The gradient is
computed block by block together with the loss, so that no similarity is kept.

Two things save work where similarities are rarely negative. Without the maximum the sums have a closed form,
sum (s - beta)² = ||EᵀE||² - 2 beta ||Eᵀ1||² + N² beta², linear in N; only pairs of negative similarity need a
correction. And rows whose angles to the mean direction add up to less than 90 degrees cannot have a negative
similarity: such pairs are not even looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from resight.errors import ArrayError, UsageError

BLOCK = 2048
Method = Literal["auto", "direct", "closed"]
FEW_NEGATIVE = 0.01  # share of negative similarities up to which the closed form and its correction are faster
MANY_ROWS = 4  # times the dimension, from which that is so
SPARSE = 0.02  # share of negative similarities in a block up to which a sparse product is faster
SAMPLE = 512
MARGIN = 1e-3  # radians; float32 angles are good to about 5e-4 near 0


def similarity_separation(
    e: Tensor, beta: float, alpha: float = 1.0, *, method: Method = "auto", precision: torch.dtype | None = None
) -> Tensor:
    """The loss of L2-normalised rows `e` (N, D) as a scalar that gradients flow through; see `loss_and_gradient`."""
    return _Loss.apply(e, beta, alpha, method, precision)  # type: ignore[no-any-return, no-untyped-call]


def loss_and_gradient(
    e: Tensor, beta: float, alpha: float = 1.0, *, method: Method = "auto", precision: torch.dtype | None = None
) -> tuple[float, Tensor]:
    """The loss of rows `e` (N, D) and its gradient (N, D), exact in either `method`.

    "direct" computes every similarity once and both its gradients; "closed" the closed form and corrections for
    negative similarities; "auto" chooses by a sample. `precision`: a type to round the factors of products to, such as
    bfloat16; None keeps that of `e`.
    Memory beyond the result: three blocks of 2048 x 2048, for "closed" D x D as well. Time grows with N² D.
    Raises `UsageError` unless beta lies strictly within -1 and 1, `ArrayError` for another shape.
    """
    check_beta(beta)
    if e.ndim != 2 or not len(e):
        raise ArrayError(f"embeddings have shape {tuple(e.shape)}, expected (N, D) with N of at least 1")
    if method == "auto":
        method = _faster(e)
    total, gradient = (_closed if method == "closed" else _direct)(e, beta, precision or e.dtype)
    pairs = len(e) ** 2
    return -alpha / 2 * total / pairs, gradient.mul_(-2 * alpha / pairs)


def sampled_loss(e: Tensor, beta: float, count: int, alpha: float = 1.0) -> Tensor:
    """The loss estimated from rows `e` (B, D), drawn from `count` without replacement.

    Pairs of different rows and pairs of a row with itself are weighted by how much rarer they are in the sample than
    in the collection: loss and gradient have the exact ones as their expectation.
    Raises as `loss_and_gradient` does, and `UsageError` for fewer than 2 rows or more than `count`.
    """
    check_beta(beta)
    size = len(e)
    if not 2 <= size <= count:
        raise UsageError(f"a sample of {size} of {count} rows: at least 2 and at most all are needed")
    terms = ((e @ e.T).clamp(min=0) - beta).square()
    diagonal = terms.diagonal().sum()
    others = (terms.sum() - diagonal) * (count * (count - 1) / (size * (size - 1)))
    return -alpha / 2 * (others + diagonal * (count / size)) / count**2


def check_beta(beta: float) -> None:
    """Raise `UsageError` unless `beta` lies strictly between -1 and 1."""
    if not -1 < beta < 1:
        raise UsageError(f"beta={beta} must lie between -1 and 1, as similarities do")


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, e: Tensor, beta: float, alpha: float, method: Method, precision: torch.dtype | None
    ) -> Tensor:
        loss, gradient = loss_and_gradient(e.detach(), beta, alpha, method=method, precision=precision)
        ctx.save_for_backward(gradient)
        return e.new_tensor(loss)

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * scale if scale != 1 else gradient, None, None, None, None


def _direct(e: Tensor, beta: float, precision: torch.dtype) -> tuple[float, Tensor]:
    """Sum over all pairs of (s - beta)², and the sum over j of (s_ij - beta) e_j where s_ij > 0, (N, D)."""
    work, gradient, total = e.to(precision), torch.zeros_like(e), 0.0
    spans = _spans(len(e))
    for i, rows in enumerate(spans):
        for columns in spans[i:]:
            s = (work[rows] @ work[columns].T).to(e.dtype)
            off = s <= 0
            s.clamp_(min=0).sub_(beta)
            total += (1 if rows == columns else 2) * _squares(s)
            _add_products(gradient, s.masked_fill_(off, 0).to(precision), work, rows, columns)
    return total, gradient


def _closed(e: Tensor, beta: float, precision: torch.dtype) -> tuple[float, Tensor]:
    """As `_direct`: the closed form over all pairs, minus what pairs of negative similarity add to it."""
    gram, column_sums = e.T @ e, e.sum(dim=0)
    total = float(gram.double().square().sum()) + len(e) ** 2 * beta**2
    total -= 2 * beta * float(column_sums.double().square().sum())
    gradient = (e @ gram).sub_(beta * column_sums)
    certificate = _certificate(e, column_sums)
    spans = _spans(len(e))
    for i, rows in enumerate(spans):
        for columns in spans[i:]:
            if certificate.reach[i] + float(certificate.angles[columns][-1]) <= math.pi / 2 - MARGIN:
                continue
            first, second = certificate.order[rows], certificate.order[columns]
            total -= (1 if rows == columns else 2) * _correct(e, beta, precision, gradient, first, second)
    return total, gradient


@dataclass(frozen=True, eq=False)
class _Certificate:
    """`order` (N,): rows by their angle to the mean direction; `angles` (N,) so ordered, radians; `reach`: the largest
    angle of every block."""

    order: Tensor
    angles: Tensor
    reach: list[float]


def _certificate(e: Tensor, column_sums: Tensor) -> _Certificate:
    mean = column_sums / torch.linalg.vector_norm(column_sums).clamp(min=1e-30)
    angles, order = torch.sort(torch.acos((e @ mean).clamp(-1, 1)), stable=True)
    return _Certificate(order, angles, [float(angles[span][-1]) for span in _spans(len(e))])


def _correct(e: Tensor, beta: float, precision: torch.dtype, gradient: Tensor, first: Tensor, second: Tensor) -> float:
    """Take the pairs of negative similarity out of `gradient`; return what they add to the closed form in vain."""
    same = first is second or torch.equal(first, second)
    left, right = e[first].to(precision), e[second].to(precision)
    s = (left @ right.T).to(e.dtype)
    off = s <= 0
    share = float(off.sum()) / off.numel()
    if share == 0:
        return 0.0
    s = torch.where(off, s - beta, s.new_zeros(()))
    excess = _squares(s) - beta**2 * float(off.sum())
    factor = s.to_sparse() if share <= SPARSE else s.to(precision)
    if share <= SPARSE:
        left, right = left.to(e.dtype), right.to(e.dtype)
    gradient.index_add_(0, first, (factor @ right).to(e.dtype), alpha=-1)
    if not same:
        gradient.index_add_(0, second, (factor.T @ left).to(e.dtype), alpha=-1)
    return excess


def _add_products(gradient: Tensor, s: Tensor, work: Tensor, rows: slice, columns: slice) -> None:
    """Add s @ e_columns to the rows of `gradient`, and sᵀ @ e_rows to its columns unless both are the same."""
    for target, factor, source in ((rows, s, columns), (columns, s.T, rows))[: 1 if rows == columns else 2]:
        if work.dtype == gradient.dtype:
            gradient[target].addmm_(factor, work[source])
        else:
            gradient[target] += factor @ work[source]


def _squares(s: Tensor) -> float:
    """Sum of squares; by rows, since one float32 sum over millions of terms loses four digits."""
    return float(torch.linalg.vector_norm(s, dim=1).double().square().sum())


def _faster(e: Tensor) -> Method:
    """By the share of negative similarities among evenly spaced rows; the closed form costs N D² beforehand."""
    sample = e[:: max(1, len(e) // SAMPLE)][:SAMPLE]
    share = float((sample @ sample.T < 0).float().mean())
    few = FEW_NEGATIVE if len(e) >= MANY_ROWS * e.shape[1] else 0.0
    return "closed" if share <= few else "direct"


def _spans(count: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
