import numpy as np
import pytest

from resight.errors import ArrayError
from resight.precision import average_precision, precision_of_ranks


def by_hand(relevant, total):
    """The definition, in a loop."""
    found, precisions = 0, 0.0
    for rank, hit in enumerate(relevant, 1):
        found += hit
        precisions += hit * found / rank
    return precisions / total


def test_precision_at_each_relevant_row():
    relevant = [[1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]]
    np.testing.assert_allclose(average_precision(np.array(relevant, bool)), [(1 + 2 / 3) / 2, 1 / 4, 1])


def test_it_is_the_definition():
    rng = np.random.default_rng(0)
    relevant = rng.random((50, 40)) < 0.2
    totals = relevant.sum(axis=1) + rng.integers(1, 5, 50)
    expected = [by_hand(row, total) for row, total in zip(relevant, totals, strict=True)]
    np.testing.assert_allclose(average_precision(relevant, totals), expected, rtol=1e-12)


def test_rows_that_do_not_count_take_no_rank():
    relevant = np.array([[False, True, False, True, False]])
    counted = np.array([[False, True, True, True, False]])
    np.testing.assert_array_equal(average_precision(relevant, counted=counted), average_precision(relevant[:, 1:4]))


def test_queries_without_relevant_rows_have_none():
    relevant = np.array([[False, False], [True, False]])
    np.testing.assert_array_equal(average_precision(relevant), [np.nan, 1])
    np.testing.assert_array_equal(average_precision(relevant, np.array([2, 2])), [0, 0.5])
    assert average_precision(np.empty((3, 0), bool)).tolist() == pytest.approx([np.nan] * 3, nan_ok=True)
    assert len(average_precision(np.empty((0, 4), bool))) == 0


def test_ranks_are_those_of_the_matrix():
    relevant = np.random.default_rng(1).random((20, 30)) < 0.3
    query, rank = np.nonzero(relevant)
    np.testing.assert_array_equal(precision_of_ranks(query, rank, relevant.sum(axis=1)), average_precision(relevant))


def test_other_shapes_are_refused():
    with pytest.raises(ArrayError, match="relevant"):
        average_precision(np.ones(3, bool))
    with pytest.raises(ArrayError, match="totals"):
        average_precision(np.ones((2, 3), bool), np.ones(3, np.int64))
    with pytest.raises(ArrayError, match="counted"):
        average_precision(np.ones((2, 3), bool), counted=np.ones((3, 2), bool))
