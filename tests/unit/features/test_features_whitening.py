import numpy as np
import pytest
from safetensors.numpy import save_file

from resight.errors import ArrayError, CollectionError, UsageError
from resight.features.whitening import Whitening, fit_learned, fit_pca, fit_zca, from_components


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return (rng.standard_normal((200, 8)) @ rng.standard_normal((8, 8)) + 3).astype(np.float32)


def pairs(n):
    return np.arange(0, n, 2), np.arange(1, n, 2)


@pytest.mark.parametrize("fit", [fit_pca, fit_zca, lambda X: fit_learned(X, *pairs(200))])
def test_rows_come_out_normalised_and_the_same_in_any_company(fit, X):
    whitening = fit(X)
    rows = whitening.apply(X)
    assert rows.shape == (200, 8)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(whitening.apply(X[7:9]), rows[7:9], atol=1e-6)
    assert whitening.apply(X[:0]).shape == (0, 8)


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5])
def test_pca_power(power, X):
    pca = fit_pca(X, power=power)
    variances = np.linalg.eigvalsh(np.cov(X.T.astype(np.float64), bias=True))[::-1]
    np.testing.assert_allclose(pca.project(X).var(axis=0), variances ** (1 - 2 * power), rtol=1e-4)


def test_zca_whitens_without_rotation(X):
    zca = fit_zca(X, shrinkage=0)
    np.testing.assert_allclose(zca.projection, zca.projection.T, atol=1e-9)
    np.testing.assert_allclose(np.cov(zca.project(X).T, bias=True), np.eye(8), atol=1e-5)
    full = fit_zca(X, shrinkage=1).projection
    np.testing.assert_allclose(full, full[0, 0] * np.eye(8), atol=1e-9)
    with pytest.raises(UsageError, match="PCA"):
        zca.apply(X, 4)


def test_few_rows(X):
    few = X[:5]
    pca = fit_pca(few)
    assert pca.dim == 4  # five points span four dimensions
    assert np.isfinite(pca.apply(X)).all()
    with pytest.raises(UsageError, match="vary in 4 dimensions"):
        fit_pca(few, dim=5)
    assert np.isfinite(fit_zca(few).apply(X)).all()
    with pytest.raises(UsageError, match="larger one"):
        fit_zca(few, shrinkage=0)
    assert np.isfinite(fit_learned(few, [0, 1], [2, 3]).apply(X)).all()


def test_dimension_cut_is_that_of_the_fit(X):
    np.testing.assert_allclose(fit_pca(X).apply(X, 3), fit_pca(X, dim=3).apply(X), atol=1e-6)
    for dim in (0, 9):
        with pytest.raises(UsageError, match="1 to 8"):
            fit_pca(X).apply(X, dim)


def test_learned_whitening_brings_pairs_together():
    rng = np.random.default_rng(1)
    things = rng.standard_normal((100, 64))
    nuisance = np.linspace(0.5, 4, 64)  # what differs within pairs must lose weight
    X = np.repeat(things, 2, axis=0) + nuisance * rng.standard_normal((200, 64))

    def found(rows):
        similarity = rows @ rows.T - 2 * np.eye(200)
        return (similarity.argmax(axis=1) == np.arange(200) ^ 1).mean()

    plain = X / np.linalg.norm(X, axis=1, keepdims=True)
    assert found(plain) < 0.1
    assert found(fit_learned(X, *pairs(200)).apply(X)) > 0.9


def test_saved_and_read(X, tmp_path):
    made = fit_pca(X, power=0.25).noted(backbone="resnet101")
    made.save(tmp_path / "w.safetensors")
    read = Whitening.load(tmp_path / "w.safetensors")
    assert read.fingerprint == made.fingerprint
    assert read.provenance == {"method": "pca", "samples": "200", "power": "0.25", "backbone": "resnet101"}
    assert np.array_equal(read.apply(X), made.apply(X))
    assert fit_pca(X).fingerprint != made.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_files_that_are_no_whitening(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(CollectionError, match="cannot be read"):
        Whitening.load(path)
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(CollectionError, match="damaged"):
        Whitening.load(path)
    save_file({"mean": np.zeros(3)}, path)
    with pytest.raises(CollectionError, match="expected 'resight whitening 1'"):
        Whitening.load(path)
    for tensors, provenance in (
        ({"mean": np.zeros(3)}, "{}"),
        ({"mean": np.zeros(3), "projection": np.zeros((2, 4))}, "{}"),
        ({"mean": np.full(2, np.nan), "projection": np.eye(2)}, "{}"),
        ({"mean": np.zeros(2), "projection": np.eye(2)}, "[1]"),
    ):
        save_file(tensors, path, {"format": "resight whitening 1", "provenance": provenance})
        with pytest.raises(CollectionError, match="damaged"):
            Whitening.load(path)
    with pytest.raises(CollectionError, match="cannot be written"):
        from_components(np.zeros(2), np.eye(2), np.ones(2)).save(tmp_path / "absent" / "w")


def test_bad_rows_are_named(X):
    with pytest.raises(ArrayError, match=r"shape \(8,\)"):
        fit_pca(X[0])
    with pytest.raises(ArrayError, match="at least 2"):
        fit_zca(X[:1])
    with pytest.raises(ArrayError, match="int64"):
        fit_pca(np.ones((3, 4), np.int64))
    with pytest.raises(ArrayError, match=r"expected \(N, 8\)"):
        fit_pca(X).apply(X[:, :5])
    broken = X.copy()
    broken[17, 2] = np.nan
    for call in (fit_pca, fit_zca, fit_pca(X).apply):
        with pytest.raises(ArrayError, match="row 17 of descriptors"):
            call(broken)
    for fit in (fit_pca, fit_zca):
        with pytest.raises(ArrayError, match="equal"):
            fit(np.zeros((4, 3)))
        with pytest.raises(ArrayError, match="equal"):
            fit(np.full((7, 3), 0.1, np.float32))


def test_bad_arguments(X):
    with pytest.raises(UsageError, match="power=-1"):
        fit_pca(X, power=-1)
    with pytest.raises(UsageError, match="shrinkage=2"):
        fit_zca(X, shrinkage=2)
    with pytest.raises(ArrayError, match="rows -1 to 3"):
        fit_learned(X, [-1], [3])
    with pytest.raises(ArrayError, match="no pairs"):
        fit_learned(X, np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(ArrayError, match="equal descriptors"):
        fit_learned(X, [1, 2], [1, 2])
    with pytest.raises(ArrayError, match="positives has shape"):
        fit_learned(X, [1, 2], [1])
    with pytest.raises(ArrayError, match="variance 1 is 0"):
        from_components(np.zeros(2), np.eye(2), [1.0, 0.0])
    with pytest.raises(ArrayError, match="NaN"):
        Whitening(np.zeros(2), np.full((2, 2), np.inf))
