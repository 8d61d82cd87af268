"""Linear adaptation, learnt on some things, helps to find others."""

from pathlib import Path

import numpy as np
import pytest

from resight.evaluation.metrics import rectangle_ap
from resight.features.adaptation import fit_adaptation
from resight.features.whitening import fit_zca
from resight.index.exact import ExactIndex

FOLDER = Path(__file__).parents[2] / "../shared/data/descriptors"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=f"no descriptors at {FOLDER}")


def mean_average_precision(vectors, ids):
    group = ids // 100
    queries = np.flatnonzero((ids % 100 == 0) & (np.bincount(group)[group] > 1))
    positives = [np.setdiff1d(np.flatnonzero(group == group[q]), [q]) for q in queries]
    ranked = ExactIndex.over(vectors).search(vectors[queries], len(vectors)).ids
    return rectangle_ap(ranked, positives, junk=[[q] for q in queries]).map


@pytest.mark.parametrize("parity", [0, 1])
def test_adaptation_to_other_groups_gains(parity):
    ids = np.array((FOLDER / "holidays_ids.txt").read_text().split(), int)
    vectors = np.load(FOLDER / "holidays_resnet101v2_c4_gem.npy")
    known = ids // 100 % 2 == parity
    adapted = fit_adaptation(vectors[known], ids[known] // 100)
    label_free = fit_zca(vectors[known], 0.5)
    plain, zca, learnt = (
        mean_average_precision(case, ids[~known])
        for case in (vectors[~known], label_free.apply(vectors[~known]), adapted.apply(vectors[~known]))
    )
    assert learnt > plain + 0.04
    assert learnt > zca + 0.005
