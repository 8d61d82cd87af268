"""Lists of photos in files: for every photo those that are near it, or that geometry proves to show the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resight.errors import UsageError
from resight.evaluation.array_files import DAMAGED, load_npy
from resight.types import Int64, as_array


def read_lists(path: str, photos: int, others: int) -> Int64:
    """Rows of other photos, 0 to `others` - 1, for each of `photos`, (photos, k) int64, best first, from an npy file;
    -1 stands past the end. Raises `UsageError` when it cannot be read or names another row, `ArrayError` for another
    shape.
    """
    try:
        content = load_npy(Path(path))
    except DAMAGED as error:
        raise UsageError(f"{path} cannot be read as an npy file of lists of photos: {error}") from error
    listed = as_array(path, content, np.int64, (photos, None))
    if listed.size and (listed.max() >= others or listed.min() < -1):
        raise UsageError(
            f"{path} lists rows {listed.min()} to {listed.max()}: they must be 0 to {others - 1}, and -1 past the end"
        )
    return listed
