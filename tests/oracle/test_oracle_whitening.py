"""Whitening against the numbers of the authors' programs, and against the formulas written out.

Signs and rotations of a whitening are free, so inner products of whitened rows are compared.
"""

from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from resight.features import whitening

FOLDER = Path(__file__).parents[2] / "../shared/reference"
needs_reference = pytest.mark.skipif(not FOLDER.exists(), reason=f"no reference numbers at {FOLDER}")


@pytest.fixture(scope="module")
def reference():
    return dict(np.load(FOLDER / "cirtorch_how_dir_fire.npz", allow_pickle=False))


def gram(rows):
    return rows.astype(np.float64) @ rows.T


@needs_reference
def test_learned(reference):
    X = reference["wh_X"].T
    learned = whitening.fit_learned(X, reference["wh_q"], reference["wh_p"])
    np.testing.assert_allclose(learned.mean, reference["Lw_m"][:, 0], atol=1e-12)
    np.testing.assert_allclose(gram(learned.apply(X)), reference["Lw_gram"], atol=1e-5)
    cut = reference["Lw_P"][:7] @ (X.T - reference["Lw_m"])
    cut = (cut / np.linalg.norm(cut, axis=0)).T
    np.testing.assert_allclose(gram(learned.apply(X, 7)), gram(cut), atol=1e-5)


@needs_reference
def test_learned_from_fewer_pairs_than_dimensions(reference):
    X = reference["wh_X"].T[:15]
    learned = whitening.fit_learned(X, np.arange(7), np.arange(7, 14))
    np.testing.assert_allclose(learned.mean, reference["Lw_rankdef_m"][:, 0], atol=1e-12)
    np.testing.assert_allclose(gram(learned.apply(X)), reference["Lw_rankdef_gram"].real, atol=1e-5)


@needs_reference
def test_pca(reference):
    X = reference["wh_X"].T
    pca = whitening.fit_pca(X)
    np.testing.assert_allclose(pca.mean, reference["pca_m"][:, 0], atol=1e-12)
    np.testing.assert_allclose(gram(pca.apply(X)), reference["pca_gram"], atol=1e-5)
    np.testing.assert_allclose(gram(pca.projection.T), gram(reference["pca_P"].T), rtol=1e-8)


@needs_reference
@pytest.mark.parametrize("power", [0.25, 0.5])
def test_pca_of_a_checkpoint(reference, power):
    with np.load(FOLDER / "data_small.npz") as data:
        X = data["X"]
    names = ("dirpca_mean", "dirpca_comp", "dirpca_var")
    pca = whitening.from_components(*(reference[name] for name in names), power)
    np.testing.assert_allclose(pca.apply(X, 16), reference[f"dirwhiten_p{power}"], atol=1e-5)
    fitted = whitening.fit_pca(X, 16, power)
    np.testing.assert_allclose(gram(fitted.apply(X)), gram(reference[f"dirwhiten_p{power}"]), atol=1e-5)


@needs_reference
def test_pca_of_local_descriptors(reference):
    pca = whitening.fit_pca(reference["how_wh_des"])
    np.testing.assert_allclose(pca.mean, reference["how_wh_m"][0], atol=1e-12)
    np.testing.assert_allclose(gram(pca.projection.T), gram(reference["how_wh_P"]), rtol=1e-8)


def test_shrinkage_is_that_of_ledoit_and_wolf():
    rng = np.random.default_rng(0)
    for n in (30, 200, 9000):
        X = rng.standard_normal((n, 12)) * np.linspace(0.1, 3, 12)
        covariance, amount = ledoit_wolf(X)
        zca = whitening.fit_zca(X)
        assert float(zca.provenance["shrinkage"]) == pytest.approx(amount, rel=1e-5)
        np.testing.assert_allclose(zca.projection @ covariance @ zca.projection.T, np.eye(12), atol=1e-8)


def test_learned_is_its_formula_over_several_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((50, 6)).astype(np.float32)
    left, right = rng.integers(0, 50, (2, 40))
    monkeypatch.setattr(whitening, "BLOCK", 7)
    learned = whitening.fit_learned(X, left, right)
    rows = X.astype(np.float64)
    mean = rows[left].mean(axis=0)
    within = sum(np.outer(rows[a] - rows[b], rows[a] - rows[b]) for a, b in zip(left, right, strict=True)) / 40
    # Inner products before normalisation are (x - m) S^-1 (y - m), whatever the rotation.
    np.testing.assert_allclose(gram(learned.project(rows)), (rows - mean) @ np.linalg.solve(within, (rows - mean).T))
    scatter = learned.project(rows).T @ learned.project(rows)
    np.testing.assert_allclose(scatter - np.diag(np.diagonal(scatter)), 0, atol=1e-8)
    assert (np.diff(np.diagonal(scatter)) < 0).all()
