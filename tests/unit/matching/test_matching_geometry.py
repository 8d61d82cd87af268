"""Verification on made scenes: known transforms, impossible transforms, degenerate and unlucky input."""

import math
from dataclasses import replace

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.matching.checks import places
from resight.matching.correspond import Correspondences
from resight.matching.geometry import estimate, significance, verify, verify_correspondences, verify_many
from resight.types import LocalFeatures

SIMILARITY = np.array([[0.9, -0.7, 120.0], [0.7, 0.9, -40.0], [0, 0, 1]])
AFFINE = np.array([[1.2, 0.15, 30.0], [-0.3, 0.9, 20.0], [0, 0, 1]])
HOMOGRAPHY = np.array([[1.1, 0.1, 20.0], [-0.05, 0.95, 10.0], [3e-4, 1e-4, 1]])
TRANSFORMS = {"similarity": SIMILARITY, "affine": AFFINE, "homography": HOMOGRAPHY}


def apply(transform, xy):
    mapped = np.c_[xy, np.ones(len(xy))] @ transform.T
    return mapped[:, :2] / mapped[:, 2:]


def frame(transform, xy):
    """Scale and rotation of the transform at each point, by finite differences."""
    step = 0.01 * np.eye(2)
    right = (apply(transform, xy + step[0]) - apply(transform, xy - step[0])) / 0.02
    down = (apply(transform, xy + step[1]) - apply(transform, xy - step[1])) / 0.02
    area = right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0]
    return np.sqrt(np.abs(area)), np.arctan2(right[:, 1] - down[:, 0], right[:, 0] + down[:, 1])


def scene(transform, inliers=30, outliers=70, noise=0.5, seed=0, oriented=True):
    """Features of two images, row i of one matching row i of the other; the first `inliers` follow the transform."""
    rng = np.random.default_rng(seed)
    n = inliers + outliers
    src = rng.uniform(0, 600, (n, 2))
    dst = apply(transform, src) + noise * rng.normal(size=(n, 2))
    dst[inliers:] = rng.uniform(0, 600, (outliers, 2))
    scale, angle = rng.uniform(2, 12, n), rng.uniform(-np.pi, np.pi, n)
    zoom, turn = frame(transform, src)
    scale_b, angle_b = scale * zoom * rng.uniform(0.85, 1.15, n), angle + turn + 0.1 * rng.normal(size=n)
    scale_b[inliers:], angle_b[inliers:] = rng.uniform(2, 12, outliers), rng.uniform(-np.pi, np.pi, outliers)
    if not oriented:
        scale = scale_b = np.ones(n)
        angle = angle_b = np.zeros(n)
    strength, descriptors = np.zeros(n), np.eye(n)
    return (
        LocalFeatures(src, scale, angle, strength, descriptors),
        LocalFeatures(dst, scale_b, angle_b, strength, descriptors),
    )


def place_error(transform, truth):
    xy = np.random.default_rng(1).uniform(0, 600, (100, 2))
    return np.linalg.norm(apply(transform, xy) - apply(truth, xy), axis=1).max()


@pytest.mark.parametrize("model", TRANSFORMS)
@pytest.mark.parametrize("oriented", [True, False])
def test_finds_the_transform_and_its_inliers(model, oriented):
    a, b = scene(TRANSFORMS[model], oriented=oriented)
    result = verify(a, b, model)
    assert result.verified
    assert result.tentative == 100
    true = result.correspondences[:, 0] < 30
    assert result.mask[true].mean() >= 0.95
    assert result.mask[~true].sum() <= (0 if oriented else 1)
    assert place_error(result.transform, TRANSFORMS[model]) < 4
    assert 0.1 < result.residual < 2
    assert all(0.4 < share <= 1 for share in result.coverage)
    assert result.significance > 10


def test_frames_find_a_few_inliers_among_many_outliers():
    a, b = scene(AFFINE, inliers=9, outliers=291)
    result = verify(a, b)
    assert result.verified
    assert result.inliers >= 8
    assert (result.correspondences[result.mask, 0] < 9).all()


def test_frames_drop_inliers_that_contradict_the_transform():
    a, b = scene(AFFINE, inliers=30, outliers=0)
    angle, scale = b.angle.copy(), b.scale.copy()
    angle[:5] += math.pi / 2
    scale[5:8] *= 3
    b = LocalFeatures(b.xy, scale, angle, b.strength, b.descriptors)
    with_frames, without = verify(a, b), verify(a, b, use_frames=False)
    assert set(with_frames.correspondences[with_frames.mask, 0]) == set(range(8, 30))
    assert without.inliers == 30


def test_angles_agree_across_the_turn_of_the_circle():
    half_turn = np.array([[-1.0, 0, 600], [0, -1, 600], [0, 0, 1]])
    assert verify(*scene(half_turn, outliers=0)).inliers == 30


@pytest.mark.parametrize(
    "transform",
    [
        np.diag([-1.0, 1, 1]),  # mirror
        np.diag([12.0, 12, 1]),  # zoom
        np.diag([0.08, 0.08, 1]),
        np.diag([3.0, 0.3, 1]),  # slant
        np.array([[1, 0.5, 0], [1, 0.5001, 0], [0, 0, 1]]),  # onto a line
    ],
)
@pytest.mark.parametrize("model", ["affine", "homography"])
def test_refuses_what_no_camera_does(transform, model):
    a, b = scene(transform, inliers=40, outliers=0, noise=0, oriented=False)
    result = verify(a, b, model)
    assert not result.verified
    assert result.transform is None
    assert result.inliers == 0
    assert result.residual == math.inf
    assert estimate(a.xy, b.xy, model)[0] is None


def test_refuses_a_horizon_between_the_inliers():
    horizon = np.array([[1, 0, 0], [0, 1, 0], [1 / 300, 0, -1.0]])
    src = np.random.default_rng(0).uniform(0, 600, (60, 2))
    src = src[np.abs(src[:, 0] - 300) > 60]
    assert estimate(src, apply(horizon, src), "homography")[0] is None


@pytest.mark.parametrize("model", TRANSFORMS)
def test_degenerate_points_are_not_verified(model):
    rng = np.random.default_rng(0)
    line = np.linspace(0, 500, 40)[:, None]
    cases = [
        np.empty((0, 2)),
        rng.uniform(0, 500, (1, 2)),
        rng.uniform(0, 500, (2, 2)),
        rng.uniform(0, 500, (3, 2)),
        np.full((30, 2), 77.0),
        line * (1, 2),
        line * (0, 1),
        np.r_[line * (1, 2), [(400.0, 10.0)]],
        np.r_[np.full((20, 2), 5.0), np.full((20, 2), 400.0)],
    ]
    for src in cases:
        for dst in (src, src[::-1], 2 * src + 3, np.zeros_like(src)):
            n = len(src)
            transform, mask = estimate(src, dst, model)
            assert transform is None
            assert mask.shape == (n,)
            assert not mask.any()
            for spread in (np.ones(n), 1 + rng.random(n)):
                a = LocalFeatures(src, spread, spread, np.zeros(n), np.eye(n, 50))
                b = LocalFeatures(dst, spread, spread, np.zeros(n), np.eye(n, 50))
                assert not verify(a, b, model).verified


def test_features_on_one_spot_count_once():
    a, b = scene(AFFINE, inliers=12, outliers=0, noise=0)
    again = np.r_[np.arange(12), np.arange(12)]
    n = len(again)
    a, b = (
        LocalFeatures(f.xy[again], f.scale[again], f.angle[again], np.zeros(n), np.eye(n, dtype=np.float32))
        for f in (a, b)
    )
    result = verify(a, b)
    assert result.tentative == 24
    assert result.inliers == 12


def test_accidents_are_not_verified():
    for seed in range(10):
        a, b = scene(AFFINE, inliers=0, outliers=150, seed=seed)
        for model in TRANSFORMS:
            assert not verify(a, b, model).verified
            assert not verify(a, b, model, use_frames=False, min_inliers=8).verified


def test_significance_is_the_formula():
    # (m - s) C(m, k) C(k, s) p^(k - s) for m = 6, k = 4, s = 3, p = 0.1: 3 * 15 * 4 * 0.1 = 18
    assert significance(4, 6, 0.1, "affine") == pytest.approx(-math.log10(18))
    assert significance(3, 6, 0.1, "affine") == -math.inf
    assert significance(20, 20, 1e-4, "affine") > 40
    assert significance(5, 300, 0.5, "affine") < 0


def test_min_inliers_decides_but_evidence_stays():
    a, b = scene(AFFINE, inliers=10, outliers=20)
    result = verify(a, b, min_inliers=11)
    assert not result.verified
    assert result.inliers == 10
    assert result.transform is not None
    assert estimate(a.xy, b.xy, min_inliers=12)[0] is None


def test_many_equals_one_by_one_and_repeats_exactly():
    query, first = scene(AFFINE, seed=1)
    candidates = [first] + [scene(AFFINE, inliers=k, outliers=100 - k, seed=k)[1] for k in (0, 8, 30)]
    words = (np.zeros((100, 1), int), [np.arange(100) % 2] * 4)
    for given in (None, words):
        batch = verify_many(query, candidates, jobs=3, words=given)
        for _ in range(2):
            for i, (got, candidate) in enumerate(zip(batch, candidates, strict=True)):
                want = verify(query, candidate, words=None if given is None else (given[0], given[1][i]))
                np.testing.assert_array_equal(got.correspondences, want.correspondences)
                np.testing.assert_array_equal(got.mask, want.mask)
                np.testing.assert_array_equal(got.transform, want.transform)
    assert verify_many(query, []) == []


def test_given_correspondences_are_used_as_they_are():
    a, b = scene(AFFINE)
    given = Correspondences(np.stack([np.arange(30), np.arange(30)], axis=1), np.zeros(30))
    result = verify_correspondences(a, b, given)
    np.testing.assert_array_equal(result.correspondences, given.pairs)
    assert result.inliers >= 29


def test_errors_say_what_is_wrong():
    a, b = scene(AFFINE)
    with pytest.raises(UsageError, match="'projective' is unknown"):
        verify(a, b, "projective")
    for threshold in (0, -1, math.nan, math.inf):
        with pytest.raises(UsageError, match="threshold"):
            verify(a, b, threshold=threshold)
    with pytest.raises(UsageError, match="min_inliers is 3"):
        estimate(a.xy, b.xy, "homography", min_inliers=3)
    with pytest.raises(UsageError, match="jobs"):
        verify_many(a, [b], jobs=0)
    with pytest.raises(UsageError, match="1 candidates"):
        verify_many(a, [b], words=(np.zeros((100, 1), int), []))
    with pytest.raises(ArrayError, match="dst has shape"):
        estimate(a.xy, b.xy[:-1])
    with pytest.raises(UsageError, match="NaN"):
        estimate(np.full((5, 2), np.nan), np.zeros((5, 2)))


def test_inliers_on_one_spot_are_one_place():
    """Features on one blob overlap: whatever carries one of them carries all, so that they prove nothing together."""
    a, b = scene(AFFINE, inliers=8, outliers=40, noise=0.2, seed=3)
    spread = verify(a, b)
    assert spread.verified
    assert 5 <= spread.places <= 8
    rng = np.random.default_rng(3)
    spot = a.xy.copy()
    spot[:8] = 300 + rng.uniform(0, 14, (8, 2))
    moved = b.xy.copy()
    moved[:8] = apply(AFFINE, spot[:8])
    crowded = verify(replace(a, xy=spot), replace(b, xy=moved))
    assert crowded.inliers >= 5
    assert crowded.significance < 0
    assert crowded.places < 5
    assert not crowded.verified


def test_places_are_apart_by_a_share_of_the_image():
    corner = np.array([(0, 0), (3, 0), (0, 3), (500, 0), (503, 0), (0, 500)], float)
    assert places(corner, 500.0**2) == 3
    assert places(corner, 50.0**2) == 6
    assert places(corner[:1], 0.0) == 1
    assert places(corner[:0], 500.0**2) == 0
    assert places(np.arange(4000.0).reshape(-1, 2) * 9, 100.0**2) == 64


def cells(shift=0.0, seed=0, count=20, noise=0.0):
    """Features on a grid of cells of 10 pixels, and neighbours that look alike."""
    rng = np.random.default_rng(0)
    columns, rows = np.meshgrid(np.arange(count), np.arange(count))
    xy = (np.stack([columns.ravel(), rows.ravel()], 1) * 10 + 5 + shift).astype(np.float32)
    looks = rng.normal(size=(count * count, 32)) + noise * np.random.default_rng(seed).normal(size=(count * count, 32))
    flat = np.zeros(len(xy), np.float32)
    return LocalFeatures(xy, flat + 10, flat, flat, looks.astype(np.float32))


def test_coarse_features_may_be_off_by_a_cell():
    a, b = cells(), cells(shift=30.0, seed=1, noise=0.1)
    jitter = np.random.default_rng(2).uniform(-5, 5, b.xy.shape).astype(np.float32)
    moved = LocalFeatures(b.xy + jitter, b.scale, b.angle, b.strength, b.descriptors)
    fine, coarse = verify(a, moved), verify(a, moved, coarse=True)
    assert coarse.verified
    assert coarse.inliers > 1.3 * fine.inliers


def test_cells_that_overlap_are_one_place():
    a, b = cells(count=5), cells(count=5, seed=1, noise=0.01)
    assert verify(a, b).places == 25
    coarse = verify(a, b, coarse=True)
    assert coarse.places <= 9  # of 10 pixels each, 20 apart, in 50 x 50 pixels
    assert not coarse.verified
