"""Regions of photos for regional aggregation: the boxes of a detector, from a file, or the grid of R-MAC."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from resight.arrays import Float64
from resight.errors import UsageError
from resight.features.pooling import rmac_regions
from resight.regular_files import open_regular
from resight.types import Float32, Int64, as_array

GRID = 64  # cells of the longer side of an image on which the regions of R-MAC are laid out


@runtime_checkable
class Regional(Protocol):
    """Settings of local features that are aggregated region by region."""

    def regions(self, photo: str, width: int, height: int) -> Float64:
        """The regions of a photo of that id and size in pixels, (R, 4) float64 left, top, right, bottom."""


@dataclass(frozen=True)
class Boxes:
    """What a file of boxes holds: for each photo, by its id, (B, 4) left, top, right, bottom in pixels."""

    of: Mapping[str, Float64]

    def regions(self, photo: str, width: int, height: int) -> Float64:
        """The whole photo and its boxes, cut to it; boxes outside are left out."""
        whole = np.array([[0.0, 0.0, width, height]])
        boxes = np.clip(self.of.get(photo, whole[:0]), 0, whole[0, [2, 3, 2, 3]])
        kept: Float64 = np.concatenate([whole, boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]])
        return kept


@cache
def read_boxes(path: str) -> Boxes:
    """Read a JSON file: {"photo id": [[left, top, width, height], ...], ...}, in pixels of the photos.

    Raises `UsageError` when it cannot be opened, or holds something else.
    """
    place = Path(path).expanduser()
    try:
        with open_regular(place) as file:
            content = json.loads(file.read())
    except OSError as error:
        raise UsageError(f"cannot open {place}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{place} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f'{place} holds {type(content).__name__}: give {{"photo": [[left, top, width, height]]}}')
    return Boxes({str(photo): _boxes(place, photo, rows) for photo, rows in content.items()})


def grid_regions(width: float, height: float, levels: int) -> Float64:
    """The regions of R-MAC in an image of that size, (R, 4) float64 left, top, right, bottom in pixels; whole first."""
    cell = max(width, height) / GRID
    columns, rows = max(round(width / cell), 1), max(round(height / cell), 1)
    boxes = rmac_regions(np.empty((1, 1, rows, columns), np.float32), levels).astype(np.float64)
    boxes[:, 2:] += 1
    scaled: Float64 = boxes * np.array([width / columns, height / rows] * 2)
    return scaled


def members(xy: Float32, regions: Any) -> tuple[Int64, Int64]:
    """Which of the features at `xy` (n, 2) lie in which of `regions` (R, 4), left and top included, right and bottom
    not: features and regions (m,) int64, region by region.
    """
    boxes = as_array("regions", regions, np.float64, (None, 4))[:, :, None]
    x, y = np.asarray(xy, np.float64).T
    inside = (x >= boxes[:, 0]) & (y >= boxes[:, 1]) & (x < boxes[:, 2]) & (y < boxes[:, 3])
    region, feature = np.nonzero(inside)
    return feature.astype(np.int64), region.astype(np.int64)


def _boxes(place: Path, photo: str, rows: Any) -> Float64:
    try:
        boxes = np.asarray(rows, np.float64).reshape(-1, 4)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{place}: the boxes of {photo} are not lists of left, top, width and height") from error
    if not (np.isfinite(boxes).all() and (boxes[:, 2:] > 0).all()):
        raise UsageError(f"{place}: a box of {photo} is empty or not finite")
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
