"""SIFT of patches: the direction in which most gradients point, and 4 x 4 histograms of 8 directions.

Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from resight.types import Float32

BINS = 36  # of the histogram of directions of a patch
CELLS, DIRECTIONS = 4, 8
LIMIT = 0.2  # largest component of a unit descriptor
DIM = CELLS * CELLS * DIRECTIONS


def orientations(patches: Float32) -> Float32:
    """Direction of most gradient of each of `patches` (n, size, size), radians, from x towards y (n,) float32."""
    found = np.empty(len(patches), np.float32)
    _orientations(patches, found)
    return found


def sift(patches: Float32) -> Float32:
    """SIFT (n, 128) float32 of `patches` (n, size, size), L2-normalised; flat ones are zero."""
    found = np.zeros((len(patches), DIM), np.float32)
    _sift(patches, found)
    return found


@numba.njit(cache=True, nogil=True)
def _orientations(patches: Float32, found: Float32) -> None:
    size = patches.shape[1]
    centre, spread = (size - 1) / 2, 2 * (size / 5.0) ** 2
    for n in range(len(patches)):
        histogram = np.zeros(BINS)
        for i in range(1, size - 1):
            for j in range(1, size - 1):
                radius = (i - centre) ** 2 + (j - centre) ** 2
                if radius > centre * centre:
                    continue
                dx = patches[n, i, j + 1] - patches[n, i, j - 1]
                dy = patches[n, i + 1, j] - patches[n, i - 1, j]
                weight = math.exp(-radius / spread) * math.sqrt(dx * dx + dy * dy)
                place = (math.atan2(dy, dx) / (2 * math.pi) % 1.0) * BINS
                low = int(place)
                share = place - low
                histogram[low % BINS] += weight * (1 - share)
                histogram[(low + 1) % BINS] += weight * share
        smooth = np.empty(BINS)
        for _ in range(2):
            for k in range(BINS):
                smooth[k] = (histogram[k - 1] + 2 * histogram[k] + histogram[(k + 1) % BINS]) / 4
            histogram[:] = smooth
        peak = int(np.argmax(histogram))
        left, middle, right = histogram[peak - 1], histogram[peak], histogram[(peak + 1) % BINS]
        bend = left - 2 * middle + right
        shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
        found[n] = 2 * math.pi * (peak + shift) / BINS


@numba.njit(cache=True, nogil=True)
def _sift(patches: Float32, found: Float32) -> None:
    size = patches.shape[1]
    centre, spread = (size - 1) / 2, 2 * (size / 2.0) ** 2 / 2
    histogram = np.empty((CELLS, CELLS, DIRECTIONS))
    for n in range(len(patches)):
        histogram[:] = 0.0
        for i in range(1, size - 1):
            row = (i + 0.5) * CELLS / size - 0.5
            for j in range(1, size - 1):
                dx = patches[n, i, j + 1] - patches[n, i, j - 1]
                dy = patches[n, i + 1, j] - patches[n, i - 1, j]
                radius = (i - centre) ** 2 + (j - centre) ** 2
                weight = math.exp(-radius / spread) * math.sqrt(dx * dx + dy * dy)
                turn = (math.atan2(dy, dx) / (2 * math.pi) % 1.0) * DIRECTIONS
                _share(histogram, row, (j + 0.5) * CELLS / size - 0.5, turn, weight)
        flat = histogram.ravel()
        norm = math.sqrt((flat * flat).sum())
        if norm <= 1e-9:
            continue
        flat = np.minimum(flat / norm, LIMIT)
        found[n] = flat / math.sqrt((flat * flat).sum())


@numba.njit(cache=True, nogil=True)
def _share(histogram: np.ndarray, row: float, column: float, turn: float, weight: float) -> None:
    """Add `weight` to the eight bins around a place, by how near they are."""
    top, left, low = math.floor(row), math.floor(column), int(turn)
    for y in range(2):
        for x in range(2):
            if 0 <= top + y < CELLS and 0 <= left + x < CELLS:
                near = weight * (1 - abs(row - top - y)) * (1 - abs(column - left - x))
                histogram[top + y, left + x, low % DIRECTIONS] += near * (1 - (turn - low))
                histogram[top + y, left + x, (low + 1) % DIRECTIONS] += near * (turn - low)
