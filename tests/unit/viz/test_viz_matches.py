from __future__ import annotations

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.viz.matches import GAP, draw_matches

NONE = np.zeros((0, 2))
DARK = np.zeros((100, 100, 3), np.uint8)


def is_yellow(picture):
    rgb = np.asarray(picture).astype(int)
    return (rgb[..., 0] > 150) & (rgb[..., 1] > 120) & (rgb[..., 2] < 120)


def is_red(picture):
    rgb = np.asarray(picture).astype(int)
    return (rgb[..., 0] > 25) & (rgb[..., 0] > 2 * rgb[..., 1])


def is_green(picture):
    rgb = np.asarray(picture).astype(int)
    return (rgb[..., 1] > 90) & (rgb[..., 1] > rgb[..., 0] + 30)


def test_panels_share_a_height_and_keep_their_aspect():
    picture = draw_matches(np.zeros((100, 50, 3), np.uint8), np.zeros((90, 180, 3), np.uint8), NONE, NONE, height=200)
    assert picture.size == (100 + GAP + 400, 200)
    assert picture.mode == "RGB"


def test_a_wide_pair_is_made_lower():
    wide = np.zeros((100, 400, 3), np.uint8)
    assert draw_matches(wide, wide, NONE, NONE, height=480, max_width=808).size == (808, 100)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3000, 3), (3000, 1, 3), (7, 5, 3)])
def test_tiny_and_extreme_photos(shape):
    pixels = np.full(shape, 200, np.uint8)
    picture = draw_matches(pixels, DARK, [[0.5, 0.5]], [[50, 50]], inliers=[True], transform=np.eye(3), max_width=600)
    assert 1 <= picture.width <= 600
    assert 1 <= picture.height <= 480


def test_without_matches_the_photos_are_just_shown():
    pixels = np.full((50, 60, 3), 100, np.uint8)
    picture = np.asarray(draw_matches(pixels, pixels, NONE, NONE, inliers=np.zeros(0, bool), height=50))
    assert (picture[:, :60] == 85).all()
    assert (picture[:, 60 + GAP :] == 85).all()


def test_ends_lie_on_the_pixel_centres():
    xy_a, xy_b = [[20.5, 30.5]], [[80.5, 70.5]]
    green = is_green(draw_matches(DARK, DARK, xy_a, xy_b, inliers=[True], height=100))
    assert green[30, 20]
    assert green[70, 100 + GAP + 80]
    rows, columns = np.nonzero(green)
    # The dots reach 3 pixels beyond the ends; nothing else is drawn.
    assert columns.min() in range(17, 20)
    assert columns.max() - (100 + GAP) in range(81, 85)
    assert rows.min() in range(27, 30)


def test_coordinates_are_original_pixels_of_scaled_photos():
    same = draw_matches(DARK, DARK, [[20.5, 30.5]], [[50, 50]], inliers=[True], height=100)
    scaled = draw_matches(
        DARK, DARK, [[82.0, 122.0]], [[500, 500]], inliers=[True], height=100, size_a=(400, 400), size_b=(1000, 1000)
    )
    np.testing.assert_array_equal(np.asarray(same), np.asarray(scaled))


def test_inliers_are_green_outliers_red_unverified_amber():
    line = {"xy_a": [[10, 50.5]], "xy_b": [[90, 50.5]]}
    middle = (50, 70)
    inlier = draw_matches(DARK, DARK, **line, inliers=[True], height=100)
    outlier = draw_matches(DARK, DARK, **line, inliers=[False], height=100)
    unknown = draw_matches(DARK, DARK, **line, height=100)
    assert is_green(inlier)[middle]
    assert is_red(outlier)[middle]
    assert not is_red(inlier)[middle]
    assert is_yellow(unknown)[middle]
    assert np.asarray(outlier).max() < np.asarray(inlier).max()


def test_inliers_lie_above_outliers_and_outliers_are_limited():
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 100, (3000, 2))
    mask = np.zeros(3000, bool)
    mask[1500] = True
    picture = draw_matches(DARK, DARK, xy, rng.uniform(0, 100, (3000, 2)), inliers=mask, height=100)
    x, y = xy[1500].astype(int)
    assert is_green(picture)[y, x]
    assert (np.asarray(picture).sum(axis=2) == 0).any(), "3000 outliers would cover everything"


def test_outline_is_carried_by_the_transform():
    outline = [[10, 10], [40, 10], [40, 40], [10, 40]]
    shift = np.array([[1, 0, 30], [0, 1, 40], [0, 0, 1.0]])
    yellow = is_yellow(draw_matches(DARK, DARK, NONE, NONE, transform=shift, outline=outline, height=100))
    left, right = yellow[:, :100], yellow[:, 100 + GAP :]
    np.testing.assert_array_equal(np.roll(left, (40, 30), (0, 1)), right)
    assert left[25, 10]
    assert left[10, 25]
    assert not left[25, 25]


def test_default_outline_is_the_frame_of_the_query():
    half = np.diag([0.5, 0.5, 1.0])
    yellow = is_yellow(draw_matches(DARK, DARK, NONE, NONE, transform=half, height=100))
    assert yellow[50, [1, 98]].all()
    assert yellow[[1, 98], 50].all()
    assert yellow[25, 100 + GAP + 50]
    assert not yellow[75, 100 + GAP + 50]


def test_outline_stays_in_its_own_photo():
    left = np.array([[1, 0, -60], [0, 1, 0], [0, 0, 1.0]])
    with_transform = np.asarray(draw_matches(DARK, DARK, NONE, NONE, transform=left, height=100))
    assert (with_transform[:, 100 : 100 + GAP] == (17, 20, 24)).all()


def test_what_lies_behind_the_camera_is_not_drawn():
    # The right part of the frame has a negative depth: its mirror image must not appear in b.
    tilt = np.array([[1, 0, 0], [0, 1, 0], [-0.018, 0, 1.0]])
    yellow = is_yellow(draw_matches(DARK, DARK, NONE, NONE, transform=tilt, height=100))[:, 100 + GAP :]
    assert yellow.any()
    flipped = is_yellow(draw_matches(DARK, DARK, NONE, NONE, transform=-tilt, height=100))[:, 100 + GAP :]
    np.testing.assert_array_equal(yellow, flipped)


def test_a_degenerate_transform_draws_no_outline_in_b():
    yellow = is_yellow(draw_matches(DARK, DARK, NONE, NONE, transform=np.zeros((3, 3)), height=100))
    assert not yellow[:, 100 + GAP :].any()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"a": np.zeros((4, 4), np.uint8)}, ArrayError, "a is uint8"),
        ({"xy_b": [[1, 2]]}, ArrayError, "xy_b has shape"),
        ({"xy_a": [[np.nan, 2]] * 2}, ArrayError, "xy_a holds NaN"),
        ({"inliers": [True]}, ArrayError, "inliers has shape"),
        ({"transform": np.eye(2)}, ArrayError, "transform has shape"),
        ({"outline": [1, 2]}, ArrayError, "outline has shape"),
        ({"size_a": (0, 5)}, UsageError, "size_a is 0 x 5"),
        ({"height": 0}, UsageError, "height 0"),
        ({"max_width": 5}, UsageError, "5 wide"),
    ],
)
def test_bad_arguments(change, error, words):
    good = {"a": DARK, "b": DARK, "xy_a": [[1, 2]] * 2, "xy_b": [[3, 4]] * 2}
    draw_matches(**good, height=20)
    with pytest.raises(error, match=words):
        draw_matches(**{**good, **change})
