from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnx_factory import write_network
from resight.errors import ArrayError, UsageError
from resight.features import global_descriptor
from resight.features.global_descriptor import GlobalDescriptor, Linear, TooSmall, batches
from resight.features.networks.open import open_backbone
from resight.features.pooling import class_token, gem, mac, spoc
from resight.features.whitening import fit_pca


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    made = {name: write_network(folder / f"{name}.onnx", output=name) for name in ("maps", "vectors", "tokens")}
    made["fixed"] = write_network(folder / "fixed.onnx", side=32)
    return {name: open_backbone(path) for name, path in made.items()}


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((40, 64), (64, 40), (40, 64), (80, 80))]


def by_hand(network, image, pool):
    pixels = image.astype(np.float64) / 255
    batch = ((pixels - network.mean) / network.std).transpose(2, 0, 1)[None].astype(np.float32)
    vector = pool(network.forward(batch))[0]
    return vector / np.linalg.norm(vector)


def test_one_scale_is_backbone_pooling_and_norm(networks, images):
    descriptor = GlobalDescriptor(networks["maps"], gem, "gem")
    found = np.stack(descriptor.describe(images))
    assert (found.dtype, found.shape, descriptor.dim) == (np.float32, (4, 16), 16)
    np.testing.assert_allclose(found, [by_hand(networks["maps"], image, gem) for image in images], atol=1e-5)
    np.testing.assert_allclose(descriptor(images[1]), found[1], atol=1e-6)


def test_batches_are_bounded_and_change_nothing(networks, images, monkeypatch):
    descriptor = GlobalDescriptor(networks["maps"], gem, "gem")
    together = np.stack(descriptor.describe(images))
    monkeypatch.setattr(global_descriptor, "BATCH_PIXELS", 1)
    sizes = []
    counted = replace(networks["maps"], forward=lambda x: sizes.append(len(x)) or networks["maps"].forward(x))
    alone = np.stack(replace(descriptor, backbone=counted).describe(images))
    assert sizes == [1, 1, 1, 1]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_scales_are_averaged_with_a_power(networks, images):
    whole = GlobalDescriptor(networks["maps"], gem, "gem")
    small = replace(whole, scales=(0.5,))
    both = replace(whole, scales=(1.0, 0.5))
    total = whole(images[3]) + small(images[3])
    np.testing.assert_allclose(both(images[3]), total / np.linalg.norm(total), atol=1e-5)
    cubic = (whole(images[3]) ** 3 + small(images[3]) ** 3) ** (1 / 3)
    powered = replace(both, power=3.0)
    np.testing.assert_allclose(powered(images[3]), cubic / np.linalg.norm(cubic), atol=1e-5)
    assert len({d.fingerprint for d in (whole, small, both, powered)}) == 4


def test_large_photos_shrink_and_small_ones_stay(networks, images):
    seen = []
    network = replace(networks["maps"], forward=lambda x: seen.append(x.shape[2:]) or networks["maps"].forward(x))
    GlobalDescriptor(network, gem, "gem", max_side=32).describe(images[:2])
    GlobalDescriptor(network, gem, "gem", max_side=500)(images[0])
    assert seen == [(20, 32), (32, 20), (40, 64)]


def test_a_fully_connected_layer_and_a_whitening_follow(networks, images):
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=(6, 16)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    plain = GlobalDescriptor(networks["maps"], spoc, "spoc")
    projected = replace(plain, linear=Linear(weight, bias))
    expected = plain(images[0]) @ weight.T + bias
    np.testing.assert_allclose(projected(images[0]), expected / np.linalg.norm(expected), atol=1e-5)
    raw = np.stack(projected.describe(images))
    whitening = fit_pca(rng.normal(size=(50, 6)).astype(np.float32), 4)
    whitened = replace(projected, whitening=whitening)
    assert (projected.dim, whitened.dim) == (6, 4)
    np.testing.assert_allclose(np.stack(whitened.describe(images)), whitening.apply(raw), atol=1e-5)
    assert len({d.fingerprint for d in (plain, projected, whitened)}) == 3


def test_without_a_norm_before_the_layer(networks, images):
    weight, bias = np.eye(16, dtype=np.float32), np.ones(16, np.float32)
    descriptor = GlobalDescriptor(networks["maps"], spoc, "spoc", linear=Linear(weight, bias, normalise=False))
    network = networks["maps"]
    expected = by_hand(network, images[0], lambda maps: spoc(maps) + 1)
    np.testing.assert_allclose(descriptor(images[0]), expected, atol=1e-5)


def test_tokens_give_their_class_token_or_pooled_patches(networks, images):
    network = networks["tokens"]
    token = GlobalDescriptor(network, class_token, "class-token")(images[0])
    np.testing.assert_allclose(token, by_hand(network, images[0], class_token), atol=1e-5)
    patches = GlobalDescriptor(network, mac, "mac")(images[0])
    np.testing.assert_allclose(patches, by_hand(networks["maps"], images[0], mac), atol=1e-5)


def test_vectors_are_not_pooled_and_fixed_inputs_are_resized(networks, images):
    vector = GlobalDescriptor(networks["vectors"])(images[0])
    np.testing.assert_allclose(vector, by_hand(networks["maps"], images[0], spoc), atol=1e-5)
    thin = np.zeros((3, 90, 3), np.uint8)
    assert np.isfinite(GlobalDescriptor(networks["fixed"], gem, "gem")(thin)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (7, 64), (4000, 20)])
def test_images_smaller_than_a_cell_are_refused_alone(networks, images, shape):
    descriptor = GlobalDescriptor(networks["maps"], gem, "gem")
    found = descriptor.describe([images[0], np.zeros((*shape, 3), np.uint8), images[1]])
    assert isinstance(found[1], TooSmall)
    assert f"{shape[1]} x {shape[0]}" in str(found[1])
    np.testing.assert_allclose(found[2], descriptor(images[1]), atol=1e-6)
    with pytest.raises(TooSmall):
        descriptor(np.zeros((*shape, 3), np.uint8))


def test_settings_that_cannot_be(networks):
    maps = networks["maps"]
    with pytest.raises(UsageError, match="choose a pooling"):
        GlobalDescriptor(maps)
    with pytest.raises(UsageError, match="not pooled"):
        GlobalDescriptor(networks["vectors"], gem)
    with pytest.raises(UsageError, match="scales"):
        GlobalDescriptor(maps, gem, scales=())
    with pytest.raises(UsageError, match="max_side=4"):
        GlobalDescriptor(maps, gem, max_side=4)
    with pytest.raises(UsageError, match=r"takes 8 channels.*gives 16.*another architecture"):
        GlobalDescriptor(maps, gem, linear=Linear(np.eye(8, dtype=np.float32)))
    with pytest.raises(UsageError, match="whitening is for descriptors of 5"):
        GlobalDescriptor(maps, gem, whitening=fit_pca(np.random.default_rng(0).normal(size=(20, 5))))
    with pytest.raises(ArrayError, match="NaN"):
        Linear(np.full((2, 2), np.nan, np.float32))
    with pytest.raises(ArrayError, match="uint8"):
        GlobalDescriptor(maps, gem).describe([np.zeros((30, 30, 3), np.float32)])


def test_a_network_that_gives_nan_is_named(networks, images):
    broken = replace(networks["maps"], forward=lambda x: np.full((len(x), 16, 2, 2), np.nan, np.float32))
    with pytest.raises(ArrayError, match="maps gives NaN"):
        GlobalDescriptor(broken, gem, "gem").describe(images)


def test_batches_keep_order():
    assert list(batches(iter(range(5)), 2)) == [[0, 1], [2, 3], [4]]
