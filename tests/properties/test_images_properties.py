"""Properties of resight.images that hold for any bytes, sizes and names."""

from __future__ import annotations

import io
import os
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resight.errors import ImageError
from resight.images.decode import Decoded, decode
from resight.images.files import as_unicode, shown
from resight.images.formats import EXTENSIONS, sniff
from resight.images.loader import map_ordered
from resight.images.transform import crop, pixel_box, resize_to
from resight.types import Box

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
SIDES = st.integers(1, 60)


@cache
def sample(form: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(out, form)
    return out.getvalue()


def decode_or_refuse(data: bytes) -> None:
    """Anything but pixels or an `ImageError` ends the test."""
    try:
        decoded = decode(data, max_side=16, max_pixels=100_000)
    except ImageError as error:
        message = str(error)
    else:
        message = ""
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.ndim == 3
        assert 1 <= max(decoded.pixels.shape[:2]) <= 16
    assert message == "" or message.startswith("the image data ")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_damaged_bytes_give_pixels_or_a_typed_error(form: str, data: st.DataObject) -> None:
    content = bytearray(sample(form))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    decode_or_refuse(bytes(content[: data.draw(st.integers(0, len(content)))]))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_pixels_or_a_typed_error(content: bytes) -> None:
    decode_or_refuse(content)


@given(st.binary(max_size=80))
def test_sniffing_takes_anything(header: bytes) -> None:
    assert sniff(header) in {None, "jpeg", "png", "gif", "webp", "tiff", "bmp", "avif", "heic"}


def test_every_extension_is_lower_case_with_a_dot() -> None:
    assert all(ending == ending.lower() and ending[0] == "." for ending in EXTENSIONS)


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_any_name_becomes_valid_unicode_on_one_line(name: bytes) -> None:
    path = os.fsdecode(name)
    as_unicode(path).encode("utf-8")
    assert len(shown(path).splitlines()) <= 1
    shown(path).encode("utf-8")


@given(
    st.lists(
        st.binary(min_size=1, max_size=10).filter(lambda name: not _is_utf8(name)), min_size=2, max_size=2, unique=True
    )
)
def test_names_that_are_not_utf8_keep_apart(names: list[bytes]) -> None:
    first, second = (as_unicode(os.fsdecode(name)) for name in names)
    assert first != second


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(1, 100), st.booleans())
def test_resizing_hits_the_longest_side(height: int, width: int, max_side: int, upscale: bool) -> None:
    resized = resize_to(np.full((height, width, 3), 77, np.uint8), max_side, upscale=upscale)
    grown = upscale or max(height, width) > max_side
    assert max(resized.shape[:2]) == (max_side if grown else max(height, width))
    assert (resized == 77).all()


@given(
    SIDES,
    SIDES,
    st.floats(-70, 70),
    st.floats(-70, 70),
    st.floats(1, 140),
    st.floats(1, 140),
    st.sampled_from([1, 2, 3.7]),
)
def test_crops_are_never_empty_and_never_outside(
    height: int, width: int, x: float, y: float, w: float, h: float, factor: float
) -> None:
    original = (round(width * factor), round(height * factor))
    box = Box(x, y, w, h)
    if min(x + w, original[0]) - max(x, 0) < 1 or min(y + h, original[1]) - max(y, 0) < 1:
        return
    left, top, right, bottom = pixel_box(box, *original)
    assert 0 <= left < right <= original[0]
    assert 0 <= top < bottom <= original[1]
    cut = crop(Decoded(np.zeros((height, width, 3), np.uint8), *original), box)
    assert (cut.width, cut.height) == (right - left, bottom - top)
    assert cut.pixels.size > 0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(), max_size=40), st.integers(1, 4), st.integers(1, 9))
def test_the_ordered_map_is_map(items: list[int], jobs: int, ahead: int) -> None:
    assert list(map_ordered(str, items, jobs=jobs, ahead=ahead)) == list(map(str, items))
