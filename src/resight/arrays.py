"""Plain arrays: their types, their validation, and the two operations on rows that every layer needs."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
Floating = TypeVar("Floating", bound=np.floating[Any])

BLOCK = 4096  # rows whose values are looked at together, so that a check takes little memory


def as_array(name: str, value: Any, dtype: Any, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Give `value` as a C-contiguous array of `dtype`; `None` in `shape` accepts any length.

    Raises `ArrayError`, naming `name`, when the shape differs or numbers do not convert without loss of kind.
    """
    try:
        array = np.asarray(value)
        if array.size and np.dtype(dtype).kind in "iu" and array.dtype.kind not in "iub":
            raise TypeError(f"it holds {array.dtype}, integers are needed")
        array = np.ascontiguousarray(array.astype(dtype, copy=False)).reshape(array.shape)
    except (TypeError, ValueError) as error:
        raise ArrayError(f"{name} cannot be read as {np.dtype(dtype).name}: {error}") from error
    sizes: tuple[int, ...] = array.shape
    if len(sizes) != len(shape) or any(want not in (None, n) for want, n in zip(shape, sizes, strict=True)):
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise ArrayError(f"{name} has shape {array.shape}, expected {wanted}")
    return array


def check_finite(name: str, array: NDArray[Any], first: int = 0) -> None:
    """Raise `ArrayError` where `array` (N, ...) holds NaN or infinity, naming the first such row; row 0 counts as row
    `first`."""
    for start in range(0, len(array), BLOCK):
        finite = np.isfinite(array[start : start + BLOCK])
        if not finite.all():
            raise ArrayError(f"row {first + start + int(np.argwhere(~finite)[0][0])} of {name} holds NaN or infinity")


def finite_array(name: str, value: Any, dtype: Any, shape: tuple[int | None, ...], first: int = 0) -> NDArray[Any]:
    """`as_array` of finite values. Raises `ArrayError` as that and `check_finite` do."""
    array = as_array(name, value, dtype, shape)
    check_finite(name, array, first)
    return array


def finite_rows(name: str, rows: Any, dim: int | None = None, dtype: Any = np.float32, first: int = 0) -> NDArray[Any]:
    """`rows` as (N, dim) of `dtype`, float32 by default; None accepts any dimension. Raises as `finite_array`."""
    return finite_array(name, rows, dtype, (None, dim), first)


def unit_rows(rows: NDArray[Floating]) -> NDArray[Floating]:
    """`rows` (..., D) divided by their L2 norms, in their own dtype; zero rows stay zero."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1), rows.dtype)
