from __future__ import annotations

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.ranking.fusion_weight import WEIGHTS, learn_weight


def world(first: float, second: float, queries: int = 60, photos: int = 200):
    """Similarities in which a match stands out by so many standard deviations."""
    rng = np.random.default_rng(0)
    matching = np.zeros((queries, photos), bool)
    matching[np.arange(queries), rng.integers(0, photos, queries)] = True
    return (
        rng.normal(size=matching.shape) + first * matching,
        rng.normal(size=matching.shape) + second * matching,
        matching,
    )


def test_the_weight_follows_what_the_two_tell():
    assert learn_weight(*world(1, 5)) > 1
    assert learn_weight(*world(4, 0)) < 0.5
    assert 0.5 <= learn_weight(*world(2.5, 2.5)) <= 2


def test_without_a_difference_the_usual_weight_stays():
    first, second, matching = world(30, 30)
    assert learn_weight(first, second, matching, usual=4.0) == 4.0
    assert learn_weight(first, second, matching, usual=0.0) == 0.0
    assert learn_weight(first, second, matching, usual=1.1) in WEIGHTS


def test_photos_that_do_not_count_are_last():
    first, second, matching = world(3, 3)
    left = np.where(matching, first, -np.inf)
    assert learn_weight(left, second, matching, usual=0.2) == 0.2


def test_matches_that_are_too_few_and_numbers_that_are_none():
    first, second, matching = world(3, 3, queries=4)
    with pytest.raises(UsageError, match="4 photos with a match"):
        learn_weight(first, second, matching)
    with pytest.raises(ArrayError, match="NaN"):
        learn_weight(first * np.nan, second, matching)
    with pytest.raises(ArrayError, match="second"):
        learn_weight(first, second[:, 1:], matching)
