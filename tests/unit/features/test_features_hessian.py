"""Hessian-affine regions: where they lie, how large and how stretched they are, and their descriptors."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from photo_factory import picture
from resight.errors import ArrayError, UsageError
from resight.features.local.hessian import STRETCH, detect, upright
from resight.features.local.hessian_affine import HessianAffine
from resight.features.local.patch_sift import orientations, sift
from resight.features.local.patches import angles, circles, extract, pyramid, turned
from resight.matching.geometry import verify
from resight.types import Encoder


def blob(height, width, x, y, shape, light=200.0):
    """A Gaussian spot of covariance shape shapeᵀ at (x, y), where the centre of the top-left pixel is (0.5, 0.5)."""
    offset = np.stack(np.meshgrid(np.arange(width) + 0.5 - x, np.arange(height) + 0.5 - y), axis=-1)
    distance = np.einsum("...i,ij,...j", offset, np.linalg.inv(shape @ shape.T), offset)
    return np.asarray(20 + light * np.exp(-distance / 2), np.float32)


@pytest.mark.parametrize(("x", "y"), [(64.5, 48.5), (64.0, 48.0), (50.25, 70.75)])
@pytest.mark.parametrize("light", [200.0, -15.0])
def test_centre_of_a_blob_bright_or_dark(x, y, light):
    region = detect(blob(100, 128, x, y, 5 * np.eye(2), light), 1, 1e-3)
    assert np.hypot(*(region.xy[0] - (x, y))) < 0.1


def test_scale_follows_the_blob():
    sigmas = [detect(blob(200, 200, 100, 100, s * np.eye(2)), 1, 0.1).sigma[0] for s in (4, 8, 16)]
    assert np.diff(np.log2(sigmas)) == pytest.approx([1, 1], abs=0.15)


@pytest.mark.parametrize("degrees", [0, 30, 90, 140])
@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.5])
def test_shape_follows_a_stretched_blob(degrees, ratio):
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shape = rotation @ np.diag([ratio**0.5, ratio**-0.5])
    region = detect(blob(160, 160, 80, 80, 8 * shape), 1, 0.1)
    assert np.linalg.det(region.shape[0]) == pytest.approx(1, abs=1e-4)
    assert region.shape[0, 0, 1] == 0, "upright"
    np.testing.assert_allclose(region.shape[0], upright(shape[None])[0], atol=0.12)
    circle = detect(blob(160, 160, 80, 80, 8 * shape), 1, 0.1, affine=False)
    np.testing.assert_array_equal(circle.shape[0], np.eye(2))


def test_edges_and_flat_images_have_no_regions():
    edge = np.zeros((80, 80), np.float32)
    edge[:, 40:] = 255
    for image in (edge, np.full((80, 80), 120, np.float32), np.zeros((4, 4), np.float32)):
        assert len(detect(image, 10, 1e-3).xy) == 0


def test_regions_of_a_picture_are_the_strongest_first_and_not_too_thin():
    gray = cv2.cvtColor(picture(1), cv2.COLOR_RGB2GRAY).astype(np.float32)
    regions = detect(gray, 200, 1.0)
    assert len(regions.xy) == 200
    assert (np.diff(regions.strength) <= 0).all()
    assert np.linalg.cond(regions.shape).max() <= STRETCH * 1.01
    fewer = detect(gray, 50, 1.0)
    np.testing.assert_array_equal(fewer.xy[:40], regions.xy[:40])
    assert len(detect(gray, 200, 1e9).xy) == 0


def test_a_patch_shows_what_the_frame_covers():
    """A ramp is reproduced exactly, at every size and in every direction."""
    rows, columns = np.mgrid[0:120, 0:160] + 0.5
    ramp = np.asarray(2 * columns - 3 * rows, np.float32)
    xy = np.array([[80.25, 60.5], [70, 66.0]], np.float32)
    shapes = np.stack([[[5, 1], [-2, 4]], [[9, -20], [20, 9]]]).astype(np.float32)
    patches = extract(pyramid(ramp), xy, shapes, 8)
    place = 2 * (np.arange(8) + 0.5) / 8 - 1
    u, v = np.meshgrid(place, place)
    for patch, centre, shape in zip(patches, xy, shapes, strict=True):
        x, y = (centre[:, None, None] + np.einsum("ij,jkl", shape, np.stack([u, v]))).astype(np.float64)
        np.testing.assert_allclose(patch, 2 * x - 3 * y, atol=0.3)  # the pyramid bends near the border


def test_outside_the_image_its_border_continues():
    image = np.full((40, 40), 7, np.float32)
    patches = extract(pyramid(image), np.array([[0, 0], [500, -3]], np.float32), circles(np.array([4, 400])), 6)
    np.testing.assert_array_equal(patches, 7)
    one = extract(pyramid(image[:1, :1]), np.array([[0.5, 0.5]], np.float32), circles(np.ones(1)), 6)
    np.testing.assert_array_equal(one, 7)


def test_turned_frames_and_their_angles():
    shapes = circles(np.array([2.0, 3.0]))
    np.testing.assert_allclose(angles(turned(shapes, np.array([0.3, -2.0], np.float32))), [0.3, -2.0], atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0, -2.5])
def test_orientation_is_the_direction_in_which_brightness_rises(angle):
    rows, columns = np.mgrid[0:41, 0:41] - 20
    patch = np.asarray(np.cos(angle) * columns + np.sin(angle) * rows, np.float32)
    found = orientations(patch[None])[0]
    assert np.cos(found - angle) > 0.999


def test_sift_of_a_ramp_and_of_nothing():
    rows = sift(np.stack([np.tile(np.arange(41), (41, 1)), np.full((41, 41), 9)]).astype(np.float32))
    histogram = rows[0].reshape(4, 4, 8)
    assert np.linalg.norm(rows[0]) == pytest.approx(1)
    assert histogram[..., 0].sum() == pytest.approx(rows[0].sum(), rel=1e-5), "all gradients point right"
    np.testing.assert_allclose(histogram, histogram[::-1, ::-1], atol=1e-5)
    assert not rows[1].any()


def test_features_of_a_picture():
    image, encoder = picture(2), HessianAffine(count=150, enlarge_below=0)
    features = encoder(image)
    assert isinstance(encoder, Encoder)
    assert len(features) == 150
    assert features.dim == encoder.dim == 128
    assert np.linalg.norm(features.descriptors, axis=1) == pytest.approx(np.ones(150), abs=1e-4)
    ((again),) = encoder.describe([image])
    np.testing.assert_array_equal(again.descriptors, features.descriptors)
    small = HessianAffine(count=150, max_side=160, enlarge_below=0)(image)
    assert small.scale.min() > 1.5 * features.scale.min()
    assert small.xy[:, 0].max() > 200


@pytest.mark.parametrize("degrees", [0, 90, 180])
def test_a_turned_and_stretched_picture_is_verified(degrees):
    image = picture(1)
    encoder = HessianAffine(count=500, enlarge_below=0)
    moved = cv2.resize(np.rot90(image, degrees // 90).copy(), None, fx=0.8, fy=1.2)
    result = verify(encoder(image), encoder(moved), "affine")
    assert result.inliers > 60
    corner = np.array([[10.0, 20, 1]]) @ result.transform.T
    width, height = image.shape[1], image.shape[0]
    expected = {0: (10, 20), 90: (20, width - 10), 180: (width - 10, height - 20)}[degrees]
    np.testing.assert_allclose(corner[0, :2], np.array(expected) * (0.8, 1.2), atol=1)


def test_upright_photos_have_no_angle():
    encoder = HessianAffine(count=100, upright=True)
    assert not encoder(picture(1)).angle.any()
    assert (encoder.traits.oriented, HessianAffine().traits.oriented) == (False, True)
    assert encoder.fingerprint != HessianAffine(count=100).fingerprint


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 3), (60, 80), (1, 3000)])
def test_flat_and_tiny_images_have_no_features(shape):
    features = HessianAffine()(np.full((*shape, 3), 120, np.uint8))
    assert (len(features), features.dim) == (0, 128)
    noise = HessianAffine()(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    assert np.isfinite(noise.xy).all()


@pytest.mark.parametrize("settings", [{"count": 0}, {"max_side": 8}, {"enlarge_below": 2000}, {"threshold": -1.0}])
def test_settings_out_of_range(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        HessianAffine(**settings)


def test_pixels_of_another_type():
    with pytest.raises(ArrayError, match="uint8"):
        HessianAffine()(np.zeros((40, 40), np.uint8))
