from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from resight.errors import ArrayError, UsageError
from resight.viz.pictures import as_pixels, encode_jpeg, fit, relevance_colour


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [((400, 200), (100, 100), (100, 50)), ((50, 20), (100, 100), (50, 20)), ((3000, 1), (30, 30), (30, 1))],
)
def test_fit_keeps_the_aspect_and_never_enlarges(size, box, expected):
    assert fit(Image.new("RGB", size), *box).size == expected


def test_fit_refuses_a_box_without_pixels():
    with pytest.raises(UsageError, match="0 x 5"):
        fit(Image.new("RGB", (4, 4)), 0, 5)


def test_jpeg_is_small_and_has_the_colours():
    pixels = np.zeros((300, 600, 3), np.uint8)
    pixels[..., 1] = 200
    opened = Image.open(io.BytesIO(encode_jpeg(pixels, 120)))
    assert (opened.format, opened.size) == ("JPEG", (120, 60))
    np.testing.assert_allclose(np.asarray(opened)[30, 60], [0, 200, 0], atol=6)


@pytest.mark.parametrize(
    "value", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), "x"], ids=repr
)
def test_only_rgb_bytes_are_pixels(value):
    with pytest.raises(ArrayError, match="thing is"):
        as_pixels("thing", value)


def test_relevance_has_four_values():
    colours = [relevance_colour(value) for value in (True, False, "junk", None)]
    assert colours[3] is None
    assert len(set(colours)) == 4
    with pytest.raises(UsageError, match="maybe"):
        relevance_colour("maybe")
