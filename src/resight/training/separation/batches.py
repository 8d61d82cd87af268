"""Mini-batches for graph convolutions: the rows of a batch, and the neighbourhood that their embedding depends on."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from resight.errors import UsageError
from resight.types import Int64


def batches(count: int, size: int, rng: np.random.Generator) -> list[Int64]:
    """All rows 0 ... count - 1 in random order, in batches of about equal size, at most `size`, at least 2.

    Raises `UsageError` for a size below 2, and for fewer than 2 rows.
    """
    if size < 2 or count < 2:
        raise UsageError(f"batches of {size} of {count} rows: both must be at least 2")
    parts = min(-(-count // size), count // 2)
    return np.array_split(rng.permutation(count), parts)


def neighbourhood(
    matrix: scipy.sparse.csr_array, rows: Int64, layers: int, fanout: int | None, rng: np.random.Generator
) -> tuple[Int64, list[scipy.sparse.csr_array]]:
    """Rows (n_0,) that `layers` convolutions of `rows` depend on, and the matrix (n_l, n_{l-1}) of each layer.

    The rows of a layer come first among those of the layer before it. A row with more than `fanout` neighbours uses
    that many, drawn at random and weighted up, so that hubs do not pull in the collection; None uses all.
    """
    matrices: list[scipy.sparse.csr_array] = []
    for _ in range(layers):
        part = scipy.sparse.csr_array(matrix[rows])
        if fanout is not None:
            part = _thinned(part, rows, fanout, rng)
        used = np.unique(part.indices)
        sources = np.concatenate([rows, used[~np.isin(used, rows)]]).astype(np.int64)
        order = np.argsort(sources)
        columns = order[np.searchsorted(sources[order], part.indices)]
        matrices.insert(0, scipy.sparse.csr_array((part.data, columns, part.indptr), shape=(len(rows), len(sources))))
        rows = sources
    return rows, matrices


def _thinned(
    part: scipy.sparse.csr_array, rows: Int64, fanout: int, rng: np.random.Generator
) -> scipy.sparse.csr_array:
    """`part` with `fanout` random entries per row beside that of the row itself; their expected sum is kept."""
    line = np.repeat(np.arange(len(rows)), np.diff(part.indptr))
    own = part.indices == rows[line]
    order = np.lexsort((np.where(own, -1.0, rng.random(len(line))), line))
    place = np.arange(len(line)) - part.indptr[line]  # within the row; its own entry comes first
    kept = order[place <= fanout]
    others = np.diff(part.indptr) - 1
    scale = np.where(own[kept], 1.0, np.maximum(others / fanout, 1.0)[line[kept]])
    starts = np.concatenate([[0], np.cumsum(np.minimum(others, fanout) + 1)])
    data = (part.data[kept] * scale).astype(np.float32)
    return scipy.sparse.csr_array((data, part.indices[kept], starts), shape=part.shape)
