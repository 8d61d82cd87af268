"""Pixels to small encoded pictures: what the drawings and the report pages share."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from resight.errors import ArrayError, UsageError

Pixels = NDArray[np.uint8]
Relevance = bool | Literal["junk"] | None
"""Judgement of one result: True (right), False (wrong), "junk" (neither counts) or None (not known)."""

ABSENT: Pixels = np.full((120, 160, 3), 128, np.uint8)
"""A grey area, in place of a photo whose file is not at hand or cannot be read any more."""
ABSENT.setflags(write=False)

RIGHT, WRONG, JUNK = (22, 163, 74), (220, 38, 38), (148, 155, 164)


def relevance_colour(relevant: Relevance) -> tuple[int, int, int] | None:
    """RGB of a judgement: green, red, grey for junk, None when unknown. Raises `UsageError` on anything else."""
    if relevant is None:
        return None
    if relevant == "junk":
        return JUNK
    if not isinstance(relevant, (bool, np.bool_)):
        raise UsageError(f'relevant is {relevant!r}: give True, False, "junk" or None')
    return RIGHT if relevant else WRONG


def as_pixels(name: str, value: Any) -> Pixels:
    """Give `value` back when it is a non-empty (H, W, 3) uint8 RGB array. Raises `ArrayError` naming `name` else."""
    array = np.asarray(value)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ArrayError(f"{name} is {array.dtype} of shape {array.shape}: pixels must be uint8 of shape (H, W, 3)")
    return array


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """`image` scaled down, never up, into width x height pixels; the aspect is kept, no side drops below 1."""
    if width < 1 or height < 1:
        raise UsageError(f"a picture cannot be fitted into {width} x {height} pixels: both sides must be at least 1")
    scale = min(1.0, width / image.width, height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def encode_jpeg(image: Image.Image | Pixels, width: int, height: int | None = None, quality: int = 82) -> bytes:
    """JPEG bytes of `image`, scaled down into width x height (default: a square) pixels, without metadata.

    Raises `ArrayError` when an array is not (H, W, 3) uint8.
    """
    if not isinstance(image, Image.Image):
        image = Image.fromarray(as_pixels("image", image))
    small = fit(image.convert("RGB"), width, width if height is None else height)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, optimize=True, comment=b"", exif=b"")
    return buffer.getvalue()


@lru_cache(maxsize=4)
def placeholder(words: str, width: int = 160, height: int = 120) -> Pixels:
    """Pixels (height, width, 3) that say in `words`, one line each, why there is no photo. Do not write into them."""
    image = Image.new("RGB", (width, height), (236, 239, 243))
    size = max(8, width // 11)
    ImageDraw.Draw(image).multiline_text(
        (width / 2, height / 2), words, (90, 102, 117), font(size), anchor="mm", align="center"
    )
    return np.asarray(image)


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib ships: the same letters on every machine, file names in most alphabets."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
