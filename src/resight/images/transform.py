"""Resize and crop decoded images."""

from __future__ import annotations

import math
import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resight.images.decode import MAX_PIXELS, Decoded, check_positive, decode, fitted, resized
from resight.types import Box


def resize_to(pixels: NDArray[np.uint8], max_side: int, *, upscale: bool = False) -> NDArray[np.uint8]:
    """Bring the longest side of (H, W, 3) uint8 `pixels` to `max_side`, keeping the proportions.

    Smaller images are enlarged only with `upscale`. Lanczos both ways; going down, its support covers every source
    pixel, so fine texture does not alias. Raises `UsageError` when `max_side` is below 1.
    """
    check_positive("max_side", max_side)
    height, width = pixels.shape[:2]
    factor = max_side / max(width, height)
    return _scaled(pixels, factor) if factor < 1 or upscale else pixels


def pixel_box(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Whole-pixel left, top, right, bottom of `box` in an image of that size; parts outside are cut off.

    Raises `UsageError` when nothing of it lies inside.
    """
    cut = box.inside(width, height)
    left, top = math.floor(cut.x + 0.5), math.floor(cut.y + 0.5)
    return left, top, math.floor(cut.x + cut.width + 0.5), math.floor(cut.y + cut.height + 0.5)


def crop(decoded: Decoded, box: Box) -> Decoded:
    """The part of `decoded` in `box`, which is in pixels of the original; the scale stays that of the whole image.

    Raises `UsageError` when the box lies outside the image.
    """
    left, top, right, bottom = pixel_box(box, decoded.width, decoded.height)
    height, width = decoded.pixels.shape[:2]
    x, y = width / decoded.width, height / decoded.height
    rows = slice(*_span(top * y, bottom * y, height))
    columns = slice(*_span(left * x, right * x, width))
    return Decoded(decoded.pixels[rows, columns].copy(), right - left, bottom - top, decoded.taken_at)


def decode_crop(
    source: str | os.PathLike[str] | bytes, box: Box, *, max_side: int | None = None, max_pixels: int = MAX_PIXELS
) -> Decoded:
    """Read the part of an image in `box`, cut from the full resolution and then made smaller.

    The crop shrinks by the factor by which `max_side` would shrink the whole image, so that a thing has the same size
    in a crop as in the photo: its longest side becomes `max_side * max(crop) / max(full)`. `width` and `height` are
    the crop's own, before shrinking. Raises as `decode` does, and `UsageError` when the box lies outside the image.
    """
    check_positive("max_side", max_side)
    full = decode(source, max_pixels=max_pixels)
    cut = crop(full, box)
    longest = max(full.width, full.height)
    if max_side is None or max_side >= longest:
        return cut
    return Decoded(_scaled(cut.pixels, max_side / longest), cut.width, cut.height, cut.taken_at)


def _scaled(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    return np.array(resized(Image.fromarray(pixels), fitted(width, height, factor)))


def _span(start: float, stop: float, length: int) -> tuple[int, int]:
    """Rounded to whole pixels, at least one of them."""
    first = min(math.floor(start + 0.5), length - 1)
    return first, max(math.floor(stop + 0.5), first + 1)
