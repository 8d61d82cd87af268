"""Patches of affine frames: square samples of the image region that each frame covers, from a pyramid of the image."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from resight.types import Float32

LEAST = 16  # pixels of the shorter side of the smallest level


def pyramid(gray: Float32) -> tuple[Float32, NDArray[np.int64]]:
    """`gray` (H, W) and its halved, smoothed versions, all pixels behind each other (n,) float32, and where each starts
    with its height and width (levels, 3) int64.
    """
    levels = [np.ascontiguousarray(gray, np.float32)]
    while min(levels[-1].shape) >= 2 * LEAST:
        levels.append(cv2.pyrDown(levels[-1]))
    starts = np.cumsum([0, *(level.size for level in levels)])[:-1]
    table = [(start, *level.shape) for start, level in zip(starts, levels, strict=True)]
    return np.concatenate([level.ravel() for level in levels]), np.array(table, np.int64)


def extract(levels: tuple[Float32, NDArray[np.int64]], xy: Float32, shapes: Float32, size: int) -> Float32:
    """Patches (n, size, size) float32 of frames: `xy` (n, 2) pixels, the centre of the top-left one (0.5, 0.5), and
    `shapes` (n, 2, 2), which carry the square [-1, 1] x [-1, 1], x first, onto the image.

    Each is sampled where the pyramid `levels` has at most two pixels between samples; outside the image its border
    continues.
    """
    patches = np.empty((len(xy), size, size), np.float32)
    _extract(*levels, xy.astype(np.float64), shapes.astype(np.float64), patches)
    return patches


def circles(radius: NDArray[Any]) -> Float32:
    """Shapes (n, 2, 2) float32 of upright circles with `radius` (n,)."""
    return np.asarray(np.eye(2, dtype=np.float32) * np.asarray(radius, np.float32)[:, None, None], np.float32)


def turned(shapes: Float32, angle: Float32) -> Float32:
    """`shapes` (n, 2, 2) turned by `angle` (n,) radians, from the first axis of the patch towards the second."""
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cosine, -sine], axis=1), np.stack([sine, cosine], axis=1)], axis=1)
    return np.asarray(shapes @ turn, np.float32)


def angles(shapes: Float32) -> Float32:
    """Direction of the first axis of each of `shapes` (n, 2, 2) in the image, radians, from x towards y (n,)."""
    return np.asarray(np.arctan2(shapes[:, 1, 0], shapes[:, 0, 0]), np.float32)


@numba.njit(cache=True, nogil=True)
def _extract(
    pixels: Float32, table: NDArray[np.int64], xy: NDArray[np.float64], shapes: NDArray[np.float64], patches: Float32
) -> None:
    size = patches.shape[1]
    for n in range(len(patches)):
        a, b, c, d = shapes[n, 0, 0], shapes[n, 0, 1], shapes[n, 1, 0], shapes[n, 1, 1]
        spacing = 2 * math.sqrt(abs(a * d - b * c)) / size
        level = min(max(math.floor(math.log2(max(spacing, 1e-9))), 0), len(table) - 1)
        start, height, width = table[level]
        zoom = 2.0**-level
        for i in range(size):
            v = 2 * (i + 0.5) / size - 1
            for j in range(size):
                u = 2 * (j + 0.5) / size - 1
                x = (xy[n, 0] - 0.5 + a * u + b * v) * zoom  # OpenCV keeps the centres of even pixels
                y = (xy[n, 1] - 0.5 + c * u + d * v) * zoom
                patches[n, i, j] = sample(pixels, start, height, width, x, y)


@numba.njit(cache=True, nogil=True)
def sample(pixels: Float32, start: int, height: int, width: int, x: float, y: float) -> float:
    """Bilinear value at (x, y), counted from the centre of the top-left pixel, of an image within `pixels`."""
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    column, row = min(int(x), max(width - 2, 0)), min(int(y), max(height - 2, 0))
    s, t = x - column, y - row
    at = start + row * width + column
    right, below = (1 if width > 1 else 0), (width if height > 1 else 0)
    top = (1 - s) * pixels[at] + s * pixels[at + right]
    bottom = (1 - s) * pixels[at + below] + s * pixels[at + below + right]
    return float((1 - t) * top + t * bottom)
