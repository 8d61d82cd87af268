"""Similarities of the edges of a graph in float64, for results that must not depend on float32 rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.arrays import finite_rows
from resight.errors import ArrayError
from resight.types import Float32

BLOCK = 8192


def edge_products(
    rows: NDArray[Any], columns: NDArray[Any], left: Float32, right: Float32, nodes: int
) -> NDArray[np.float64]:
    """Inner products left[rows] . right[columns] in float64, (E,). Memory: 16 D bytes for each of 8192 edges at a time.

    Raises `ArrayError` unless `right` (nodes, D) covers all columns, and `left` all rows in the same dimension.
    """
    left, right = finite_rows("vectors", left), finite_rows("vectors", right)
    if len(right) != nodes or left.shape[1] != right.shape[1] or (rows.size and rows.max() >= len(left)):
        raise ArrayError(f"vectors of shapes {left.shape} and {right.shape} do not fit the {nodes} nodes of the graph")
    result = np.empty(len(rows))
    for first in range(0, len(rows), BLOCK):
        part = slice(first, first + BLOCK)
        a, b = left[rows[part]].astype(np.float64), right[columns[part]].astype(np.float64)
        result[part] = np.einsum("ed,ed->e", a, b)
    return result
