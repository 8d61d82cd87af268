"""The indexes on descriptors of real photos."""

from pathlib import Path

import numpy as np
import pytest

from resight.index import inverted_lists
from resight.index.approximate import ApproximateIndex
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


def test_inverted_lists_reach_the_recall_they_state(vectors, monkeypatch):
    monkeypatch.setattr(inverted_lists, "TRAIN_FROM", 100)
    index = ApproximateIndex.over(vectors, recall=0.95, k=10)
    assert index.lists == 45
    assert 0.95 <= index.effort.recall < 0.97
    assert index.effort.probes < 40
    found, truth = (one.search(vectors, 10).ids for one in (index, ExactIndex.over(vectors)))
    assert recall(found, truth) >= 0.94
