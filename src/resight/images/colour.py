"""Every kind of pixel that a file may hold, as 8-bit RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

_BITS_PER_SAMPLE = 258


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image of any Pillow mode as RGB: wide grey scaled to 8 bits, transparent parts on white."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_to_eight_bits(np.asarray(image), _bits(image)))
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        white = Image.new("RGB", seen.size, (255, 255, 255))
        white.paste(seen, mask=seen)
        return white
    return image.convert("RGB")


def _bits(image: Image.Image) -> int:
    """Bits that a grey pixel really holds: Pillow keeps 12-bit values as they are in its 16-bit mode."""
    bits = image.tag_v2.get(_BITS_PER_SAMPLE) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    return 12 if bits == (12,) else 16


def _to_eight_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Scale wide grey values to 0..255 by their range.

    16-bit modes have a range of their own. 32-bit integers and floats do not: they get the smallest customary one that
    holds the largest value (1 for floats, 255, 65535, then the largest value), from 0 or from the smallest below it.
    """
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        low, high = 0.0, float(2**bits - 1)
        values = values.astype(np.float32)
    else:
        customary = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
        values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        low, top = min(0.0, float(values.min())), float(values.max())
        high = next(limit for limit in (*customary, top) if top <= limit)
    return np.asarray((values - low) * (255.0 / (high - low)) + 0.5).astype(np.uint8)
