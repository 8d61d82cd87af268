"""Pictures of local features: what is drawn where."""

import io

import numpy as np
import pytest
from PIL import Image

from resight.errors import ArrayError, UsageError
from resight.features.local.inspection import Edges
from resight.types import LocalFeatures
from resight.viz.inspection import Cells, MapRow, cells_grid, edges_grid, keypoints_picture, maps_grid

PHOTO = np.full((60, 90, 3), 128, np.uint8)


def opened(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def close_to(pixels, colour, tolerance=40):
    return (np.abs(pixels - np.array(colour)).max(axis=2) < tolerance).sum()


def points(n=5, scale=10.0):
    xy = np.stack((np.linspace(20, 70, n), np.full(n, 30)), axis=1)
    strength = np.linspace(2, 1, n)
    return LocalFeatures(xy, np.full(n, scale), np.zeros(n), strength, np.zeros((n, 0)))


def test_hot_cells_are_where_the_map_is_high():
    heat = np.zeros((2, 3), np.float32)
    heat[:, 2] = 1
    pixels = opened(maps_grid(PHOTO, [MapRow("row", [heat, heat.T[::-1]], unit="attention", titles=["a", "b"])]))
    cold = opened(maps_grid(PHOTO, [MapRow("row", [0 * heat, 0 * heat], unit="attention")]))
    assert close_to(pixels, (222, 210, 120)) > 10 * close_to(cold, (222, 210, 120))
    panel = pixels[pixels.shape[0] // 2, : pixels.shape[1] // 3]
    assert panel[-20:, 0].max() > panel[40:60, 0].max() + 60  # bright at the right of the first panel


def test_every_row_has_its_own_range():
    heat = np.full((2, 3), 0.01, np.float32)
    low, high = (opened(maps_grid(PHOTO, [MapRow("", [heat], high=top)])) for top in (0.01, 1.0))
    assert low[:, :100].mean() > high[:, :100].mean() + 20


def test_cells_cover_what_was_chosen():
    few, many = (Cells(np.array([[15.0, 15.0], [75, 45]][:n]), np.full(n, 30.0), "t") for n in (1, 2))
    counts = [close_to(opened(cells_grid(PHOTO, [("how", [one])])), (68, 122, 148), 20) for one in (few, many)]
    assert counts[1] == pytest.approx(2 * counts[0], rel=0.1)
    assert counts[0] > 1000
    circles = opened(cells_grid(PHOTO, [("how", [few]), ("fire", [Cells(many.xy, many.side, "t", round=True)])]))
    assert close_to(circles, (255, 214, 64)) > 0  # their centres


def test_rows_of_unequal_length():
    cells = Cells(np.zeros((0, 2)), np.zeros(0), "none of 4")
    assert opened(cells_grid(PHOTO, [("a", [cells, cells]), ("b", [cells])])).ndim == 3
    assert opened(maps_grid(PHOTO, [MapRow("a", [np.ones((1, 1)), None], titles=["x", ""])])).ndim == 3


def test_edges_reach_the_cells_they_join():
    star = Edges(np.array([20.0, 30.0]), np.array([8.0, 8.0]), np.array([[70.0, 30.0]]), np.ones(1))
    alone = Edges(star.xy, star.side, np.zeros((0, 2)), np.zeros(0))
    joined, lonely = (opened(edges_grid(PHOTO, [("graph", [one])])) for one in (star, alone))
    assert close_to(joined, (74, 222, 128)) > 100
    assert close_to(lonely, (74, 222, 128)) == 0
    assert close_to(lonely, (255, 214, 64)) > 100


def test_key_points_have_the_width_of_their_patch():
    small, large = (opened(keypoints_picture(PHOTO, points(1, scale), oriented=False)) for scale in (10, 30))
    across = [np.ptp(np.flatnonzero((np.ptp(one[:, : one.shape[1] * 3 // 4], axis=2) > 60).any(axis=0)))
              for one in (small, large)]  # fmt: skip
    assert across[1] / across[0] == pytest.approx(3, rel=0.15)
    assert not np.array_equal(small, opened(keypoints_picture(PHOTO, points(1, 10), oriented=True)))
    assert opened(keypoints_picture(PHOTO, points(0))).ndim == 3


def test_wrong_values():
    for draw in (maps_grid, cells_grid, edges_grid):
        with pytest.raises(UsageError):
            draw(PHOTO, [])
    with pytest.raises(UsageError, match="equally many"):
        maps_grid(PHOTO, [MapRow("", [np.ones((1, 1))]), MapRow("", [])])
    with pytest.raises(ArrayError, match="uint8"):
        maps_grid(PHOTO.astype(float), [MapRow("", [np.ones((1, 1))])])
