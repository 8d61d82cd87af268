"""Query expansion and database augmentation against the published programs."""

from pathlib import Path

import numpy as np
import pytest

from resight.ranking.expansion import alpha_expansion, average_expansion, database_augmentation

REFERENCE = Path(__file__).parents[2] / "../shared/reference"
pytestmark = pytest.mark.skipif(not REFERENCE.exists(), reason="the reference cases are not here")


@pytest.fixture(scope="module")
def small():
    data = np.load(REFERENCE / "data_small.npz")
    return data["Q"], data["X"]


def test_expansion_and_augmentation_of_egt(small):
    expected = np.load(REFERENCE / "misc.npz")
    np.testing.assert_allclose(average_expansion(*small, 2), expected["egt_qe_k2"], atol=1e-5)
    np.testing.assert_allclose(database_augmentation(small[1], 2, count_self=True), expected["egt_dba_k2"], atol=1e-5)


@pytest.mark.parametrize(("n", "alpha"), [(1, 0), (5, 0), (5, 3)])
def test_alpha_expansion_and_augmentation_of_dir(small, n, alpha):
    expected = np.load(REFERENCE / "cirtorch_how_dir_fire.npz")
    np.testing.assert_allclose(alpha_expansion(*small, n, alpha), expected[f"aqe_k{n}_a{alpha}"], atol=1e-5)
    augmented = database_augmentation(small[1], n, alpha)
    np.testing.assert_allclose(augmented, expected[f"dba_k{n}_a{alpha}"], atol=1e-5)


@pytest.mark.parametrize("n", [1, 5])
def test_rankings_after_expansion_of_pyretri(small, n):
    queries, vectors = small
    expected = np.load(REFERENCE / "misc.npz")[f"pyretri_qe_k{n}_t1"]
    scores = average_expansion(queries, vectors, n) @ vectors.T
    np.testing.assert_allclose(
        np.take_along_axis(scores, expected, axis=1), -np.sort(-scores, axis=1), atol=1e-6, err_msg="equal up to ties"
    )
