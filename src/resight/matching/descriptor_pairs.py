"""Checks that learned similarities share: descriptors in pairs, and who made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resight.arrays import Float32, finite_rows
from resight.errors import ArrayError, StampMismatch


def paired_rows(x: Any, y: Any, dim: int) -> tuple[Float32, Float32]:
    """`x` and `y` as (n, dim) float32, row by row a pair. Raises `ArrayError` as `finite_rows`."""
    x = finite_rows("x", x, dim)
    y = finite_rows("y", y, dim)
    if len(x) != len(y):
        raise ArrayError(f"x has {len(x)} rows and y has {len(y)}: the rows of both are pairs")
    return x, y


def check_model(path: str | Path, trained: str, model: str | None) -> None:
    """Raise `StampMismatch` when the similarity in `path` was trained on descriptors of another model than
    `model`; None accepts all."""
    if model is not None and model != trained:
        raise StampMismatch(
            f"{path} was trained on descriptors of model {trained or 'unknown'}, these are of {model or 'unknown'}: "
            "train a similarity on these, with resight fit similarity"
        )
