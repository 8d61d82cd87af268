import numpy as np
import pytest

from resight.errors import CollectionError, UsageError
from resight.features.local.packed import empty_features
from resight.index.vlad import Vlad
from resight.types import LocalFeatures


def photo(thing, seed, count=60, dim=8):
    """Features of one of several things: each thing has its own set of descriptors, seen with noise."""
    own = np.random.default_rng(thing).standard_normal((count, dim))
    seen = own + 0.2 * np.random.default_rng([9, seed]).standard_normal((count, dim))
    zero = np.zeros(count, np.float32)
    return LocalFeatures(np.zeros((count, 2)), zero, zero, zero, seen)


@pytest.fixture(scope="module")
def photos():
    return [photo(thing, 10 * thing + view) for thing in range(8) for view in range(3)]


@pytest.fixture(scope="module")
def vlad(photos):
    return Vlad.fit(photos, words=4, dim=6)


def test_photos_of_one_thing_are_alike(photos, vlad):
    vectors = vlad.describe(photos)
    assert vectors.shape == (24, 6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similarity = vectors @ vectors.T - 9 * np.eye(24)
    assert (similarity.argmax(axis=1) // 3 == np.arange(24) // 3).all()


def test_residuals_by_hand(photos, vlad):
    centroids = vlad.codebook.centroids
    one = photos[5].descriptors
    nearest = ((one[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    flat = np.concatenate([(one[nearest == word] - centroids[word]).sum(axis=0) for word in range(4)]).reshape(4, -1)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    expected = vlad.whitening.apply(flat.reshape(1, -1) / 2)
    np.testing.assert_allclose(vlad.describe([photos[5]]), expected, atol=1e-4)


def test_photos_without_features(photos, vlad):
    vectors = vlad.describe([photos[0], empty_features(8), photos[1], empty_features(8)])
    assert np.array_equal(vectors[1], vectors[3])
    np.testing.assert_allclose(vectors[[0, 2]], vlad.describe(photos[:2]), atol=1e-6)
    assert vlad.describe([]).shape == (0, 6)


def test_files(tmp_path, photos, vlad):
    vlad.save(tmp_path / "vlad.safetensors")
    again = Vlad.load(tmp_path / "vlad.safetensors")
    assert again.fingerprint == vlad.fingerprint != Vlad.fit(photos, words=4, dim=5).fingerprint
    assert np.array_equal(again.describe(photos), vlad.describe(photos))
    (tmp_path / "vlad.safetensors").write_bytes(b"no")
    with pytest.raises(CollectionError, match="damaged"):
        Vlad.load(tmp_path / "vlad.safetensors")


def test_few_photos(photos):
    assert Vlad.fit(photos[:6], words=4).dim == 4
    with pytest.raises(UsageError, match="2 photos with local features"):
        Vlad.fit([photos[0], empty_features(8), photos[1]])
