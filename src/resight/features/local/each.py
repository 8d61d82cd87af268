"""What encoders share: many images one by one, and one image as a batch of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError, ImageError
from resight.types import LocalFeatures


def each(
    encoder: Callable[[NDArray[np.uint8]], LocalFeatures], images: Sequence[NDArray[np.uint8]]
) -> list[LocalFeatures | ImageError]:
    """`Encoder.describe` for an encoder without a network: image by image; an `ImageError` takes its image's place."""
    found: list[LocalFeatures | ImageError] = []
    for image in images:
        try:
            found.append(encoder(image))
        except ImageError as error:
            found.append(error)
    return found


def alone(found: Sequence[LocalFeatures | ImageError]) -> LocalFeatures:
    """`Encoder.__call__` where `describe` does the work: the features of the one image, or its error raised."""
    (one,) = found
    if isinstance(one, ImageError):
        raise one
    return one


def check_pixels(pixels: NDArray[np.uint8]) -> None:
    """Raise `ArrayError` unless `pixels` are (H, W, 3) uint8."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ArrayError(f"pixels have shape {pixels.shape} {pixels.dtype}, expected (H, W, 3) uint8")
