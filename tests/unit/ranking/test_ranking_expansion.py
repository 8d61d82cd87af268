"""Query expansion and database augmentation by hand, and their bad input."""

import numpy as np
import pytest

from resight.errors import UsageError
from resight.ranking.expansion import (
    alpha_expansion,
    average_expansion,
    database_augmentation,
    verified_expansion,
)
from resight.types import Ranking


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


X = unit([[1, 0, 0], [0.8, 0.6, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])
Q = unit([[1, 0.1, 0]])


def test_average_of_the_query_and_its_nearest():
    np.testing.assert_allclose(average_expansion(Q, X, 2), unit(Q + X[0] + X[1]), atol=1e-6)


def test_alpha_weighs_by_a_power_of_the_similarity():
    weights = (Q @ X.T)[0, :2] ** 2.5
    expected = unit(Q + weights[0] * X[0] + weights[1] * X[1])
    np.testing.assert_allclose(alpha_expansion(Q, X, 2, 2.5), expected, atol=1e-6)


def test_negative_similarities_count_as_zero_under_any_power():
    all_of_them = alpha_expansion(Q, X, 5, 0.5)
    assert np.isfinite(all_of_them).all()
    np.testing.assert_allclose(all_of_them, alpha_expansion(Q, X, 3, 0.5), atol=1e-6)
    np.testing.assert_allclose(alpha_expansion(Q, X, 5, 0), average_expansion(Q, X, 5), atol=0)


def test_augmentation_takes_the_photo_once_and_duplicates_as_others():
    vectors = np.vstack([X, X[:1]])
    augmented = database_augmentation(vectors, 2)
    np.testing.assert_allclose(augmented[0], unit(X[0] + X[0] + X[1]), atol=1e-6)
    np.testing.assert_allclose(augmented[2], unit(X[2] + X[1] + X[0]), atol=1e-6)
    np.testing.assert_allclose(database_augmentation(X, 1)[0], unit(X[0] + X[1]), atol=1e-6)


def test_augmentation_that_counts_the_photo_twice():
    np.testing.assert_allclose(database_augmentation(X, 2, count_self=True)[0], unit(2 * X[0] + X[1]), atol=1e-6)
    np.testing.assert_allclose(database_augmentation(X, 1, count_self=True), X, atol=1e-6)


def test_more_neighbours_than_photos():
    np.testing.assert_allclose(average_expansion(Q, X[:2], 9), unit(Q + X[0] + X[1]), atol=1e-6)
    np.testing.assert_allclose(database_augmentation(X[:1], 3), X[:1], atol=1e-6)


def test_what_sums_to_zero_stays_zero():
    zero = np.zeros((1, 3), np.float32)
    np.testing.assert_array_equal(alpha_expansion(zero, X, 2, 3.0), zero)
    np.testing.assert_array_equal(average_expansion(X[4:], X[:1], 1), zero)


def test_only_verified_results_and_the_most_reliable_of_them():
    queries = np.vstack([Q, Q, Q])
    ranking = Ranking(
        [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, -1, -1]], [[4, 3, 2, 1], [4, 3, 2, 1], [2, 1, -np.inf, -np.inf]]
    )
    inliers = [[9, 30, 20, 30], [9, 19, 0, 5], [9, 50, 99, 99]]
    expanded = verified_expansion(queries, X, ranking, inliers, least=20, most=2)
    np.testing.assert_allclose(expanded[0], unit(Q[0] + X[1] + X[3]), atol=1e-6)
    np.testing.assert_allclose(expanded[1], Q[0], atol=1e-6)
    np.testing.assert_allclose(expanded[2], unit(Q[0] + X[1]), atol=1e-6)
    one = verified_expansion(queries, X, ranking, inliers, least=9, most=1)
    np.testing.assert_allclose(one[0], unit(Q[0] + X[1]), atol=1e-6), "of equal counts the better ranked"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: average_expansion(Q, X, 0), "k must be at least 1"),
        (lambda: alpha_expansion(Q, X, 2, -1), "alpha=-1"),
        (lambda: alpha_expansion(Q, X, 2, np.nan), "alpha=nan"),
        (lambda: average_expansion(Q[:, :2], X, 2), "must agree"),
        (lambda: average_expansion(Q * np.nan, X, 2), "queries holds NaN"),
        (lambda: verified_expansion(Q, X, Ranking([[0]], [[1]]), [[3]], 0), "least=0"),
        (lambda: verified_expansion(Q, X, Ranking([[0]], [[1]]), [[3, 4]], 1), "inliers has shape"),
        (lambda: verified_expansion(Q, X, Ranking([[7]], [[1]]), [[3]], 1), "result 7"),
        (lambda: verified_expansion(X, X, Ranking([[0]], [[1]]), [[3]], 1), "5 queries and 1 rankings"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UsageError, match=message):
        call()
