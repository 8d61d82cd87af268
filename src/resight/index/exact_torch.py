"""Exact nearest neighbours by inner product on a GPU, or any other device of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from resight.errors import UsageError
from resight.index.exact import finite_vectors
from resight.products import lengths, longest
from resight.ties import nearest
from resight.types import Ranking

if TYPE_CHECKING:
    from torch import Tensor

QUERY_BLOCK = 256
VECTOR_BLOCK = 65536


def exact_search_torch(queries: Any, vectors: Any, k: int, device: str = "cuda") -> Ranking:
    """The `k` best rows of `vectors` (N, D) for each of `queries` (Q, D), as `ExactIndex` finds them.

    k + 16 candidates, more where a tie goes on behind them, are found in float32 without TF32, scored again in double
    precision, and ties ordered by row. The vectors travel to the device block by block, once for every 256 queries.
    Memory there: a block, 65 536 vectors, their scores for 256 queries, and 256 (k + 16) vectors in double precision,
    more for ties that go on. Raises `UsageError` on k below 1 or a device that torch does not have, `ArrayError` on bad
    arrays.
    """
    if k < 1:
        raise UsageError(f"{k} results were asked for: give at least 1")
    base = finite_vectors(vectors, None)
    points = finite_vectors(queries, base.shape[1])
    width, length = min(k, len(base)), longest(base)
    ids, scores = np.empty((len(points), width), np.int64), np.empty((len(points), width), np.float32)
    for start in range(0, len(points) if width else 0, QUERY_BLOCK):
        span = slice(start, start + QUERY_BLOCK)
        part = points[span]
        ids[span], _, scores[span] = nearest(
            lambda which, m, part=part: _candidates(part[which], base, m, device),  # type: ignore[misc]
            len(part),
            width,
            len(base),
            lengths(part) * length,
        )
    return Ranking(ids, scores)


def _candidates(points: Any, base: Any, kept: int, device: str) -> tuple[Any, Any]:
    """Rows and scores (Q, kept) of the best of `base`, in any order."""
    import torch

    try:
        queries = torch.from_numpy(points).to(device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    scores = queries.new_full((len(points), 0), 0)
    ids = torch.empty(scores.shape, dtype=torch.int64, device=device)
    for start in range(0, len(base), VECTOR_BLOCK):
        block = torch.from_numpy(base[start : start + VECTOR_BLOCK]).to(device)
        found, places = _product(queries, block).topk(min(kept, len(block)), dim=1)
        scores, ids = torch.cat([scores, found], 1), torch.cat([ids, places + start], 1)
        scores, order = scores.topk(min(kept, scores.shape[1]), dim=1)
        ids = ids.gather(1, order)
    return ids.cpu().numpy(), _rescored(queries, base, ids).cpu().numpy()


def _product(queries: Tensor, block: Tensor) -> Tensor:
    import torch

    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return queries @ block.T
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def _rescored(queries: Tensor, base: Any, ids: Tensor) -> Tensor:
    """Inner products (Q, m) float32 of every query and the vectors `ids` (Q, m), summed in double precision."""
    import torch

    unique, where = np.unique(ids.cpu().numpy(), return_inverse=True)
    vectors = torch.from_numpy(base[unique]).to(queries.device).double()
    places = torch.from_numpy(where.reshape(ids.shape)).to(queries.device)
    return torch.stack([vectors[row] @ query for row, query in zip(places, queries.double(), strict=True)]).float()
