from __future__ import annotations

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.ranking.fusion_weight import learn_weight


def test_the_weight_is_the_ratio_of_what_the_two_tell():
    rng = np.random.default_rng(0)
    matching = np.arange(4000) < 2000
    first = rng.normal(size=4000) + 4 * matching
    second = rng.normal(size=4000) + 2 * matching
    assert abs(learn_weight(first, second, matching) - 0.5) < 0.05
    noisy = 3 * rng.normal(size=4000) + 6 * matching  # three times the spread counts a ninth as much per shift
    assert abs(learn_weight(first, noisy, matching) - 6 / 9 / 4) < 0.03


def test_what_says_nothing_weighs_nothing():
    rng = np.random.default_rng(0)
    matching = np.arange(400) < 200
    first = rng.normal(size=400) + 4 * matching
    assert learn_weight(first, -first + rng.normal(size=400), matching) < 0.05
    assert learn_weight(first, rng.normal(size=400) - matching, matching) == 0


def test_pairs_that_cannot_be_learnt_from():
    ten = np.arange(10.0)
    with pytest.raises(UsageError, match="2 matching and 8 other"):
        learn_weight(ten, ten, ten < 2)
    with pytest.raises(UsageError, match="no weight makes sense"):
        learn_weight(-ten, np.r_[0, 5, 2, 7, 1, 3, 8, 2, 6, 4], ten > 4)
    with pytest.raises(ArrayError, match="NaN"):
        learn_weight(np.full(10, np.nan), ten, ten > 4)
