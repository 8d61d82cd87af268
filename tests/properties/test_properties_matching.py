"""What must hold for any images: order does not matter, and the answer moves with the image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.matching.correspond import correspond
from resight.matching.geometry import estimate, verify
from resight.types import LocalFeatures

seeds = st.integers(0, 2**31)


def pair(seed, n=60):
    rng = np.random.default_rng(seed)
    src = rng.uniform(0, 500, (n, 2))
    dst = src @ np.array([[0.8, -0.5], [0.5, 0.8]]) + (200, 50) + rng.normal(size=(n, 2))
    dst[n // 2 :] = rng.uniform(0, 500, (n - n // 2, 2))
    scale, angle = rng.uniform(2, 9, n), rng.uniform(0, 6, n)
    descriptors = rng.normal(size=(n, 32))
    close = descriptors + 0.1 * rng.normal(size=(n, 32))
    turn = np.arctan2(-0.5, 0.8)
    return (
        LocalFeatures(src, scale, angle, np.zeros(n), descriptors),
        LocalFeatures(dst, scale * np.hypot(0.8, 0.5), angle + turn, np.zeros(n), close),
    )


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_order_of_features_does_not_matter(seed):
    a, b = pair(seed)
    order = np.random.default_rng(seed + 1).permutation(len(b))
    plain, shuffled = correspond(a, b), correspond(a, b.select(order))
    assert sorted(plain.pairs.tolist()) == sorted([i, int(order[j])] for i, j in shuffled.pairs)
    assert verify(a, b).inliers == verify(a, b.select(order)).inliers


@settings(max_examples=25, deadline=None)
@given(seeds, st.floats(-300, 300), st.floats(-300, 300))
def test_moving_an_image_moves_the_transform(seed, dx, dy):
    a, b = pair(seed)
    moved = LocalFeatures(b.xy + np.float32((dx, dy)), b.scale, b.angle, b.strength, b.descriptors)
    before, after = verify(a, b), verify(a, moved)
    assert before.verified
    assert after.inliers == pytest.approx(before.inliers, abs=1)
    np.testing.assert_allclose(after.transform[:2, 2] - before.transform[:2, 2], (dx, dy), atol=3)
    np.testing.assert_allclose(after.transform[:2, :2], before.transform[:2, :2], atol=0.01)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(0, 12), st.sampled_from(["similarity", "affine", "homography"]), st.integers(1, 6))
def test_any_points_on_a_coarse_grid_are_survived(seed, n, model, cells):
    """Coarse grids make repeated and collinear points, the food of degenerate samples."""
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, cells, (2, n, 2)) * 100.0
    transform, mask = estimate(src, dst, model)
    assert mask.shape == (n,)
    assert (transform is None) == (not mask.any())
    if transform is not None:
        mapped = np.c_[src, np.ones(n)] @ transform.T
        assert (np.linalg.norm(mapped[mask, :2] / mapped[mask, 2:] - dst[mask], axis=1) < 4).all()
        assert len(np.unique(src[mask], axis=0)) == len(np.unique(dst[mask], axis=0)) == mask.sum()
