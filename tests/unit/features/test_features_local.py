from __future__ import annotations

import struct

import numpy as np
import pytest

from photo_factory import picture
from resight.errors import ArrayError, CollectionError, UsageError
from resight.features.local.rootsift import SIFT_DIM, RootSift, empty_features, pack, root, unpack
from resight.types import LocalFeatures


def blob(height, width, x, y, sigma, light=200.0):
    """A bright Gaussian spot at (x, y), where the centre of the top-left pixel is (0.5, 0.5)."""
    columns, rows = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    spot = 20 + light * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.clip(np.rint(spot), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def strongest(features, x, y):
    return np.hypot(*(features.xy[0] - (x, y))), features.scale[0]


@pytest.mark.parametrize("enlarge_below", [0, 256])
@pytest.mark.parametrize(("x", "y"), [(64.5, 48.5), (64.0, 48.0), (50.25, 70.75)])
def test_centre_of_a_blob(enlarge_below, x, y):
    features = RootSift(enlarge_below=enlarge_below)(blob(100, 128, x, y, 5))
    assert strongest(features, x, y)[0] < 0.1


def test_centre_of_a_blob_in_a_reduced_image():
    features = RootSift(max_side=256, enlarge_below=0)(blob(768, 1024, 401.5, 300.5, 24))
    distance, scale = strongest(features, 401.5, 300.5)
    assert distance < 0.5
    assert 24 < scale < 100


def test_scale_follows_the_blob():
    scales = [strongest(RootSift(enlarge_below=0)(blob(200, 200, 100, 100, s)), 100, 100)[1] for s in (4, 8, 16)]
    assert np.diff(np.log2(scales)) == pytest.approx([1, 1], abs=0.15)


def test_scale_does_not_depend_on_the_enlargement():
    image = blob(120, 160, 80.5, 60.5, 6)
    assert RootSift(enlarge_below=320)(image).scale[0] == pytest.approx(
        RootSift(enlarge_below=0)(image).scale[0], rel=0.1
    )


def test_features_of_a_picture():
    image = picture(1)
    features = RootSift(count=150)(image)
    assert len(features) == 150
    assert (features.dim, RootSift().dim) == (SIFT_DIM, SIFT_DIM)
    assert np.linalg.norm(features.descriptors, axis=1) == pytest.approx(np.ones(150), abs=1e-5)
    assert (features.xy >= 0).all()
    assert (features.xy <= (image.shape[1], image.shape[0])).all()
    assert (np.diff(features.strength) <= 0).all()
    more = RootSift(count=300)(image)
    assert np.array_equal(more.xy[:150], features.xy)


def test_the_same_pixels_give_the_same_features():
    image = picture(2)
    first, second = RootSift()(image), RootSift()(image.copy())
    for name in ("xy", "scale", "angle", "strength", "descriptors"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (60, 80), (1, 3000), (3000, 2)])
def test_flat_and_tiny_images_have_no_features(shape):
    features = RootSift()(np.full((*shape, 3), 120, np.uint8))
    assert (len(features), features.dim) == (0, SIFT_DIM)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (5, 4000)])
def test_tiny_images_of_noise_are_read(shape):
    features = RootSift()(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    assert np.isfinite(features.xy).all()


@pytest.mark.parametrize(
    "pixels", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.float32)]
)
def test_pixels_must_be_rgb_bytes(pixels):
    with pytest.raises(ArrayError, match=r"expected \(H, W, 3\) uint8"):
        RootSift()(pixels)


@pytest.mark.parametrize(
    "settings", [{"count": 0}, {"enlarge_below": 2000}, {"enlarge_below": -1}, {"max_side": 5}, {"contrast": -0.1}]
)
def test_settings_out_of_range(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        RootSift(**settings)


def test_root_is_the_root_of_the_share():
    values = np.array([[1, 3], [0, 0]], np.float32)
    assert root(values) == pytest.approx(np.array([[0.5, 0.75**0.5], [0, 0]]))


def test_pack_and_unpack():
    features = RootSift(count=200)(picture(3))
    packed = pack(features)
    again = unpack(packed)
    assert len(packed) == 20 + 200 * (14 + 128)
    assert np.array_equal(again.xy, features.xy)
    for name in ("scale", "angle"):
        assert getattr(again, name) == pytest.approx(getattr(features, name), rel=1e-3, abs=1e-3)
    assert again.strength == pytest.approx(features.strength, rel=1e-3)
    error = np.linalg.norm(again.descriptors - features.descriptors, axis=1)
    assert error.max() < 0.02
    assert pack(again) == packed


def test_pack_values_beyond_half_precision():
    big = LocalFeatures([[1e6, 2e6]], [1e6], [0], [1e30], [[1.0, 1.0]])
    again = unpack(pack(big))
    assert again.xy.tolist() == [[1e6, 2e6]]
    assert (again.scale[0], again.strength[0]) == (65504, 65504)
    assert again.descriptors.tolist() == [[1, 1]]


def test_pack_nothing():
    again = unpack(pack(empty_features(SIFT_DIM)))
    assert (len(again), again.dim) == (0, SIFT_DIM)


def damaged(packed):
    nan = struct.pack("<f", float("nan"))
    yield b""
    yield packed[:10]
    yield packed[:-1]
    yield packed + b"x"
    yield b"JUNK" + packed[4:]
    yield packed[:4] + b"\x09\x00" + packed[6:]  # version
    yield packed[:8] + b"\xff\xff\xff\xff" + packed[12:]  # count
    yield packed[:20] + nan + packed[24:]  # a position
    yield packed[:12] + nan + packed[16:]  # lowest component


def test_damaged_bytes_are_refused():
    packed = pack(RootSift(count=20)(picture(4)))
    assert len(unpack(packed)) == 20
    for data in damaged(packed):
        with pytest.raises(CollectionError, match="resight check"):
            unpack(data)


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_never_gets_through_as_another_error(seed):
    rng = np.random.default_rng(seed)
    packed = bytearray(pack(RootSift(count=10)(picture(4))))
    for place in rng.integers(0, len(packed), 8):
        packed[place] = rng.integers(256)
    try:
        found = unpack(bytes(packed))
    except CollectionError:
        return
    assert np.isfinite(found.xy).all()
