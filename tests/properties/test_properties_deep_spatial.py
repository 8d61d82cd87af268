"""What holds for affine frames and regions whatever the images."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.matching.affine_frames import AffineFrames, verify_frames
from resight.ranking.deep_spatial import verified_seeds


def scene(seed, inliers, outliers):
    rng = np.random.default_rng(seed)
    n = inliers + outliers
    linear = np.eye(2) * rng.uniform(0.7, 1.4) + rng.uniform(-0.3, 0.3, (2, 2))
    xy = rng.uniform(0, 500, (n, 2))
    shape = rng.uniform(5, 20, (n, 1, 1)) * (np.eye(2) + 0.2 * rng.uniform(-1, 1, (n, 2, 2)))
    moved, seen = xy @ linear.T + (30, 40), linear @ shape @ (np.eye(2) + 0.05 * rng.uniform(-1, 1, (n, 2, 2)))
    moved[inliers:], seen[inliers:] = rng.uniform(0, 500, (outliers, 2)), shape[inliers:][::-1]
    word = rng.integers(200, size=n)
    return AffineFrames(xy, shape, word, np.ones(n)), AffineFrames(moved, seen, word, np.ones(n))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(25, 60), st.integers(0, 100))
def test_swapping_the_images_inverts_the_transform(seed, inliers, outliers):
    a, b = scene(seed, inliers, outliers)
    forward, backward = verify_frames(a, [b])[0], verify_frames(b, [a])[0]
    assert forward.verified
    assert backward.verified
    corners = np.array([[0, 0, 1], [500, 0, 1], [0, 500, 1], [500, 500, 1]])
    np.testing.assert_allclose(corners @ (backward.transform @ forward.transform).T, corners, atol=6)
    assert abs(forward.inliers - backward.inliers) <= 3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(0, 60))
def test_the_order_of_features_does_not_matter_to_a_clear_view(seed, inliers, outliers):
    a, b = scene(seed, inliers + 25, outliers)
    order = np.random.default_rng(seed).permutation(len(a))
    one, other = verify_frames(a, [b])[0], verify_frames(a.select(order), [b])[0]
    kept = {(int(i), int(j)) for i, j in one.correspondences[one.mask]}
    again = {(int(order[i]), int(j)) for i, j in other.correspondences[other.mask]}
    assert len(kept ^ again) <= 0.1 * len(kept)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 12), st.integers(2, 6))
def test_seeds_are_the_results_with_most_inliers(seed, queries, results, seeds):
    rng = np.random.default_rng(seed)
    ids = np.array([rng.permutation(20)[:results] for _ in range(queries)])
    ids[rng.random(ids.shape) < 0.1] = -1
    similarity, inliers = rng.uniform(-0.5, 1, ids.shape).astype(np.float32), rng.integers(0, 9, ids.shape)
    y = verified_seeds(ids, similarity, inliers, 20, seeds)
    faithful = verified_seeds(ids, similarity, inliers, 20, seeds, faithful=True)
    assert y.shape == faithful.shape == (queries, 20)
    assert (y.data > 0).all()
    for q in range(queries):
        row = y[[q]].indices
        assert len(row) <= seeds
        assert faithful[[q]].nnz <= seeds - 1
        count = dict(zip(ids[q].tolist(), inliers[q].tolist(), strict=True))
        assert bool(len(row)) == any(n > 0 for i, n in count.items() if i >= 0)
        least = min((count[i] for i in row.tolist()), default=0)
        assert sum(n > least for i, n in count.items() if i >= 0) < seeds
