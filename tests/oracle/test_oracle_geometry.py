"""Point pairs with a known transform and known inliers, and the error kernel against plain linear algebra."""

from pathlib import Path

import numpy as np
import pytest

from resight.matching.frames import Frames, jacobians
from resight.matching.geometry import estimate, verify
from resight.types import LocalFeatures

CASES = Path(__file__).parents[2] / "../shared/reference/misc.npz"
needs_cases = pytest.mark.skipif(not CASES.exists(), reason=f"no reference cases at {CASES}")


def case(i):
    with np.load(CASES) as data:
        return tuple(data[f"ransac{i}_{name}"] for name in ("src", "dst", "H", "inlier"))


def as_features(xy):
    n = len(xy)
    return LocalFeatures(xy, np.ones(n), np.zeros(n), np.zeros(n), np.eye(n))


@needs_cases
@pytest.mark.parametrize("threshold", [3, 4, 6, 10])
@pytest.mark.parametrize("model", ["affine", "homography"])
@pytest.mark.parametrize("i", [0, 1, 2])
def test_true_inliers_are_found(i, model, threshold):
    src, dst, truth, inlier = case(i)
    # One pair of case 2 is noisier than 3 pixels even under the true transform.
    inlier &= np.linalg.norm(src @ truth[:2, :2].T + truth[:2, 2] - dst, axis=1) < threshold
    transform, mask = estimate(src, dst, model, threshold=threshold)
    assert (mask & inlier).sum() >= (0.95 if model == "affine" else 0.9) * inlier.sum()
    assert (mask & ~inlier).sum() <= 2
    if model == "affine":
        corners = np.array([[0, 0], [800, 0], [0, 800], [800, 800]])
        carried = corners @ (transform - truth)[:2, :2].T + (transform - truth)[:2, 2]
        assert np.abs(carried).max() < 5
    result = verify(as_features(src), as_features(dst), model, threshold=threshold)
    assert result.verified
    found = np.zeros(len(src), bool)
    found[result.correspondences[result.mask, 0]] = True
    np.testing.assert_array_equal(found, mask)


@needs_cases
@pytest.mark.parametrize("threshold", [3, 4, 6, 10])
@pytest.mark.parametrize("model", ["similarity", "affine", "homography"])
def test_pairs_without_inliers_are_not_verified(model, threshold):
    src, dst, _, _ = case(3)
    assert estimate(src, dst, model, threshold=threshold, min_inliers=8)[0] is None
    assert not verify(as_features(src), as_features(dst), model, threshold=threshold).verified


def test_errors_equal_plain_linear_algebra():
    rng = np.random.default_rng(2)
    for _ in range(20):
        transform = np.eye(3) + rng.normal(size=(3, 3)) * [[0.3, 0.3, 20], [0.3, 0.3, 20], [1e-4, 1e-4, 0]]
        src, dst = rng.uniform(0, 300, (2, 50, 2))
        log_scale, turn = rng.normal(size=50), rng.uniform(-7, 7, 50)
        got = Frames(src, dst, log_scale, turn, 0.7, 1.0).errors(transform)
        for k in range(50):
            u, v, w = transform @ (*src[k], 1)
            step = 1e-4
            columns = [
                (lambda p: p[:2] / p[2])(transform @ (src[k, 0] + dx, src[k, 1] + dy, 1)) - (u / w, v / w)
                for dx, dy in ((step, 0), (0, step))
            ]
            jacobian = np.array(columns).T / step
            np.testing.assert_allclose(jacobians(transform, src[k : k + 1])[0][0], jacobian, rtol=1e-2, atol=1e-3)
            left, _, right = np.linalg.svd(jacobian)
            rotation = left @ right
            angle = np.angle(np.exp(1j * (turn[k] - np.arctan2(rotation[1, 0], rotation[0, 0]))))
            area = np.linalg.det(jacobian)
            agrees = area > 0 and abs(log_scale[k] - 0.5 * np.log(area)) <= 0.7 and abs(angle) <= 1.0
            expected = (u / w - dst[k, 0]) ** 2 + (v / w - dst[k, 1]) ** 2 if agrees else np.inf
            np.testing.assert_allclose(got[k], expected, rtol=1e-9)
