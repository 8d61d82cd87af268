"""Fit a whitening to the global descriptors of one's own photos, and use it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from resight.collection import Collection
from resight.errors import UsageError
from resight.features.whitening import Whitening, fit_learned, fit_pca, fit_zca
from resight.global_index import PCA_POWER, ZCA_SHRINKAGE
from resight.types import Int64

METHODS = ("pca", "zca", "learned")


def fit_for(
    collection: Collection,
    method: str = "zca",
    *,
    dim: int | None = None,
    power: float = PCA_POWER,
    shrinkage: float = ZCA_SHRINKAGE,
    pairs: Path | None = None,
) -> Whitening:
    """A whitening of the collection's descriptors as its network gives them.

    `pca` with `power`, keeping `dim` dimensions; `zca` with `shrinkage`; `learned` from a csv file `pairs` of two ids
    per line that show one thing. Raises `UsageError` for another method, options that do not belong to it, a
    collection without global descriptors, and pairs of unknown photos.
    """
    if method not in METHODS:
        raise UsageError(f"method {method!r} is unknown: choose one of {', '.join(METHODS)}")
    if (pairs is not None) != (method == "learned"):
        raise UsageError("--pairs FILE belongs to method learned, which needs it: two ids per line that show one thing")
    if dim is not None and method == "zca":
        raise UsageError("zca keeps all dimensions: leave out --dim, or choose pca")
    rows, raw = collection.tables.vectors()
    if method == "pca":
        return fit_pca(raw, dim, power)
    if method == "zca":
        return fit_zca(raw, shrinkage)
    assert pairs is not None
    left, right = _read_pairs(pairs, collection, rows)
    learned = fit_learned(raw, left, right)
    if dim is None:
        return learned
    if not 1 <= dim <= learned.dim:
        raise UsageError(f"dim={dim}: give 1 to {learned.dim}")
    return Whitening(learned.mean, learned.projection[:dim], {**learned.provenance, "dim": str(dim)})


def _read_pairs(path: Path, collection: Collection, rows: Int64) -> tuple[Int64, Int64]:
    """Places in `rows` of the two photos of each pair."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [(number, line) for number, line in enumerate(csv.reader(file), 1) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as csv: {error}") from error
    places = []
    for number, line in lines:
        if len(line) != 2:
            raise UsageError(f"line {number} of {path} holds {len(line)} values: two ids are needed")
        found = [collection.row_of(id_.strip()) for id_ in line]
        without = [id_ for id_, row in zip(line, found, strict=True) if row not in rows]
        if without:
            raise UsageError(f"line {number} of {path}: {without[0]} has no global descriptor")
        places.append(np.searchsorted(rows, found))
    if not places:
        raise UsageError(f"{path} holds no pairs")
    both = np.array(places, np.int64)
    return both[:, 0], both[:, 1]
