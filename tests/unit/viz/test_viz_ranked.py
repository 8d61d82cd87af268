from __future__ import annotations

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.viz.pictures import JUNK, RIGHT, WRONG
from resight.viz.ranked import QUERY, RankedItem, ranked_strip

PHOTO = np.full((60, 80, 3), 128, np.uint8)


def count(strip, colour):
    return int((np.asarray(strip) == colour).all(axis=2).sum())


def test_each_judgement_has_its_frame():
    one = {
        name: ranked_strip(PHOTO, [RankedItem(PHOTO, "x", value)])
        for name, value in {"right": True, "wrong": False, "junk": "junk", "unknown": None}.items()
    }
    frame = count(one["right"], RIGHT)
    assert frame == 2 * 4 * (80 + 8 + 60)
    assert count(one["wrong"], WRONG) == frame
    assert count(one["junk"], JUNK) == frame
    assert count(one["unknown"], QUERY) == frame
    assert [count(one["unknown"], colour) for colour in (RIGHT, WRONG, JUNK)] == [0, 0, 0]


def test_rows_wrap_and_sizes_follow():
    items = [RankedItem(PHOTO)] * 7
    one, three = ranked_strip(PHOTO, items, cell=50, columns=10), ranked_strip(PHOTO, items, cell=50, columns=3)
    assert three.height > 2.5 * one.height
    assert one.width - three.width == 4 * 60


def test_best_result_comes_first():
    items = [RankedItem(PHOTO, relevant=True), RankedItem(PHOTO, relevant=False)]
    strip = np.asarray(ranked_strip(PHOTO, items))
    green, red = ((strip == colour).all(axis=2).nonzero()[1] for colour in (RIGHT, WRONG))
    assert green.max() < red.min()


def test_no_results_says_so():
    empty = np.asarray(ranked_strip(PHOTO, []))
    assert (empty[:, 200:] < 150).any(), "the words 'no results' are missing"


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 2000, 3), (2000, 1, 3)])
def test_tiny_and_extreme_photos(shape):
    pixels = np.zeros(shape, np.uint8)
    assert ranked_strip(pixels, [RankedItem(pixels, "c")], cell=40).height == 10 + 40 + 18 + 10


@pytest.mark.parametrize("caption", ["x" * 400, "", "línea\nnueva", "非常长的名字" * 9, "bad \udcff byte"])
def test_captions_stay_inside_their_cell(caption):
    strip = np.asarray(ranked_strip(PHOTO, [RankedItem(PHOTO, caption)], caption=caption, cell=100))
    assert (strip[:, :8] == 255).all()
    assert (strip[:, -8:] == 255).all()


def test_bad_arguments():
    with pytest.raises(UsageError, match="0 columns"):
        ranked_strip(PHOTO, [], columns=0)
    with pytest.raises(UsageError, match="maybe"):
        ranked_strip(PHOTO, [RankedItem(PHOTO, relevant="maybe")])
    with pytest.raises(ArrayError, match="result 1"):
        ranked_strip(PHOTO, [RankedItem(np.zeros(3))])
