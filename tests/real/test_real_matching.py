"""Verification of real photographs: several views of one object against views of others, with plain RootSIFT."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from resight.matching.geometry import verify, verify_many
from resight.types import LocalFeatures

LANDMARKS = Path(__file__).parents[2] / "../shared/data/landmarks"
pytestmark = pytest.mark.skipif(not LANDMARKS.is_dir(), reason=f"no photographs at {LANDMARKS}")


def rootsift(image, n=1000):
    points, descriptors = cv2.SIFT_create(n, contrastThreshold=0.01).detectAndCompute(image, None)
    order = np.argsort([-p.response for p in points], kind="stable")[:n]
    descriptors = descriptors[order] / np.maximum(descriptors[order].sum(axis=1, keepdims=True), 1e-9)
    return LocalFeatures(
        np.array([points[i].pt for i in order]) + 0.5,
        np.array([points[i].size / 2 for i in order]),
        np.deg2rad([points[i].angle for i in order]),
        np.array([points[i].response for i in order]),
        np.sqrt(descriptors),
    )


def views(name, count):
    paths = sorted((LANDMARKS / name).glob("*.jpg"))[:count]
    return [rootsift(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) for path in paths]


@pytest.fixture(scope="module")
def objects():
    return {name: views(name, 4) for name in ("sacre_coeur", "kermit", "et", "lund")}


def test_views_of_one_object_verify(objects):
    for name in ("kermit", "et"):
        first, *others = objects[name]
        results = verify_many(first, others)
        assert sum(r.verified for r in results) >= 2, (name, [r.inliers for r in results])
        assert max(r.inliers for r in results) >= 30


def test_views_of_different_objects_do_not(objects):
    names = list(objects)
    for i, name in enumerate(names):
        others = [view for other in names[i + 1 :] for view in objects[other]]
        for view in objects[name][:2]:
            for model in ("similarity", "affine", "homography"):
                assert not any(r.verified for r in verify_many(view, others, model))


@pytest.mark.parametrize("degrees", [0, 35, 90, 180, 270])
@pytest.mark.parametrize("zoom", [0.5, 1.4])
def test_a_turned_and_resized_photograph_gives_its_transform(degrees, zoom):
    """Pins the conventions: half-pixel positions, and angles that turn with the image."""
    image = cv2.imread(str(sorted((LANDMARKS / "kermit").glob("*.jpg"))[0]), cv2.IMREAD_GRAYSCALE)
    height, width = image.shape
    truth = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom), (0, 0, 1)])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    pixels = (np.linalg.inv(half) @ truth @ half)[:2]
    small = cv2.GaussianBlur(image, (0, 0), 0.5 / zoom) if zoom < 1 else image
    turned = cv2.warpAffine(small, pixels, (width, height), flags=cv2.INTER_LINEAR)
    result = verify(rootsift(image), rootsift(turned))
    assert result.inliers >= 100
    assert result.inliers >= 0.75 * result.tentative  # a shortlist leaves some second neighbours unseen
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1.0]])
    assert np.abs(corners @ (result.transform - truth)[:2].T).max() < 1.0
