"""Colour histogram: the simplest global descriptor there is, a baseline that everything must beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resight.types import Float32

BINS = 4  # per channel


def colour_histogram(pixels: NDArray[np.uint8]) -> Float32:
    """Square roots of the shares of pixels in 4 x 4 x 4 RGB bins: (64,) float32 of unit length, so that the inner
    product of two of them is the Bhattacharyya coefficient. `pixels` (H, W, 3) uint8.

    Paper: Swain and Ballard, "Color indexing", IJCV 1991.
    """
    level = (pixels.reshape(-1, 3) // (256 // BINS)).astype(np.int64)
    counts = np.bincount(level @ (BINS**2, BINS, 1), minlength=BINS**3)
    return np.sqrt(counts / max(len(level), 1)).astype(np.float32)
