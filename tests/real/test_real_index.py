"""The indexes on descriptors of real photos."""

from pathlib import Path

import numpy as np
import pytest

from resight.index.exact import ExactIndex

FILE = Path(__file__).parents[2] / "../shared/data/descriptors/holidays_resnet101v2_c4_gem.npy"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason=f"no descriptors at {FILE}")


@pytest.fixture(scope="module")
def vectors():
    return np.load(FILE)


def recall(found, truth):
    return np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True)]) / truth.shape[1]


def test_half_precision_keeps_the_neighbours(vectors):
    full, half = (ExactIndex.over(vectors, half=half).search(vectors, 100).ids for half in (False, True))
    assert recall(half, full) >= 0.999
