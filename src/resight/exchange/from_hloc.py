"""Features that hloc extracted: an HDF5 file with a group per photo (`resight.exchange.hloc_h5` has the layout)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resight.errors import UsageError
from resight.evaluation.array_files import DAMAGED, h5_array, open_h5
from resight.exchange.given import Given, given
from resight.exchange.hloc_h5 import DIAMETER, HALF_PIXEL

KEYPOINTS = "keypoints"
ARRAYS = (KEYPOINTS, "descriptors", "scores", "scales", "oris", "image_size")


def read_features(path: Path) -> Iterator[Given]:
    """Photo by photo, in order of name. Links to other files are refused, as are arrays that the file cannot hold.

    Raises `UsageError` when it is no such file, or h5py is missing.
    """
    try:
        with open_h5(path) as file:
            names = _photos(file)
            if not names:
                raise UsageError(f"{path} holds no groups with {KEYPOINTS} and descriptors, as hloc writes them")
            for name in names:
                yield _read(path, file, name)
    except UsageError:
        raise
    except DAMAGED as error:
        raise UsageError(f"cannot read features from {path}: {error}") from error


def _photos(file: Any) -> list[str]:
    """Groups that hold features; links are not followed."""
    found: list[str] = []

    def visit(name: str) -> None:
        group, _, last = name.rpartition("/")
        if last == KEYPOINTS and group:
            found.append(group)

    file.visit(visit)
    return sorted(found)


def _read(path: Path, file: Any, name: str) -> Given:
    held = [key for key in ARRAYS if f"{name}/{key}" in file]
    arrays = {key: h5_array(file, f"{name}/{key}")[()] for key in held}
    points, columns = (np.asarray(arrays.get(key)) for key in (KEYPOINTS, "descriptors"))
    if points.ndim != 2 or points.shape[1] < 2 or columns.ndim != 2 or columns.shape[1] != len(points):
        raise UsageError(f"{path}: {name} has keypoints {points.shape} and descriptors {columns.shape}, "
                         "where (n, 2) and (D, n) are needed")  # fmt: skip
    scales, oris = arrays.get("scales"), arrays.get("oris")
    return given(
        path,
        name,
        points[:, :2].astype(np.float32) + HALF_PIXEL,
        columns.T,
        scale=None if scales is None else DIAMETER * np.asarray(scales, np.float32),
        angle=None if oris is None else np.deg2rad(np.asarray(oris, np.float32)),
        strength=arrays.get("scores"),
        size=_size(arrays.get("image_size")),
    )


def _size(values: Any) -> tuple[int, int] | None:
    if values is None or np.size(values) != 2:
        return None
    width, height = np.ravel(values).tolist()
    return int(width), int(height)
