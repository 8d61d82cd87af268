"""Whitening learnt without labels lifts the global descriptors of real photos."""

from pathlib import Path

import numpy as np
import pytest

from resight.evaluation.metrics import rectangle_ap
from resight.features.whitening import fit_pca, fit_zca
from resight.index.exact import ExactIndex

FOLDER = Path(__file__).parents[2] / "../shared/data/descriptors"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=f"no descriptors at {FOLDER}")


@pytest.fixture(scope="module")
def holidays():
    ids = np.array((FOLDER / "holidays_ids.txt").read_text().split(), int)
    return np.load(FOLDER / "holidays_resnet101v2_c4_gem.npy"), ids


def mean_average_precision(vectors, ids):
    group = ids // 100
    queries = np.flatnonzero((ids % 100 == 0) & (np.bincount(group)[group] > 1))
    positives = [np.setdiff1d(np.flatnonzero(group == group[q]), [q]) for q in queries]
    ids = ExactIndex.over(vectors).search(vectors[queries], len(vectors)).ids
    return rectangle_ap(ids, positives, junk=[[q] for q in queries]).map


def test_plain_descriptors_give_their_known_score(holidays):
    assert mean_average_precision(*holidays) == pytest.approx(0.844, abs=5e-4)


def test_whitening_gains(holidays):
    vectors, ids = holidays
    assert mean_average_precision(fit_pca(vectors, 256, 0.25).apply(vectors), ids) > 0.89
    assert mean_average_precision(fit_zca(vectors, 0.5).apply(vectors), ids) > 0.89


def test_half_precision_keeps_the_neighbours(holidays):
    vectors, _ = holidays
    full, half = (ExactIndex.over(x).search(vectors, 100).ids for x in (vectors, vectors.astype(np.float16)))
    shared = np.mean([len(np.intersect1d(a, b)) for a, b in zip(full, half, strict=True)]) / 100
    assert shared >= 0.999
