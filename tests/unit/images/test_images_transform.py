"""resight.images.transform: sizes, boxes, and the scale relation of crops."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from resight.errors import UsageError
from resight.images.decode import Decoded, decode
from resight.images.transform import crop, decode_crop, pixel_box, resize_to
from resight.types import Box

RNG = np.random.default_rng(7)


def encode(pixels: NDArray[Any], form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "max_side", "upscale", "expected"),
    [
        ((40, 60), 30, False, (20, 30)),
        ((60, 41), 30, False, (30, 20)),
        ((40, 60), 120, False, (40, 60)),
        ((40, 60), 120, True, (80, 120)),
        ((40, 60), 60, True, (40, 60)),
        ((1, 500), 50, False, (1, 50)),
        ((3, 2), 1, False, (1, 1)),
    ],
)
def test_resize_to(shape: tuple[int, int], max_side: int, upscale: bool, expected: tuple[int, int]) -> None:
    resized = resize_to(noise(*shape), max_side, upscale=upscale)
    assert resized.shape == (*expected, 3)
    assert resized.dtype == np.uint8


def test_resizing_down_does_not_alias() -> None:
    checks = np.indices((200, 300)).sum(axis=0)[..., None] % 2 * np.full(3, 255)
    small = resize_to(checks.astype(np.uint8), 100).astype(float)
    assert np.abs(small[2:-2, 2:-2] - 127.5).max() < 3


def test_resizing_keeps_the_half_pixel_rule() -> None:
    ramp = np.repeat(np.linspace(0, 250, 251)[None, :, None], 3, axis=2).repeat(50, axis=0).astype(np.uint8)
    double = resize_to(ramp, 502, upscale=True).astype(float)
    expected = (np.arange(502) + 0.5) / 2 - 0.5
    assert np.abs(double[:, 8:-8, 0] - expected[None, 8:-8]).max() <= 1


def test_resize_refuses_nothing() -> None:
    with pytest.raises(UsageError, match="max_side is 0"):
        resize_to(noise(4, 4), 0)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box(10, 20, 30, 40), (10, 20, 40, 60)),
        (Box(9.5, 19.4, 30.2, 40), (10, 19, 40, 59)),
        (Box(-5, -5, 1000, 1000), (0, 0, 100, 80)),
        (Box(98.6, 70, 50, 50), (99, 70, 100, 80)),
        (Box(1.5, 2.5, 1, 1), (2, 3, 3, 4)),
    ],
)
def test_pixel_box(box: Box, expected: tuple[int, int, int, int]) -> None:
    assert pixel_box(box, 100, 80) == expected


@pytest.mark.parametrize("box", [Box(100, 0, 10, 10), Box(0, -20, 10, 20), Box(99.5, 0, 10, 10)])
def test_a_box_outside_the_image_is_a_usage_error(box: Box) -> None:
    decoded = Decoded(noise(80, 100), 100, 80)
    with pytest.raises(UsageError, match="lies outside the image, which is 100 x 80 pixels"):
        crop(decoded, box)
    with pytest.raises(UsageError, match="lies outside"):
        decode_crop(encode(decoded.pixels), box)


def test_crop_takes_exactly_the_pixels_of_the_box() -> None:
    decoded = Decoded(noise(80, 100), 100, 80, "2024-05-31T18:03:59")
    cut = crop(decoded, Box(10, 20, 30, 40))
    assert np.array_equal(cut.pixels, decoded.pixels[20:60, 10:40])
    assert (cut.width, cut.height, cut.scale, cut.taken_at) == (30, 40, 1.0, "2024-05-31T18:03:59")


def test_crop_of_a_reduced_image_counts_in_original_pixels() -> None:
    decoded = Decoded(noise(40, 50), 100, 80)
    cut = crop(decoded, Box(10, 20, 30, 40))
    assert np.array_equal(cut.pixels, decoded.pixels[10:30, 5:20])
    assert (cut.width, cut.height, cut.scale) == (30, 40, 0.5)
    assert crop(decoded, Box(99, 79, 1, 1)).pixels.shape == (1, 1, 3)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("max_side", [None, 25, 50, 64, 100, 400])
def test_a_crop_shrinks_as_the_whole_image_would(form: str, max_side: int | None) -> None:
    data = encode(noise(80, 100), form)
    cut = decode_crop(data, Box(10, 20, 30, 40), max_side=max_side)
    factor = min(1, (max_side or 100) / 100)
    assert (cut.width, cut.height) == (30, 40)
    assert cut.pixels.shape == (round(40 * factor), round(30 * factor), 3)
    assert cut.scale == pytest.approx(decode(data, max_side=max_side).scale, rel=0.02)


def test_a_crop_is_cut_before_it_is_reduced() -> None:
    pixels = np.zeros((80, 100, 3), np.uint8)
    pixels[20:60, 10:40] = 200
    assert (decode_crop(encode(pixels), Box(10, 20, 30, 40), max_side=50).pixels == 200).all()


def test_the_box_is_in_the_upright_image() -> None:
    pixels = np.zeros((80, 100, 3), np.uint8)
    pixels[20:60, 10:40] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.ascontiguousarray(pixels[:, ::-1].transpose(1, 0, 2))
    cut = decode_crop(encode(stored, exif=exif), Box(10, 20, 30, 40))
    assert cut.pixels.shape == (40, 30, 3)
    assert (cut.pixels == 200).all()


def test_decode_crop_refuses_a_bad_limit() -> None:
    with pytest.raises(UsageError, match="max_side is -1"):
        decode_crop(encode(noise(4, 4)), Box(0, 0, 2, 2), max_side=-1)
