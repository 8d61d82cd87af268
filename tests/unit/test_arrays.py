"""Rows of numbers: what is finite, and what has length 1."""

from __future__ import annotations

import numpy as np
import pytest

from resight.arrays import BLOCK, as_array, finite_array, finite_rows, unit_rows
from resight.errors import ArrayError


def test_as_array_names_what_is_wrong():
    with pytest.raises(ArrayError, match=r"rows has shape \(3,\), expected \(any, 2\)"):
        as_array("rows", [1, 2, 3], np.float32, (None, 2))
    with pytest.raises(ArrayError, match="rows cannot be read as int64: it holds float64"):
        as_array("rows", [0.5], np.int64, (None,))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finite_rows_keep_their_values(dtype):
    rows = finite_rows("rows", [[1, 2], [3, 4]], 2, dtype)
    assert (rows.dtype, rows.tolist()) == (dtype, [[1, 2], [3, 4]])
    assert finite_rows("rows", np.empty((0, 5))).shape == (0, 5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, BLOCK - 1, BLOCK, BLOCK + 6])
def test_the_first_row_that_is_not_finite_is_named(value, row):
    rows = np.zeros((BLOCK + 7, 2), np.float32)
    rows[row:, 1] = value
    with pytest.raises(ArrayError, match=f"row {row} of descriptors holds NaN or infinity"):
        finite_rows("descriptors", rows)
    with pytest.raises(ArrayError, match=f"row {row + 100} of"):
        finite_rows("descriptors", rows, first=100)


def test_finite_arrays_have_any_number_of_axes():
    assert finite_array("maps", np.zeros((2, 3, 4)), np.float64, (None, 3, None)).shape == (2, 3, 4)
    with pytest.raises(ArrayError, match="row 1 of maps holds NaN or infinity"):
        finite_array("maps", [[[0.0]], [[np.nan]]], np.float64, (None, None, None))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unit_rows_have_length_1_and_zero_rows_stay_zero(dtype):
    rows = np.array([[3, 4], [0, 0], [-1e-18, 0]], dtype)
    made = unit_rows(rows)
    assert made.dtype == dtype
    np.testing.assert_allclose(made, [[0.6, 0.8], [0, 0], [-1, 0]], rtol=1e-6)
    np.testing.assert_allclose(unit_rows(rows[0]), [0.6, 0.8], rtol=1e-6)
