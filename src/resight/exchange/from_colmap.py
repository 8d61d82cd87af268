"""Features and verified pairs of a COLMAP database, read as plain SQLite: nothing in it is run or changed.

`resight.exchange.colmap_db` has the conventions. The two views of a pair are numbers of images, folded into one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from resight.errors import UsageError
from resight.exchange.colmap_db import SIFT_LEVELS
from resight.exchange.given import Given, given
from resight.exchange.hloc_h5 import DIAMETER
from resight.regular_files import check_regular
from resight.types import Float32

TABLES = ("cameras", "images", "keypoints", "descriptors", "two_view_geometries")
PAIR_BASE = 2147483647  # pair_id = image_id1 * PAIR_BASE + image_id2
SIFT, ALIKED = 0, (1, 2)  # COLMAP's types of descriptors: bytes of RootSIFT, and 32-bit floats
VERIFIED = (2, 3, 4, 5, 6, 8, 9)  # configurations that say that geometry joins two views
_FEATURES = """
SELECT images.name, cameras.width, cameras.height, keypoints.rows, keypoints.cols, keypoints.data,
       descriptors.rows, descriptors.cols, descriptors.data, {kind}
FROM images JOIN cameras USING (camera_id) JOIN keypoints USING (image_id) JOIN descriptors USING (image_id)
ORDER BY images.name
"""


def read_features(path: Path) -> Iterator[Given]:
    """Photo by photo, in order of name; photos without features are left out. Raises `UsageError` when it is no such
    database, or has descriptors other than SIFT and ALIKED.
    """
    with _opened(path) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(descriptors)")]
        query = _FEATURES.format(kind="descriptors.type" if "type" in columns else SIFT)
        for name, width, height, rows, cols, points, n, width_d, described, kind in database.execute(query):
            keypoints = _matrix(path, name, points, rows, cols, np.float32)
            descriptors = _descriptors(path, name, _matrix(path, name, described, n, width_d, np.uint8), kind)
            if len(keypoints) != len(descriptors):
                raise UsageError(f"{path}: {name} has {len(keypoints)} keypoints and {len(descriptors)} descriptors")
            scale, angle = _shape(path, name, keypoints)
            yield given(path, str(name), keypoints[:, :2], descriptors, scale=scale, angle=angle,
                        size=(int(width), int(height)))  # fmt: skip


def read_pairs(path: Path) -> list[tuple[str, str, int]]:
    """Names and number of inliers of the pairs that geometry verified, most inliers first."""
    with _opened(path) as database:
        names = {int(number): str(name) for number, name in database.execute("SELECT image_id, name FROM images")}
        marks = ",".join(map(str, VERIFIED))
        query = f"SELECT pair_id, rows FROM two_view_geometries WHERE rows > 0 AND config IN ({marks})"
        found = [(divmod(int(pair), PAIR_BASE), int(rows)) for pair, rows in database.execute(query)]
    lost = [pair for pair, _ in found if not set(pair) <= set(names)]
    if lost:
        raise UsageError(f"{path}: {len(lost)} pairs are of images that it does not hold, such as {lost[0]}")
    pairs = [(names[a], names[b], rows) for (a, b), rows in found]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, read-only; its tables must be tables, since a view could be any program."""
    try:
        check_regular(path)
        # A database at rest is not even locked: in COLMAP's mode (WAL) reading would leave files beside it.
        waits = path.with_name(f"{path.name}-wal").exists()
        uri = f"file:{quote(str(path.absolute()))}?mode=ro{'' if waits else '&immutable=1'}"
        # What reads it is a generator: left unfinished, it may be closed by any thread.
        with closing(sqlite3.connect(uri, uri=True, check_same_thread=False)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA query_only = ON")
            held = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if missing := [name for name in TABLES if name not in held]:
                raise UsageError(f"{path} is no COLMAP database: it has no table {missing[0]}")
            yield database
    except (OSError, sqlite3.Error, OverflowError) as error:
        raise UsageError(f"cannot read {path} as a COLMAP database: {error}") from error


def _matrix(path: Path, name: Any, data: Any, rows: Any, cols: Any, dtype: Any) -> NDArray[Any]:
    """A stored matrix (rows, cols). Its size must be that of its bytes."""
    item = np.dtype(dtype).itemsize
    whole = isinstance(rows, int) and isinstance(cols, int) and rows >= 0 and cols > 0
    data = b"" if data is None and rows == 0 else data
    if not whole or not isinstance(data, bytes) or len(data) != rows * cols * item:
        raise UsageError(f"{path}: the features of {name} are damaged: {rows} x {cols} values are not what is stored")
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(rows, cols)


def _descriptors(path: Path, name: Any, stored: NDArray[Any], kind: Any) -> Float32:
    if kind == SIFT:
        return stored.astype(np.float32) / np.float32(SIFT_LEVELS)
    if kind in ALIKED and stored.shape[1] % 4 == 0:
        return np.ascontiguousarray(stored).view("<f4").astype(np.float32)
    raise UsageError(f"{path}: the descriptors of {name} are of COLMAP's type {kind}: only SIFT and ALIKED are read")


def _shape(path: Path, name: Any, keypoints: NDArray[Any]) -> tuple[Float32 | None, Float32 | None]:
    """Scales and angles of keypoints of 2, 4 (scale, angle) or 6 columns (affine, by rows), as COLMAP computes them."""
    if keypoints.shape[1] == 2:
        return None, None
    if keypoints.shape[1] == 4:
        return DIAMETER * keypoints[:, 2], keypoints[:, 3]
    if keypoints.shape[1] != 6:
        raise UsageError(f"{path}: keypoints of {name} have {keypoints.shape[1]} columns, where 2, 4 or 6 are needed")
    first, second = keypoints[:, [2, 4]], keypoints[:, [3, 5]]
    scale = (np.linalg.norm(first, axis=1) + np.linalg.norm(second, axis=1)) / 2
    return DIAMETER * scale.astype(np.float32), np.arctan2(first[:, 1], first[:, 0]).astype(np.float32)
