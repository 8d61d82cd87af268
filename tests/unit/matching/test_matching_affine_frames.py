"""Verification by affine frames on made scenes, and on input that gives nothing."""

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.matching.affine_frames import AffineFrames, chance_of, upright_shapes, verify_frames

TURNED = np.array([[0.9, -0.7, 120.0], [0.7, 0.9, -40.0], [0, 0, 1]])
SLANTED = np.array([[1.2, 0.15, 30.0], [-0.3, 0.9, 20.0], [0, 0, 1]])
NO_TURN = np.array([[1.3, 0, 30.0], [0.2, 0.8, 20.0], [0, 0, 1]])  # keeps the vertical vertical
EMPTY = AffineFrames(np.empty((0, 2)), np.empty((0, 2, 2)), np.empty(0, np.int64), np.empty(0))


def scene(transform, inliers=40, outliers=160, words=300, noise=0.5, frame_noise=0.1, seed=0):
    """Frames of two images and the row in b of each row of a; the first `inliers` rows of a follow the transform."""
    rng = np.random.default_rng(seed)
    n = inliers + outliers
    xy = rng.uniform(0, 600, (n, 2))
    turn = rng.uniform(-np.pi, np.pi, n)
    rotation = np.stack([np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)], axis=1).reshape(n, 2, 2)
    shape = rng.uniform(5, 20, (n, 1, 1)) * rotation @ (np.eye(2) + 0.2 * rng.uniform(-1, 1, (n, 2, 2)))
    moved = xy @ transform[:2, :2].T + transform[:2, 2] + noise * rng.normal(size=(n, 2))
    seen = transform[:2, :2] @ shape @ (np.eye(2) + frame_noise * rng.uniform(-1, 1, (n, 2, 2)))
    moved[inliers:], seen[inliers:] = rng.uniform(0, 600, (outliers, 2)), shape[inliers:][::-1]
    word, order = rng.integers(words, size=n), rng.permutation(n)
    a = AffineFrames(xy, shape, word, np.ones(n))
    return a, AffineFrames(moved[order], seen[order], word[order], np.ones(n)), np.argsort(order)


@pytest.mark.parametrize("transform", [TURNED, SLANTED, NO_TURN])
@pytest.mark.parametrize("upright", [False, True])
def test_finds_the_map_and_its_inliers(transform, upright):
    a, b, place = scene(transform)
    if upright:
        a, b = a.upright(), b.upright()
    result = verify_frames(a, [b])[0]
    if upright and transform is TURNED:
        assert result.inliers < 20  # upright frames cannot propose a turned view
        return
    rows, partners = result.correspondences[result.mask].T
    true = (place[rows] == partners) & (rows < 40)
    assert true.sum() >= 38
    assert (~true).sum() <= 1
    assert result.verified
    assert result.model == "affine"
    np.testing.assert_allclose(result.transform, transform, atol=3)
    np.testing.assert_allclose(result.transform[:2, :2], transform[:2, :2], atol=0.02)
    assert 0.1 < result.residual < 2
    assert all(0.3 < share <= 1 for share in result.coverage)
    assert result.tentative == (a.word[:, None] == b.word).sum()


def test_a_few_inliers_among_hundreds_of_pairs():
    a, b, place = scene(SLANTED, inliers=12, outliers=400, words=400)
    result = verify_frames(a, [b])[0]
    rows, partners = result.correspondences[result.mask].T
    assert ((place[rows] == partners) & (rows < 12)).sum() >= 10
    assert result.verified


def test_a_feature_is_in_one_inlier_at_most():
    a, b, _ = scene(np.eye(3), inliers=30, outliers=0, words=3, noise=0)
    result = verify_frames(a, [b], threshold=100.0)[0]
    rows, partners = result.correspondences[result.mask].T
    assert result.tentative > 200
    assert len(rows) == len(set(rows)) == len(set(partners))


def test_change_of_scale_is_bounded():
    a, b, _ = scene(np.diag([4.0, 4, 1]), noise=0)
    assert not verify_frames(a, [b])[0].verified
    wide = verify_frames(a, [b], scale_change=(0.2, 5.0))[0]
    assert wide.inliers >= 38
    both = verify_frames(a, [b, b], scale_change=[(1 / 3, 3.0), (0.2, 5.0)])
    assert [one.verified for one in both] == [False, True]


def test_thresholds_of_each_candidate_and_any_number_of_threads():
    a, b, _ = scene(SLANTED, noise=2.0)
    candidates = [b, EMPTY, *(scene(SLANTED, inliers=k, seed=k)[1] for k in range(40))]
    thresholds = np.linspace(1, 9, len(candidates))
    many = verify_frames(a, candidates, threshold=thresholds, jobs=3)
    for threshold, candidate, got in zip(thresholds, candidates, many, strict=True):
        one = verify_frames(a, [candidate], threshold=float(threshold), jobs=1)[0]
        np.testing.assert_array_equal(got.correspondences, one.correspondences)
        np.testing.assert_array_equal(got.mask, one.mask)
        assert got.significance == one.significance
    assert verify_frames(a, [b], threshold=9.0)[0].inliers > verify_frames(a, [b], threshold=1.0)[0].inliers
    assert verify_frames(a, []) == []


def test_nothing_to_compare_is_not_verified():
    a, b, _ = scene(SLANTED)
    other = AffineFrames(b.xy, b.shape, b.word + 1000, b.strength)
    for query, candidate in (
        (EMPTY, EMPTY),
        (a, EMPTY),
        (EMPTY, b),
        (a.select([0]), b),
        (a, b.select([0])),
        (a, other),
    ):
        result = verify_frames(query, [candidate])[0]
        assert not result.verified
        assert result.transform is None
        assert result.inliers == 0
        assert result.residual == np.inf
        assert result.significance == -np.inf


def test_features_on_one_spot_or_line_prove_nothing():
    n = 40
    line = np.linspace(0, 500, n)[:, None]
    for xy in (np.full((n, 2), 9.0), line * (1, 2)):
        frames = AffineFrames(xy, np.broadcast_to(np.eye(2), (n, 2, 2)), np.arange(n), np.ones(n))
        assert not verify_frames(frames, [frames])[0].verified


def test_accidents_are_not_verified():
    scenes = [scene(SLANTED, inliers=0, words=words, seed=seed) for seed in range(20) for words in (20, 60, 300)]
    results = [verify_frames(a, [b])[0] for a, b, _ in scenes]
    assert sum(one.verified for one in results) <= 1
    assert max(one.significance for one in results) < 1
    assert max(one.tentative for one in results) > 1000


def test_min_inliers_decides():
    a, b, _ = scene(SLANTED)
    few = verify_frames(a, [b], min_inliers=100)[0]
    assert not few.verified
    assert few.inliers >= 38


def test_chance_is_the_binomial_tail():
    # 4 features of one partner each, p = 0.5, less 3 that fix the transform: 1 of 1 agrees with probability 0.5
    assert chance_of(4, np.ones(4), 0.5, 1) == pytest.approx(np.log10(2))
    assert chance_of(4, np.ones(4), 0.5, 100) == pytest.approx(np.log10(2) - 2)
    # two partners each: 1 - 0.5^2
    assert chance_of(4, np.full(4, 2), 0.5, 1) == pytest.approx(-np.log10(0.75))
    assert chance_of(3, np.ones(100), 0.01, 1) == -np.inf
    assert chance_of(90, np.ones(100), 0.01, 1) > 100


def test_upright_shapes_are_the_same_ellipses():
    a, _, _ = scene(TURNED)
    upright = a.upright()
    np.testing.assert_array_equal(upright.shape[:, 0, 1], 0)
    ellipses = a.shape @ a.shape.transpose(0, 2, 1)
    np.testing.assert_allclose(upright.shape @ upright.shape.transpose(0, 2, 1), ellipses, rtol=1e-4, atol=1e-3)
    with pytest.raises(ArrayError, match="no area"):
        upright_shapes(np.zeros((1, 2, 2)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"xy": np.full((3, 2), np.nan)}, "xy holds NaN"),
        ({"shape": np.zeros((3, 2, 2))}, "a line, a point or a mirror"),
        ({"shape": np.broadcast_to(np.diag([1.0, -1]), (3, 2, 2))}, "a line, a point or a mirror"),
        ({"shape": np.full((3, 2, 2), np.inf)}, "shape holds NaN or infinity"),
        ({"strength": np.ones(2)}, "strength has shape"),
        ({"word": np.ones(3) / 2}, "word cannot be read"),
    ],
)
def test_frames_that_cannot_be(change, match):
    good = {
        "xy": np.ones((3, 2)),
        "shape": np.broadcast_to(np.eye(2), (3, 2, 2)),
        "word": [1, 2, 3],
        "strength": [1, 1, 1],
    }
    with pytest.raises(ArrayError, match=match):
        AffineFrames(**(good | change))


def test_errors_say_what_is_wrong():
    a, b, _ = scene(SLANTED)
    for threshold in (0, -1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="threshold"):
            verify_frames(a, [b], threshold=threshold)
    for change in ((0, 1), (2, 1), (1, np.inf), (np.nan, 2)):
        with pytest.raises(UsageError, match="scale change"):
            verify_frames(a, [b], scale_change=change)
    with pytest.raises(UsageError, match="one for each candidate"):
        verify_frames(a, [b], threshold=[1.0, 2.0])
    with pytest.raises(UsageError, match="min_inliers is 2"):
        verify_frames(a, [b], min_inliers=2)
    with pytest.raises(UsageError, match="jobs is 0"):
        verify_frames(a, [b], jobs=0)
