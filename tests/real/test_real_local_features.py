"""Local features with trained weights on real photographs: views of one object agree, turned and moved photos too."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from resight.features.local.encoders import open_encoder
from resight.matching.geometry import verify, verify_many

DATA = Path(__file__).parents[2] / "../shared/data"
LANDMARKS, WEIGHTS = DATA / "landmarks", DATA / "local_features"
pytestmark = pytest.mark.skipif(not WEIGHTS.is_dir(), reason=f"no photographs and weights at {DATA}")
pytest.importorskip("kornia", reason="extra kornia is not installed")


def photo(name, number, side=512):
    path = sorted((LANDMARKS / name).glob("*.jpg"))[number]
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    factor = side / max(image.shape[:2])
    return np.ascontiguousarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


@pytest.fixture(scope="module")
def aliked():
    return open_encoder("aliked", weights=str(WEIGHTS / "aliked-n16.pth"), count=600)


def nearest(points, others):
    """Distance of each of `points` to the nearest of `others`."""
    return np.sqrt(((points[:, None] - others) ** 2).sum(axis=2).min(axis=1))


def test_aliked_verifies_views_of_one_object_and_not_of_others(aliked):
    first, *others = aliked.describe([photo("kermit", i) for i in range(4)] + [photo("et", 0), photo("lund", 0)])
    inliers = [result.inliers if result.verified else 0 for result in verify_many(first, others)]
    assert sum(count >= 15 for count in inliers[:3]) >= 2, inliers
    assert inliers[3:] == [0, 0]


def test_aliked_lies_where_the_photo_shows_it(aliked):
    """Half the size, and a crop: the same points, half a pixel convention included."""
    image = photo("et", 0, 640)
    whole = aliked(image).select(slice(200))
    crop = aliked(image[32:-32, 64:-64])
    inner = whole.xy[((whole.xy > (90, 60)) & (whole.xy < np.array(image.shape[1::-1]) - (90, 60))).all(axis=1)]
    assert np.median(nearest(inner, crop.xy + np.array((64, 32)))) < 0.5
    half = aliked(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)).scaled(2)
    result = verify(aliked(image), half, "affine")
    np.testing.assert_allclose(result.transform[:2, :2], np.eye(2), atol=0.01)
    np.testing.assert_allclose(result.transform[:2, 2], 0, atol=2)


def test_hessian_affine_verifies_views_of_one_object_and_not_of_others():
    encoder = open_encoder("hessian-affine", count=600)
    first, *others = encoder.describe([photo("kermit", i) for i in range(4)] + [photo("et", 0), photo("lund", 0)])
    results = verify_many(first, others)
    assert sum(found.verified and found.inliers >= 15 for found in results[:3]) >= 2
    assert not any(found.verified for found in results[3:])


@pytest.mark.parametrize("kind", ["hessian-hardnet", "sift-hardnet", "keynet-hardnet"])
def test_hardtfeat_with_affnet_verifies_views_of_one_object(kind):
    options = {"weights": "HardTFeat.pth", "affine": "AffNet.pth", "orientation": "OriNet.pth"}
    options |= {"keynet": "keynet_pytorch.pth"} if kind == "keynet-hardnet" else {}
    encoder = open_encoder(kind, count=400, **{name: str(WEIGHTS / file) for name, file in options.items()})
    first, second, other = encoder.describe([photo("et", 0, 400), photo("et", 1, 400), photo("lund", 0, 400)])
    same, different = verify_many(first, [second, other])
    assert same.verified
    assert same.inliers >= 15
    assert not different.verified
