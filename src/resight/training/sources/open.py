"""Examples from whatever a user names: a pickle, a CSV file, or a folder."""

from __future__ import annotations

from pathlib import Path

from resight.errors import UsageError
from resight.training.data import Examples
from resight.training.sources.sfm import read_sfm
from resight.training.sources.tables import read_folders, read_table


def open_examples(place: Path, photos: Path | None = None, *, seed: int = 0) -> tuple[Examples, Examples | None]:
    """Examples to learn from, and those that the data set itself keeps to judge by, if any.

    `photos`: the folder of the photos, where they do not lie beside the file. Raises `UsageError` when nothing is
    there, it is of no kind that is known, or as the readers do.
    """
    if place.is_dir():
        return read_folders(place, seed=seed), None
    if not place.exists():
        raise UsageError(f"there is no {place}: give a folder of classes, a CSV file, or a pickle of retrieval-SfM")
    if place.suffix == ".pkl":
        return read_sfm(place, photos), read_sfm(place, photos, "val")
    if place.suffix == ".csv":
        return read_table(place, photos, seed=seed), None
    raise UsageError(f"{place} is neither a folder, nor .csv, nor .pkl: it cannot be trained on")
